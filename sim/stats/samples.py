"""Two samples: the difference of unpaired ones, and whether two are the same for all that matters."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Equivalence", "WelchDifference", "equivalent", "welch"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class WelchDifference:
    """The difference of two means ± ``half_width``, the two-sided p-value of it being 0, and the degrees of freedom it was judged by."""

    difference: float
    half_width: float
    p: float
    freedom: float


@dataclass(frozen=True)
class Equivalence:
    """A difference with the bounds of its 1 - 2 alpha interval; ``equivalent`` where they are within ±delta, at p-value ``p``.

    Not equivalent does not mean different: it may just not be known well enough.
    """

    difference: float
    low: float
    high: float
    p: float
    equivalent: bool


def welch(values: npt.ArrayLike, others: npt.ArrayLike, confidence: float = 0.95) -> WelchDifference:
    """The mean of ``values`` minus that of ``others``, which were run independently: on other seeds, or outside of the simulator.

    At least 2 of each; variances may differ. Where the random numbers were common, :func:`sim.stats.paired` is the one to use.
    B. Welch, Biometrika 34 (1947). Where neither varies nothing is left to chance: p is 0, or 1 where the means are equal.
    """
    _level(confidence)
    difference, error, freedom = _unpaired(values, others)
    if not error:
        return WelchDifference(difference, 0.0, 0.0 if difference else 1.0, math.inf)
    from scipy.special import stdtr, stdtrit

    half_width = float(stdtrit(freedom, 0.5 + confidence / 2.0)) * error
    return WelchDifference(difference, half_width, 2.0 * float(stdtr(freedom, -abs(difference) / error)), freedom)


def equivalent(
    values: npt.ArrayLike, others: npt.ArrayLike, delta: float, confidence: float = 0.95, *, pairs: bool = True
) -> Equivalence:
    """Whether the mean of ``values`` is within ±``delta`` of that of ``others``: two one-sided t-tests, each at 1 - ``confidence``.

    With ``pairs`` (one of each a replication, in the same order) of their differences, else of independent samples as in :func:`welch`.
    The chance of calling two equivalent that are ``delta`` or more apart is at most 1 - ``confidence``. D. Schuirmann, J. Pharmacokinet.
    Biopharm. 15 (1987).
    """
    _level(confidence)
    if not 0.0 < delta < math.inf:
        raise ValueError(f"delta: {delta}; greater than 0, the least difference that matters")
    difference, error, freedom = _paired(values, others) if pairs else _unpaired(values, others)
    if not error:
        inside = abs(difference) < delta
        return Equivalence(difference, difference, difference, 0.0 if inside else 1.0, inside)
    from scipy.special import stdtr, stdtrit

    reach = float(stdtrit(freedom, confidence)) * error
    p = float(stdtr(freedom, (abs(difference) - delta) / error))
    low, high = difference - reach, difference + reach
    return Equivalence(difference, low, high, p, -delta < low and high < delta)


def _unpaired(values: npt.ArrayLike, others: npt.ArrayLike) -> tuple[float, float, float]:
    """Difference, its standard error, degrees of freedom."""
    one, other = _sample(values), _sample(others)
    parts = _square(one) / len(one), _square(other) / len(other)
    difference, square = float(one.mean() - other.mean()), sum(parts)
    if not square:
        return float(one[0] - other[0]), 0.0, math.inf
    # of shares, so that small variances do not underflow when squared
    shares = parts[0] / square, parts[1] / square
    freedom = 1.0 / (shares[0] ** 2 / (len(one) - 1) + shares[1] ** 2 / (len(other) - 1))
    return difference, math.sqrt(square), freedom


def _paired(values: npt.ArrayLike, others: npt.ArrayLike) -> tuple[float, float, float]:
    one, other = _sample(values), _sample(others)
    if len(one) != len(other):
        raise ValueError(f"pairs: {len(one)} values, {len(other)} others")
    between = one - other
    error = math.sqrt(_square(between) / len(between))
    return float(between.mean()) if error else float(between[0]), error, len(between) - 1.0


def _square(sample: Floats) -> float:
    """The variance; exactly 0 where all are equal."""
    return 0.0 if (sample == sample[0]).all() else float(sample.var(ddof=1))


def _sample(values: npt.ArrayLike) -> Floats:
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or len(sample) < 2 or not np.isfinite(sample).all():
        raise ValueError("a sample: one dimension of 2 finite numbers or more")
    return sample


def _level(confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence: {confidence}; between 0 and 1")
