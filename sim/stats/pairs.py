"""Differences between two systems that saw the same random numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.stats.intervals import standard_errors, t_cdf, t_interval

__all__ = ["PairedDifference", "paired"]


@dataclass(frozen=True)
class PairedDifference:
    """The mean of ``n`` paired differences ± ``half_width``, and the two-sided p-value of it being 0 (NaN when n < 2)."""

    difference: float
    half_width: float
    p: float
    n: int


def paired(
    values: npt.ArrayLike, baseline: npt.ArrayLike, confidence: float = 0.95, shifts: npt.ArrayLike = ()
) -> PairedDifference:
    """The paired t-test of ``values`` - ``baseline``, one of each a replication, in the same order.

    ``shifts`` are what draws of a shared doubt moved single differences by (:func:`sim.stats.intervals.standard_errors`).

    Under common random numbers the two are positively correlated, so their difference varies less than it would between
    independent runs (Law, Simulation Modeling and Analysis, 5th ed., 11.2). Differences that are all the same leave
    nothing to chance: p is 0, or 1 where they are 0.
    """
    left, right = np.asarray(values, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    if left.shape != right.shape:
        raise ValueError(f"pairs: {len(left)} values, {len(right)} of the baseline")
    interval = t_interval(left - right, confidence, shifts)
    if interval.n < 2:
        return PairedDifference(interval.mean, interval.half_width, math.nan, interval.n)
    if interval.half_width == 0.0:
        return PairedDifference(interval.mean, 0.0, 0.0 if interval.mean else 1.0, interval.n)
    error = math.hypot(*standard_errors(left - right, shifts))
    p = 2.0 * t_cdf(-abs(interval.mean) / error, interval.n - 1)
    return PairedDifference(interval.mean, interval.half_width, min(p, 1.0), interval.n)
