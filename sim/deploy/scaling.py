"""Autoscalers as Kubernetes has them: an HPA, a KEDA ScaledObject, Knative's annotations. What has no such form is refused.

What is scaled on is read from vLLM's own metrics by Prometheus; an HPA gets it through prometheus-adapter, whose rules are
written as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.deploy.plan import Plan

__all__ = ["PROMETHEUS", "adapter_rules", "hpa", "knative_annotations", "metrics_of", "refuse", "scaled_object"]

PROMETHEUS = "http://prometheus-operated.monitoring.svc:9090"
"""Where KEDA asks; the service that prometheus-operator makes."""

_SERIES: Mapping[str, tuple[str, ...]] = {
    "concurrency": ("vllm:num_requests_running", "vllm:num_requests_waiting"),
    "running": ("vllm:num_requests_running",),
    "queue": ("vllm:num_requests_waiting",),
    "kv": ("vllm:kv_cache_usage_perc",),
    "utilisation": ("DCGM_FI_DEV_GPU_UTIL",),
}
"""The series that add up to a metric of :data:`sim.control.scaling.view.METRICS`, by vllm/v1/metrics/loggers.py."""

_QUEUED = ("concurrency", "queue")  # takes in those who wait at the gateway
_NONE = {
    "oracle": "knows the requests to come, which nobody who deploys does: it is a bound",
    "predictive": "is no autoscaler that Kubernetes, KEDA or Knative has",
    "slo": "is no autoscaler that Kubernetes, KEDA or Knative has",
    "schedule": "follows times of the simulation, which are no times of a day",
    "ray-serve": "is Ray Serve's own, in a RayService, which is not written here",
}


def refuse(plan: Plan) -> None:
    """ConfigError if its autoscaler cannot be had, with what to do instead."""
    kind = plan.scaler
    if kind is None:
        return
    if kind not in ("hpa", "keda", "kpa"):
        why = _NONE.get(kind, "is of another package")
        instead = "hpa, keda and kpa can be deployed, or a fixed number of replicas (autoscaler: null)"
        raise plan.refusal("autoscaler", f"{kind!r} {why}; {instead}")
    if kind == "kpa" and plan.flavour == "lws":
        what = "'kpa' is Knative's, which runs no LeaderWorkerSet; --flavour deployment or kserve"
        raise plan.refusal("autoscaler", what)
    for metric, _, _ in metrics_of(plan):
        known = [name for name in _SERIES if name != "utilisation" or not plan.amd]
        if metric not in known:
            what = f"vLLM and its GPUs export nothing like {metric!r}; it can be scaled on {', '.join(known)}"
            raise plan.refusal("autoscaler.metric", what)
    if kind == "keda" and plan.fewest == 0 and plan.scaling["metric"] not in _QUEUED:
        raise plan.refusal(
            "autoscaler.min",
            f"without a replica nobody exports {plan.scaling['metric']!r}, so nothing would ever start one again; scale from 0 on"
            f" {' or '.join(_QUEUED)}, which a gateway knows of, or set min: 1",
        )


def metrics_of(plan: Plan) -> list[tuple[str, float, str]]:
    """What it scales on: metric, target, and how the HPA takes it (``average``, ``total-average``, ``total``, ``utilisation``)."""
    given = plan.scaling
    if plan.scaler == "keda":
        return [(given["metric"], float(given["threshold"]), "total-average")]
    if plan.scaler != "hpa":
        return []
    listed = given["metrics"] or [
        {"metric": given["metric"], "target": given["target"], "target_type": given["target_type"]}
    ]
    return [(one["metric"], float(one["target"]), one.get("target_type") or "average") for one in listed]


def _pods(plan: Plan) -> str:
    """A regular expression of the names of pods that export metrics."""
    suffix = "-[0-9]+" if plan.flavour == "lws" else "-[a-z0-9]+-[a-z0-9]+"
    return f"{plan.name}-predictor{suffix}" if plan.flavour == "kserve" else f"{plan.name}{suffix}"


def _query(plan: Plan, metric: str, matchers: str = "") -> str:
    """PromQL: the deployment's total of ``metric``, with those who wait at the gateway where some may."""
    chosen = ",".join(part for part in (matchers, f'pod=~"{_pods(plan)}"') if part)
    share = " / 100" if metric == "utilisation" else ""
    held = metric in _QUEUED and (plan.fewest == 0 or plan.deployment.queue.per_replica is not None)
    parts = [f"sum({series}{{{chosen}}}){share}" for series in _SERIES[metric]]
    if not held:
        return " + ".join(parts)
    waiting = f'sum(inference_extension_flow_control_queue_size{{model_name="{plan.deployment.model}"}})'
    return " + ".join(f"({part} or vector(0))" for part in [*parts, waiting])


