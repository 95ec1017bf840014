"""The Kubernetes objects of one deployment, by flavour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sim.deploy.plan import PORT
from sim.deploy.pods import APP, claim_size, labels, pod
from sim.deploy.scaling import hpa, knative_annotations, scaled_object

if TYPE_CHECKING:
    from sim.deploy.plan import Plan

__all__ = ["objects"]

_TARGETS = {
    "deployment": ("apps/v1", "Deployment", ""),
    "kserve": ("apps/v1", "Deployment", "-predictor"),  # what KServe makes of an InferenceService in Standard mode
    "lws": ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", ""),
}
_SCRAPED = {"prometheus.io/scrape": "true", "prometheus.io/port": str(PORT), "prometheus.io/path": "/metrics"}


def objects(plan: Plan, annotations: Mapping[str, str]) -> list[dict[str, Any]]:
    """What is to be applied, in that order; ``annotations`` go on the object that runs the replicas."""
    if plan.flavour == "kserve":
        found = [_inference_service(plan, annotations)]
    elif plan.knative:
        found = [_knative_service(plan, annotations)]
    elif plan.flavour == "lws":
        found = [_leader_worker_set(plan, annotations), _service(plan)]
    else:
        found = [_deployment(plan, annotations), _service(plan)]
    if plan.volume == "pvc":
        found.insert(0, _claim(plan))
    if plan.knative:
        return found
    version, kind, suffix = _TARGETS[plan.flavour]
    target = {"apiVersion": version, "kind": kind, "name": f"{plan.name}{suffix}"}
    if plan.scaler == "hpa":
        found.append(_object(plan, "autoscaling/v2", "HorizontalPodAutoscaler", hpa(plan, target)))
    if plan.scaler == "keda":
        found.append(_object(plan, "keda.sh/v1alpha1", "ScaledObject", scaled_object(plan, target)))
    if plan.fewest > 1:  # one replica cannot be kept while its machine is drained
        found.append(_object(plan, "policy/v1", "PodDisruptionBudget", _budget(plan)))
    return found


def _object(
    plan: Plan,
    version: str,
    kind: str,
    spec: Mapping[str, Any],
    *,
    name: str | None = None,
    annotations: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": plan.name if name is None else name, "labels": labels(plan)}
    if annotations:
        metadata["annotations"] = dict(annotations)
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": dict(spec)}


def _template(plan: Plan, role: str = "alone") -> dict[str, Any]:
    metadata: dict[str, Any] = {"labels": labels(plan)}
    if role != "worker":
        metadata["annotations"] = dict(_SCRAPED)
    return {"metadata": metadata, "spec": pod(plan, role)}


def _begins_with(plan: Plan) -> int:
    """Replicas at the start; an HPA leaves a target of 0 replicas alone."""
    return max(plan.deployment.replicas, plan.fewest, 1 if plan.scaler == "hpa" else 0)


def _deployment(plan: Plan, annotations: Mapping[str, str]) -> dict[str, Any]:
    spec = {"replicas": _begins_with(plan), "selector": {"matchLabels": labels(plan)}, "template": _template(plan)}
    return _object(plan, "apps/v1", "Deployment", spec, annotations=annotations)


def _service(plan: Plan) -> dict[str, Any]:
    selector = labels(plan)
    if plan.flavour == "lws":  # only leaders answer
        selector = selector | {"leaderworkerset.sigs.k8s.io/worker-index": "0"}
    ports = [{"name": "http", "port": 80, "targetPort": PORT}]
    return _object(plan, "v1", "Service", {"selector": selector, "ports": ports}, name=f"{plan.name}-http")


def _leader_worker_set(plan: Plan, annotations: Mapping[str, str]) -> dict[str, Any]:
    group: dict[str, Any] = {"size": plan.nodes, "restartPolicy": "RecreateGroupOnPodRestart"}
    if plan.nodes == 1:
        group["workerTemplate"] = _template(plan)
    else:
        group |= {"leaderTemplate": _template(plan, "leader"), "workerTemplate": _template(plan, "worker")}
    spec = {"replicas": _begins_with(plan), "leaderWorkerTemplate": group}
    return _object(plan, "leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", spec, annotations=annotations)


def _inference_service(plan: Plan, annotations: Mapping[str, str]) -> dict[str, Any]:
    """Its own container rather than KServe's runtime for HuggingFace models, so that vLLM and its options are those simulated."""
    own = {"serving.kserve.io/deploymentMode": "Knative" if plan.knative else "Standard"}
    predictor: dict[str, Any] = {"minReplicas": plan.fewest}
    if plan.knative:
        own |= knative_annotations(plan, bounds=False)
        if plan.scaling["max"]:
            predictor["maxReplicas"] = plan.scaling["max"]
        if plan.scaling["container_concurrency"]:
            predictor["containerConcurrency"] = plan.scaling["container_concurrency"]
    elif plan.scaler is None:
        own["serving.kserve.io/autoscalerClass"] = "none"
        predictor["maxReplicas"] = plan.fewest
    else:  # the HPA or ScaledObject beside it scales, not KServe's own
        own["serving.kserve.io/autoscalerClass"] = "external"
        predictor["maxReplicas"] = plan.scaling["max"]
    predictor |= {"labels": labels(plan), "annotations": dict(_SCRAPED)} | pod(plan)
    return _object(
        plan,
        "serving.kserve.io/v1beta1",
        "InferenceService",
        {"predictor": predictor},
        annotations={**own, **annotations},
    )


def _knative_service(plan: Plan, annotations: Mapping[str, str]) -> dict[str, Any]:
    template = _template(plan)
    template["metadata"]["annotations"] = knative_annotations(plan)
    if plan.scaling["container_concurrency"]:
        template["spec"]["containerConcurrency"] = plan.scaling["container_concurrency"]
    spec = {"template": template}
    return _object(plan, "serving.knative.dev/v1", "Service", spec, annotations=annotations)


def _claim(plan: Plan) -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": claim_size(plan)}}}
    return _object(plan, "v1", "PersistentVolumeClaim", spec, name=f"{plan.name}-models")


def _budget(plan: Plan) -> dict[str, Any]:
    # KServe labels the pods by itself as well, but these labels are ours in every flavour
    return {"maxUnavailable": 1, "selector": {"matchLabels": {APP: plan.name}}}
