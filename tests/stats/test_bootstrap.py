"""Bootstrap against scipy's, draw for draw."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.stats import bootstrap, pooled_quantile, ratio, t_interval
from tests.stats.studies import mm1


@pytest.mark.parametrize(("method", "theirs"), [("bca", "BCa"), ("percentile", "percentile")])
@given(seed=st.integers(0, 10_000), n=st.integers(4, 30), confidence=st.floats(0.6, 0.98))
@settings(max_examples=30)
def test_the_interval_is_scipys(method, theirs: str, seed: int, n: int, confidence: float) -> None:  # type: ignore[no-untyped-def]
    from scipy import stats

    values = np.random.default_rng(seed).exponential(1.0, n)
    found = bootstrap(
        values.tolist(), lambda v: float(np.mean(v)), np.random.default_rng(7), confidence, resamples=200, method=method
    )
    oracle = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=200,
        confidence_level=confidence,
        method=theirs,
        random_state=np.random.default_rng(7),
    )
    low, high = oracle.confidence_interval
    assert (found.low, found.high) == (pytest.approx(low, rel=1e-6), pytest.approx(high, rel=1e-6))
    assert found.error == pytest.approx(oracle.standard_error)


def test_the_generator_alone_decides() -> None:
    runs = np.random.default_rng(1).exponential(1.0, (8, 50))
    one, same = (bootstrap(list(runs), pooled_quantile(0.9), np.random.default_rng(3), resamples=200) for _ in range(2))
    other = bootstrap(list(runs), pooled_quantile(0.9), np.random.default_rng(4), resamples=200)
    assert one == same
    assert one != other
    assert one.value == pytest.approx(np.quantile(runs, 0.9))
    assert one.low < one.value < one.high
    assert one.holds(one.value)


def test_requests_that_depend_on_each_other_are_resampled_by_run() -> None:
    """Resampling single waits of a queue claims to know their mean several times as well as runs do."""
    runs = mm1(np.random.default_rng(2), 0.8, (20, 100))[0]
    by_run = bootstrap(list(runs), lambda picked: float(np.mean(picked)), np.random.default_rng(5), resamples=300)
    by_request = bootstrap(runs.ravel().tolist(), lambda v: float(np.mean(v)), np.random.default_rng(5), resamples=300)
    assert by_run.error > 3.0 * by_request.error
    assert by_run.error == pytest.approx(t_interval(runs.mean(axis=1)).half_width / 2.093, rel=0.15)  # t(0.975, 19)


def test_a_ratio_is_of_sums() -> None:
    assert ratio([(9.0, 10.0), (90.0, 90.0)]) == pytest.approx(0.99)
    found = bootstrap([(9.0, 10.0), (90.0, 90.0), (40.0, 41.0)], ratio, np.random.default_rng(6), resamples=500)
    assert 0.9 <= found.low < found.value < found.high <= 1.0


def test_equal_replications_leave_nothing_open() -> None:
    found = bootstrap([2.0] * 5, lambda v: float(np.mean(v)), np.random.default_rng(0), resamples=100)
    assert (found.value, found.low, found.high, found.error) == (2.0, 2.0, 2.0, 0.0)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda g: bootstrap([1.0], sum, g), "replications: 1; at least 2"),
        (lambda g: bootstrap([1.0, 2.0], sum, g, 1.0), r"confidence: 1\.0"),
        (lambda g: bootstrap([1.0, 2.0], sum, g, resamples=50), "resamples: 50; at least 100"),
        (lambda g: bootstrap([1.0, 2.0], sum, g, method="basic"), "method: 'basic'; bca or percentile"),
        (lambda g: bootstrap([1.0, math.nan], sum, g), "a finite number of every resample"),
        (lambda g: pooled_quantile(1.5), r"probability: 1\.5"),
    ],
)
def test_what_cannot_be_resampled_is_refused(make, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=said):
        make(np.random.default_rng(0))