def scaled_object(plan: Plan, target: Mapping[str, str]) -> dict[str, Any]:
    """The spec of a ScaledObject (keda.sh/v1alpha1) of ``target``."""
    given = plan.scaling
    spec: dict[str, Any] = {
        "scaleTargetRef": dict(target),
        "pollingInterval": _whole(given["polling_interval"]),
        "cooldownPeriod": _whole(given["cooldown_period"]),
        "minReplicaCount": given["min"],
        "maxReplicaCount": given["max"],
    }
    if given["initial_cooldown"]:
        spec["initialCooldownPeriod"] = _whole(given["initial_cooldown"])
    if given["idle"] is not None:
        spec["idleReplicaCount"] = given["idle"]
    if given["fallback"] is not None:
        keys = {"failure_threshold": "failureThreshold"}
        spec["fallback"] = {keys.get(key, key): value for key, value in given["fallback"].items()}
    if given["behavior"] is not None:
        spec["advanced"] = {"horizontalPodAutoscalerConfig": {"behavior": _behavior(given["behavior"])}}
    spec["triggers"] = [
        {
            "type": "prometheus",
            "metricType": "AverageValue",
            "metadata": {
                "serverAddress": PROMETHEUS,
                "query": _query(plan, given["metric"]),
                "threshold": f"{given['threshold']:g}",
                "activationThreshold": f"{given['activation_threshold']:g}",
            },
        }
    ]
    return spec


def hpa(plan: Plan, target: Mapping[str, str]) -> dict[str, Any]:
    """The spec of a HorizontalPodAutoscaler (autoscaling/v2) of ``target``."""
    given = plan.scaling
    spec: dict[str, Any] = {
        "scaleTargetRef": dict(target),
        "minReplicas": given["min"],
        "maxReplicas": given["max"],
        "metrics": [_metric(plan, *one) for one in metrics_of(plan)],
    }
    if given["behavior"] is not None:
        spec["behavior"] = _behavior(given["behavior"])
    return spec


def _metric(plan: Plan, metric: str, target: float, kind: str) -> dict[str, Any]:
    if kind in ("average", "utilisation"):
        value = target / 100.0 if kind == "utilisation" else target
        wanted = {"type": "AverageValue", "averageValue": quantity(value)}
        return {"type": "Pods", "pods": {"metric": {"name": _by_pod(metric)}, "target": wanted}}
    wanted = {"type": "Value", "value": quantity(target)}
    if kind == "total-average":
        wanted = {"type": "AverageValue", "averageValue": quantity(target)}
    return {"type": "External", "external": {"metric": {"name": _total(plan, metric)}, "target": wanted}}


