"""What was simulated and is not in the files, or is not the same there: nothing is left out without a word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sim.deploy.pods import start_allowed

if TYPE_CHECKING:
    from sim.config import Scenario
    from sim.config.fleet import Pool
    from sim.config.workload import Workload
    from sim.deploy.plan import Plan

__all__ = ["of_deployment", "of_scenario"]

_ROUTERS: Mapping[str, str] = {
    "round-robin": "vLLM production-stack: `--routing-logic roundrobin`; Envoy: ROUND_ROBIN",
    "random": "Envoy: RANDOM",
    "least-outstanding": "nginx: least_conn; Envoy: LEAST_REQUEST with choice_count as large as the number of replicas",
    "least-tokens": "the nearest is the token-load-scorer of the Gateway API inference extension",
    "power-of-two": "Envoy: LEAST_REQUEST, whose choice_count is 2 by default",
    "session-affinity": "vLLM production-stack: `--routing-logic session --session-key HEADER`; Envoy: RING_HASH on that header",
    "gateway": "Gateway API inference extension or llm-d: an EndpointPickerConfig with these scorers, weights and picker",
    "sglang": "SGLang's router: `--policy cache_aware` with these thresholds",
    "dynamo": "NVIDIA Dynamo: `--router-mode kv` with these weights",
    "production-stack-session": "vLLM production-stack: `--routing-logic session --session-key HEADER`",
    "production-stack-prefix": "vLLM production-stack: `--routing-logic prefixaware`",
    "ray-power-of-two": "Ray Serve has it inside; no other gateway does",
    "bounded-load": "Envoy: RING_HASH with consistent_hashing_lb_config.hash_balance_factor",
    "envoy-least-request": "Envoy: LEAST_REQUEST with this choice_count",
}
_CONTROLLER = {
    "tolerance": "tolerance",
    "downscale_stabilization": "downscale-stabilization",
    "cpu_initialization_period": "cpu-initialization-period",
    "initial_readiness_delay": "initial-readiness-delay",
    "sync_period": "sync-period",
}
_CLUSTER_WIDE = {
    "scale_to_zero": "enable-scale-to-zero",
    "scale_to_zero_grace_period": "scale-to-zero-grace-period",
    "max_scale_up_rate": "max-scale-up-rate",
    "max_scale_down_rate": "max-scale-down-rate",
}


def of_scenario(scenario: Scenario) -> list[str]:
    """Of clients, faults and machines."""
    told = (_workload(workload) for workload in scenario.workloads)
    faults = [f"fault {fault.name or fault.kind}: was simulated; the figures include it" for fault in scenario.faults]
    pools = (_pool(pool) for pool in scenario.cluster.pools)
    return [*(line for lines in told for line in lines), *faults, *(line for lines in pools for line in lines)]


def _workload(workload: Workload) -> Iterator[str]:
    where = f"workload {workload.name}"
    if workload.client is not None:
        own = _shown(workload.client.parameters)
        yield f"{where}: clients were simulated to give up and try again ({own}); that is theirs to do"
    if workload.deployments:
        kind = "cheapest-first" if workload.choice is None else workload.choice.kind
        yield f"{where}: is spread over {', '.join(workload.deployments)} ({kind}); a gateway in front has to do so"
    if workload.cascade is not None:
        share, to = f"{workload.cascade.share:.0%}", workload.cascade.to
        yield f"{where}: {share} of its answers go on to {to}; the client, or a gateway, has to send them there"


def _pool(pool: Pool) -> Iterator[str]:
    where = f"pool {pool.name}"
    if pool.growth is None:
        yield f"{where}: {pool.nodes} machines were simulated to be at hand at once"
    else:
        least, most = pool.growth.bounds(pool.nodes)
        spare = pool.growth.spare
        held = f", {spare} of them kept empty (placeholder pods of low priority)" if spare else ""
        yield (
            f"{where}: set the cluster autoscaler to {least} to {most} machines{held}, scale-down-unneeded-time"
            f" {pool.growth.idle:g}s, scale-down-delay-after-add {pool.growth.after_add:g}s"
        )
    if pool.instance is None:
        yield f"{where}: no instance type is known; choose its machines by a nodeSelector of yours"
    if pool.billing is not None and pool.billing.kind == "spot":
        yield (
            f"{where}: is spot; the label differs by cloud: karpenter.sh/capacity-type: spot,"
            ' cloud.google.com/gke-spot: "true", kubernetes.azure.com/scalesetpriority: spot'
        )
    if pool.storage.prepulled:
        yield f"{where}: new machines were simulated to have the image: bake it in, or pull it with a DaemonSet"
    if pool.loss.noticed != 40.0:
        noticed = f"{pool.loss.noticed:g} s"
        yield f"{where}: a lost machine is noticed after {noticed}: node-monitor-grace-period of kube-controller-manager"
    if pool.placement == "pack":
        yield f"{where}: replicas were simulated to be packed: the scheduler's NodeResourcesFit with MostAllocated does so"


def of_deployment(plan: Plan) -> list[str]:
    """Of one deployment."""
    return [*_engine(plan), *_start(plan), *_traffic(plan), *_scaling(plan), *_gateway(plan)]


def _engine(plan: Plan) -> Iterator[str]:
    if plan.checkpoint.startswith("/models/"):
        yield f"the scenario names a shape, not a checkpoint: put the weights into {plan.checkpoint} on the volume"
    native, dtype, wide = plan.architecture.native_dtype, plan.model.dtype, ("bf16", "fp16", "fp32")
    quantised = dtype not in (*wide, "fp8") or native not in (*wide, dtype)
    if native != dtype and quantised:
        yield f"weights in {dtype} were simulated, {plan.checkpoint} has them in {native}: name a checkpoint in {dtype}"
    capacity = (plan.placed.settings.kv_blocks - 1) * plan.placed.settings.block_size
    if plan.engine.kv_blocks is None:
        yield f"a KV cache of {capacity:,} tokens was simulated; vLLM writes what it found as 'GPU KV cache size' in its log"
    if capacity < plan.placed.settings.max_model_len:
        yield f"vLLM does not start with a max-model-len of more than the {capacity:,} tokens its KV cache holds: lower it"
    yield "vLLM's prefix cache is left on and was not simulated: repeated prompts are served sooner than the figures say"
    if plan.engine.host_overhead is not None or plan.engine.request_overhead is not None:
        yield "host_overhead and request_overhead are measurements of a system, not settings of one"


def _start(plan: Plan) -> Iterator[str]:
    tier = plan.deployment.cold_start.weights_from or plan.start.source
    yield (
        f"a start was simulated to take {plan.start.process:.0f} s from process to answer (median; weights from {tier});"
        f" the startup probe allows {start_allowed(plan)} s"
    )
    if plan.volume == "pvc":
        yield f"fill the volume {plan.name}-models with the weights first; its storage class has to allow ReadWriteMany"
    if plan.volume is None:
        yield "no volume is written: vLLM downloads the weights at every start; keep them where they were simulated to be read from"
    if plan.deployment.cold_start.readiness_period == 0:
        yield "a replica was simulated to be ready at once; a readiness probe cannot run more often than once a second"
    if plan.knative and plan.deployment.drain.grace:
        yield (
            f"a replica that is to go may serve on for the revision's timeoutSeconds (300 s by default); {plan.deployment.drain.grace:g} s"
            " were simulated"
        )


def _traffic(plan: Plan) -> Iterator[str]:
    kind = plan.placed.router_kind
    if plan.knative:
        yield f"router {kind} was simulated: Knative's activator and queue-proxy choose as they do"
        return
    own = {name: value for name, value in plan.placed.router_parameters.items() if value is not None}
    with_own = f" ({_shown(own)})" if own else ""
    how = _ROUTERS.get(kind, "it is of another package: deploy it yourself")
    yield (
        f"router {kind}{with_own} was simulated: a Service chooses at random, once a connection; for what was simulated put a gateway"
        f" in front. {how}"
    )


def _scaling(plan: Plan) -> Iterator[str]:
    if plan.scaler is None:
        return
    from sim.control import registry

    given = plan.scaling
    default = {name: one.default for name, one in registry.parameters("autoscaler", str(plan.scaler)).items()}

    def changed(names: Mapping[str, str], prefix: str) -> str:
        said = [
            f"{prefix}{flag}={given[name]}"
            for name, flag in names.items()
            if name in given and given[name] != default[name]
        ]
        return ", ".join(said)

    if plan.scaler == "kpa":
        other = changed(_CLUSTER_WIDE, "")
        if other:
            yield f"for all of the cluster, in config-autoscaler: {other}"
        yield (
            "Knative takes nodeSelector, tolerations, topologySpreadConstraints and volumes only with their flags in config-features"
            " (kubernetes.podspec-nodeselector, ...)"
        )
        if plan.deployment.replicas == 0:
            yield "a new revision starts with one replica, unless config-autoscaler has allow-zero-initial-scale; none was simulated"
        return
    if plan.flavour != "kserve":
        yield "to apply the file again sets replicas back to those at the start: take `replicas` out once the autoscaler runs"
    yield f"Prometheus has to scrape the pods every {given['scrape']:g} s"
    other = changed(_CONTROLLER, "--horizontal-pod-autoscaler-")
    if other:
        yield f"for all of the cluster, flags of kube-controller-manager: {other}"
    if plan.scaler == "hpa":
        yield "prometheus-adapter serves the metrics of the HPA: prometheus-adapter.values.yaml holds values of its chart"
        listed = given["metrics"] or [{"target_type": given["target_type"]}]
        if any(one.get("target_type") == "utilisation" for one in listed):
            yield "target_type utilisation was simulated with the readiness rules of CPU metrics, which Kubernetes has for no other"
        if given["min"] == 0:
            yield "minReplicas: 0 needs the feature gate HPAScaleToZero"
    elif plan.fewest == 0:
        yield (
            "without a replica only the gateway knows of requests: it has to hold them and export"
            " inference_extension_flow_control_queue_size (Gateway API inference extension with flow control)"
        )


def _gateway(plan: Plan) -> Iterator[str]:
    deployment = plan.deployment
    for policy in deployment.admission:
        yield f"admission {policy.kind} ({_shown(policy.parameters)}) was simulated: the gateway in front has to do it"
    queue = deployment.queue
    if queue.model_fields_set:
        said: dict[str, Any] = {
            name: getattr(queue, name)
            for name in ("limit", "timeout", "order", "per_replica")
            if name in queue.model_fields_set
        }
        yield f"a line at the gateway was simulated ({_shown(said)}): the gateway in front has to keep it"
    if deployment.outlier is not None:
        own = deployment.outlier.parameters
        yield f"outlier detection{f' ({_shown(own)})' if own else ''} was simulated: Envoy in front has to do it"
    if deployment.on_loss != "fail":
        what = (
            "send requests of a lost replica again"
            if deployment.on_loss == "retry"
            else "have another replica go on from the tokens there are"
        )
        yield f"on_loss {deployment.on_loss}: the gateway in front has to {what}"


def _shown(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {_value(value)}" for name, value in parameters.items()) or "defaults"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + _shown(value) + "}"
    return f"{value:g}" if isinstance(value, float) else str(value)
