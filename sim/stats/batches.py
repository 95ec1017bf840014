"""Intervals for the mean of one long run, whose observations depend on each other: batch means, apart or overlapping."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.stats.intervals import Interval, t_interval, t_quantile

__all__ = ["BatchMeans", "autocorrelation", "batch_means", "overlapping_batch_means", "von_neumann"]

FEWEST, MOST = 10, 30
LEVEL = 0.1  # of the test for independence: lower would let more dependence pass

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class BatchMeans:
    """An ``interval`` from ``batches`` batches of ``size`` observations each (overlapping: as many as there are places for one).

    ``variance`` is the estimate of lim n Var(mean of n), what one observation's variance would be if they were independent.
    ``independent`` tells whether batches passed for independent, None if that was not asked; where it is False the run is too short
    and the interval too narrow.
    """

    interval: Interval
    batches: int
    size: int
    variance: float
    independent: bool | None


def autocorrelation(series: npt.ArrayLike, lag: int = 1) -> float:
    """The correlation of observations ``lag`` apart: sum of products of deviations over that of squares; NaN where nothing varies."""
    values = _series(series)
    if not 0 <= lag < len(values):
        raise ValueError(f"lag: {lag}; between 0 and {len(values) - 1}")
    centred = values - values.mean()
    squares = float(centred @ centred)
    return float(centred[: len(values) - lag] @ centred[lag:]) / squares if squares else math.nan


def von_neumann(series: npt.ArrayLike) -> float:
    """The p-value of ``series`` (3 values or more) being independent, against neighbours being alike; 1 where nothing varies.

    1 - sum of squared differences of neighbours over twice that of deviations, times sqrt((n^2 - 1) / (n - 2)), is standard normal if
    so. J. von Neumann, Ann. Math. Stat. 12 (1941); G. Fishman, L. Yarberry, INFORMS J. Computing 9 (1997), eq. 15.
    """
    values = _series(series)
    n = len(values)
    if n < 3:
        raise ValueError(f"series: {n} values; at least 3")
    steps, centred = np.diff(values), values - values.mean()
    squares = float(centred @ centred)
    if not squares:
        return 1.0
    from statistics import NormalDist  # which takes a while to import

    score = (1.0 - float(steps @ steps) / (2.0 * squares)) * math.sqrt((n * n - 1) / (n - 2))
    return NormalDist().cdf(-score)


def batch_means(series: npt.ArrayLike, batches: int | None = None, confidence: float = 0.95) -> BatchMeans:
    """The Student-t interval over means of ``batches`` stretches of ``series`` (in time order, its warm-up already left out).

    Without ``batches`` their size is doubled until they pass :func:`von_neumann` at 10 %, and then they are merged to 30 at most: more
    narrow the interval by little, and what dependence the test let pass would make it too narrow. Observations at the start that fill
    no batch are left out. At least 20 observations, or 2 a batch.

    B. Schmeiser, Oper. Res. 30 (1982): 10 to 30 batches; Fishman & Yarberry (1997): doubling until they are independent.
    """
    values = _series(series)
    independent: bool | None = None
    if batches is None:
        if len(values) < 2 * FEWEST:
            raise ValueError(f"series: {len(values)} observations; at least {2 * FEWEST}")
        size = 1
        while not (independent := von_neumann(_means(values, size)) > LEVEL) and len(values) // (2 * size) >= FEWEST:
            size *= 2
        size = max(size, math.ceil(len(values) / MOST))
    else:
        size = _size(values, batches)
    means = _means(values, size)
    if batches is not None:
        means = means[-batches:]
    return BatchMeans(t_interval(means, confidence), len(means), size, size * float(means.var(ddof=1)), independent)


def overlapping_batch_means(series: npt.ArrayLike, batches: int | None = None, confidence: float = 0.95) -> BatchMeans:
    """The same from every stretch of the length that ``batches`` would have: a third less variance of the variance, and no remainder.

    Without ``batches`` the length is that of :func:`batch_means`. M. Meketon, B. Schmeiser, "Overlapping batch means: something for
    nothing?", WSC 1984: variance n m / ((n - m + 1)(n - m)) times the sum of squared deviations, 1.5 (n / m - 1) degrees of freedom.
    """
    values = _series(series)
    n = len(values)
    apart = batch_means(values) if batches is None else None
    size = apart.size if apart else _size(values, batches or 0)
    mean = float(values.mean())
    sums = np.concatenate(([0.0], np.cumsum(values - mean)))
    stretches = (sums[size:] - sums[:-size]) / size
    variance = n * size / ((n - size + 1) * (n - size)) * float(stretches @ stretches)
    t = t_quantile(0.5 + confidence / 2.0, max(1, int(1.5 * (n / size - 1.0))))
    half_width = t * math.sqrt(variance / n)
    return BatchMeans(
        Interval(mean, half_width, n // size), n - size + 1, size, variance, apart.independent if apart else None
    )


def _series(series: npt.ArrayLike) -> Floats:
    values = np.asarray(series, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError("series: one dimension of finite numbers")
    return values


def _size(values: Floats, batches: int) -> int:
    if batches < 2 or len(values) < 2 * batches:
        raise ValueError(f"batches: {batches}; at least 2, of 2 observations or more, out of {len(values)}")
    return len(values) // batches


def _means(values: Floats, size: int) -> Floats:
    count = len(values) // size
    return np.asarray(values[len(values) - count * size :].reshape(count, size).mean(axis=1))
