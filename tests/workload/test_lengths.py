"""Length models: marginals, bounds and correlation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sim.kernel.streams import generator
from sim.workload.figures import rank_correlation
from sim.workload.lengths import MAX_TOKENS, Fixed, JointLengths, Lognormal, Marginal, Quantiles

COUNT = 100_000


def draw(prompt: Marginal, output: Marginal, correlation: float = 0.0, count: int = COUNT):
    return JointLengths(prompt, output, correlation).draw(generator(3, 0, "lengths"), count)


def test_fixed_lengths_are_fixed():
    prompt, output = draw(Fixed(512), Fixed(1))
    assert set(prompt.tolist()) == {512}
    assert set(output.tolist()) == {1}


def test_a_lognormal_has_its_median_and_mean():
    prompt, output = draw(Lognormal(1000.0, 0.8), Lognormal.from_mean(400.0, 1.5))
    # standard error of a median: sqrt(pi/2) sigma x median / sqrt(n)
    assert np.median(prompt) == pytest.approx(1000.0, abs=5 * 1.2533 * 0.8 * 1000 / math.sqrt(COUNT))
    assert output.mean() == pytest.approx(400.0, abs=5 * 1.5 * 400 / math.sqrt(COUNT))


def test_bounds_cut_a_length():
    prompt, output = draw(Lognormal(100.0, 2.0, 10.0, 500.0), Lognormal(100.0, 50.0))
    assert prompt.min() == 10
    assert prompt.max() == 500
    assert output.min() == 1
    assert output.max() == MAX_TOKENS


def test_quantiles_are_met_where_they_are_given():
    points = ((0.0, 10.0), (0.25, 100.5), (0.5, 120.5), (0.9, 4000.5), (0.99, 5000.5), (1.0, 6000.0))
    prompt, _ = draw(Quantiles(points), Fixed(1))
    for chance, tokens in points[1:-1]:
        share = np.count_nonzero(prompt < tokens) / COUNT
        assert share == pytest.approx(chance, abs=5 * math.sqrt(chance * (1 - chance) / COUNT))
    assert prompt.min() >= 10
    assert prompt.max() <= 6000


def test_two_quantiles_are_a_lognormal():
    """log(1000) and log(3000) at the normal scores of 50 % and 90 % fix median and sigma."""
    sigma = math.log(3.0) / stats.norm.ppf(0.9)
    by_quantiles, _ = draw(Quantiles(((0.5, 1000.0), (0.9, 3000.0))), Fixed(1))
    by_parameters, _ = draw(Lognormal(1000.0, sigma), Fixed(1))
    assert np.abs(by_quantiles - by_parameters).max() <= 1


def test_the_same_value_at_several_quantiles_is_an_atom():
    prompt, _ = draw(Quantiles(((0.0, 5.0), (0.3, 64.0), (0.6, 64.0), (1.0, 100.0))), Fixed(1))
    share = np.count_nonzero(prompt == 64) / COUNT
    assert share >= 0.3


@pytest.mark.parametrize("correlation", [-0.9, -0.2, 0.0, 0.5, 0.95])
def test_prompt_and_output_have_the_rank_correlation_asked_for(correlation: float):
    prompt, output = draw(Lognormal(4000.0, 1.0), Quantiles(((0.0, 20.0), (0.5, 900.0), (1.0, 90_000.0))), correlation)
    found = rank_correlation(prompt, output)
    # rounding to whole tokens makes a few ties
    assert found == pytest.approx(correlation, abs=5 / math.sqrt(COUNT))
    assert found == pytest.approx(stats.spearmanr(prompt, output).statistic, abs=1e-9)


def test_correlation_leaves_the_marginals_alone():
    free, _ = draw(Lognormal(300.0, 1.0), Fixed(1))
    tied, output = draw(Lognormal(300.0, 1.0), Lognormal(50.0, 0.5), 0.8)
    np.testing.assert_array_equal(free, tied)
    assert np.median(output) == pytest.approx(50.0, abs=1.0)


def test_more_requests_begin_with_the_same_lengths():
    few = draw(Lognormal(300.0, 1.0), Lognormal(50.0, 0.5), 0.3, 10)
    many = draw(Lognormal(300.0, 1.0), Lognormal(50.0, 0.5), 0.3, 1_000)
    np.testing.assert_array_equal(few[0], many[0][:10])
    np.testing.assert_array_equal(few[1], many[1][:10])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0.0, 1.0), st.floats(1.0, 1e6)), min_size=1, max_size=8, unique_by=lambda p: p[0]))
def test_any_table_of_quantiles_gives_lengths_that_rise_with_the_score(points: list[tuple[float, float]]):
    values = sorted(tokens for _, tokens in points)
    marginal = Quantiles(tuple(zip(sorted(chance for chance, _ in points), values, strict=True)))
    lengths = marginal.at(np.linspace(-6.0, 6.0, 200))
    assert np.all(np.isfinite(lengths))
    assert np.all(np.diff(lengths) >= -1e-6 * lengths[1:])
    assert lengths.min() >= 1.0
