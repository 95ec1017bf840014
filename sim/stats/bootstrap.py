"""Bootstrap over replications, for figures that are not means over them: quantiles of all requests, ratios, shares."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["Bootstrap", "bootstrap", "pooled_quantile", "ratio"]

T = TypeVar("T")
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bootstrap:
    """The ``value`` of a statistic, bounds of its interval, and the standard error of ``n`` replications resampled."""

    value: float
    low: float
    high: float
    error: float
    n: int

    def holds(self, truth: float) -> bool:
        """Whether ``truth`` is inside, bounds included."""
        return self.low <= truth <= self.high


def bootstrap(
    replications: Sequence[T],
    statistic: Callable[[Sequence[T]], float],
    generator: np.random.Generator,
    confidence: float = 0.95,
    *,
    resamples: int = 2_000,
    method: Literal["bca", "percentile"] = "bca",
) -> Bootstrap:
    """The two-sided interval of ``statistic(replications)``; ``generator`` alone decides what is drawn.

    What is resampled are whole replications, each of any kind (an array of latencies, a pair of counts): requests of one run depend on
    each other, and resampling *them* would take a hundred that waited for the same burst for a hundred independent ones. 2 replications
    at least; below 20 or so intervals are too narrow, whatever the method (docs/statistics.md has figures), where
    :func:`sim.stats.t_interval` over one figure a replication is not.

    ``percentile`` takes quantiles of the resampled statistics as bounds; ``bca`` moves them for bias and for a spread that changes with
    the value. B. Efron, JASA 82 (1987); Efron & Tibshirani, An Introduction to the Bootstrap (1993), 14.3.
    """
    n = len(replications)
    if n < 2:
        raise ValueError(f"replications: {n}; at least 2")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence: {confidence}; between 0 and 1")
    if resamples < 100:
        raise ValueError(f"resamples: {resamples}; at least 100")
    if method not in ("bca", "percentile"):
        raise ValueError(f"method: {method!r}; bca or percentile")
    value = float(statistic(replications))
    picks = generator.integers(0, n, (resamples, n))
    drawn = np.array([float(statistic([replications[i] for i in row])) for row in picks.tolist()])
    if not (math.isfinite(value) and np.isfinite(drawn).all()):
        raise ValueError("statistic: a finite number of every resample")
    tails = 0.5 - confidence / 2.0, 0.5 + confidence / 2.0
    if method == "bca":
        tails = _corrected(tails, value, drawn, [_without(replications, statistic, i) for i in range(n)])
    low, high = (float(bound) for bound in np.quantile(drawn, tails))
    return Bootstrap(value, low, high, float(drawn.std(ddof=1)), n)


def pooled_quantile(probability: float) -> Callable[[Sequence[npt.ArrayLike]], float]:
    """The statistic: the quantile of all observations of all replications together."""
    if not 0.0 <= probability <= 1.0:
        raise ValueError(f"probability: {probability}; between 0 and 1")

    def statistic(replications: Sequence[npt.ArrayLike]) -> float:
        return float(
            np.quantile(np.concatenate([np.asarray(run, dtype=np.float64) for run in replications]), probability)
        )

    return statistic


def ratio(replications: Sequence[tuple[float, float]]) -> float:
    """The statistic: the sum of the first of each pair over that of the second, such as requests in time over requests."""
    return float(math.fsum(part for part, _ in replications) / math.fsum(whole for _, whole in replications))


def _without(replications: Sequence[T], statistic: Callable[[Sequence[T]], float], left_out: int) -> float:
    return float(statistic([run for i, run in enumerate(replications) if i != left_out]))


def _corrected(tails: tuple[float, float], value: float, drawn: Floats, jackknife: list[float]) -> tuple[float, float]:
    """The tails whose quantiles are BCa's bounds. Where no resample is below the value, or none above, they have no correction."""
    from statistics import NormalDist

    normal = NormalDist()
    share = float(((drawn < value).mean() + (drawn <= value).mean()) / 2.0)
    if not 0.0 < share < 1.0:
        return tails
    bias = normal.inv_cdf(share)
    off = np.mean(jackknife) - np.array(jackknife)
    squares = float((off * off).sum())
    skew = float((off**3).sum()) / (6.0 * squares**1.5) if squares else 0.0

    def moved(tail: float) -> float:
        z = bias + normal.inv_cdf(tail)
        return normal.cdf(bias + z / (1.0 - skew * z))

    return moved(tails[0]), moved(tails[1])
