"""Confidence intervals for the mean over independent replications, and how often intervals hold what they should."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = ["Interval", "coverage", "standard_errors", "t_cdf", "t_interval", "t_quantile", "wilson"]

_MANY = 1_000
"""Degrees of freedom from which four terms of the expansion of t in their inverse are exact to 1e-12..."""
_NEARLY_ONE = 1.0 - 1e-6
"""... up to this probability."""


@dataclass(frozen=True)
class Interval:
    """An estimate from ``n`` replications, ``mean`` ± ``half_width``; ``half_width`` is infinite when n < 2.

    ``half_width_doubt`` is what it would be if replications did not differ: the part that more of them do not make smaller.
    """

    mean: float
    half_width: float
    n: int
    half_width_doubt: float = 0.0

    @property
    def low(self) -> float:
        """Lower confidence bound."""
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        """Upper confidence bound."""
        return self.mean + self.half_width

    def holds(self, value: float) -> bool:
        """Whether ``value`` is inside, bounds included."""
        return self.low <= value <= self.high


def t_cdf(t: float, freedom: int) -> float:
    """P(T <= t) for Student's t with a whole number of degrees of freedom.

    The finite sums of Abramowitz & Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4: exact, and free of the third
    of a second that importing scipy.special takes.
    """
    if freedom < 1:
        raise ValueError(f"degrees of freedom: {freedom}; at least 1")
    angle = math.atan2(t, math.sqrt(freedom))
    cosine, sine = math.cos(angle), math.sin(angle)
    total = term = 1.0 if freedom % 2 == 0 else cosine
    if freedom == 1:
        inside = 2.0 / math.pi * angle
    else:
        first = 2 if freedom % 2 == 0 else 3
        for k in range(first, freedom - 1, 2):
            term *= cosine * cosine * (k - 1) / k
            total += term
        inside = sine * total if freedom % 2 == 0 else 2.0 / math.pi * (angle + sine * total)
    return min(max(0.5 + 0.5 * inside, 0.0), 1.0)


@lru_cache(maxsize=1024)
def t_quantile(probability: float, freedom: int) -> float:
    """The value that Student's t with ``freedom`` degrees stays below with ``probability``, in (0, 1).

    By bisection of its CDF; where that has many terms, by the expansion in 1 / freedom (Abramowitz & Stegun, 26.7.5), which is then
    the more exact of the two.
    """
    if not 0.0 < probability < 1.0:
        raise ValueError(f"probability: {probability}; between 0 and 1")
    if probability < 0.5:
        return -t_quantile(1.0 - probability, freedom)
    if freedom >= _MANY and probability <= _NEARLY_ONE:
        return _expanded(probability, freedom)
    low, high = 0.0, 1.0
    while t_cdf(high, freedom) < probability and high < 1e300:
        low, high = high, high * 2.0
    while True:
        middle = 0.5 * (low + high)
        if middle in (low, high):
            return high
        if t_cdf(middle, freedom) < probability:
            low = middle
        else:
            high = middle


def _expanded(probability: float, freedom: int) -> float:
    from statistics import NormalDist

    x = NormalDist().inv_cdf(probability)
    y = x * x
    terms = (
        x,
        x * (y + 1.0) / 4.0,
        x * ((5.0 * y + 16.0) * y + 3.0) / 96.0,
        x * (((3.0 * y + 19.0) * y + 17.0) * y - 15.0) / 384.0,
        x * ((((79.0 * y + 776.0) * y + 1482.0) * y - 1920.0) * y - 945.0) / 92160.0,
    )
    return sum(term / float(freedom) ** power for power, term in enumerate(terms))


def standard_errors(values: npt.ArrayLike, shifts: npt.ArrayLike = ()) -> tuple[float, float]:
    """Standard errors of the mean of ``values``: of chance, and of a doubt that they all share.

    ``shifts`` are what draws of that doubt moved single values by. Their root mean square is the error: replications have it in
    common, so their number does not make it smaller. It is about 0, not about the mean of the shifts: an estimate made without
    the doubt is off by that mean as well.
    """
    sample, moved = np.asarray(values, dtype=np.float64), np.asarray(shifts, dtype=np.float64)
    # the mean of equal floats may be off by a rounding, and their deviation then not 0
    equal = bool((sample == sample[0]).all())
    chance = 0.0 if equal else float(sample.std(ddof=1)) / math.sqrt(len(sample))
    return chance, math.sqrt(float((moved * moved).mean())) if len(moved) else 0.0


def t_interval(values: npt.ArrayLike, confidence: float = 0.95, shifts: npt.ArrayLike = ()) -> Interval:
    """The two-sided Student-t interval for the mean of independent ``values`` (1-d, one a replication).

    ``shifts`` as in :func:`standard_errors`; both errors are taken together.
    """
    sample = np.asarray(values, dtype=np.float64)
    n = len(sample)
    if n == 0:
        return Interval(math.nan, math.inf, 0)
    if n == 1:
        return Interval(float(sample[0]), math.inf, 1)
    chance, doubt = standard_errors(sample, shifts)
    t = t_quantile(0.5 + confidence / 2.0, n - 1)
    mean = float(sample.mean()) if chance else float(sample[0])
    return Interval(mean, t * math.hypot(chance, doubt), n, t * doubt)


def wilson(hits: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Bounds of a proportion: ``hits`` of ``trials`` (Wilson, JASA 22 (1927); keeps its level near 0 and 1)."""
    if trials < 1:
        raise ValueError("trials: at least 1")
    from statistics import NormalDist

    z = NormalDist().inv_cdf(0.5 + confidence / 2.0)
    share = hits / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    reach = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    # at the ends the bound is exactly the end; rounding must not push it inside
    return (0.0 if hits == 0 else centre - reach, 1.0 if hits == trials else centre + reach)


def coverage(intervals: Iterable[Interval], truth: float, confidence: float = 0.95) -> tuple[float, float, float]:
    """The share of ``intervals`` that hold ``truth``, and the bounds of that share (:func:`wilson`)."""
    held = [interval.holds(truth) for interval in intervals]
    low, high = wilson(sum(held), len(held), confidence)
    return sum(held) / len(held), low, high
