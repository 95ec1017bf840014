"""Pods as the HPA sees them: who counts as ready, who is missing or not to be trusted, and what their metrics amount to.

Quantities are whole milli-units, as in the real controller (500 = half a core, 20000 = 20 requests a second), so that its integer
divisions come out the same; :func:`milli` and :func:`quantity` make them. Times are seconds on any clock, ``now`` on the same one.
Source: kubernetes/kubernetes pkg/controller/podautoscaler/replica_calculator.go (groupPods, calculateRequests) and
metrics/utilization.go.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeAlias

from sim.control.scaling.hpa_version import CURRENT, HpaVersion
from sim.errors import TwinferError

__all__ = [
    "MAX_INT32",
    "MAX_INT64",
    "ZERO_TIME",
    "Groups",
    "MetricsError",
    "Pod",
    "PodMetric",
    "PodMetrics",
    "group_pods",
    "metric_usage_ratio",
    "milli",
    "pod_requests",
    "quantity",
    "ready_pods",
    "resource_utilization_ratio",
    "whole",
]

MAX_INT32 = 2**31 - 1
MAX_INT64 = 2**63 - 1
ZERO_TIME = -62_135_596_800.0
"""What Go's zero time is in Unix seconds: a time that was not set, long before everything."""


class MetricsError(TwinferError):
    """No replica count can be computed from a metric; the text is the controller's own."""


@dataclass(frozen=True, slots=True)
class PodMetric:
    """One pod's metric: ``value`` in milli-units at ``timestamp``, an average over the ``window`` seconds before it."""

    value: int
    timestamp: float = ZERO_TIME
    window: float = 0.0


PodMetrics: TypeAlias = Mapping[str, "PodMetric | int"]
"""Metrics by pod name; a bare int is a value as fresh as can be (timestamp now, no window). It may name pods that are not there."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod of the scale target.

    ``phase``: Pending, Running, Succeeded, Failed or Unknown. ``ready``: its Ready condition, None where it has none;
    ``ready_transition``: when that changed last. ``start_time``: None where the kubelet has not seen it. ``deleted``: it has a
    deletion timestamp. ``request``: of the whole pod, in milli-units (the sum of its containers, or the pod-level one), None
    where there is none; ``containers``: requests by container, None where one has none.
    """

    name: str
    phase: str = "Running"
    ready: bool | None = True
    ready_transition: float = ZERO_TIME
    start_time: float | None = ZERO_TIME
    deleted: bool = False
    request: int | None = None
    containers: Mapping[str, int | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Groups:
    """Pods by what a metric can say of them (groupPods): how many ``ready``, the names of the rest.

    ``unready`` are pending, or warming up (CPU only); older sources call them ignored. ``missing`` have no metric. ``ignored`` are
    deleted, failed or (newer) succeeded.
    """

    ready: int
    unready: tuple[str, ...]
    missing: tuple[str, ...]
    ignored: tuple[str, ...]


def milli(value: float) -> int:
    """``value`` in milli-units, rounded up as Kubernetes' Quantity.MilliValue does (to a millionth first: 0.57 is 570, not 571)."""
    return math.ceil(round(value * 1000.0, 6))


_SUFFIXES = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {f"{prefix}i": 1024**power for power, prefix in enumerate("KMGTPE", start=1)}
_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|([KMGTPE]i|[numkMGTPE]?))")


def quantity(text: str) -> int:
    """A Kubernetes quantity as a manifest writes it, ``"500m"``, ``"15"``, ``"1.5Gi"``, ``"1e3"``, in milli-units, rounded up."""
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"quantity {text!r} must be a number with a suffix such as m, k, M, Ki or Mi, or with none")
    digits, exponent, suffix = match.groups()
    number = Decimal(digits + (exponent or ""))
    scale = Decimal(_BINARY[suffix]) if suffix in _BINARY else Decimal(10) ** _SUFFIXES[suffix or ""]
    return math.ceil(number * scale * 1000)


def whole(value: float, what: str) -> int:
    """``value`` as whole milli-units. ValueError where it is a fraction, which would be cut where the real controller does not."""
    if isinstance(value, int):
        return value
    if not math.isfinite(value) or value != int(value):
        raise ValueError(f"{what} {value:g} must be whole milli-units; milli({value:g}) makes them of units")
    return int(value)


