"""When to stop replicating."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.stats import Stopping, precise, replications_to_clear, replications_wanted, t_interval

_SAMPLES = st.lists(st.floats(1.0, 100.0), min_size=3, max_size=20)


@given(_SAMPLES, st.floats(0.01, 0.5))
def test_what_is_precise_enough_is_within_the_relative_half_width(values: list[float], relative: float) -> None:
    interval = t_interval(values)
    if precise(values, relative):
        assert interval.half_width <= relative * interval.mean
        assert replications_wanted(values, relative) == len(values)


def test_two_replications_are_never_enough() -> None:
    assert not precise([5.0, 5.0], 0.1)
    assert precise([5.0, 5.0, 5.0], 0.1)


@given(_SAMPLES, st.floats(0.01, 0.5), st.floats(0.0, 20.0), st.integers(2, 8))
def test_the_rule_is_that_of_law_and_kelton(values: list[float], relative: float, absolute: float, least: int) -> None:
    """Half-width / |mean| <= g / (1 + g), or half-width <= a; arithmetic by scipy's t."""
    from scipy.stats import sem, t

    half_width = float(t.ppf(0.975, len(values) - 1) * sem(values))
    wanted = max(absolute, relative / (1.0 + relative) * float(np.mean(values)))
    if abs(half_width - wanted) > 1e-9 * wanted:
        assert precise(values, relative, absolute=absolute, least=least) == (
            len(values) >= least and half_width <= wanted
        )


@given(st.lists(st.floats(1.0, 3.0), min_size=60, max_size=60))
def test_what_is_fed_stops_at_the_first_number_that_is_precise(values: list[float]) -> None:
    rule = Stopping(relative=0.1, least=4, most=50)
    for value in values:
        if rule.done:
            break
        assert rule.add(value) == rule.done
    n = len(rule.values)
    assert rule.precise == precise(values[:n], 0.1, least=4)
    assert rule.precise or n == 50
    assert not any(precise(values[:k], 0.1, least=4) for k in range(n))
    assert rule.interval == t_interval(values[:n])


def test_a_figure_near_0_is_stopped_by_its_absolute_width() -> None:
    generator = np.random.default_rng(5)
    rule = Stopping(absolute=0.1)
    while not rule.done:
        rule.add(generator.normal(0.0, 0.2))
    assert rule.precise
    assert rule.interval.half_width <= 0.1
    assert len(rule.values) >= 10


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, r"relative: 0\.0, absolute: 0\.0; not negative, and one of them greater than 0"),
        ({"relative": -0.1}, r"relative: -0\.1"),
        ({"relative": 0.1, "least": 1}, "least: 1, most: None"),
        ({"relative": 0.1, "most": 5}, "least: 10, most: 5"),
        ({"relative": 0.1, "confidence": 0.0}, r"confidence: 0\.0"),
    ],
)
def test_a_rule_that_cannot_be_kept_is_refused(given: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Stopping(**given)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="value 1: nan; a finite number"):
        Stopping(0.1).add(math.nan)


def test_the_number_wanted_grows_with_the_square_of_the_precision() -> None:
    values = np.random.default_rng(0).normal(10.0, 2.0, 10)
    coarse, fine = replications_wanted(values, 0.02), replications_wanted(values, 0.01)
    assert fine / coarse == pytest.approx(4.0, rel=0.1)


@given(_SAMPLES.filter(lambda values: np.std(values) > 0.1), st.floats(0.5, 150.0))
def test_the_number_that_would_clear_a_target_is_the_least_that_does(values: list[float], target: float) -> None:
    total = replications_to_clear(values, target)
    distance = abs(float(np.mean(values)) - target)
    if total is None:
        assert distance < 0.05 * float(np.std(values, ddof=1))
        return
    from scipy.special import stdtrit

    def half_width(n: int) -> float:
        return float(stdtrit(n - 1, 0.975)) * float(np.std(values, ddof=1)) / math.sqrt(n)

    assert half_width(total) <= distance * (1 + 1e-9)
    assert total == len(values) or half_width(total - 1) > distance * (1 - 1e-9)


def test_a_target_at_the_mean_is_never_cleared() -> None:
    assert replications_to_clear([1.0, 3.0], 2.0) is None
    assert replications_to_clear([1.0], 2.0) is None


def test_a_stopped_sequence_is_as_precise_as_was_asked() -> None:
    """Exponential replications to ±10 %: the mean of the stopped sequences is within 10 % of the truth nearly always."""
    generator = np.random.default_rng(4)
    errors = []
    for _ in range(60):
        values = list(generator.gamma(20.0, 0.05, 5))
        while not precise(values, 0.1):
            values.append(float(generator.gamma(20.0, 0.05)))
        errors.append(abs(np.mean(values) - 1.0))
    assert np.mean(np.array(errors) <= 0.1) >= 0.85
