"""Batch means: by hand, by brute force, and on AR(1), whose variance is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.stats import autocorrelation, batch_means, overlapping_batch_means, t_interval, t_quantile, von_neumann
from tests.stats.studies import ar1


def test_batch_means_by_hand() -> None:
    """Ten values in three batches: the first one is left out, and 3, 6, 9 are left, of mean 6 and deviation 3."""
    found = batch_means([99.0, 2, 3, 4, 5, 6, 7, 8, 9, 10], batches=3)
    assert (found.batches, found.size, found.independent) == (3, 3, None)
    assert found.interval.mean == pytest.approx(6.0)
    assert found.interval.half_width == pytest.approx(t_quantile(0.975, 2) * 3.0 / math.sqrt(3.0))
    assert found.variance == pytest.approx(3 * 9.0)


def test_von_neumanns_ratio_by_hand() -> None:
    """1 2 3 4: steps squared 3, deviations squared 5; (1 - 3/10) sqrt(15/2) = 1.91703, of which the upper tail is 0.02762."""
    assert von_neumann([1.0, 2.0, 3.0, 4.0]) == pytest.approx(0.02762, abs=1e-5)
    assert von_neumann([1.0, -1.0] * 10) > 0.999
    assert von_neumann([2.0] * 5) == 1.0


def test_von_neumanns_test_keeps_its_level() -> None:
    series = np.random.default_rng(1).normal(0.0, 1.0, (4_000, 20))
    assert np.mean([von_neumann(row) <= 0.1 for row in series]) == pytest.approx(0.1, abs=0.02)


@given(st.integers(0, 1_000), st.integers(10, 60), st.integers(0, 5))
def test_autocorrelation_is_that_of_statsmodels(seed: int, n: int, lag: int) -> None:
    from statsmodels.tsa.stattools import acf

    series = np.cumsum(np.random.default_rng(seed).normal(0.0, 1.0, n))
    assert autocorrelation(series, lag) == pytest.approx(float(acf(series, nlags=5, fft=False)[lag]))


@given(st.integers(0, 1_000), st.integers(8, 80), st.integers(2, 4))
def test_overlapping_batches_are_all_the_stretches(seed: int, n: int, batches: int) -> None:
    series = np.random.default_rng(seed).normal(1e3, 1.0, n)
    size = n // batches
    stretches = np.array([series[i : i + size].mean() for i in range(n - size + 1)])
    found = overlapping_batch_means(series, batches)
    factor = n * size / ((n - size + 1) * (n - size))
    assert found.batches == len(stretches)
    assert found.variance == pytest.approx(factor * float(((stretches - series.mean()) ** 2).sum()), rel=1e-6)
    assert found.interval.mean == pytest.approx(series.mean())


def test_overlapping_batches_have_half_as_many_degrees_of_freedom_again() -> None:
    """60 values, 20 at a time: 1.5 (60 / 20 - 1) = 3, and t(0.975, 3) = 3.182 (Abramowitz & Stegun, table 26.10)."""
    found = overlapping_batch_means(np.random.default_rng(6).normal(0.0, 1.0, 60), 3)
    assert found.interval.half_width / math.sqrt(found.variance / 60) == pytest.approx(3.182, abs=1e-3)


@pytest.mark.parametrize("method", [batch_means, overlapping_batch_means])
@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_the_variance_of_ar1_is_found(method, phi: float) -> None:  # type: ignore[no-untyped-def]
    """lim n Var(mean) of AR(1) is 1 / (1 - phi)^2."""
    series = ar1(np.random.default_rng(2), phi, (60, 8_000))
    variance = np.mean([method(row).variance for row in series])
    assert variance * (1.0 - phi) ** 2 == pytest.approx(1.0, abs=0.15)


def test_overlapping_batches_vary_less_by_a_third() -> None:
    series = np.random.default_rng(3).normal(0.0, 1.0, (1_500, 600))
    apart, overlapping = (
        np.var([method(row, 20).variance for row in series]) for method in (batch_means, overlapping_batch_means)
    )
    assert overlapping / apart == pytest.approx(2.0 / 3.0, abs=0.1)


def test_one_run_of_dependent_values_is_not_as_many_independent_ones() -> None:
    series = ar1(np.random.default_rng(4), 0.9, (10_000,))
    assert batch_means(series).interval.half_width > 3.0 * t_interval(series).half_width


def test_a_run_too_short_for_its_dependence_says_so() -> None:
    assert batch_means(np.random.default_rng(5).normal(0.0, 1.0, 10_000)).independent
    found = batch_means(np.cumsum(np.random.default_rng(5).normal(0.0, 1.0, 500)))
    assert found.independent is False
    assert 10 <= found.batches < 20
    assert overlapping_batch_means(np.arange(200.0)).independent is False


@given(st.integers(0, 1_000), st.integers(20, 2_000), st.floats(0.0, 0.95))
def test_automatic_batches_are_10_to_30_and_leave_out_less_than_one(seed: int, n: int, phi: float) -> None:
    found = batch_means(ar1(np.random.default_rng(seed), phi, (n,)))
    assert 10 <= found.batches <= 30
    assert n - found.batches * found.size < found.size
    assert found.interval.n == found.batches


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: batch_means([1.0] * 19), "19 observations; at least 20"),
        (lambda: batch_means([1.0] * 9, 5), "batches: 5; at least 2, of 2 observations or more, out of 9"),
        (lambda: overlapping_batch_means([1.0] * 9, 1), "batches: 1"),
        (lambda: batch_means([[1.0, 2.0]], 2), "one dimension"),
        (lambda: batch_means([math.nan] * 40), "finite"),
        (lambda: von_neumann([1.0, 2.0]), "2 values; at least 3"),
        (lambda: autocorrelation([1.0, 2.0], 2), "lag: 2; between 0 and 1"),
    ],
)
def test_what_is_no_series_is_refused(make, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=said):
        make()
