"""Knative's KPA against its own tests' numbers, and as an autoscaler of a deployment."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sim.control.scaling.kpa import KpaScaler
from sim.control.scaling.kpa_config import KpaConfig, panic_window, resolve_metric_target
from sim.control.scaling.kpa_decider import DeciderSpec, KpaDecider, num_activators
from sim.control.scaling.kpa_windows import (
    MaxTimeWindow,
    MaxWindow,
    TimedBuckets,
    WeightedBuckets,
    round_to_digits,
    smoothing_coefficient,
)
from sim.control.scaling.kpa_zero import (
    PodAutoscalerStatus,
    ScalerSpec,
    active_threshold,
    compute_active_condition,
    scale,
)
from sim.control.scaling.view import READY, Autoscaler, DeploymentView, ReplicaView
from tests.paths import DATA, ROOT

CASES = yaml.safe_load((DATA / "control" / "kpa_cases.yaml").read_text())
NOW = 10_000.0


def cases(part: str) -> Any:
    return pytest.mark.parametrize("case", CASES[part], ids=lambda case: case["name"])


@cases("buckets")
def test_windows_average_as_knatives_do(case: dict[str, Any]) -> None:
    granularity = case.get("granularity", 1)
    weighted = case.get("weighted", False)
    buckets = (
        WeightedBuckets(case["window"], granularity)
        if weighted
        else TimedBuckets(case["window"], granularity, case.get("rounding", "round"))
    )
    for number, (what, *rest) in enumerate(case["steps"]):
        where = f"step {number}: {what} {rest}"
        match what:
            case "record":
                buckets.record(*rest)
            case "resize":
                now, window = rest
                buckets.resize_window(window, now)
                assert buckets.window == window, where
            case "average":
                average = buckets.window_average(rest[0])
                assert average == pytest.approx(rest[1], abs=1e-9 if weighted else 0), where
            case "average3":
                assert round_to_digits(3, buckets.window_average(rest[0])) == rest[1], where
            case "sum":
                assert sum(buckets.buckets(rest[0]).values()) == rest[1], where
            case "buckets":
                assert {time: value for time, value in buckets.buckets(rest[0]).items() if value} == rest[1], where
            case "count":
                assert len(buckets) == rest[0], where
            case "empty":
                assert buckets.is_empty(rest[0]) is rest[1], where
            case "first":
                assert buckets.first_write == rest[0], where
            case "smoothing":
                assert isinstance(buckets, WeightedBuckets)
                assert buckets.smoothing == pytest.approx(rest[0], abs=1e-5), where
            case _:
                pytest.fail(where)


@cases("rounding")
def test_rounding(case: dict[str, Any]) -> None:
    assert round_to_digits(case["digits"], case["value"]) == case["round"]
    assert round_to_digits(case["digits"], case["value"], "floor") == case["floor"]


@cases("smoothing")
def test_smoothing_coefficient(case: dict[str, Any]) -> None:
    assert smoothing_coefficient(case["buckets"]) == pytest.approx(case["want"], abs=1e-5)


@cases("max_window")
def test_sliding_maximum(case: dict[str, Any]) -> None:
    window = MaxWindow(5)
    seen = []
    for index, value in zip(case.get("index", range(len(case["values"]))), case["values"], strict=True):
        window.record(index, value)
        seen.append(window.current)
    assert seen == case["want"]


@cases("max_time_window")
def test_sliding_maximum_by_time(case: dict[str, Any]) -> None:
    window = MaxTimeWindow(5, 1)
    for time, value in case["records"]:
        window.record(time, value)
    assert window.current == case["want"]


def decider_spec(case: dict[str, Any]) -> DeciderSpec:
    given = {
        "target_value": case["target"],
        "total_value": case["target"] / 0.75,
        "target_burst_capacity": case["tbc"],
        "max_scale_up_rate": 10,
        "max_scale_down_rate": 10,
    }
    return DeciderSpec(**(given | case.get("spec", {})))


@cases("decider")
def test_decisions_are_knatives(case: dict[str, Any]) -> None:
    decider = KpaDecider(decider_spec(case), ready=1)
    if "panicking" in case:
        decider.panic_time, decider.max_panic_pods = case["panicking"]
    for number, step in enumerate(case["steps"]):
        if "update" in step:
            decider.update(decider_spec(step["update"]))
        result = decider.scale(step["stable"], step["panic"], step["ready"], step["at"])
        assert result.scale_valid is step.get("valid", True), number
        if result.scale_valid:
            assert (result.desired_pod_count, result.excess_burst_capacity) == (step["want"], step["ebc"]), number
        if "panic_time" in step:
            assert decider.panic_time == step["panic_time"], number


@cases("created")
def test_a_decider_made_over_one_pod_starts_in_panic(case: dict[str, Any]) -> None:
    decider = KpaDecider(DeciderSpec(), case["ready"], now=7.0)
    assert decider.panic_time == (7.0 if case["in_panic"] else None)
    assert decider.max_panic_pods == case["max_panic_pods"]


@cases("scaler")
def test_bounds_and_the_way_to_zero(case: dict[str, Any]) -> None:
    given = {"stable_window": 300, "scale_to_zero_grace_period": 60, "progress_deadline": 121} | case.get("spec", {})
    activity, ago = case["status"]
    status = PodAutoscalerStatus(activity, NOW - ago, case.get("initialized", False))
    verdict = scale(
        case["to"],
        status,
        ScalerSpec(**given),
        case["start"],
        NOW,
        activator_probe=case.get("probe", True),
        proxy_for=case.get("proxy_for", 0),
        proxy_mode=case.get("proxy_mode", False),
    )
    assert (verdict.want, verdict.apply) == (case["want"], case["applied"])
    assert verdict.requeue == case.get("requeue")
    assert verdict.probe is case.get("probes", False)


@cases("condition")
def test_active_condition(case: dict[str, Any]) -> None:
    spec = ScalerSpec(min_scale=case["min"], initial_scale=min(case["min"], 1))
    status = PodAutoscalerStatus(case["before"], 0.0)
    assert active_threshold(status, spec) == case["min"]
    assert compute_active_condition(case["want"], case["ready"], status, spec, NOW).activity == case["after"]


@cases("target")
def test_target_of_a_pod(case: dict[str, Any]) -> None:
    config = KpaConfig(**({"container_concurrency_target_percentage": 1.0} | case.get("config", {})))
    given = {
        key: case[key] for key in ("metric", "container_concurrency", "target", "target_utilization") if key in case
    }
    assert resolve_metric_target(config, **given) == pytest.approx(tuple(case["want"]))


@cases("activators")
def test_number_of_activators(case: dict[str, Any]) -> None:
    spec = DeciderSpec(
        total_value=case["total"], target_burst_capacity=case["tbc"], activator_capacity=case["capacity"]
    )
    assert num_activators(case["ready"], spec) == case["want"]


@cases("config")
def test_configurations_are_accepted_and_refused_as_knative_does(case: dict[str, Any]) -> None:
    given = case.get("given", {})
    if "refused" in case:
        with pytest.raises(ValueError, match=f"^{case['refused']}: .*must be"):
            KpaConfig(**given)
        return
    config = KpaConfig(**given)
    assert {key: getattr(config, key) for key in case["expect"]} == case["expect"]
    assert all(getattr(config, key) == value for key, value in given.items())


@cases("panic_window")
def test_panic_windows(case: dict[str, Any]) -> None:
    assert panic_window(case["stable"], case["percentage"]) == case["want"]


def test_panic_window_is_whole_seconds_and_one_at_least() -> None:
    """metric.go MakeMetric: rounded to the second, a bucket at least."""
    assert [panic_window(60, 10), panic_window(45, 10), panic_window(6, 1), panic_window(60, 100)] == [6, 5, 1, 60]


@given(
    st.lists(st.tuples(st.floats(0, 500), st.floats(0, 500), st.integers(0, 40)), min_size=1, max_size=40),
    st.floats(1.1, 20),
)
def test_in_panic_the_answer_never_falls(steps: list[tuple[float, float, int]], rate: float) -> None:
    decider = KpaDecider(DeciderSpec(target_value=10, max_scale_up_rate=rate))
    before = 0
    for tick, (stable, panic, ready) in enumerate(steps):
        result = decider.scale(stable, panic, ready, 2.0 * tick)
        most = math.ceil(rate * max(1, ready))
        assert max(result.desired_stable, result.desired_panic) <= most
        if result.in_panic:
            assert result.desired_pod_count >= before
            before = result.desired_pod_count
        else:
            before = 0


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 50)), max_size=60), st.integers(1, 30))
def test_a_window_never_loses_or_invents_data(records: list[tuple[int, int]], window: int) -> None:
    """Read at its last write it is the sum of what lies in the window, over the buckets since the first write, as kept by hand."""
    buckets = TimedBuckets(window)
    kept: dict[int, int] = {}
    first = last = None
    for time, value in records:
        buckets.record(time, value)
        if last is not None and time <= last - window:
            continue
        if last is None or time >= last + window:
            kept, first = {}, time
        first = min(first, time) if first is not None else time
        last = time if last is None else max(last, time)
        kept[time] = kept.get(time, 0) + value
        kept = {when: what for when, what in kept.items() if when > last - window}
    if last is None or first is None:
        assert buckets.window_average(100) == 0
    else:
        assert buckets.window_average(last) == round_to_digits(6, sum(kept.values()) / min(last - first + 1, window))


# ---- the adapter


class Deployment:
    """A deployment whose mean concurrency a test sets by the second; replicas become ready at once."""

    def __init__(self, scaler: KpaScaler, replicas: int) -> None:
        self.scaler = scaler
        self.view = DeploymentView(0.0, replicas)
        self.metrics = True
        self._set(replicas)

    def _set(self, count: int) -> None:
        self.view.target = count
        self.view.replicas = [ReplicaView(i, READY, 0.0) for i in range(count)]

    def run(self, seconds: int, concurrency: float) -> list[tuple[float, int]]:
        """Changes of the target as (time, replicas)."""
        changes = []
        view = self.view
        view.metrics = self.metrics
        for _ in range(seconds):
            self.scaler.observe(view)
            if view.now % self.scaler.period == 0:
                decision = self.scaler.decide(view)
                if decision.replicas is not None and decision.replicas != view.target:
                    changes.append((view.now, decision.replicas))
                    self._set(decision.replicas)
            view.now += 1.0
            view.request_seconds += concurrency
        return changes


def test_the_adapter_is_an_autoscaler_at_knatives_periods() -> None:
    scaler = KpaScaler()
    assert isinstance(scaler, Autoscaler)
    assert (scaler.period, scaler.sample_period) == (2.0, 1.0)
    assert (scaler.spec.target_value, scaler.spec.total_value) == pytest.approx((70.0, 100.0))


def test_a_steady_load_gets_the_pods_it_asks_for() -> None:
    """35 requests at 10 a pod times 0.7: ceil(35 / 7) = 5 pods."""
    deployment = Deployment(KpaScaler(target=10), 1)
    deployment.run(120, 35.0)
    assert deployment.view.target == 5


def test_idle_with_the_activator_in_the_path_goes_to_zero_after_the_stable_window() -> None:
    """A burst capacity above one pod's 100 keeps the activator in the path, so its grace period is long over: the last busy second, 21, has
    left the window at 81; the tick at 82 turns it inactive, the next one takes the pod."""
    deployment = Deployment(KpaScaler(), 1)
    assert deployment.run(21, 5.0) == []
    changes = deployment.run(120, 0.0)
    assert changes == [(84.0, 0)]


def test_idle_without_the_activator_waits_for_the_grace_period() -> None:
    """Inactive at 82, as above; then 30 s, or 50, or the last pod's 90."""
    for keys, when in (
        ({}, 112.0),
        ({"scale_to_zero_grace_period": 50}, 132.0),
        ({"scale_to_zero_pod_retention": 90}, 172.0),
    ):
        deployment = Deployment(KpaScaler(target_burst_capacity=0, **keys), 1)
        assert deployment.run(21, 5.0) == []
        assert deployment.run(180, 0.0) == [(when, 0)]


