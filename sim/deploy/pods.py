"""The pod of a replica: its container, probes, GPUs, and the machines it may stand on."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

from sim.deploy.flags import arguments
from sim.deploy.plan import PORT

if TYPE_CHECKING:
    from sim.deploy.plan import Plan

__all__ = ["APP", "labels", "pod", "resource", "start_allowed"]

APP = "app.kubernetes.io/name"
_LEAST_START = 300  # seconds: less is not allowed for a start, however short it was when it was measured
_SLACK = 3  # a start may take so many times the median of what was simulated
_GIB = 2**30


def labels(plan: Plan) -> dict[str, str]:
    """What selects its pods."""
    return {APP: plan.name}


def resource(plan: Plan) -> str:
    """The extended resource of its GPUs."""
    return "amd.com/gpu" if plan.amd else "nvidia.com/gpu"


def start_allowed(plan: Plan) -> int:
    """Seconds a container may take to answer before it is started again: three times the simulated start, at least 5 min."""
    return max(_LEAST_START, ceil(_SLACK * plan.start.process))


def pod(plan: Plan, role: str = "alone") -> dict[str, Any]:
    """A PodSpec. ``role``: ``alone``, or ``leader`` or ``worker`` of a replica that spans machines."""
    spec: dict[str, Any] = {"containers": [_container(plan, role)]}
    if not plan.knative:  # Knative sets it to the revision's timeout
        spec["terminationGracePeriodSeconds"] = ceil(plan.deployment.drain.grace)
    if plan.pool.instance is not None:
        spec["nodeSelector"] = {"node.kubernetes.io/instance-type": plan.pool.instance.partition("/")[2]}
    spec["tolerations"] = [{"key": resource(plan), "operator": "Exists", "effect": "NoSchedule"}]
    if "loss" in plan.pool.model_fields_set:
        spec["tolerations"] += [
            {
                "key": f"node.kubernetes.io/{state}",
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": ceil(plan.pool.loss.toleration),
            }
            for state in ("not-ready", "unreachable")
        ]
    if plan.pool.placement == "spread" and role != "worker":
        keys = [*(["topology.kubernetes.io/zone"] if len(plan.pool.zones) > 1 else []), "kubernetes.io/hostname"]
        spec["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": labels(plan)},
            }
            for key in keys
        ]
    volumes = _volumes(plan)
    if volumes:
        spec["volumes"] = volumes
    return spec


def _container(plan: Plan, role: str) -> dict[str, Any]:
    # KServe takes the container of that name for the one that serves
    container: dict[str, Any] = {
        "name": "kserve-container" if plan.flavour == "kserve" else "vllm",
        "image": plan.image,
        "command": ["vllm", "serve"],
        "args": [*arguments(plan), *_across(plan, role)],
        "env": [
            {
                "name": "HF_TOKEN",
                "valueFrom": {"secretKeyRef": {"name": "hf-token", "key": "token", "optional": True}},
            }
        ],
    }
    if plan.volume is not None:
        container["env"].append({"name": "HF_HOME", "value": "/models"})
    if role != "worker":
        container["ports"] = [{"containerPort": PORT, **({} if plan.knative else {"name": "http"})}]
    gpus = {resource(plan): str(plan.gpus_per_pod)}
    container["resources"] = {"requests": dict(gpus), "limits": dict(gpus)}
    if role != "worker":
        health: dict[str, Any] = {"httpGet": {"path": "/health", "port": PORT}}
        period = max(1, ceil(plan.deployment.cold_start.readiness_period))
        started = {"periodSeconds": 10, "failureThreshold": ceil(start_allowed(plan) / 10)}
        container["startupProbe"] = health | started
        container["readinessProbe"] = health | {"periodSeconds": period, "failureThreshold": 3}
    mounts = [{"name": "shm", "mountPath": "/dev/shm"}] if plan.gpus_per_pod > 1 else []
    mounts += [{"name": "models", "mountPath": "/models"}] if plan.volume is not None else []
    if mounts:
        container["volumeMounts"] = mounts
    return container


def _across(plan: Plan, role: str) -> list[str]:
    """How the pods of one replica find each other; LeaderWorkerSet sets these variables."""
    if role == "alone":
        return []
    words = ["--nnodes", "$(LWS_GROUP_SIZE)", "--node-rank", "$(LWS_WORKER_INDEX)"]
    words += ["--master-addr", "$(LWS_LEADER_ADDRESS)"]
    return [*words, "--headless"] if role == "worker" else words


def _volumes(plan: Plan) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if plan.gpus_per_pod > 1:  # NCCL's shared memory; the container's default is 64 MiB
        found.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{2 * plan.gpus_per_pod}Gi"}})
    if plan.volume == "pvc":
        found.append({"name": "models", "persistentVolumeClaim": {"claimName": f"{plan.name}-models"}})
    if plan.volume == "host":
        found.append({"name": "models", "hostPath": {"path": "/var/lib/models", "type": "DirectoryOrCreate"}})
    return found


def claim_size(plan: Plan) -> str:
    """Of the volume of models: the weights and a quarter more, in whole GiB."""
    return f"{ceil(1.25 * plan.placed.weights_bytes / _GIB)}Gi"
