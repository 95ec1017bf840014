"""Forecasts of series whose future is known, and variances worked out by hand."""

from __future__ import annotations

from math import pi, sin, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.control.scaling.forecast import METHODS, Forecaster, Method, _growth


def test_a_line_goes_on() -> None:
    found = Forecaster("holt").forecast([5.0 + 2.0 * t for t in range(40)], 5)
    # undamped it would be 85, 87, ... 93; damping of 0.995, the weakest allowed, takes 2 (1 - 0.995^h) from each further rise
    expected, rise = [], 83.0
    for ahead in range(1, 6):
        rise += 2.0 * 0.995**ahead
        expected.append(rise)
    assert found.method == "holt"
    assert found.mean == pytest.approx(expected, rel=1e-3)


def test_a_constant_stays() -> None:
    found = Forecaster("holt-winters").forecast([7.0] * 50, 3)
    assert (found.mean, found.deviation) == ((7.0, 7.0, 7.0), (0.0, 0.0, 0.0))


@pytest.mark.parametrize("season", [[1.0, 5.0, 9.0, 2.0], [0.0, 0.0, 30.0, 10.0, 0.0, 4.0]])
def test_a_pure_season_repeats(season: list[float]) -> None:
    period = len(season)
    found = Forecaster("holt-winters", period).forecast(season * 8, 2 * period)
    assert found.method == "holt-winters"
    assert found.mean == pytest.approx(season * 2, abs=0.02)


def test_a_sine_over_a_rising_level() -> None:
    values = [50.0 + 0.1 * t + 20.0 * sin(2.0 * pi * t / 48.0) for t in range(4 * 48)]
    found = Forecaster("holt-winters", 48).forecast(values, 24)
    ahead = [50.0 + 0.1 * t + 20.0 * sin(2.0 * pi * t / 48.0) for t in range(4 * 48, 4 * 48 + 24)]
    assert found.mean == pytest.approx(ahead, abs=1.0)


def test_a_season_is_believed_when_it_was_seen_twice() -> None:
    forecaster = Forecaster("holt-winters", 12)
    season = [1.0, 2.0, 4.0, 8.0, 8.0, 4.0, 2.0, 1.0, 0.0, 0.0, 3.0, 1.0]
    assert forecaster.forecast((season * 2)[:23], 1).method == "holt"
    assert forecaster.forecast(season * 2, 1).method == "holt-winters"


def test_too_few_points_for_smoothing_are_taken_as_they_are() -> None:
    assert Forecaster("holt").forecast([float(t) for t in range(9)], 2).mean == (8.0, 8.0)
    assert Forecaster("holt").forecast([float(t) for t in range(10)], 2).method == "holt"


def test_seasonal_naive_is_what_was_a_season_ago() -> None:
    found = Forecaster("seasonal-naive", 4).forecast([1.0, 2.0, 3.0, 4.0, 2.0, 3.0, 4.0, 5.0], 6)
    assert found.mean == (2.0, 3.0, 4.0, 5.0, 2.0, 3.0)
    # every seasonal difference is 1; two seasons ahead two such errors add up
    assert found.deviation == pytest.approx((1.0, 1.0, 1.0, 1.0, sqrt(2.0), sqrt(2.0)))
    assert Forecaster("seasonal-naive", 4).forecast([1.0, 2.0, 3.0], 2).mean == (3.0, 3.0)


def test_last_is_a_random_walk() -> None:
    found = Forecaster("last").forecast([1.0, 2.0, 4.0], 2)
    # steps 1 and 2: root mean square sqrt(2.5)
    assert found.mean == (4.0, 4.0)
    assert found.deviation == pytest.approx((sqrt(2.5), sqrt(5.0)))
    assert found.upper(0.9) == pytest.approx((4.0 + 1.2815516 * sqrt(2.5), 4.0 + 1.2815516 * sqrt(5.0)))


def test_errors_grow_as_the_state_space_model_says() -> None:
    # c1 = 0.5 (1 + 0.2 * 0.9) = 0.59, c2 = 0.5 (1 + 0.2 (0.9 + 0.81)) + 0.3 = 0.971 with a season of 2
    parameters = {
        "smoothing_level": 0.5,
        "smoothing_trend": 0.2,
        "damping_trend": 0.9,
        "smoothing_seasonal": 0.3,
    }
    assert _growth(parameters, 2, 3) == pytest.approx([1.0, sqrt(1.0 + 0.59**2), sqrt(1.0 + 0.59**2 + 0.971**2)])


def test_the_upper_quantile_is_exceeded_as_often_as_it_says() -> None:
    values = (100.0 + 5.0 * np.random.default_rng(3).standard_normal(400)).tolist()
    forecaster = Forecaster("holt", refit=20)
    kept = [values[t] <= forecaster.forecast(values[max(0, t - 100) : t], 1).upper(0.9)[0] for t in range(100, 400)]
    assert (
        0.85 <= sum(kept) / len(kept) <= 0.96
    )  # 0.9 of 300, three standard deviations of 0.017, and a fitted variance


def test_parameters_are_kept_between_fits() -> None:
    values = [10.0 + (t * 37 % 11) + 0.5 * t for t in range(60)]
    forecaster = Forecaster("holt", refit=3)
    seen = []
    for t in range(30, 37):
        forecaster.forecast(values[:t], 1)
        seen.append(tuple(forecaster._fitted.values()))
    assert seen[0] == seen[1] == seen[2]
    assert seen[3] == seen[4] == seen[5]
    assert len(set(seen)) == 3


def test_a_ramp_after_a_calm_hour_is_seen_before_the_next_fit_is_due() -> None:
    calm = (5.0 + 0.5 * np.random.default_rng(9).standard_normal(60)).tolist()
    forecaster = Forecaster("holt", refit=1000)
    for t in range(20, 61):
        forecaster.forecast(calm[:t], 10)
    ramp = [*calm, 8.0, 11.0, 14.0, 17.0]  # 6, 12, ... standard deviations off
    for t in range(61, 65):
        forecast = forecaster.forecast(ramp[:t], 10)
    assert forecast.mean[-1] > 17.0  # it goes on: no smoothing of a calm hour says that


def test_what_it_refuses() -> None:
    with pytest.raises(
        ValueError, match="method is 'arima'; it must be one of holt, holt-winters, seasonal-naive, last"
    ):
        Forecaster("arima")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="method 'seasonal-naive' needs a season"):
        Forecaster("seasonal-naive")
    with pytest.raises(ValueError, match="refit is 0; it must be at least 1"):
        Forecaster("holt", refit=0)
    with pytest.raises(ValueError, match="nothing to forecast from"):
        Forecaster("last").forecast([], 1)


@given(
    values=st.lists(st.one_of(st.just(0.0), st.floats(0.0, 1e4)), min_size=1, max_size=40),
    method=st.sampled_from(METHODS),
    season=st.integers(2, 12),
    horizon=st.integers(1, 15),
    confidence=st.floats(0.01, 0.99),
)
def test_every_series_has_a_finite_forecast_always_the_same(
    values: list[float], method: Method, season: int, horizon: int, confidence: float
) -> None:
    found = Forecaster(method, season).forecast(values, horizon)
    assert len(found.mean) == len(found.deviation) == horizon
    assert all(np.isfinite(found.mean))
    assert all(d >= 0.0 for d in found.deviation)
    assert all(value >= 0.0 for value in found.upper(confidence))
    assert found == Forecaster(method, season).forecast(values, horizon)
