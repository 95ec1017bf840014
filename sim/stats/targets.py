"""One side of the truth: bounds that hold with a stated confidence, and the chance that a target is met."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from sim.stats.intervals import standard_errors, t_cdf, t_quantile

__all__ = ["chance_below", "chance_share_above", "lower_bound", "share_lower_bound", "upper_bound"]


def upper_bound(values: npt.ArrayLike, confidence: float = 0.95) -> float:
    """What the mean of independent ``values`` is at most, with ``confidence``: Student's t, one-sided; infinite for fewer than 2."""
    sample = np.asarray(values, dtype=np.float64)
    if len(sample) < 2:
        return math.inf
    error, _ = standard_errors(sample)
    return float(sample.mean()) + t_quantile(confidence, len(sample) - 1) * error if error else float(sample[0])


def lower_bound(values: npt.ArrayLike, confidence: float = 0.95) -> float:
    """What the mean is at least; as :func:`upper_bound`."""
    return -upper_bound(-np.asarray(values, dtype=np.float64), confidence)


def chance_below(values: npt.ArrayLike, target: float) -> float:
    """The chance that the mean is at most ``target``, given ``values``; NaN for fewer than 2.

    P(T <= (target - mean) / error) with n - 1 degrees of freedom: the posterior of a normal mean under Jeffreys' prior, and one minus the
    p-value of the one-sided t-test, so that it is above c just where :func:`upper_bound` with confidence c is below the target.
    """
    sample = np.asarray(values, dtype=np.float64)
    if len(sample) < 2:
        return math.nan
    error, _ = standard_errors(sample)
    if not error:
        return 1.0 if sample[0] <= target else 0.0
    return t_cdf((target - float(sample.mean())) / error, len(sample) - 1)


def share_lower_bound(hits: int, trials: int, confidence: float = 0.95) -> float:
    """What the true share is at least, with ``confidence``, of ``hits`` among independent ``trials``: Wilson's bound, one-sided."""
    _counts(hits, trials)
    from statistics import NormalDist

    z = NormalDist().inv_cdf(confidence)
    share, square = hits / trials, z * z / trials
    reach = z * math.sqrt(share * (1.0 - share) / trials + square / (4.0 * trials))
    return 0.0 if hits == 0 else max(0.0, (share + square / 2.0 - reach) / (1.0 + square))


def chance_share_above(hits: int, trials: int, target: float) -> float:
    """The chance that the true share is at least ``target``, in [0, 1], given ``hits`` among independent ``trials``.

    The posterior Beta(hits + 1/2, misses + 1/2) of Jeffreys' prior (L. Brown, T. Cai, A. DasGupta, Statistical Science 16 (2001)).
    Requests of one run are not independent trials: use it for replications, seeds or days that kept an objective.
    """
    _counts(hits, trials)
    if not 0.0 <= target <= 1.0:
        raise ValueError(f"target: {target}; between 0 and 1")
    from scipy.special import betainc

    return float(betainc(trials - hits + 0.5, hits + 0.5, 1.0 - target))


def _counts(hits: int, trials: int) -> None:
    if trials < 1 or not 0 <= hits <= trials:
        raise ValueError(f"{hits} of {trials}; at least 1 trial, and no more hits than trials")