def test_from_zero_a_burst_is_not_diluted_by_the_silence_before() -> None:
    """Nothing is reported at zero, so the first second is the whole average: 140 / 70 = 2 pods, and panic."""
    deployment = Deployment(KpaScaler(), 1)
    deployment.run(200, 0.0)
    assert deployment.view.target == 0
    deployment.run(2, 140.0)
    decision = deployment.scaler.decide(deployment.view)
    assert deployment.view.target == 2 or decision.replicas == 2
    assert decision.numbers["in_panic"] == 1


def test_min_keeps_and_max_caps() -> None:
    deployment = Deployment(KpaScaler(target=1, min=2, max=4), 2)
    deployment.run(30, 50.0)
    assert deployment.view.target == 4
    deployment.run(300, 0.0)
    assert deployment.view.target == 2


def test_an_outage_of_metrics_records_nothing_and_the_decision_stays() -> None:
    deployment = Deployment(KpaScaler(target=10), 1)
    deployment.run(100, 35.0)
    assert deployment.view.target == 5
    deployment.metrics = False
    assert deployment.run(300, 0.0) == []
    decision = deployment.scaler.decide(deployment.view)
    assert decision.replicas is None
    assert decision.reason.startswith("no data")
    assert math.isnan(decision.numbers["stable"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_scale_up_rate": 1.0}, "max_scale_up_rate: 1; must be greater than 1"),
        ({"stable_window": 5}, "stable_window: 5; must be in [6, 3600] seconds"),
        ({"target_burst_capacity": -2}, "target_burst_capacity: -2; must be at least 0, or -1 for unlimited"),
        ({"min": 5, "max": 3}, "min_scale: 5; must be at most max_scale, 3"),
        ({"metric": "cpu"}, "metric: 'cpu'; must be 'concurrency' or 'rps'"),
        ({"target": 0}, "target: 0; must be at least 0.01"),
        ({"target_utilization": 170}, "target_utilization: 170; must be in (0, 1], or a percentage up to 100"),
    ],
)
def test_what_knative_refuses_is_refused_in_one_line(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match="must be") as caught:
        KpaScaler(**given)
    assert str(caught.value) == said


def test_the_page_runs() -> None:
    text = (ROOT / "docs" / "controllers" / "kpa.md").read_text()
    blocks = [block.split("```")[0] for block in text.split("```python\n")[1:]]
    assert blocks
    for block in blocks:
        exec(compile(block, "kpa.md", "exec"), {})
