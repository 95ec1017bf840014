"""Gaps between arrivals at a rate of 1: how irregular arrivals are while the rate does not move."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Deterministic", "Exponential", "Gamma", "Gaps", "Hyperexponential", "gaps_of"]

Floats = npt.NDArray[np.float64]


class Gaps(Protocol):
    """Gaps between arrivals, mean 1."""

    def first(self, generator: np.random.Generator) -> float:
        """Time to the first arrival, seen from time 0."""
        ...

    def draw(self, generator: np.random.Generator, count: int) -> Floats:
        """``count`` gaps."""
        ...


@dataclass(frozen=True)
class Exponential:
    """Poisson arrivals."""

    def first(self, generator: np.random.Generator) -> float:
        return float(generator.standard_exponential())

    def draw(self, generator: np.random.Generator, count: int) -> Floats:
        return generator.standard_exponential(count)


@dataclass(frozen=True)
class Deterministic:
    """Evenly spaced arrivals; the first comes one gap after time 0."""

    def first(self, generator: np.random.Generator) -> float:
        return 1.0

    def draw(self, generator: np.random.Generator, count: int) -> Floats:
        return np.ones(count)


@dataclass(frozen=True)
class Gamma:
    """Gamma gaps of a given coefficient of variation, started in equilibrium, so that the rate holds from time 0.

    The equilibrium residual of a renewal process is a uniform part of a length-biased gap, and a length-biased
    Gamma(k) is Gamma(k + 1) (Cox, Renewal Theory, ch. 5).
    """

    cv: float

    def first(self, generator: np.random.Generator) -> float:
        shape = self.cv**-2
        return float(generator.random() * generator.standard_gamma(shape + 1.0) / shape)

    def draw(self, generator: np.random.Generator, count: int) -> Floats:
        shape = self.cv**-2
        return generator.standard_gamma(shape, count) / shape


@dataclass(frozen=True)
class Hyperexponential:
    """A mixture of exponential gaps: bursts (short means) and pauses (long means), started in equilibrium.

    ``weights`` sum to 1 and ``sum(weights * means)`` is 1.
    """

    weights: tuple[float, ...]
    means: tuple[float, ...]

    @property
    def cv(self) -> float:
        """Coefficient of variation of a gap."""
        return math.sqrt(2.0 * sum(w * m * m for w, m in zip(self.weights, self.means, strict=True)) - 1.0)

    def first(self, generator: np.random.Generator) -> float:
        # length-biased choice of the phase; the exponential has no memory
        biased = np.cumsum(np.array(self.weights) * np.array(self.means))
        phase = int(np.searchsorted(biased, generator.random() * biased[-1], side="right"))
        return float(generator.standard_exponential() * self.means[min(phase, len(self.means) - 1)])

    def draw(self, generator: np.random.Generator, count: int) -> Floats:
        edges = np.cumsum(self.weights)[:-1]
        phases = np.searchsorted(edges, generator.random(count), side="right")
        return np.asarray(np.array(self.means)[phases] * generator.standard_exponential(count))


def gaps_of(process: str, cv: float) -> Gaps:
    """Gaps by the name a scenario uses: ``poisson``, ``gamma`` (with its ``cv``) or ``deterministic``."""
    if process == "deterministic" or cv < 1e-3:
        return Deterministic()
    if process == "poisson" or cv == 1.0:
        return Exponential()
    return Gamma(cv)
