"""How strongly replications speak against a mean being on one side of a target, whenever one looks.

A t-test that is looked at after every replication errs far more often than it says. The number here may be looked at as often as one
likes, and replications may go wherever they seem to be needed: the chance that evidence against something true *ever* reaches
log(1 / alpha) is at most alpha.

It is the t-test as a likelihood ratio, averaged over how far above the target the mean may be: the effect (mean - target) / deviation is
taken to be half-normal with variance 1 / C, the deviation is anything,

    E(C) = 2 P(T_n <= S sqrt(n / ((n + C) V - S^2))) sqrt(C / (n + C)) (1 - S^2 / ((n + C) V))^(-n / 2)

with S = sum(x - target), V = sum((x - target)^2), Student's T of n degrees; and E the mean of E(C) over two guesses of C, for effects of
about 7 deviations, which show at once, and for those of about 1. Without the factor in front it is the two-sided test of the papers
below: given deviation and data the effect is normal, given data the deviation is an inverse chi, so the part of the mixture above 0 is
P(T). One side is enough: where the mean is in truth below the target, every value moved up to it would give more evidence, not less.

T. Lai, "On confidence sequences", Annals of Statistics 4 (1976); H. Wang, A. Ramdas, "Anytime-valid t-tests and confidence sequences for
Gaussian means with unknown variance", Sequential Analysis 44 (2025). Values are taken as normal, as Student's t does: those of a whole
replication nearly are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sim.stats.intervals import t_cdf

__all__ = ["evidence", "further", "logs"]

_GUESSES = (0.02, 0.5)
"""Most configurations are far from their objectives, and the rest near. Wrong guesses cost replications, nothing else."""
_FLOOR = 1e-3  # of the target: what is less is taken for that much, as 0 has no logarithm
_MOST = 100_000
_SIDE = math.log(2.0)  # what one side adds where there is evidence


def evidence(values: Sequence[float], target: float) -> float:
    """The logarithm of the evidence that the mean of ``values`` is not ``target``, negative if they lie below it.

    At least log(1 / alpha): above the target; at most -log(1 / alpha): below it; each wrong with chance alpha at most, however often it
    is asked. 0 says nothing.
    """
    moved = np.asarray(values, dtype=np.float64) - target
    n = len(moved)
    total, squares = float(moved.sum()), float((moved * moved).sum())
    if n == 0 or total == 0.0:
        return 0.0
    squared = min(total * total / squares, float(n))
    found = [
        weight + math.log(2.0 * t_cdf(math.sqrt(n * squared / (n + c - squared)), n))
        for c, weight in zip(_GUESSES, _weights(n, squared), strict=True)
    ]
    return math.copysign(max(_mean(found), 0.0), total)


def logs(values: Sequence[float], target: float) -> tuple[list[float], float]:
    """Values and target to test for a mean *above* the target, where values are not negative and the target is greater than 0.

    The mean of logarithms is at most the logarithm of the mean. So if it is above that of the target, the mean is above the target,
    and latencies of overloaded systems, which vary by factors, show it far sooner.
    """
    floor = _FLOOR * target
    return [math.log(max(value, floor)) for value in values], math.log(target + floor)


def further(values: Sequence[float], target: float, weight: float) -> int | None:
    """How many more replications would bring the evidence to ``weight`` if mean and spread stay as they are; None: more than 100,000."""
    moved = np.asarray(values, dtype=np.float64) - target
    n = len(moved)
    if n < 2:
        return None
    mean, variance = float(moved.mean()), float(moved.var())
    if mean == 0.0:
        return None

    def enough(count: int) -> bool:
        squared = min(count * mean * mean / (mean * mean + variance), float(count))
        return _mean(_weights(count, squared)) + _SIDE >= weight

    low = high = n
    while not enough(high):
        if high >= _MOST:
            return None
        low, high = high, min(2 * high, _MOST)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return high - n


def _weights(n: int, squared: float) -> list[float]:
    """log E, of each guess, of the two-sided test, from S^2 / V, which is at most n."""
    return [0.5 * math.log(c / (n + c)) - 0.5 * n * math.log1p(-squared / (n + c)) for c in _GUESSES]


def _mean(logarithms: Sequence[float]) -> float:
    """The logarithm of the mean."""
    most = max(logarithms)
    return most + math.log(sum(math.exp(one - most) for one in logarithms) / len(logarithms))