def quotient(a: int, b: int) -> int:
    """Integer division as in Go: towards zero."""
    whole = abs(a) // abs(b)
    return whole if (a < 0) == (b < 0) else -whole


def group_pods(
    pods: Sequence[Pod],
    metrics: PodMetrics,
    resource: str,
    now: float,
    cpu_initialization_period: float = 300.0,
    initial_readiness_delay: float = 30.0,
    version: HpaVersion = CURRENT,
) -> Groups:
    """Sort ``pods`` by what ``metrics`` can say of them. Readiness and warm-up count only where ``resource`` is ``"cpu"``."""
    ready = 0
    unready: list[str] = []
    missing: list[str] = []
    ignored: list[str] = []
    for pod in pods:
        if pod.deleted or pod.phase == "Failed" or (pod.phase == "Succeeded" and version.succeeded_is_ignored):
            ignored.append(pod.name)
        elif pod.phase == "Pending":
            unready.append(pod.name)
        elif pod.name not in metrics:
            missing.append(pod.name)
        elif resource == "cpu" and _warming_up(
            pod, metrics[pod.name], now, cpu_initialization_period, initial_readiness_delay
        ):
            unready.append(pod.name)
        else:
            ready += 1
    return Groups(ready, tuple(unready), tuple(missing), tuple(ignored))


def _warming_up(pod: Pod, metric: PodMetric | int, now: float, period: float, delay: float) -> bool:
    if pod.ready is None or pod.start_time is None:
        return True
    if pod.start_time + period > now:  # a sample must lie wholly after it became ready
        if not isinstance(metric, PodMetric):
            metric = PodMetric(metric, now)
        return not pod.ready or metric.timestamp < pod.ready_transition + metric.window
    return not pod.ready and pod.start_time + delay > pod.ready_transition  # it was never ready


def pod_requests(pods: Sequence[Pod], resource: str, container: str = "") -> dict[str, int]:
    """Requests by pod name, of one ``container`` where it is named. MetricsError where a request is missing."""
    return {pod.name: _request(pod, resource, container) for pod in pods}


def _request(pod: Pod, resource: str, container: str) -> int:
    if not container and pod.request is not None:
        return whole(pod.request, f"request of pod {pod.name}")
    if container and container not in pod.containers:
        raise MetricsError(f"container {container} not found in Pod {pod.name}")
    named = {container: pod.containers[container]} if container else pod.containers
    total = 0
    for name, request in named.items():
        if request is None:
            raise MetricsError(f"missing request for {resource} in container {name} of Pod {pod.name}")
        total += whole(request, f"request of container {name} of pod {pod.name}")
    if not named:
        raise MetricsError(f"missing request for {resource} in Pod {pod.name}")
    return total


def ready_pods(pods: Sequence[Pod]) -> int:
    """Pods that run and are ready (getReadyPodsCount). MetricsError where there are no pods at all."""
    if not pods:
        raise MetricsError("no pods returned by selector while calculating replica count")
    return sum(1 for pod in pods if pod.phase == "Running" and pod.ready is True)


def usable(metrics: PodMetrics, without: Collection[str]) -> dict[str, int]:
    """The values of ``metrics`` but those of pods ``without``. MetricsError when none is left."""
    values = {
        name: whole(metric.value if isinstance(metric, PodMetric) else metric, f"metric of pod {name}")
        for name, metric in metrics.items()
        if name not in without
    }
    if not values:
        raise MetricsError("did not receive metrics for targeted pods (pods might be unready)")
    return values


def resource_utilization_ratio(
    values: Mapping[str, int], requests: Mapping[str, int], target_utilization: int
) -> tuple[float, int, int]:
    """Σ usage / Σ request over pods that have both, in whole percent, over the target: (ratio, utilisation, mean milli-usage)."""
    known = [name for name in values if name in requests]
    total = sum(values[name] for name in known)
    requested = sum(requests[name] for name in known)
    if requested == 0:
        raise MetricsError("no metrics returned matched known pods")
    utilization = quotient(total * 100, requested)
    return utilization / target_utilization, utilization, quotient(total, len(known))


def metric_usage_ratio(values: Mapping[str, int], target_usage: int) -> tuple[float, int]:
    """The mean of ``values``, cut to whole milli-units, over the target: (ratio, mean)."""
    usage = quotient(sum(values.values()), len(values))
    return float(usage) / float(target_usage), usage
