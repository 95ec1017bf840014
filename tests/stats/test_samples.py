"""Unpaired differences and equivalence, against scipy and statsmodels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.stats import equivalent, paired, welch

_SAMPLE = st.lists(st.floats(-100.0, 100.0), min_size=2, max_size=20).filter(lambda values: np.std(values) > 1e-3)


@given(_SAMPLE, _SAMPLE, st.floats(0.5, 0.99))
def test_welch_is_that_of_scipy(one: list[float], other: list[float], confidence: float) -> None:
    from scipy.stats import ttest_ind

    found, oracle = welch(one, other, confidence), ttest_ind(one, other, equal_var=False)
    assert found.p == pytest.approx(float(oracle.pvalue), rel=1e-7, abs=1e-12)
    assert found.freedom == pytest.approx(float(oracle.df))
    bounds = oracle.confidence_interval(confidence)
    assert found.difference - found.half_width == pytest.approx(float(bounds.low), abs=1e-9)
    assert found.difference + found.half_width == pytest.approx(float(bounds.high), abs=1e-9)


def test_pairing_pays_where_the_two_share_their_noise() -> None:
    shared = np.random.default_rng(1).normal(0.0, 5.0, 12)
    other = shared + np.random.default_rng(2).normal(0.3, 0.2, 12)
    assert welch(other, shared).half_width > 5.0 * paired(other, shared).half_width


def test_samples_that_do_not_vary_leave_nothing_to_chance() -> None:
    assert welch([2.0, 2.0], [1.0, 1.0, 1.0]).p == 0.0
    assert welch([1.0, 1.0], [1.0, 1.0]).p == 1.0
    assert equivalent([0.1] * 3, [0.1] * 3, 0.01).equivalent
    assert not equivalent([0.2] * 3, [0.1] * 3, 0.05).equivalent
    assert equivalent([0.2] * 3, [0.1] * 3, 0.2, pairs=False).p == 0.0


@given(_SAMPLE, _SAMPLE, st.floats(0.1, 50.0))
def test_equivalence_of_unpaired_samples_is_that_of_statsmodels(
    one: list[float], other: list[float], delta: float
) -> None:
    from statsmodels.stats.weightstats import ttost_ind

    found = equivalent(one, other, delta, pairs=False)
    p = float(ttost_ind(one, other, -delta, delta, usevar="unequal")[0])
    assert found.p == pytest.approx(p, rel=1e-6, abs=1e-12)
    assert found.equivalent == (p < 0.05) or p == pytest.approx(0.05)


@given(st.integers(0, 10_000), st.integers(3, 20), st.floats(0.1, 3.0))
def test_equivalence_of_pairs_is_that_of_statsmodels(seed: int, n: int, delta: float) -> None:
    from statsmodels.stats.weightstats import ttost_paired

    generator = np.random.default_rng(seed)
    one = generator.normal(0.0, 1.0, n)
    other = one + generator.normal(0.2, 0.7, n)
    found = equivalent(one, other, delta)
    p = float(ttost_paired(one, other, -delta, delta)[0])
    assert found.p == pytest.approx(p, rel=1e-6, abs=1e-12)
    assert found.equivalent == (p < 0.05)
    assert found.equivalent == (-delta < found.low and found.high < delta)


def test_neither_different_nor_equivalent_is_possible() -> None:
    one, other = [1.0, 5.0, 3.0], [2.0, 3.5, 4.0]
    assert welch(one, other).p > 0.05
    assert not equivalent(one, other, 1.0, pairs=False).equivalent


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: welch([1.0], [1.0, 2.0]), "2 finite numbers or more"),
        (lambda: welch([1.0, math.inf], [1.0, 2.0]), "finite"),
        (lambda: welch([1.0, 3.0], [1.0, 2.0], 1.0), r"confidence: 1\.0"),
        (lambda: equivalent([1.0, 2.0], [1.0, 2.0], 0.0), r"delta: 0\.0; greater than 0"),
        (lambda: equivalent([1.0, 2.0], [1.0, 2.0, 3.0], 1.0), "pairs: 2 values, 3 others"),
    ],
)
def test_what_is_no_sample_is_refused(make, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=said):
        make()
