"""Autoscalers in a manifest scale as those that were simulated: numbers, metrics, queries; the rest is refused."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

import sim
import sim.deploy
from sim.deploy.scaling import quantity
from sim.errors import TwinferError
from tests.deploy.manifests import documents, validate
from tests.paths import SCENARIOS


def files(scaler: str, flavour: str = "deployment", **changes: Any) -> dict[str, str]:
    """Of chat_capacity with that autoscaler."""
    given = {f"deployments.chat.{path.replace('__', '.')}": value for path, value in changes.items()}
    scenario = sim.load(SCENARIOS / "chat_capacity.yaml", {"deployments.chat.autoscaler": scaler} | given)
    texts = sim.deploy.files(scenario, flavour=flavour)
    for document in documents(texts["chat.yaml"]):
        validate(document)
    return texts


def one(texts: dict[str, str], kind: str) -> dict[str, Any]:
    """The document of that kind."""
    (found,) = (document for document in documents(texts["chat.yaml"]) if document["kind"] == kind)
    return found


HPA = "{kind: hpa, metric: concurrency, target: 16, min: 2, max: 8}"


def test_an_hpa_has_the_numbers_of_the_scenario() -> None:
    texts = files(HPA)
    spec = one(texts, "HorizontalPodAutoscaler")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 8)
    assert "behavior" not in spec  # with none, Kubernetes takes other limits than with an empty one
    (metric,) = spec["metrics"]
    assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": "16"}
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat"}
    assert one(texts, "Deployment")["metadata"]["name"] == "chat"
    assert one(texts, "Deployment")["spec"]["replicas"] == 2
    (rule,) = yaml.safe_load(texts["prometheus-adapter.values.yaml"])["rules"]["custom"]
    assert rule["name"]["as"] == metric["pods"]["metric"]["name"]
    # in a replica: running and waiting (vllm/v1/metrics/loggers.py)
    assert rule["metricsQuery"] == (
        "sum(vllm:num_requests_running{<<.LabelMatchers>>}) by (<<.GroupBy>>)"
        " + sum(vllm:num_requests_waiting{<<.LabelMatchers>>}) by (<<.GroupBy>>)"
    )


@pytest.mark.parametrize(
    ("flavour", "kind", "name"),
    [
        ("deployment", "Deployment", "chat"),
        ("kserve", "Deployment", "chat-predictor"),  # what KServe makes in Standard mode
        ("lws", "LeaderWorkerSet", "chat"),
    ],
)
@pytest.mark.parametrize("scaler", [HPA, "{kind: keda, metric: queue, threshold: 5, min: 2, max: 8}"])
def test_what_is_scaled_is_there(flavour: str, kind: str, name: str, scaler: str) -> None:
    texts = files(scaler, flavour)
    found = one(texts, "ScaledObject" if "keda" in scaler else "HorizontalPodAutoscaler")
    assert (found["spec"]["scaleTargetRef"]["kind"], found["spec"]["scaleTargetRef"]["name"]) == (kind, name)
    if flavour == "kserve":
        service = one(texts, "InferenceService")
        assert service["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "external"
        assert f"{service['metadata']['name']}-predictor" == name
        predictor = service["spec"]["predictor"]
        assert (predictor["minReplicas"], predictor["maxReplicas"]) == (2, 8)
    else:
        assert one(texts, kind)["metadata"]["name"] == name


def test_a_behavior_is_written_as_kubernetes_spells_it() -> None:
    behavior = "{scale_up: {policies: [{type: Pods, value: 10, period_seconds: 15}]}, scaleDown: {stabilizationWindowSeconds: 900}}"
    spec = one(files(HPA[:-1] + f", behavior: {behavior}}}"), "HorizontalPodAutoscaler")["spec"]
    assert spec["behavior"] == {
        "scaleUp": {"policies": [{"type": "Pods", "value": 10, "periodSeconds": 15}]},
        "scaleDown": {"stabilizationWindowSeconds": 900},
    }


@pytest.mark.parametrize(
    ("given", "target"),
    [
        ("metric: kv, target: 0.22", {"type": "AverageValue", "averageValue": "220m"}),
        ("metric: kv, target: 80, target_type: utilisation", {"type": "AverageValue", "averageValue": "800m"}),
        ("metric: queue, target: 3, target_type: total-average", {"type": "AverageValue", "averageValue": "3"}),
        ("metric: queue, target: 12, target_type: total", {"type": "Value", "value": "12"}),
    ],
)
def test_targets_by_type(given: str, target: dict[str, str]) -> None:
    texts = files(f"{{kind: hpa, {given}, min: 1, max: 4}}")
    (metric,) = one(texts, "HorizontalPodAutoscaler")["spec"]["metrics"]
    source = metric["external"] if "total" in given else metric["pods"]
    assert source["target"] == target
    (rule,) = yaml.safe_load(texts["prometheus-adapter.values.yaml"])["rules"][
        "external" if "total" in given else "custom"
    ]
    assert rule["name"]["as"] == source["metric"]["name"]


def test_quantities_are_thousandths_rounded_up() -> None:
    # k8s.io/apimachinery resource.Quantity: MilliValue rounds up
    assert [quantity(value) for value in (16, 0.22, 2.5, 0.0001, 1000)] == ["16", "220m", "2500m", "1m", "1000"]


def test_several_metrics_are_all_there() -> None:
    texts = files("{kind: hpa, min: 1, max: 4, metrics: [{metric: queue, target: 3}, {metric: kv, target: 0.8}]}")
    metrics = one(texts, "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert [metric["pods"]["target"]["averageValue"] for metric in metrics] == ["3", "800m"]
    assert len(yaml.safe_load(texts["prometheus-adapter.values.yaml"])["rules"]["custom"]) == 2


def test_a_scaled_object_has_the_numbers_of_the_scenario() -> None:
    texts = files(
        "{kind: keda, metric: queue, threshold: 5, activation_threshold: 1, min: 2, max: 9, polling_interval: 15s,"
        " cooldown_period: 2m, fallback: {failure_threshold: 3, replicas: 4}}"
    )
    spec = one(texts, "ScaledObject")["spec"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"], spec["pollingInterval"], spec["cooldownPeriod"]) == (
        2,
        9,
        15,
        120,
    )
    assert spec["fallback"] == {"failureThreshold": 3, "replicas": 4}
    (trigger,) = spec["triggers"]
    assert (trigger["type"], trigger["metricType"]) == ("prometheus", "AverageValue")
    assert (trigger["metadata"]["threshold"], trigger["metadata"]["activationThreshold"]) == ("5", "1")
    assert trigger["metadata"]["query"] == 'sum(vllm:num_requests_waiting{pod=~"chat-[a-z0-9]+-[a-z0-9]+"})'
    assert "prometheus-adapter.values.yaml" not in texts


def test_scaling_from_zero_asks_the_gateway_as_well_and_says_so() -> None:
    texts = files("{kind: keda, threshold: 40, max: 3}", replicas=0)
    query = one(texts, "ScaledObject")["spec"]["triggers"][0]["metadata"]["query"]
    assert 'inference_extension_flow_control_queue_size{model_name="llama"}' in query
    assert query.count("or vector(0)") == 3  # a sum with nothing in it is nothing
    assert "flow control" in texts["README.md"]
    with pytest.raises(TwinferError, match="nothing would ever start one again"):
        files("{kind: keda, metric: kv, threshold: 0.5, max: 3}", replicas=0)


def test_a_line_at_the_gateway_counts_in_totals() -> None:
    texts = files(
        "{kind: hpa, metric: concurrency, target: 16, target_type: total-average, min: 2, max: 8}",
        queue="{per_replica: 24}",
    )
    (rule,) = yaml.safe_load(texts["prometheus-adapter.values.yaml"])["rules"]["external"]
    assert "inference_extension_flow_control_queue_size" in rule["metricsQuery"]


def test_knative_has_its_annotations() -> None:
    scaler = (
        "{kind: kpa, metric: rps, target: 2.7, target_utilization: 0.8, min: 1, max: 6, stable_window: 90s, scale_down_delay: 2m,"
        " container_concurrency: 32, panic_window_percentage: 20, max_scale_up_rate: 4}"
    )
    texts = files(scaler, replicas=3)
    service = one(texts, "Service")
    annotations = service["spec"]["template"]["metadata"]["annotations"]
    # knative/serving pkg/apis/autoscaling/register.go
    assert annotations == {
        "autoscaling.knative.dev/class": "kpa.autoscaling.knative.dev",
        "autoscaling.knative.dev/metric": "rps",
        "autoscaling.knative.dev/min-scale": "1",
        "autoscaling.knative.dev/max-scale": "6",
        "autoscaling.knative.dev/target": "2.7",
        "autoscaling.knative.dev/target-utilization-percentage": "80",
        "autoscaling.knative.dev/initial-scale": "3",
        "autoscaling.knative.dev/window": "90s",
        "autoscaling.knative.dev/scale-down-delay": "120s",
        "autoscaling.knative.dev/panic-window-percentage": "20",
    }
    assert service["spec"]["template"]["spec"]["containerConcurrency"] == 32
    assert "max-scale-up-rate=4" in texts["README.md"]  # only for the whole cluster

    served = one(files(scaler, "kserve", replicas=3), "InferenceService")
    own = served["metadata"]["annotations"]
    assert own["serving.kserve.io/deploymentMode"] == "Knative"
    assert own["autoscaling.knative.dev/target"] == "2.7"
    predictor = served["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"], predictor["containerConcurrency"]) == (1, 6, 32)


@pytest.mark.parametrize(
    ("scaler", "said"),
    [
        ("{kind: oracle, max: 8}", "'oracle' knows the requests to come"),
        ("{kind: predictive, max: 8}", "'predictive' is no autoscaler that Kubernetes"),
        ("{kind: slo, max: 8}", "'slo' is no autoscaler that Kubernetes"),
        ("{kind: schedule, steps: [[0s, 2]], max: 8}", "'schedule' follows times of the simulation"),
        ("{kind: ray-serve, max_replicas: 8}", "'ray-serve' is Ray Serve's own"),
        ("{kind: hpa, metric: tokens, target: 8, max: 8}", "vLLM and its GPUs export nothing like 'tokens'"),
    ],
)
def test_what_nobody_can_deploy_is_refused_in_one_line(scaler: str, said: str) -> None:
    with pytest.raises(TwinferError) as fault:
        files(scaler)
    assert "deployments.chat.autoscaler" in str(fault.value)
    assert said in str(fault.value)
    assert "\n" not in str(fault.value)


def test_knative_runs_no_leader_worker_set() -> None:
    with pytest.raises(TwinferError, match="--flavour deployment or kserve"):
        files("{kind: kpa}", "lws")


def test_a_fixed_number_has_no_autoscaler() -> None:
    for flavour in sim.deploy.FLAVOURS:
        kinds = {document["kind"] for document in documents(files("null", flavour)["chat.yaml"])}
        assert not kinds & {"HorizontalPodAutoscaler", "ScaledObject"}
    served = one(files("null", "kserve", replicas=4), "InferenceService")
    # KServe sets replicas to minReplicas where autoscalerClass is none
    assert served["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "none"
    assert served["spec"]["predictor"]["minReplicas"] == served["spec"]["predictor"]["maxReplicas"] == 4
