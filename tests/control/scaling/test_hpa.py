"""The HPA over several rounds, what always holds of it, and its adapter to deployments."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.control.scaling.hpa import HorizontalPodAutoscaler
from sim.control.scaling.hpa_adapter import HpaScaler
from sim.control.scaling.hpa_behavior import behavior_from, scale_down_rules, scale_up_rules
from sim.control.scaling.hpa_limits import Recommendation, stabilize_recommendation_with_behaviors
from sim.control.scaling.hpa_pods import MetricsError, Pod, milli
from sim.control.scaling.hpa_spec import MetricSpec
from sim.control.scaling.view import (
    DRAINING,
    PENDING,
    READY,
    STARTING,
    Autoscaler,
    DeploymentView,
    ReplicaView,
)

QPS = [MetricSpec("External", "qps", average_value=1000)]


def rounds(hpa: HorizontalPodAutoscaler, replicas: int, totals: dict[float, int], times: range) -> dict[float, int]:
    """Replicas after each round; ``totals`` is the demand in replicas from a time on."""
    seen = {}
    for now in times:
        total = totals[max(start for start in totals if start <= now)]
        replicas = hpa.reconcile(float(now), replicas, [[total * 1000]]).replicas
        seen[float(now)] = replicas
    return seen


def test_four_pods_a_minute_are_four_pods_a_minute() -> None:
    """horizontal.go: an event exactly as old as the period no longer counts, so the second step comes at 60 s."""
    behavior = behavior_from({"scaleUp": {"policies": [{"type": "Pods", "value": 4, "periodSeconds": 60}]}})
    seen = rounds(HorizontalPodAutoscaler(100, 1, QPS, behavior), 1, {0: 50}, range(0, 135, 15))
    assert [seen[t] for t in (0, 15, 30, 45, 60, 75, 120)] == [5, 5, 5, 5, 9, 9, 13]


def test_without_behavior_replicas_double_a_round() -> None:
    seen = rounds(HorizontalPodAutoscaler(100, 1, QPS), 1, {0: 50}, range(0, 75, 15))
    assert list(seen.values()) == [4, 8, 16, 32, 50]  # max(2·current, 4)


@pytest.mark.parametrize(("behavior", "down"), [(None, 315.0), ({}, 300.0)])
def test_a_scale_down_waits_for_the_window(behavior: dict[str, Any] | None, down: float) -> None:
    """A recommendation of 300 s ago holds without behavior (Before is strict), and no longer with it (After is strict)."""
    hpa = HorizontalPodAutoscaler(100, 1, QPS, None if behavior is None else behavior_from(behavior))
    seen = rounds(hpa, 10, {0: 10, 15: 2}, range(0, 345, 15))
    assert min(t for t, replicas in seen.items() if replicas == 2) == down
    assert {replicas for t, replicas in seen.items() if t < down} == {10}


def test_disabled_directions_stay() -> None:
    behavior = behavior_from({"scale_down": {"select_policy": "Disabled"}, "scaleUp": {"selectPolicy": "Disabled"}})
    hpa = HorizontalPodAutoscaler(100, 1, QPS, behavior, recommendations=[])
    assert hpa.reconcile(0.0, 5, [[20_000]]).replicas == 5
    assert hpa.reconcile(1000.0, 5, [[1000]]).replicas == 5
    assert hpa.conditions["ScalingLimited"].reason == "ScaleDownLimit"


def test_defaults_of_behavior() -> None:
    """pkg/apis/autoscaling/v2/defaults.go."""
    up, down = scale_up_rules(), scale_down_rules()
    assert [(p.type, p.value, p.period_seconds) for p in up.policies or ()] == [("Pods", 4, 15), ("Percent", 100, 15)]
    assert [(p.type, p.value, p.period_seconds) for p in down.policies or ()] == [("Percent", 100, 15)]
    assert (up.stabilization_window_seconds, down.stabilization_window_seconds) == (0, None)
    assert up.select_policy == down.select_policy == "Max"
    hpa = HorizontalPodAutoscaler(10)
    assert (hpa.min_replicas, hpa.tolerance, hpa.downscale_stabilization) == (1, 0.1, 300.0)
    assert (hpa.cpu_initialization_period, hpa.initial_readiness_delay) == (300.0, 30.0)
    assert hpa.metrics[0].average_utilization == 80


def test_a_quantity_is_rounded_up_to_milli_units() -> None:
    assert [milli(x) for x in (1.0, 0.0001, 0.57, 1.2345, 15.0)] == [1000, 1, 570, 1235, 15000]


@given(
    current=st.integers(1, 50),
    total=st.integers(0, 10**6),
    low=st.integers(0, 20),
    more=st.integers(0, 40),
    legacy=st.booleans(),
)
def test_the_answer_is_within_bounds_and_no_faster_than_allowed(
    current: int, total: int, low: int, more: int, legacy: bool
) -> None:
    high = max(1, low + more)
    hpa = HorizontalPodAutoscaler(high, low, QPS, None if legacy else behavior_from({}))
    decision = hpa.reconcile(0.0, current, [[total]])
    assert low <= decision.replicas <= high
    if low <= current <= high:
        assert decision.replicas <= max(2 * current, current + 4)
        assert decision.replicas >= current  # the first round holds what there is


@given(
    log=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 900)), max_size=12),
    current=st.integers(0, 30),
    desired=st.integers(0, 30),
    up=st.integers(0, 600),
    down=st.integers(0, 600),
)
def test_stabilisation_never_goes_further_than_every_recommendation_of_the_window(
    log: list[tuple[int, int]], current: int, desired: int, up: int, down: int
) -> None:
    recent_up = [replicas for replicas, age in log if age < up]
    recent_down = [replicas for replicas, age in log if age < down]
    recommendations = [Recommendation(replicas, float(-age)) for replicas, age in log]
    stabilized = stabilize_recommendation_with_behaviors(recommendations, current, desired, 0.0, up, down).replicas
    if stabilized > current:
        assert stabilized == min([desired, *recent_up])
    elif stabilized < current:
        assert stabilized == max([desired, *recent_down])
    assert len(recommendations) in (len(log), len(log) + 1)
    assert Recommendation(desired, 0.0) in recommendations


@given(current=st.integers(1, 20), value=st.integers(0, 40_000), first=st.booleans())
def test_no_scale_down_while_a_metric_fails(current: int, value: int, first: bool) -> None:
    specs = [*QPS, MetricSpec("External", "other", average_value=1000)]
    readings = [MetricsError("down"), [value]]
    hpa = HorizontalPodAutoscaler(20, 1, specs, recommendations=[])
    decision = hpa.reconcile(0.0, current, readings if first else readings[::-1])
    assert decision.replicas >= current
    assert decision.error is not None


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: HorizontalPodAutoscaler(2, 3), "max_replicas 2 must be at least 1 and at least min_replicas, 3"),
        (lambda: HorizontalPodAutoscaler(2, -1), "min_replicas -1 must not be negative"),
        (lambda: MetricSpec("Pods", "qps", average_value=0), "metric 'qps': average_value 0 must be greater than 0"),
        (lambda: behavior_from({"scaleup": {}}), "behavior: 'scaleup' is not one of scale_up, scale_down"),
        (
            lambda: behavior_from({"scaleUp": {"selectPolicy": "Most"}}),
            "behavior: selectPolicy 'Most' must be Max, Min or Disabled",
        ),
        (
            lambda: behavior_from({"scaleUp": {"policies": [{"type": "Pods", "value": 4}]}}),
            "behavior.scale_up.policies: a policy needs type, value and periodSeconds; period_seconds is missing",
        ),
        (
            lambda: behavior_from({"scaleDown": {"stabilizationWindowSeconds": 4000}}),
            "behavior: stabilizationWindowSeconds 4000 must be between 0 and 3600",
        ),
        (lambda: HpaScaler(max=3), "metric None must be one of concurrency"),
        (lambda: HpaScaler(max=3, metric="queue"), "target None of metric 'queue' must be a number greater than 0"),
        (
            lambda: HpaScaler(max=3, metric="queue", target=50, target_type="utilisation"),
            "target_type utilisation needs a share: metric 'queue' is none",
        ),
        (
            lambda: HpaScaler(max=3, metric="queue", target=5, metrics=[{"metric": "kv", "target": 1}]),
            "give metric and target, or metrics, not both",
        ),
    ],
)
def test_what_cannot_be_is_said_in_a_line(make: Any, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)) as fault:
        make()
    assert "\n" not in str(fault.value)


# ---- the adapter


def ready(index: int, waiting: int = 0, since: float = -1000.0, **more: Any) -> ReplicaView:
    return ReplicaView(index, READY, since, since, since, waiting=waiting, **more)


def seen(scaler: HpaScaler, view: DeploymentView) -> Any:
    scaler.observe(view)
    return scaler.decide(view)


def test_the_adapter_scales_on_the_average_a_replica() -> None:
    scaler = HpaScaler(max=12, min=2, metric="queue", target=8)
    assert isinstance(scaler, Autoscaler)
    assert (scaler.period, scaler.sample_period) == (15.0, 15.0)
    decision = seen(scaler, DeploymentView(0.0, 2, [ready(0, 10), ready(1, 14)]))
    assert decision.replicas == 3  # 12/8·2
    assert decision.reason == "queue above target"
    assert decision.numbers == {
        "current": 2, "ready": 2, "target": 8.0, "average": 12.0, "raw": 3, "stabilised": 3, "limited": 3,
    }  # fmt: skip


def test_replicas_that_start_have_no_metric_and_damp_the_scale_up() -> None:
    """Two waiting 12 each against 8: 1.5; with the two that start at 0 it is 0.75, the other way: nothing."""
    view = DeploymentView(
        0.0, 4, [ready(0, 12), ready(1, 12), ReplicaView(2, STARTING, -5, -5), ReplicaView(3, STARTING, -5, -5)]
    )
    decision = seen(HpaScaler(max=12, metric="queue", target=8), view)
    assert (decision.replicas, decision.numbers["raw"]) == (None, 4)


def test_draining_replicas_count_for_nothing() -> None:
    gone = ReplicaView(2, DRAINING, -100, -100, -100, waiting=1000)
    decision = seen(
        HpaScaler(max=12, metric="queue", target=8), DeploymentView(0.0, 2, [ready(0, 8), ready(1, 8), gone])
    )
    assert (decision.replicas, decision.numbers["average"]) == (None, 8.0)


def test_pending_replicas_are_unready() -> None:
    """16/8·1 would be 2; with the pending one at 0 the average is the target."""
    view = DeploymentView(0.0, 2, [ready(0, 16), ReplicaView(1, PENDING, -5)])
    decision = seen(HpaScaler(max=12, metric="queue", target=8), view)
    assert (decision.replicas, decision.numbers["raw"]) == (None, 2)


def test_utilisation_is_a_rate_that_a_replica_scraped_once_has_not() -> None:
    """9 of 15 s are 60 % of one; with the second at 0 it is 30 % of two, the other way: nothing."""
    scaler = HpaScaler(max=12, metric="utilisation", target=50, target_type="utilisation")
    scaler.observe(DeploymentView(1000.0, 1, [ready(0, busy_seconds=900.0)]))
    view = DeploymentView(1015.0, 2, [ready(0, busy_seconds=909.0), ready(1, since=1005.0, busy_seconds=10.0)])
    decision = seen(scaler, view)
    assert (decision.numbers["average"], decision.numbers["target"]) == (60, 50)
    assert (decision.replicas, decision.numbers["raw"]) == (None, 2)
    view = DeploymentView(1030.0, 2, [ready(0, busy_seconds=918.0), ready(1, since=1005.0, busy_seconds=25.0)])
    assert seen(scaler, view).replicas == 4  # (60 + 100)/2 over 50, ceil(1.6·2)


def test_an_outage_is_noticed_when_the_metrics_are_stale_and_stops_all_scaling() -> None:
    scaler = HpaScaler(max=12, metric="queue", target=8)
    assert seen(scaler, DeploymentView(0.0, 2, [ready(0, 8), ready(1, 8)])).replicas is None
    dark = [ready(0, 80), ready(1, 80)]
    decision = seen(scaler, DeploymentView(60.0, 2, dark, metrics=False))
    assert decision.numbers["average"] == 8.0  # what was seen last
    decision = seen(scaler, DeploymentView(75.0, 2, dark, metrics=False))
    assert decision.replicas is None
    assert decision.reason.startswith("FailedGetPodsMetric: invalid metrics (1 invalid out of 1)")
    assert "raw" not in decision.numbers
    assert seen(scaler, DeploymentView(90.0, 2, dark)).replicas == 4


def test_a_total_takes_in_the_gateway_and_may_scale_from_zero() -> None:
    scaler = HpaScaler(max=12, min=0, metric="concurrency", target=10, target_type="total-average")
    decision = seen(scaler, DeploymentView(0.0, 0, queued=35))
    assert decision.replicas == 4  # ceil(35/10) = 4, max(2·0, 4) = 4
    assert seen(scaler, DeploymentView(15.0, 4, [ready(i) for i in range(4)], queued=48)).replicas == 5
    assert scaler.decide(DeploymentView(90.0, 5, metrics=False)).reason.startswith("FailedGetExternalMetric")


def test_several_metrics_and_the_largest_decides() -> None:
    wanted = [{"metric": "queue", "target": 8}, {"metric": "kv", "target": 80, "target_type": "utilisation"}]
    scaler = HpaScaler(max=12, metrics=wanted, scrape=0)
    assert scaler.sample_period == 0
    decision = scaler.decide(DeploymentView(0.0, 2, [ready(0, 8, kv_usage=0.97), ready(1, 8, kv_usage=0.97)]))
    assert decision.replicas == 3  # 97/80·2 = 2.4
    assert decision.numbers["average"] == 8.0
    assert (decision.numbers["average.kv"], decision.numbers["target.kv"]) == (97, 80)
    assert decision.reason == "kv above target"


def test_pods_of_one_name_are_what_the_selector_gives() -> None:
    """Object metrics with a Value target divide by ready pods only: one of two."""
    hpa = HorizontalPodAutoscaler(20, 1, [MetricSpec("Object", "qps", value=10_000)])
    assert hpa.reconcile(0.0, 2, [50_000], [Pod("a"), Pod("b", ready=False)]).replicas == 4  # 5, at most 4
