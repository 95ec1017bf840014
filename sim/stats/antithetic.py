"""Antithetic pairs: two runs on mirrored random numbers, whose errors partly cancel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.stats.intervals import Interval, t_cdf, t_interval

__all__ = ["Antithetic", "antithetic"]


@dataclass(frozen=True)
class Antithetic:
    """The ``interval`` over pair means, and whether mirroring helped.

    ``reduction`` is the share of the variance of the mean that it took away, against as many independent runs; negative where it
    added some. ``p`` is the one-sided p-value of the two halves not being negatively correlated (NaN when they are fewer than 3 pairs
    or do not vary).
    """

    interval: Interval
    correlation: float
    reduction: float
    p: float

    def helps(self, confidence: float = 0.95) -> bool:
        """Whether the halves are negatively correlated beyond chance: only then is a pair worth more than two independent runs."""
        return self.p <= 1.0 - confidence


def antithetic(runs: npt.ArrayLike, mirrored: npt.ArrayLike, confidence: float = 0.95) -> Antithetic:
    """The Student-t interval over the means of ``runs[r]`` and ``mirrored[r]``, which saw u and 1 - u; pairs are independent.

    The interval is right whatever the correlation, since pair means are independent; it is narrower than that of independent runs only
    where the halves are negatively correlated, which is sure only of an output that is monotone in every random number, each of them
    used for the same thing in both halves (Law, Simulation Modeling and Analysis, 5th ed., 11.3). The p-value is that of Pearson's r.
    """
    one, other = np.asarray(runs, dtype=np.float64), np.asarray(mirrored, dtype=np.float64)
    if one.ndim != 1 or one.shape != other.shape:
        raise ValueError(f"pairs: shapes {one.shape} and {other.shape}; as many of each")
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        raise ValueError("pairs: finite numbers")
    n = len(one)
    interval = t_interval((one + other) / 2.0, confidence)
    if n < 2:
        return Antithetic(interval, math.nan, math.nan, math.nan)
    first, second = one - one.mean(), other - other.mean()
    squares, others, products = float(first @ first), float(second @ second), float(first @ second)
    if not (squares and others):
        return Antithetic(interval, math.nan, 0.0, math.nan)
    correlation = max(-1.0, min(1.0, products / math.sqrt(squares * others)))
    reduction = -2.0 * products / (squares + others)
    if n < 3:
        return Antithetic(interval, correlation, reduction, math.nan)
    left = 1.0 - correlation * correlation
    t = correlation * math.sqrt((n - 2) / left) if left > 0.0 else math.copysign(math.inf, correlation)
    return Antithetic(interval, correlation, reduction, t_cdf(t, n - 2))
