"""Quantiles of samples and histograms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.stats import histogram_quantiles, quantile_interval, quantiles, t_interval


def test_quantiles_are_linear_between_order_statistics() -> None:
    """Hyndman & Fan, type 7: of 1, 2, 3, 4 the first quartile is 1.75."""
    assert quantiles([4.0, 2.0, 1.0, 3.0], [0.0, 0.25, 0.5, 1.0]).tolist() == [1.0, 1.75, 2.5, 4.0]


def test_an_empty_sample_has_no_quantiles() -> None:
    assert np.isnan(quantiles([], [0.5, 0.99])).all()
    assert np.isnan(histogram_quantiles([0, 0], [1.0, 2.0, 3.0], [0.5])).all()


def test_a_histogram_spreads_a_bin_evenly() -> None:
    cuts = histogram_quantiles([10, 0, 30], [0.0, 1.0, 2.0, 5.0], [0.125, 0.25, 0.625, 1.0])
    assert cuts.tolist() == pytest.approx([0.5, 1.0, 3.5, 5.0])


def test_a_last_bin_without_an_edge_is_as_wide_as_the_one_before() -> None:
    assert histogram_quantiles([0, 4], [1.0, 2.0], [0.5, 1.0]).tolist() == pytest.approx([3.0, 4.0])


@given(st.lists(st.floats(2e-5, 100.0), min_size=1, max_size=300), st.floats(0.0, 1.0))
def test_a_histogram_of_narrow_bins_is_within_a_bin_of_the_inverted_distribution(sample: list[float], q: float) -> None:
    edges = 1e-5 * 1.005 ** np.arange(4160)
    counts = np.histogram(sample, np.append(edges, np.inf))[0]
    rank = int(np.ceil(q * len(sample)))
    exact = sorted(sample)[max(rank, 1) - 1]
    assert histogram_quantiles(counts, edges, [q])[0] == pytest.approx(exact, rel=0.006)


@given(
    st.lists(st.integers(0, 50), min_size=2, max_size=60).filter(any),
    st.lists(st.floats(0.0, 1.0), min_size=2, max_size=9),
)
def test_quantiles_of_a_histogram_never_fall(counts: list[int], probabilities: list[float]) -> None:
    edges = np.linspace(0.0, 3.0, len(counts) + 1)
    cuts = histogram_quantiles(counts, edges, sorted(probabilities))
    assert (np.diff(cuts) >= -1e-12).all()
    assert cuts.min() >= 0.0
    assert cuts.max() <= 3.0


def test_the_interval_of_a_quantile_is_over_those_of_the_replications() -> None:
    samples = np.random.default_rng(0).exponential(1.0, (8, 500))
    assert quantile_interval(list(samples), 0.9) == t_interval(np.quantile(samples, 0.9, axis=1))


def test_the_interval_of_a_quantile_covers_the_true_one() -> None:
    """p90 of Exp(1) is ln 10; 300 studies of 10 replications of 2,000."""
    generator = np.random.default_rng(2)
    held = [
        quantile_interval(list(generator.exponential(1.0, (10, 2_000))), 0.9).holds(np.log(10.0)) for _ in range(300)
    ]
    assert 0.91 <= np.mean(held) <= 0.985
