"""One-sided bounds and chances, against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.stats import chance_below, chance_share_above, lower_bound, share_lower_bound, t_interval, upper_bound, wilson

_VALUES = st.lists(st.floats(-100.0, 100.0), min_size=2, max_size=20).filter(lambda values: np.std(values) > 1e-3)


@given(_VALUES, st.floats(0.55, 0.99))
def test_one_sided_bounds_are_those_of_a_wider_two_sided_interval(values: list[float], confidence: float) -> None:
    both = t_interval(values, 2.0 * confidence - 1.0)
    assert upper_bound(values, confidence) == pytest.approx(both.high)
    assert lower_bound(values, confidence) == pytest.approx(both.low)


@given(_VALUES, st.floats(-100.0, 100.0))
def test_the_chance_is_one_minus_the_p_value_of_scipy(values: list[float], target: float) -> None:
    from scipy.stats import ttest_1samp

    p = float(ttest_1samp(values, target, alternative="less").pvalue)
    assert chance_below(values, target) == pytest.approx(1.0 - p, abs=1e-9)


@given(_VALUES, st.floats(0.05, 0.95))
def test_the_chance_at_a_bound_is_its_confidence(values: list[float], confidence: float) -> None:
    assert chance_below(values, upper_bound(values, confidence)) == pytest.approx(confidence, abs=1e-6)


def test_what_does_not_vary_meets_its_target_or_not() -> None:
    assert (chance_below([0.1] * 3, 0.1), chance_below([0.1] * 3, 0.09)) == (1.0, 0.0)
    assert math.isnan(chance_below([1.0], 2.0))
    assert (lower_bound([1.0]), upper_bound([1.0])) == (-math.inf, math.inf)
    assert upper_bound([0.1] * 7) == 0.1


@given(st.integers(1, 500), st.floats(0.0, 1.0), st.floats(0.6, 0.99))
def test_the_bound_of_a_share_is_wilsons(trials: int, share: float, confidence: float) -> None:
    hits = round(share * trials)
    assert share_lower_bound(hits, trials, confidence) == pytest.approx(
        wilson(hits, trials, 2.0 * confidence - 1.0)[0], abs=1e-12
    )


@given(st.integers(1, 200), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_the_chance_of_a_share_is_jeffreys_posterior(trials: int, share: float, target: float) -> None:
    from scipy.stats import beta

    hits = round(share * trials)
    expected = float(beta(hits + 0.5, trials - hits + 0.5).sf(target))
    assert chance_share_above(hits, trials, target) == pytest.approx(expected, abs=1e-9)


def test_counts_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="3 of 2; at least 1 trial"):
        share_lower_bound(3, 2)
    with pytest.raises(ValueError, match=r"target: 2\.0; between 0 and 1"):
        chance_share_above(1, 2, 2.0)
