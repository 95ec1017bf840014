"""Control variates against least squares of statsmodels, antithetic pairs against textbook figures."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.stats import antithetic, controlled, t_interval
from sim.theory import MM1
from tests.stats.studies import mm1, mm1_mirrored


@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(6, 30), st.floats(0.5, 0.99))
def test_the_controlled_interval_is_that_of_an_intercept(seed: int, q: int, n: int, confidence: float) -> None:
    import statsmodels.api as sm

    generator = np.random.default_rng(seed)
    controls = generator.normal(3.0, 2.0, (n, q))
    values = controls @ generator.normal(0.0, 1.0, q) + generator.normal(0.0, 1.0, n)
    expected = np.full(q, 3.0)
    found = controlled(values, controls, expected, confidence)
    oracle = sm.OLS(values, sm.add_constant(controls - expected, has_constant="add")).fit()
    low, high = oracle.conf_int(1.0 - confidence)[0]
    assert (found.interval.low, found.interval.high) == (pytest.approx(low), pytest.approx(high))
    assert found.coefficients == pytest.approx(tuple(oracle.params[1:]))


def test_one_control_may_be_given_as_a_row() -> None:
    values, control = [1.0, 2.0, 4.0, 4.5], [0.9, 2.2, 3.8, 5.0]
    assert controlled(values, control, 3.0) == controlled(values, [[c] for c in control], [3.0])


def test_what_the_controls_explain_is_reported() -> None:
    """Correlation 0.9 leaves 1 - 0.81 of the variance, times (n - 2) / (n - 3) for the coefficient (Lavenberg & Welch, q = 1)."""
    generator = np.random.default_rng(1)
    left = []
    for _ in range(2_000):
        control = generator.normal(0.0, 1.0, 20)
        values = 0.9 * control + math.sqrt(1.0 - 0.81) * generator.normal(0.0, 1.0, 20)
        left.append(controlled(values, control, 0.0).interval.mean)
    assert np.var(left) * 20 == pytest.approx(0.19 * 18 / 17, rel=0.1)
    assert controlled(values, control, 0.0).reduction == pytest.approx(0.81, abs=0.15)
    assert controlled(generator.normal(0.0, 1.0, 8), generator.normal(0.0, 1.0, (8, 3)), [0.0] * 3).reduction < 0.5


def test_gaps_and_services_control_the_wait_of_a_queue() -> None:
    wait, gap, service = mm1(np.random.default_rng(2), 0.7, (40, 2_000))
    controls = np.stack([gap.mean(axis=1), service.mean(axis=1)], axis=1)
    found = controlled(wait.mean(axis=1), controls, [1.0 / 0.7, 1.0])
    assert found.reduction > 0.3
    assert found.coefficients[0] < 0.0 < found.coefficients[1]
    assert found.interval.half_width < t_interval(wait.mean(axis=1)).half_width


@pytest.mark.parametrize(
    ("values", "controls", "expected", "said"),
    [
        ([1.0, 2.0], [1.0, 3.0], 2.0, "2 replications with 1 controls leave 0 degrees of freedom; at least 3"),
        ([1.0, 2.0, 3.0], [0.1] * 3, 0.1, "control 0 does not vary"),
        (
            [1.0, 2.0, 3.0, 1.0],
            [[1.0, 2.0], [2.0, 4.0], [4.0, 8.0], [3.0, 6.0]],
            [0.0, 0.0],
            "combination of the others",
        ),
        ([1.0, 2.0, 3.0], [[1.0, 2.0]] * 3, [1.0], r"shape \(3, 2\); a row for each of 3 values, of 1 expectations"),
        ([1.0, 2.0, math.nan], [1.0, 2.0, 3.0], 1.0, "finite"),
    ],
)
def test_controls_that_explain_nothing_are_refused(values, controls, expected, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=said):
        controlled(values, controls, expected)


def test_mirroring_the_exponential_of_u() -> None:
    """E(e^U) = e - 1; Cov(e^U, e^(1-U)) = e - (e - 1)^2 = -0.2342, Var(e^U) = 0.2420: 96.8 % less (S. Ross, Simulation, 9.1)."""
    u = np.random.default_rng(3).random(4_000)
    found = antithetic(np.exp(u), np.exp(1.0 - u))
    assert found.reduction == pytest.approx(0.2342 / 0.2420, abs=0.005)
    assert found.interval.holds(math.e - 1.0)
    assert found.helps()


def test_mirroring_what_is_symmetric_doubles_the_variance_and_it_is_said() -> None:
    u = np.random.default_rng(4).random(200)
    found = antithetic((u - 0.5) ** 2, (0.5 - u) ** 2)
    assert found.reduction == pytest.approx(-1.0)
    assert found.correlation == pytest.approx(1.0)
    assert not found.helps()


@given(st.integers(0, 10_000), st.integers(3, 30), st.floats(-2.0, 2.0))
def test_the_test_of_correlation_is_that_of_scipy(seed: int, n: int, slope: float) -> None:
    from scipy.stats import pearsonr

    generator = np.random.default_rng(seed)
    one = generator.normal(0.0, 1.0, n)
    other = slope * one + generator.normal(0.0, 1.0, n)
    found, oracle = antithetic(one, other), pearsonr(one, other, alternative="less")
    assert found.correlation == pytest.approx(oracle.statistic)
    assert found.p == pytest.approx(oracle.pvalue, rel=1e-6, abs=1e-12)
    alone = (np.var(one, ddof=1) + np.var(other, ddof=1)) / 4.0
    assert found.reduction == pytest.approx(1.0 - np.var((one + other) / 2.0, ddof=1) / alone)


def test_mirrored_queues_are_negatively_correlated_in_their_mean_but_hardly_in_their_tail() -> None:
    one, other = mm1_mirrored(np.random.default_rng(5), 0.7, (200, 1_000))
    mean = antithetic(one.mean(axis=1), other.mean(axis=1))
    tail = antithetic(np.quantile(one, 0.99, axis=1), np.quantile(other, 0.99, axis=1))
    assert mean.helps()
    assert mean.interval.holds(MM1(0.7, 1.0).wait)
    assert tail.reduction < mean.reduction


def test_few_pairs_say_little() -> None:
    assert math.isnan(antithetic([1.0, 2.0], [2.0, 1.0]).p)
    assert not antithetic([1.0, 2.0], [2.0, 1.0]).helps()
    assert math.isnan(antithetic([1.0], [2.0]).reduction)
    assert antithetic([1.0] * 4, [2.0] * 4).interval.half_width == 0.0
    assert antithetic([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]).p == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(ValueError, match=r"shapes \(1,\) and \(2,\)"):
        antithetic([1.0], [1.0, 2.0])