def quantity(value: float) -> str:
    """A number as Kubernetes writes quantities: whole, or in thousandths, rounded up as it does."""
    milli = ceil(round(value * 1000.0, 6))
    return f"{milli}m" if milli % 1000 else str(milli // 1000)


def _by_pod(metric: str) -> str:
    return f"twinfer_{metric}"


def _total(plan: Plan, metric: str) -> str:
    return f"twinfer_{metric}_of_{plan.name.replace('-', '_')}"


def adapter_rules(plans: list[Plan]) -> dict[str, Any] | None:
    """The values of the prometheus-adapter chart that serve the HPAs of ``plans``; None if there are none."""
    custom: dict[str, dict[str, Any]] = {}
    external: dict[str, dict[str, Any]] = {}
    for plan in plans:
        if plan.scaler != "hpa":
            continue
        for metric, _, kind in metrics_of(plan):
            found = {"seriesQuery": f'{{__name__="{_SERIES[metric][0]}",namespace!="",pod!=""}}'}
            namespace = {"namespace": {"resource": "namespace"}}
            if kind in ("average", "utilisation"):
                share = " / 100" if metric == "utilisation" else ""
                parts = [f"sum({series}{{<<.LabelMatchers>>}}) by (<<.GroupBy>>){share}" for series in _SERIES[metric]]
                custom[_by_pod(metric)] = found | {
                    "resources": {"overrides": namespace | {"pod": {"resource": "pod"}}},
                    "name": {"as": _by_pod(metric)},
                    "metricsQuery": " + ".join(parts),
                }
            else:
                external[_total(plan, metric)] = found | {
                    "resources": {"overrides": namespace},
                    "name": {"as": _total(plan, metric)},
                    "metricsQuery": _query(plan, metric, "<<.LabelMatchers>>"),
                }
    rules = {"custom": list(custom.values()), "external": list(external.values())}
    rules = {name: found for name, found in rules.items() if found}
    return {"rules": {"default": False, **rules}} if rules else None


def _behavior(given: Mapping[str, Any]) -> dict[str, Any]:
    """As Kubernetes spells it: camelCase, whole seconds and, if one direction is left out, nothing of it."""
    found = _camel(given)
    for rules in found.values():
        for policy in rules.get("policies", ()):
            policy["periodSeconds"], policy["value"] = _whole(policy["periodSeconds"]), _whole(policy["value"])
        if rules.get("stabilizationWindowSeconds") is not None:
            rules["stabilizationWindowSeconds"] = _whole(rules["stabilizationWindowSeconds"])
        if rules.get("tolerance") is not None:
            rules["tolerance"] = quantity(float(rules["tolerance"]))
    return {name: rules for name, rules in found.items() if rules}


def _camel(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_word(key): _camel(item) for key, item in value.items() if item is not None}
    return [_camel(item) for item in value] if isinstance(value, list | tuple) else value


def _word(key: str) -> str:
    first, *rest = key.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _whole(value: float) -> int:
    return ceil(float(value))


def knative_annotations(plan: Plan, *, bounds: bool = True) -> dict[str, str]:
    """Knative's annotations of a revision; without ``bounds`` the fewest and most replicas are left to who writes them elsewhere."""
    from sim.control import registry

    given, prefix = plan.scaling, "autoscaling.knative.dev"
    found = {f"{prefix}/class": "kpa.autoscaling.knative.dev", f"{prefix}/metric": str(given["metric"])}
    if bounds:
        found[f"{prefix}/min-scale"] = str(given["min"])
        if given["max"]:
            found[f"{prefix}/max-scale"] = str(given["max"])
    if given["target"] is not None:
        found[f"{prefix}/target"] = f"{given['target']:g}"
    if given["target_utilization"] is not None:
        share = given["target_utilization"]
        found[f"{prefix}/target-utilization-percentage"] = f"{share * 100 if share <= 1 else share:g}"
    if plan.deployment.replicas > 1:
        found[f"{prefix}/initial-scale"] = str(plan.deployment.replicas)
    default = {name: one.default for name, one in registry.parameters("autoscaler", "kpa").items()}
    seconds = {
        "stable_window": "window",
        "scale_to_zero_pod_retention": "scale-to-zero-pod-retention-period",
        "scale_down_delay": "scale-down-delay",
    }
    numbers = {
        "activation_scale": "activation-scale",
        "panic_window_percentage": "panic-window-percentage",
        "panic_threshold_percentage": "panic-threshold-percentage",
        "target_burst_capacity": "target-burst-capacity",
    }
    for name, annotation in (seconds | numbers).items():
        if given[name] != default[name]:
            found[f"{prefix}/{annotation}"] = f"{given[name]:g}{'s' if name in seconds else ''}"
    if given["progress_deadline"] != default["progress_deadline"]:
        found["serving.knative.dev/progress-deadline"] = f"{given['progress_deadline']:g}s"
    return found
