"""Paired differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.stats import paired, t_interval


def test_the_paired_test_is_students_own() -> None:
    """Student (1908), Biometrika 6: hours of sleep gained by ten patients under two drugs; t = 4.0621 with 9 degrees, p = 0.0028."""
    dextro = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    laevo = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    test = paired(laevo, dextro)
    assert test.difference == pytest.approx(1.58)
    assert test.p == pytest.approx(0.00283, abs=5e-6)
    assert test.n == 10


_PAIRS = st.lists(st.tuples(st.floats(-100.0, 100.0), st.floats(-100.0, 100.0)), min_size=3, max_size=20)


@given(_PAIRS.filter(lambda pairs: np.std([a - b for a, b in pairs]) > 1e-6))
def test_the_paired_test_agrees_with_scipy(pairs: list[tuple[float, float]]) -> None:
    from scipy.stats import ttest_rel

    left, right = zip(*pairs, strict=True)
    test = paired(left, right)
    assert test.p == pytest.approx(float(ttest_rel(left, right).pvalue), rel=1e-6, abs=1e-12)
    assert (abs(test.difference) > test.half_width) == (test.p < 0.05) or test.p == pytest.approx(0.05)


def test_common_random_numbers_narrow_a_difference() -> None:
    generator = np.random.default_rng(1)
    shared = generator.normal(0.0, 1.0, 20)
    option = shared + 0.1 + generator.normal(0.0, 0.05, 20)
    alone = t_interval(option).half_width + t_interval(shared).half_width
    assert paired(option, shared).half_width < alone / 5.0
    assert paired(option, shared).p < 0.001


def test_equal_differences_leave_nothing_to_chance() -> None:
    assert paired([2.0, 3.0], [1.0, 2.0]).p == 0.0
    assert paired([1.0, 2.0], [1.0, 2.0]).p == 1.0


def test_a_single_pair_says_nothing_and_unequal_numbers_are_refused() -> None:
    assert math.isnan(paired([1.0], [2.0]).p)
    with pytest.raises(ValueError, match="2 values, 1 of the baseline"):
        paired([1.0, 2.0], [1.0])
