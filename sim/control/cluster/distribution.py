"""How long something takes, when it does not always take the same: what is drawn from, and what it is expected to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np

__all__ = ["SIGMA", "Distribution", "Empirical", "Exponential", "Fixed", "LogNormal", "Scaled", "Uniform", "of_samples"]

SIGMA: Final = 0.1
"""Spread (standard deviation of the logarithm) assumed where one or two measurements are all there is. The shipped cold starts with
repeats have 0.02 to 0.10 for compilation, graph capture and warm-up, 0.02 to 0.22 for weights from a disk of one's own."""


@runtime_checkable
class Distribution(Protocol):
    """Of seconds, none negative. ``draw`` takes the same number of random numbers every time, so that streams stay in step."""

    @property
    def median(self) -> float:
        """Half of the draws are below."""
        ...

    def draw(self, generator: np.random.Generator) -> float:
        """One value."""
        ...


@dataclass(frozen=True, slots=True)
class Fixed:
    """Always ``seconds``."""

    seconds: float

    @property
    def median(self) -> float:
        return self.seconds

    def draw(self, generator: np.random.Generator) -> float:
        generator.random()
        return self.seconds


@dataclass(frozen=True, slots=True)
class Uniform:
    """Anything from ``low`` to ``high``, equally likely."""

    low: float
    high: float

    @property
    def median(self) -> float:
        return (self.low + self.high) / 2.0

    def draw(self, generator: np.random.Generator) -> float:
        return self.low + (self.high - self.low) * float(generator.random())


@dataclass(frozen=True, slots=True)
class LogNormal:
    """Its logarithm is normal: ``middle`` is the median, ``sigma`` the standard deviation of the logarithm."""

    middle: float
    sigma: float

    @property
    def median(self) -> float:
        return self.middle

    def draw(self, generator: np.random.Generator) -> float:
        normal = float(generator.standard_normal())
        return self.middle * exp(self.sigma * normal)


@dataclass(frozen=True, slots=True)
class Exponential:
    """Without memory, ``mean`` seconds on average."""

    mean: float

    @property
    def median(self) -> float:
        return self.mean * log(2.0)

    def draw(self, generator: np.random.Generator) -> float:
        return self.mean * float(generator.standard_exponential())


@dataclass(frozen=True, slots=True)
class Empirical:
    """What was measured, in rising order: quantiles between two values are interpolated, nothing lies beyond the extremes."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return self.quantile(0.5)

    def quantile(self, share: float) -> float:
        """The value that ``share`` of the draws (0 to 1) do not exceed."""
        place = share * (len(self.values) - 1)
        below = min(int(place), len(self.values) - 1)
        above = min(below + 1, len(self.values) - 1)
        return self.values[below] + (place - below) * (self.values[above] - self.values[below])

    def draw(self, generator: np.random.Generator) -> float:
        return self.quantile(float(generator.random()))


@dataclass(frozen=True, slots=True)
class Scaled:
    """``factor`` times another."""

    of: Distribution
    factor: float

    @property
    def median(self) -> float:
        return self.factor * self.of.median

    def draw(self, generator: np.random.Generator) -> float:
        return self.factor * self.of.draw(generator)


def of_samples(values: Sequence[float]) -> Distribution:
    """The distribution that these measurements are of: they themselves if there are three or more, else lognormal about their middle
    with an assumed spread of :data:`SIGMA`. :raises ValueError: there is none, or one is negative."""
    if not values or min(values) < 0.0:
        raise ValueError(f"samples {list(values)}: one or more seconds, none negative, are needed")
    if len(values) >= 3:
        return Empirical(tuple(sorted(values)))
    return LogNormal(sum(values) / len(values), SIGMA)
