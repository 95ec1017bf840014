"""The published behaviour of KEDA, case by case, with its HPA, and its adapter to deployments."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sim.control.scaling.keda import (
    Fallback,
    Health,
    Keda,
    ScaledObject,
    Trigger,
    get_metrics_with_fallback,
    is_active,
    request_scale,
)
from sim.control.scaling.keda_adapter import KedaScaler
from sim.control.scaling.view import READY, STARTING, Autoscaler, Decision, DeploymentView, ReplicaView
from tests.paths import DATA, ROOT

GROUPS = yaml.safe_load((DATA / "control" / "keda_cases.yaml").read_text(encoding="utf-8"))
CASES: list[dict[str, Any]] = [
    {"call": group["call"], "source": group["source"], **case} for group in GROUPS for case in group["cases"]
]


def fallback_of(case: dict[str, Any]) -> Fallback | None:
    return Fallback(**case["fallback"]) if "fallback" in case else None


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"].replace(" ", "-"))
def test_a_published_case(case: dict[str, Any]) -> None:
    expected = case["expect"]
    if case["call"] == "is_active":
        assert is_active(case["value"], case["threshold"]) is expected
    elif case["call"] == "request_scale":
        spec = ScaledObject(fallback=fallback_of(case), **case["spec"])
        result = request_scale(
            spec, case["current"], case["active"], case.get("error", False), 1000.0, case.get("last_active_time")
        )
        assert {key: getattr(result, key) for key in expected} == expected
    else:
        health = Health(case["failures"])
        metric = get_metrics_with_fallback(
            health,
            case["value"],
            fallback_of(case),
            case["target"],
            case.get("current", 0),
            case.get("ready"),
            case.get("metric_type", "AverageValue"),
        )
        got = {"value": metric.value, "active": metric.active, "failures": health.failures, "failing": health.failing}
        assert {key: got[key] for key in expected} == expected


def test_there_are_enough_cases_and_each_says_where_it_comes_from() -> None:
    assert len(CASES) >= 20
    assert all(case["source"] for case in CASES)


def test_defaults() -> None:
    """keda.sh/docs/latest/reference/scaledobject-spec."""
    spec = ScaledObject()
    assert (spec.polling_interval, spec.cooldown_period, spec.initial_cooldown_period) == (30, 300, 0)
    assert (spec.min_replica_count, spec.max_replica_count, spec.idle_replica_count) == (0, 100, None)
    assert spec.hpa_min_replicas == 1
    assert Fallback(3, 6).behavior == "static"


def test_from_zero_to_many_and_back_to_zero() -> None:
    """Two replicas' worth of work until t = 100: KEDA starts one, the HPA makes two of it; 300 s after the last active poll all go."""
    keda = Keda(ScaledObject(cooldown_period=300), [Trigger(threshold=10)])
    replicas, history = 0, {}
    for now in range(0, 600, 15):
        value = 20.0 if now < 100 else 0.0
        result = keda.poll(now, replicas, [value]) if now % 30 == 0 else None
        woken = None if result is None else result.replicas
        replicas = keda.sync(now, replicas, [value]).replicas if woken is None else woken
        history[now] = replicas
    assert [history[t] for t in (0, 15, 90)] == [1, 2, 2]
    # last active poll at 90; 390 is not after 390; the poll of 420 is. The HPA's own window (300 s from 90) lets it go to 1 at 405.
    assert min(t for t in history if t > 0 and history[t] == 0) == 420
    assert history[390] == 2
    assert history[405] == 1


def test_a_failing_trigger_falls_back_after_the_threshold_and_the_hpa_follows() -> None:
    keda = Keda(ScaledObject(fallback=Fallback(2, 6)), [Trigger(threshold=10)])
    replicas = [keda.sync(t * 15.0, 4, [None]).replicas for t in range(3)]
    assert replicas == [4, 4, 6]  # the third failure is more than two: 60 over 10
    assert keda.health[0].failures == 3
    assert keda.sync(45.0, 6, [60.0]).replicas == 6
    assert keda.health[0].failures == 0


def test_pauses_reach_the_hpa() -> None:
    """controllers/keda/hpa.go newHPAForScaledObject: a paused direction is selectPolicy Disabled; a paused object has no HPA."""
    wide: dict[str, Any] = {"min_replica_count": 1, "max_replica_count": 9}
    free = Keda(ScaledObject(**wide), [Trigger(threshold=10)], downscale_stabilization=0)
    up_only = Keda(ScaledObject(**wide, paused_scale_in=True), [Trigger(threshold=10)], downscale_stabilization=0)
    down_only = Keda(ScaledObject(**wide, paused_scale_out=True), [Trigger(threshold=10)], downscale_stabilization=0)
    none = Keda(ScaledObject(**wide, paused_replicas=4), [Trigger(threshold=10)], downscale_stabilization=0)
    pairs = [
        [keda.sync(now, 4, [value]).replicas for now, value in ((0, 40.0), (15, 10.0), (30, 60.0))]
        for keda in (free, up_only, down_only, none)
    ]
    assert pairs == [[4, 1, 6], [4, 4, 6], [4, 1, 4], [4, 4, 4]]


def test_the_hpa_does_nothing_at_zero_and_asks_for_nothing() -> None:
    keda = Keda(ScaledObject(fallback=Fallback(0, 6)), [Trigger(threshold=10)])
    decision = keda.sync(0.0, 0, [None])
    assert (decision.replicas, decision.conditions["ScalingActive"].reason) == (0, "ScalingDisabled")
    assert keda.health[0].failures == 0


