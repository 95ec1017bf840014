"""The scaler that forecasts: demand by hand, replicas by division."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.control.scaling.capacity import Traffic, capacity
from sim.control.scaling.limits import limits
from sim.control.scaling.meter import Meter, Series
from sim.control.scaling.predictive import PredictiveScaler
from sim.control.scaling.replica_rate import LENGTHS_SCV
from sim.control.scaling.sizing import Bounds, Hold, needed
from sim.control.scaling.view import Autoscaler, Decision, DeploymentView


def driven(
    scaler: PredictiveScaler, rate: Callable[[float], float], until: float, prompt: int = 1, output: int = 11
) -> list[tuple[float, Decision]]:
    """What it decides while ``rate(t)`` requests a second come, counted at its own periods."""
    arrived, decisions, now = 0.0, [], 0.0
    while now < until:
        arrived += rate(now) * scaler.period
        now += scaler.period
        count = round(arrived)
        view = DeploymentView(now, 1, arrived=count, prompt_tokens=prompt * count, output_tokens=output * count)
        scaler.observe(view)
        decisions.append((now, scaler.decide(view)))
    return decisions


def test_a_steady_rate_over_what_a_replica_serves() -> None:
    scaler = PredictiveScaler(rate_per_replica=10.0, utilisation=0.5, lead=0.0)
    decision = driven(scaler, lambda t: 30.0, 600.0)[-1][1]
    assert decision.replicas == 6  # 30 / (10 * 0.5)
    assert decision.numbers["last"] == 30.0
    assert decision.numbers["per_replica"] == 5.0
    assert decision.reason == "holt forecast"


def test_a_ramp_is_seen_a_lead_ahead() -> None:
    # 1/s more every 30 s: after 20 buckets the last one is 20/s; a cold start of 270 s and a period are 10 buckets
    scaler = PredictiveScaler(rate_per_replica=1.0, utilisation=1.0, lead=300.0, confidence=0.5, method="holt")
    decision = driven(scaler, lambda t: 1.0 + t // 30.0, 600.0)[-1][1]
    assert decision.numbers["last"] == 20.0
    assert decision.numbers["mean"] == pytest.approx(20.0 + sum(0.995**h for h in range(1, 11)), rel=1e-2)
    assert decision.replicas == ceil(decision.numbers["upper"]) == 30


def test_the_lead_is_the_cold_start_it_knows_and_its_period(knowledge: Any) -> None:
    assert PredictiveScaler(period=20.0, knowledge=knowledge(cold_start=100.0)).lead == 120.0
    assert PredictiveScaler(period=20.0).lead == 20.0


def test_a_season_is_met_before_it_comes() -> None:
    # ten minutes at 2/s and two at 20/s, again and again; a lead of two minutes
    def rate(t: float) -> float:
        return 20.0 if t % 720.0 >= 600.0 else 2.0

    scaler = PredictiveScaler(
        rate_per_replica=2.0, utilisation=1.0, period=30.0, lead=120.0, season=720.0, method="seasonal-naive", hold=0.0
    )
    decided = dict(driven(scaler, rate, 4 * 720.0))
    start = 3 * 720.0 + 600.0
    # the bucket that ends at start - 90 is followed by three of 2/s and one of 20/s
    assert decided[start - 120.0].replicas == 1
    assert decided[start - 90.0].replicas == 10
    assert decided[start + 90.0].replicas == 10
    assert decided[start + 120.0].replicas == 1


def test_a_target_of_requests_in_a_replica() -> None:
    scaler = PredictiveScaler(target=8.0, lead=0.0, confidence=0.5, method="last")
    for now in (30.0, 60.0):
        view = DeploymentView(now, 1, request_seconds=40.0 * now)
        scaler.observe(view)
    assert scaler.decide(view).replicas == 5  # a mean of 40 in the deployment, 8 a replica


def test_what_a_replica_serves_comes_from_step_times_and_objectives(knowledge: Any) -> None:
    known = knowledge(cold_start=0.0)
    scaler = PredictiveScaler(utilisation=0.5, lead=0.0, method="last", confidence=0.5, knowledge=known)
    decision = driven(scaler, lambda t: 50.0, 90.0)[-1][1]
    traffic = Traffic(1.0, 11.0, LENGTHS_SCV, LENGTHS_SCV)
    rate = capacity(known.step, known.settings, traffic, limits(known.objectives)).rate
    assert decision.numbers["per_replica"] == pytest.approx(rate * 0.5)
    assert decision.replicas == ceil(50.0 / (rate * 0.5))


def test_it_lets_go_when_nothing_was_wanted_for_the_hold() -> None:
    scaler = PredictiveScaler(rate_per_replica=1.0, utilisation=1.0, method="last", lead=0.0, confidence=0.5, hold=90.0)
    decided = driven(scaler, lambda t: 10.0 if t < 300.0 else 2.0, 480.0)
    assert [(now, d.replicas) for now, d in decided if now >= 300.0] == [
        (300.0, 10), (330.0, 10), (360.0, 10), (390.0, 10), (420.0, 2), (450.0, 2), (480.0, 2),
    ]  # fmt: skip
    assert decided[-4][1].reason == "last forecast, held"


def test_an_outage_of_metrics_decides_nothing_and_is_filled_with_its_mean() -> None:
    scaler = PredictiveScaler(rate_per_replica=1.0, utilisation=1.0, method="last", lead=0.0)
    scaler.observe(DeploymentView(30.0, 1, arrived=30))
    blind = DeploymentView(60.0, 1, arrived=90, metrics=False)
    scaler.observe(blind)
    assert scaler.decide(blind).replicas is None
    scaler.observe(DeploymentView(90.0, 1, arrived=150))
    assert list(scaler.series.values) == [1.0, 2.0, 2.0]


def test_a_request_that_finds_no_replica_is_enough() -> None:
    scaler = PredictiveScaler(min=0, rate_per_replica=1.0)
    assert scaler.wakes
    assert scaler.decide(DeploymentView(3.0, 0, queued=1)).replicas == 1
    assert scaler.decide(DeploymentView(3.0, 0)).replicas is None


def test_it_falls_to_zero_where_that_is_allowed() -> None:
    scaler = PredictiveScaler(min=0, rate_per_replica=1.0, method="last", lead=0.0, hold=0.0, confidence=0.5)
    decided = driven(scaler, lambda t: 3.0 if t < 60.0 else 0.0, 120.0)
    assert [d.replicas for _, d in decided] == [4, 4, 0, 0]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"min": 5, "max": 2}, "min is 5 and max is 2"),
        ({"min": -1}, "min is -1; it must be a whole number of replicas"),
        ({"period": 0.0}, "period is 0.0; it must be a number above 0"),
        ({"confidence": 1.0}, "confidence is 1.0; it must lie between 0 and 1"),
        ({"utilisation": 0.0}, "utilisation is 0.0"),
        ({"target": 0.0}, "target is 0.0; it must be a number above 0"),
        ({"target": 1.0, "rate_per_replica": 1.0}, "give one"),
        ({"method": "arima"}, "method is 'arima'"),
        (
            {"season": 86400.0, "bucket": 30.0},
            "bucket is 30 s; with a season of 86400 s it must lie between 450 and 43200 s",
        ),
        ({"method": "seasonal-naive"}, "needs a season"),
        ({"hold": -1.0}, "hold is -1.0; it must be a number from 0"),
    ],
)
def test_parameters_that_cannot_be(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        PredictiveScaler(**given)


def test_without_anything_known_of_a_replica_it_says_what_it_needs() -> None:
    scaler = PredictiveScaler()
    assert isinstance(scaler, Autoscaler)
    scaler.observe(DeploymentView(30.0, 1, arrived=10))
    with pytest.raises(ValueError, match="it needs target or rate_per_replica"):
        scaler.decide(DeploymentView(30.0, 1, arrived=10))


def test_a_day_s_season_is_cut_into_few_enough_buckets() -> None:
    scaler = PredictiveScaler(season=86400.0)
    assert scaler.bucket == 900.0
    assert scaler.series.points == 4 * 96


def test_a_meter_is_the_difference_over_its_window() -> None:
    meter = Meter(60.0)
    assert meter.flow() is None
    for now, arrived in ((30.0, 30), (60.0, 90), (90.0, 210)):
        meter.look(DeploymentView(now, 1, arrived=arrived, prompt_tokens=100 * arrived, output_tokens=arrived))
    flow = meter.flow()
    assert flow is not None
    assert (flow.seconds, flow.rate, flow.prompt, flow.output) == (60.0, 3.0, 100.0, 1.0)


def test_a_series_keeps_its_last_points() -> None:
    series = Series(10.0, 3)
    for now in range(10, 60, 10):
        series.add(float(now), float(now * now))
    assert list(series.values) == [50.0, 70.0, 90.0]


def test_a_hold_is_the_highest_of_its_window() -> None:
    hold = Hold(10.0)
    said = [(0.0, 5), (5.0, 3), (10.0, 1), (10.5, 1), (16.0, 1), (17.0, 4), (18.0, 2)]
    assert [hold.highest(now, n) for now, n in said] == [5, 5, 5, 3, 1, 4, 4]


def test_bounds_and_whole_replicas() -> None:
    assert [Bounds(1, 9).within(n) for n in (-2, 0, 1, 1.2, 9, 10, float("inf"))] == [1, 1, 1, 2, 9, 9, 9]
    assert needed(0.3, 0.1) == 3  # 0.3 / 0.1 is 2.9999999999999996; and 0.7 / 0.1 is 6.999999999999999
    assert needed(3.0000001, 1.0) == 4
    assert needed(0.0, 5.0) == 0


@given(
    rates=st.lists(st.floats(0.0, 200.0), min_size=1, max_size=30),
    least=st.integers(0, 4),
    more=st.integers(1, 20),
    method=st.sampled_from(["holt", "holt-winters", "seasonal-naive", "last"]),
    confidence=st.floats(0.05, 0.99),
    hold=st.sampled_from([0.0, 60.0, 300.0]),
)
def test_decisions_stay_within_bounds_and_are_always_the_same(
    rates: list[float], least: int, more: int, method: Any, confidence: float, hold: float
) -> None:
    def run() -> list[tuple[float, Decision]]:
        scaler = PredictiveScaler(
            min=least,
            max=least + more,
            rate_per_replica=7.0,
            method=method,
            season=150.0,
            confidence=confidence,
            hold=hold,
        )
        scaler = pickle.loads(pickle.dumps(scaler))
        return driven(scaler, lambda t: rates[int(t / 30.0)], 30.0 * len(rates))

    decided = run()
    assert decided == run()
    for _, decision in decided:
        assert decision.replicas is not None
        assert least <= decision.replicas <= least + more
        assert all(value == value for value in decision.numbers.values())
