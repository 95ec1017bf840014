"""Student-t intervals against the tables, against scipy, and against what 95 % means."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.stats import Interval, coverage, t_cdf, t_interval, t_quantile, wilson
from sim.theory import MM1


@pytest.mark.parametrize(
    ("probability", "freedom", "tabled"),
    [
        (0.975, 1, 12.706),
        (0.975, 2, 4.303),
        (0.975, 4, 2.776),
        (0.975, 9, 2.262),
        (0.975, 30, 2.042),
        (0.975, 120, 1.980),
        (0.95, 10, 1.812),
        (0.995, 5, 4.032),
    ],
)
def test_t_quantiles_are_those_of_the_table(probability: float, freedom: int, tabled: float) -> None:
    """Abramowitz & Stegun, Handbook of Mathematical Functions, table 26.10."""
    assert t_quantile(probability, freedom) == pytest.approx(tabled, abs=6e-4)


@given(st.floats(-60.0, 60.0), st.integers(1, 400))
def test_the_t_distribution_agrees_with_scipy(t: float, freedom: int) -> None:
    from scipy.special import stdtr

    assert t_cdf(t, freedom) == pytest.approx(float(stdtr(freedom, t)), rel=1e-10, abs=1e-13)


@given(st.floats(1e-6, 1.0 - 1e-6), st.integers(1, 200))
def test_the_t_quantile_undoes_the_distribution(probability: float, freedom: int) -> None:
    from scipy.special import stdtrit

    assert t_quantile(probability, freedom) == pytest.approx(float(stdtrit(freedom, probability)), rel=1e-7, abs=1e-8)


@pytest.mark.parametrize("probability", [0.5, 0.75, 0.9, 0.975, 0.995, 0.9995, 0.999999, 0.025])
@pytest.mark.parametrize("freedom", [999, 1_000, 5_000, 100_000])
def test_quantiles_of_many_degrees_are_exact(probability: float, freedom: int) -> None:
    from scipy.special import stdtrit

    expected = float(stdtrit(freedom, probability))
    assert t_quantile(probability, freedom) == pytest.approx(expected, rel=1e-10, abs=1e-13)
    if freedom > 999:
        assert t_quantile(probability, freedom) == pytest.approx(expected, rel=1e-12, abs=1e-13)


@pytest.mark.parametrize(("probability", "freedom"), [(0.0, 3), (1.0, 3), (0.5, 0)])
def test_a_quantile_that_does_not_exist_is_refused(probability: float, freedom: int) -> None:
    with pytest.raises(ValueError, match=r"probability|degrees of freedom"):
        t_quantile(probability, freedom)


def test_the_interval_of_a_mean_is_that_of_the_textbook() -> None:
    """Law, Simulation Modeling and Analysis, 4th ed., example 4.26: ten observations, 90 % interval 1.34 ± 0.24."""
    values = [1.20, 1.50, 1.68, 1.89, 0.95, 1.49, 1.58, 1.55, 0.50, 1.09]
    interval = t_interval(values, confidence=0.90)
    assert interval.mean == pytest.approx(1.34, abs=0.005)
    assert interval.half_width == pytest.approx(0.24, abs=0.005)
    assert interval.n == 10


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30), st.floats(0.5, 0.99), st.floats(0.0, 1e3))
def test_an_interval_holds_its_mean_widens_with_confidence_and_moves_with_the_data(
    values: list[float], confidence: float, shift: float
) -> None:
    interval = t_interval(values, confidence)
    assert interval.holds(interval.mean)
    assert t_interval(values, 0.999).half_width >= interval.half_width
    moved = t_interval([value + shift for value in values], confidence)
    assert moved.mean == pytest.approx(interval.mean + shift, abs=1e-6)
    assert moved.half_width == pytest.approx(interval.half_width, rel=1e-6, abs=1e-6)


def test_one_value_has_no_interval_and_none_has_no_mean() -> None:
    assert t_interval([3.0]) == Interval(3.0, math.inf, 1)
    assert math.isnan(t_interval([]).mean)


def test_equal_values_leave_nothing_open() -> None:
    assert t_interval([0.1] * 7) == Interval(0.1, 0.0, 7)


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_bounds_are_the_published_ones(hits: int, trials: int, low: float, high: float) -> None:
    """R. Newcombe, Statistics in Medicine 17 (1998), table I, method 3."""
    assert wilson(hits, trials) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def _coverage_of_normals(studies: int, replications: int) -> tuple[float, float, float]:
    samples = np.random.default_rng(11).normal(5.0, 2.0, (studies, replications))
    return coverage([t_interval(sample) for sample in samples], 5.0, confidence=0.999)


def test_a_95_percent_interval_covers_about_95_percent() -> None:
    _, low, high = _coverage_of_normals(1_000, 5)
    assert low <= 0.95 <= high


@pytest.mark.verify
@pytest.mark.parametrize("replications", [2, 5, 10, 40])
def test_the_interval_of_normals_covers_exactly_its_confidence(replications: int) -> None:
    share, low, high = _coverage_of_normals(40_000, replications)
    assert low <= 0.95 <= high, share


@pytest.mark.verify
def test_the_interval_of_a_queue_covers_93_to_97_percent() -> None:
    """Lindley's recursion for M/M/1 at ρ = 0.7, begun in steady state; 1,000 studies of 10 replications of 4,000 customers."""
    theory = MM1(rate=0.7, service=1.0)
    generator = np.random.default_rng(5)
    shape = (1_000, 10)
    late = generator.random(shape) < theory.utilization
    wait = np.where(late, generator.exponential(theory.response, shape), 0.0)
    total = np.zeros(shape)
    for _ in range(4_000):
        total += wait
        wait = np.maximum(wait + generator.exponential(1.0, shape) - generator.exponential(1.0 / 0.7, shape), 0.0)
    share, _, _ = coverage([t_interval(study) for study in total / 4_000], theory.wait)
    assert 0.93 <= share <= 0.97
