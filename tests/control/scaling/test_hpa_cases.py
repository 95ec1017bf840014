"""The published behaviour of Kubernetes' Horizontal Pod Autoscaler, case by case."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from sim.control.scaling import hpa_limits, hpa_version
from sim.control.scaling.hpa import Condition, HorizontalPodAutoscaler
from sim.control.scaling.hpa_behavior import Behavior, ScalingPolicy, ScalingRules, behavior_from
from sim.control.scaling.hpa_limits import Recommendation, ScaleEvent
from sim.control.scaling.hpa_pods import ZERO_TIME, MetricsError, Pod, PodMetric, group_pods, quantity
from sim.control.scaling.hpa_replicas import ReplicaCalculator, Tolerances
from sim.control.scaling.hpa_spec import MetricSpec
from sim.control.scaling.hpa_version import HpaVersion
from tests.paths import DATA, ROOT

NOW = 1_000_000.0
WARM_UP = {"cpu_initialization_period": 120.0, "initial_readiness_delay": 10.0}


def cases(file: str) -> list[dict[str, Any]]:
    """Every case of the file, with what its group says of all."""
    groups = yaml.safe_load((DATA / "control" / file).read_text(encoding="utf-8"))
    return [{**{k: v for k, v in group.items() if k != "cases"}, **case} for group in groups for case in group["cases"]]


REPLICAS, LIMITS, WHOLE = (cases(f"hpa_{name}cases.yaml") for name in ("replicas_", "limits_", ""))


def name_of(case: dict[str, Any]) -> str:
    return str(case["name"]).replace(" ", "-")


def version_of(case: dict[str, Any]) -> HpaVersion:
    given = case.get("version", {})
    return getattr(hpa_version, given) if isinstance(given, str) else HpaVersion(**given)


def at(given: Any, i: int, default: Any) -> Any:
    return (given[i] if i < len(given) else default) if isinstance(given, list) else default if given is None else given


def pods_of(case: dict[str, Any]) -> list[Pod]:
    started = [NOW - at(case.get("age"), i, 180.0) for i in range(case.get("pods", 0))]
    containers = case.get("containers", {})
    return [
        Pod(
            f"p{i}",
            phase=at(case.get("phase"), i, "Running"),
            ready=at(case.get("ready"), i, True),
            ready_transition=start,
            start_time=start,
            deleted=at(case.get("deleted"), i, False),
            request=at(case["request"], i, None) if "request" in case and not containers else None,
            containers=containers,
        )
        for i, start in enumerate(started)
    ]


def metrics_of(usage: Any) -> dict[str, PodMetric]:
    named = usage if isinstance(usage, dict) else {f"p{i}": value for i, value in enumerate(usage)}
    return {name: PodMetric(value, NOW, 60.0) for name, value in named.items()}


@pytest.mark.parametrize("case", [case for case in REPLICAS if case["call"] != "group_pods"], ids=name_of)
def test_replicas_of_a_metric(case: dict[str, Any]) -> None:
    calculator = ReplicaCalculator(Tolerances(*case.get("tolerance", ())), **WARM_UP, version=version_of(case))
    call = getattr(calculator, case["call"])
    given: list[Any] = [case["current"], case["target"]]
    more: dict[str, Any] = {}
    if "average" not in case["call"]:
        given.append(pods_of(case))
    if "usage" in case:
        given += [metrics_of(case["usage"]), NOW]
        more = {key: case[key] for key in ("container", "resource") if key in case}
    else:
        given.append(case["values"] if "values" in case else case["value"])
    expected = dict(case["expect"])
    if "error" in expected:
        with pytest.raises(MetricsError) as fault:
            call(*given, **more)
        assert expected["error"] in str(fault.value)
        return
    proposal = call(*given, **more)
    assert {key: getattr(proposal, key) for key in expected} == expected


@pytest.mark.parametrize("case", [case for case in REPLICAS if case["call"] == "group_pods"], ids=name_of)
def test_groups_of_pods(case: dict[str, Any]) -> None:
    pods = [
        Pod(
            given["name"],
            phase=given.get("phase", "Running"),
            ready=given.get("ready", True),
            ready_transition=NOW - given["transition"] if "transition" in given else ZERO_TIME,
            start_time=None if given["start"] is None else NOW - given["start"],
            deleted=given.get("deleted", False),
        )
        for given in case["list"]
    ]
    metrics = {
        name: PodMetric(value[0], NOW - value[1], value[2]) if len(value) > 1 else PodMetric(value[0])
        for name, value in case["metrics"].items()
    }
    groups = group_pods(pods, metrics, case.get("resource", "cpu"), NOW, *WARM_UP.values(), version=version_of(case))
    expected = case["expect"]
    assert groups.ready == expected["ready"]
    for group in ("unready", "missing", "ignored"):
        assert list(getattr(groups, group)) == expected.get(group, []), group


def rules_of(given: dict[str, Any] | None) -> ScalingRules:
    kinds = (("pods", "Pods"), ("percent", "Percent"))
    policies = tuple(ScalingPolicy(kind, *given[key]) for key, kind in kinds if key in given) if given else None
    return ScalingRules(policies=policies or None)


def events_of(given: list[list[float]] | None) -> list[ScaleEvent]:
    return [ScaleEvent(int(change), NOW - age) for change, age in given or ()]


@pytest.mark.parametrize("case", [case for case in LIMITS if case["call"].startswith("stabilize")], ids=name_of)
def test_stabilisation(case: dict[str, Any]) -> None:
    log = [Recommendation(replicas, NOW - age) for replicas, age in case["recommendations"]]
    expected = case["expect"]
    if case["call"] == "stabilize_recommendation":
        assert hpa_limits.stabilize_recommendation(log, case["desired"], NOW, 300.0) == expected["replicas"]
    else:
        stabilized = hpa_limits.stabilize_recommendation_with_behaviors(
            log, case["current"], case["desired"], NOW, case["up"], case["down"], version_of(case)
        )
        assert stabilized.replicas == expected["replicas"]
        assert stabilized.reason == expected.get("reason", stabilized.reason)
    if "log" in expected:
        assert [recommendation.replicas for recommendation in log] == expected["log"]


@pytest.mark.parametrize("case", [case for case in LIMITS if case["call"].startswith("convert")], ids=name_of)
def test_bounds_and_rates(case: dict[str, Any]) -> None:
    bounds = case["current"], case["desired"], case["min"], case["max"]
    if case["call"] == "convert_desired_replicas_with_rules":
        limited = hpa_limits.convert_desired_replicas_with_rules(*bounds)
    else:
        limited = hpa_limits.convert_desired_replicas_with_behavior_rate(
            *bounds,
            Behavior(rules_of(case.get("up")), rules_of(case.get("down"))),
            events_of(case.get("up_events")),
            events_of(case.get("down_events")),
            NOW,
            version_of(case),
        )
    assert (limited.replicas, limited.reason) == (case["expect"]["replicas"], case["expect"]["reason"])
    assert limited.message


@pytest.mark.parametrize("case", [case for case in LIMITS if case["call"] == "limit"], ids=name_of)
def test_limits_of_rules(case: dict[str, Any]) -> None:
    up = case["direction"] == "up"
    behavior = behavior_from({"scaleUp" if up else "scaleDown": case["rules"]})
    if up:
        limit = hpa_limits.calculate_scale_up_limit_with_scaling_rules(
            case["current"], [], [], behavior.scale_up, NOW, version_of(case)
        )
    else:
        limit = hpa_limits.calculate_scale_down_limit_with_behaviors(
            case["current"], [], [], behavior.scale_down, NOW, version_of(case)
        )
    assert limit == case["expect"]


@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
@pytest.mark.parametrize("case", [case for case in LIMITS if case["call"] == "store_scale_event"], ids=name_of)
def test_scale_events(case: dict[str, Any], up: bool) -> None:
    rules = rules_of(case)
    behavior = Behavior(rules, rules) if rules.policies else None
    events, others = events_of(case["before"]), events_of([[1, 5]])
    assert hpa_limits.get_replicas_change_per_period(60.0, events, NOW) == case["expect"]["change"]
    lists = (events, others) if up else (others, events)
    hpa_limits.store_scale_event(behavior, 10, 15 if up else 5, *lists, NOW)
    assert [[event.replica_change, event.outdated] for event in events] == case["expect"]["after"]
    assert len(others) == 1


@pytest.mark.parametrize("case", WHOLE, ids=name_of)
def test_one_reconciliation(case: dict[str, Any]) -> None:
    targets = ("type", "name", "average_utilization", "average_value", "value", "container")
    specs = [MetricSpec(**{key: metric[key] for key in targets if key in metric}) for metric in case["metrics"]]
    readings: list[Any] = [
        MetricsError(metric["fails"])
        if "fails" in metric
        else metrics_of(metric["usage"])
        if "usage" in metric
        else metric["reading"]
        for metric in case["metrics"]
    ]
    log = case.get("recommendations")
    hpa = HorizontalPodAutoscaler(
        case["max"],
        case["min"],
        specs,
        behavior_from(case["behavior"]) if "behavior" in case else None,
        **WARM_UP,
        version=version_of(case),
        recommendations=None if log is None else [Recommendation(replicas, NOW - age) for replicas, age in log],
        conditions={name: Condition(*given) for name, given in case.get("initial", {}).items()},
        scale_up_events=events_of(case.get("up_events")),
        scale_down_events=events_of(case.get("down_events")),
        scale_up_limit_factor=case.get("scale_up_limit_factor", 2.0),
    )
    decision = hpa.reconcile(
        NOW, case["current"], readings, pods_of({"request": 1000} | case), case.get("status_replicas")
    )
    expected = case["expect"]
    assert decision.replicas == expected["replicas"]
    assert decision.rescaled == (expected["replicas"] != case["current"])
    assert (decision.error is not None) == expected.get("error", False)
    for key in ("raw", "stabilized", "reason"):
        assert getattr(decision, key) == expected.get(key, getattr(decision, key)), key
    if "utilization" in expected:
        assert decision.proposals[0].utilization == expected["utilization"]
    for name, given in expected.get("conditions", {}).items():
        condition = decision.conditions.get(name)
        assert (None if condition is None else [condition.status, condition.reason]) == given, name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500m", 500),
        ("15", 15_000),
        ("15.0", 15_000),
        ("0.1", 100),
        ("1.1", 1_100),
        ("1k", 1_000_000),
        ("200Mi", 209_715_200_000),  # karmada replica_calculator_test.go TestCalculatePodRequests
        ("1e3", 1_000_000),
        ("100u", 1),  # MilliValue rounds up
        ("-2", -2_000),
    ],
)
def test_quantities_are_read_as_manifests_write_them(text: str, expected: int) -> None:
    """kubernetes/apimachinery pkg/api/resource: suffixes, and MilliValue."""
    assert quantity(text) == expected


def test_units_that_would_be_cut_are_refused() -> None:
    calculator = ReplicaCalculator()
    with pytest.raises(ValueError, match=re.escape("metric of pod p0 20.5 must be whole milli-units; milli(20.5)")):
        calculator.pods_value(1, 15000, [Pod("p0")], {"p0": 20.5}, NOW)  # type: ignore[dict-item]
    with pytest.raises(ValueError, match=r"target 0\.5 must be whole milli-units"):
        calculator.object_value(1, 0.5, [Pod("p0")], 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"request of pod p0 0\.5 must be whole"):
        calculator.resource_utilization(1, 50, [Pod("p0", request=0.5)], {"p0": 1}, NOW)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="quantity '5 cores' must be a number with a suffix"):
        quantity("5 cores")
    assert (
        calculator.pods_value(3, 15000, [Pod("a"), Pod("b"), Pod("c")], {"a": 20e3, "b": 10e3, "c": 30e3}, NOW).replicas
        == 4
    )  # type: ignore[dict-item]


def test_there_are_enough_cases_and_each_says_where_it_comes_from() -> None:
    every = [*REPLICAS, *LIMITS, *WHOLE]
    assert len(every) >= 90
    assert all(case["source"] for case in every)
    names = [case["name"] for case in every]
    assert len(set(names)) == len(names)


def test_the_examples_of_the_page_run() -> None:
    page = (ROOT / "docs" / "controllers" / "hpa.md").read_text(encoding="utf-8")
    blocks = [part.split("```")[0] for part in page.split("```python\n")[1:]]
    assert blocks
    for block in blocks:
        exec(compile(block, "hpa.md", "exec"), {})
