"""Prompt and output lengths, in tokens, and how the two go together.

Every marginal is a function of a standard normal score, rising: a lognormal is exponential in it, a table of quantiles is
interpolated in it. A pair of correlated scores then gives correlated lengths with exactly the marginals asked for (a
Gaussian copula), whatever the marginals are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["MAX_TOKENS", "Fixed", "JointLengths", "Lognormal", "Marginal", "Quantiles", "Recorded"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MAX_TOKENS = 10_000_000.0
"""No request is longer: past any context window in use, and far from where integers overflow."""

_BEYOND = 8.0
_FARTHEST_SCORE = 4.0
"""Where the 0 and 1 quantiles are placed: 1 draw in 31,600 lies beyond and is cut to them."""


class Marginal(Protocol):
    """A distribution of lengths."""

    def at(self, scores: Floats) -> Floats:
        """The lengths at standard normal ``scores``, not yet rounded."""
        ...


@dataclass(frozen=True)
class Fixed:
    """Always the same length."""

    tokens: float

    def at(self, scores: Floats) -> Floats:
        return np.full(len(scores), min(float(self.tokens), MAX_TOKENS))


@dataclass(frozen=True)
class Lognormal:
    """Lognormal, ``sigma`` being the standard deviation of the natural logarithm; cut to [low, high]."""

    median: float
    sigma: float
    low: float = 1.0
    high: float = MAX_TOKENS

    @classmethod
    def from_mean(cls, mean: float, cv: float, low: float = 1.0, high: float = MAX_TOKENS) -> Lognormal:
        """By the mean and coefficient of variation that it has before being cut."""
        variance = math.log1p(cv * cv)
        return cls(mean * math.exp(-variance / 2.0), math.sqrt(variance), low, high)

    def at(self, scores: Floats) -> Floats:
        return np.clip(self.median * np.exp(self.sigma * scores), self.low, self.high)


@dataclass(frozen=True)
class Quantiles:
    """Given by quantiles: the logarithm of the length is linear in the normal score between them.

    So two quantiles are a lognormal, and many follow any shape; the table is met exactly at every point given. Outside
    the outermost points the last piece is continued, unless these are the 0 and 1 quantiles, which bound the length.
    ``points`` are (probability, tokens), both ascending, tokens at least 1.
    """

    points: tuple[tuple[float, float], ...]
    low: float = 1.0
    high: float = MAX_TOKENS

    def at(self, scores: Floats) -> Floats:
        knots, logs = self._knots()
        if len(knots) > 1:
            if knots[0] > -_FARTHEST_SCORE:
                slope = (logs[1] - logs[0]) / (knots[1] - knots[0])
                logs.insert(0, max(logs[0] - slope * (knots[0] + _BEYOND), 0.0))
                knots.insert(0, -_BEYOND)
            if knots[-1] < _FARTHEST_SCORE:
                slope = (logs[-1] - logs[-2]) / (knots[-1] - knots[-2])
                logs.append(min(logs[-1] + slope * (_BEYOND - knots[-1]), 100.0))
                knots.append(_BEYOND)
        return np.clip(np.exp(np.interp(scores, knots, logs)), self.low, self.high)

    def _knots(self) -> tuple[list[float], list[float]]:
        """Normal score and log of the length at every point; of points that no draw can tell apart, the last."""
        knots: list[float] = []
        logs: list[float] = []
        for chance, tokens in self.points:
            score = _score(chance)
            if knots and score - knots[-1] < 1e-9:
                knots.pop()
                logs.pop()
            knots.append(score)
            logs.append(math.log(max(tokens, 1.0)))
        return knots, logs


def _score(chance: float) -> float:
    if chance <= 0.0 or chance >= 1.0:
        return math.copysign(_FARTHEST_SCORE, chance - 0.5)
    nearly = 0.999 * _FARTHEST_SCORE
    return min(max(NormalDist().inv_cdf(chance), -nearly), nearly)


@dataclass(frozen=True)
class JointLengths:
    """Prompt and output lengths with a rank (Spearman) correlation between them."""

    prompt: Marginal
    output: Marginal
    rank_correlation: float = 0.0

    def draw(self, generator: np.random.Generator, count: int) -> tuple[Integers, Integers]:
        """``count`` (prompt, output) lengths, integers of at least 1; a larger ``count`` begins with the same ones."""
        scores = generator.standard_normal((count, 2))
        first = np.ascontiguousarray(scores[:, 0])
        second = np.ascontiguousarray(scores[:, 1])
        if self.rank_correlation:
            # Pearson correlation of the scores for a given Spearman correlation (Pearson, 1907)
            rho = 2.0 * math.sin(math.pi * self.rank_correlation / 6.0)
            second = rho * first + math.sqrt(max(0.0, 1.0 - rho * rho)) * second
        return _tokens(self.prompt.at(first)), _tokens(self.output.at(second))


@dataclass(frozen=True)
class Recorded:
    """The lengths of recorded requests, in their order, and from the start again when they run out."""

    prompt: Integers
    output: Integers

    def draw(self, generator: np.random.Generator, count: int) -> tuple[Integers, Integers]:
        """The first ``count`` (prompt, output) lengths; nothing is left to ``generator``."""
        return np.resize(self.prompt, count), np.resize(self.output, count)


def _tokens(lengths: Floats) -> Integers:
    return np.maximum(np.rint(lengths), 1.0).astype(np.int64)
