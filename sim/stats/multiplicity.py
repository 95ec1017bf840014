"""Many comparisons at once: p-values adjusted for each other, and intervals that hold together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from sim.stats.pairs import PairedDifference, paired

__all__ = ["against_control", "benjamini_hochberg", "bonferroni", "holm"]


def bonferroni(p_values: Sequence[float]) -> list[float]:
    """Each p-value times their number, 1 at most; what Holm's does too, and better, but intervals can be made to match this one.

    NaN stays NaN and is not counted as a test, here as in the others.
    """
    tests = sum(not math.isnan(p) for p in p_values)
    return [p if math.isnan(p) else min(1.0, tests * p) for p in p_values]


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for being tested together, in the order given (Holm, Scand. J. Statist. 6 (1979)).

    Rejecting those at or below alpha keeps the chance of even one false rejection within alpha, whatever their dependence.
    """
    tested = [i for i, p in enumerate(p_values) if not math.isnan(p)]
    adjusted = [math.nan] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(tested, key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(tested) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted so that rejecting those at or below q keeps the expected share of false ones among them within q.

    For sifting many candidates, where a few false ones do no harm. Holds for independent tests and for positively dependent ones, such
    as options against one baseline on common random numbers (Benjamini & Hochberg, J. R. Statist. Soc. B 57 (1995); Benjamini &
    Yekutieli, Ann. Statist. 29 (2001)).
    """
    tested = [i for i, p in enumerate(p_values) if not math.isnan(p)]
    adjusted = [math.nan] * len(p_values)
    least = 1.0
    for rank, i in sorted(enumerate(sorted(tested, key=lambda i: p_values[i]), 1), reverse=True):
        least = min(least, p_values[i] * len(tested) / rank)
        adjusted[i] = least
    return adjusted


def against_control(
    options: Mapping[str, npt.ArrayLike], control: str, confidence: float = 0.95
) -> dict[str, PairedDifference]:
    """Every option minus ``control``, paired by replication, with intervals that *all* hold at once with ``confidence``.

    k options get intervals of level 1 - alpha / k and p-values times k (Bonferroni), which holds under common random numbers, where
    Dunnett's test, made for independent samples of equal variance, does not.
    """
    if control not in options:
        raise ValueError(f"control: {control!r} is none of {', '.join(options)}")
    base = np.asarray(options[control], dtype=np.float64)
    others = {name: values for name, values in options.items() if name != control}
    found = {}
    for name, values in others.items():
        alone = paired(values, base, 1.0 - (1.0 - confidence) / len(others))
        found[name] = PairedDifference(alone.difference, alone.half_width, min(1.0, alone.p * len(others)), alone.n)
    return found