def test_values_are_cut_to_milli_units() -> None:
    """pkg/scalers/scaler.go GenerateMetricInMili: int64(value·1000); 10.0009 over 10 is within tolerance either way, 0.0009 is nothing."""
    keda = Keda(ScaledObject(min_replica_count=1), [Trigger(threshold=0.001)])
    assert keda.sync(0.0, 1, [0.0009]).raw == 0


@given(
    low=st.integers(0, 5),
    current=st.integers(0, 10),
    active=st.booleans(),
    error=st.booleans(),
    last=st.one_of(st.none(), st.floats(0, 1000)),
)
def test_keda_goes_down_only_to_nothing_and_up_only_from_nothing(
    low: int, current: int, active: bool, error: bool, last: float | None
) -> None:
    result = request_scale(ScaledObject(low, 10), current, active, error, 1000.0, last)
    if result.replicas is not None and result.replicas != current:
        assert result.replicas == (max(1, low) if result.replicas > current else 0)
        assert not (result.replicas < current and (low > 0 or error or active))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ScaledObject(5, 3), "max_replica_count 3 must be at least 1 and at least min_replica_count, 5"),
        (lambda: ScaledObject(2, 9, 2), "idle_replica_count 2 must be at least 0 and less than min_replica_count, 2"),
        (lambda: Trigger(0.0), "threshold 0 must be at least 0.001"),
        (lambda: KedaScaler(threshold=5, metric="gpu"), "metric 'gpu' must be one of concurrency"),
        (
            lambda: KedaScaler(threshold=5, fallback={"replicas": 3}),
            "fallback.failure_threshold None must be a whole number, not negative",
        ),
        (
            lambda: KedaScaler(threshold=5, fallback={"failureThreshold": 1, "replicas": 3, "behavior": "none"}),
            "fallback.behavior 'none' must be one of static",
        ),
        (lambda: KedaScaler(threshold=5, polling_interval=0), "polling_interval 0 must be greater than 0"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(make: Any, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)) as fault:
        make()
    assert "\n" not in str(fault.value)


# ---- the adapter


def seen(scaler: KedaScaler, view: DeploymentView) -> Decision:
    scaler.observe(view)
    return scaler.decide(view)


def ready(index: int, running: int) -> ReplicaView:
    return ReplicaView(index, READY, -100, -100, -100, running=running)


def test_the_adapter_wakes_at_a_poll_and_grows_at_a_sync() -> None:
    scaler = KedaScaler(threshold=10)
    assert isinstance(scaler, Autoscaler)
    assert (scaler.period, scaler.sample_period) == (15.0, 15.0)
    assert seen(scaler, DeploymentView(0.0, 0)).replicas is None
    assert seen(scaler, DeploymentView(15.0, 0, queued=3)).replicas is None  # no poll before 30
    woken = seen(scaler, DeploymentView(30.0, 0, queued=35))
    assert (woken.replicas, woken.reason) == (1, "ScalerActive")
    starting = [ReplicaView(0, STARTING, 30, 30)]
    grown = seen(scaler, DeploymentView(45.0, 1, starting, queued=35))
    assert grown.replicas == 4  # 35 over 10, and at most max(2·1, 4)
    assert grown.numbers["total"] == 35
    assert (grown.numbers["raw"], grown.numbers["limited"]) == (4, 4)


def test_the_adapter_goes_to_zero_after_the_cooldown() -> None:
    scaler = KedaScaler(threshold=10, cooldown_period=60, scrape=0)
    replicas = [ready(0, 0)]
    assert scaler.decide(DeploymentView(0.0, 1, [ready(0, 5)])).replicas is None
    answers = {
        now: scaler.decide(DeploymentView(now, 1, replicas)).replicas for now in (15.0, 30.0, 45.0, 60.0, 75.0, 90.0)
    }
    assert answers == {15.0: None, 30.0: None, 45.0: None, 60.0: None, 75.0: None, 90.0: 0}


def test_an_outage_keeps_it_up_and_falls_back() -> None:
    scaler = KedaScaler(threshold=10, cooldown_period=0, fallback={"failureThreshold": 1, "replicas": 3})
    seen(scaler, DeploymentView(0.0, 1, [ready(0, 5)]))
    blind = [seen(scaler, DeploymentView(now, 1, [ready(0, 0)], metrics=False)) for now in (75.0, 90.0)]
    assert [decision.replicas for decision in blind] == [None, 3]
    assert blind[0].reason.startswith("FailedGetExternalMetric")
    scaler = KedaScaler(threshold=10, cooldown_period=0)
    seen(scaler, DeploymentView(0.0, 1, [ready(0, 5)]))
    for now in (90.0, 300.0, 3000.0):
        assert seen(scaler, DeploymentView(now, 1, [ready(0, 0)], metrics=False)).replicas is None


def test_the_period_divides_both() -> None:
    assert KedaScaler(threshold=1, polling_interval=20, sync_period=15).period == 5.0


def test_the_examples_of_the_page_run() -> None:
    page = (ROOT / "docs" / "controllers" / "keda.md").read_text(encoding="utf-8")
    blocks = [part.split("```")[0] for part in page.split("```python\n")[1:]]
    assert blocks
    for block in blocks:
        exec(compile(block, "keda.md", "exec"), {})
