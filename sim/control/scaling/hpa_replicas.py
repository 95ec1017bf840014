"""How many replicas one metric asks for: Kubernetes' replica calculator, a method a kind of metric.

Source: kubernetes/kubernetes pkg/controller/podautoscaler/replica_calculator.go. Usages and targets are whole milli-units, a target
utilisation is whole percent of the request.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sim.control.scaling.hpa_pods import (
    MAX_INT32,
    MAX_INT64,
    Groups,
    MetricsError,
    Pod,
    PodMetrics,
    group_pods,
    metric_usage_ratio,
    pod_requests,
    quotient,
    ready_pods,
    resource_utilization_ratio,
    usable,
    whole,
)
from sim.control.scaling.hpa_version import CURRENT, HpaVersion

__all__ = ["Proposal", "ReplicaCalculator", "Tolerances"]


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How far a usage ratio may be below and above 1 without a change."""

    scale_down: float = 0.1
    scale_up: float = 0.1

    def within(self, ratio: float, version: HpaVersion = CURRENT) -> bool:
        """Whether ``ratio`` is so close to 1 that nothing is done. Never for NaN where ``version`` compares with bounds."""
        if version.tolerance_as_bounds:
            return 1.0 - self.scale_down <= ratio <= 1.0 + self.scale_up
        return not abs(1.0 - ratio) > (self.scale_up if ratio > 1.0 else self.scale_down)


@dataclass(frozen=True, slots=True)
class Proposal:
    """What one metric asks for.

    ``usage``: its average a pod in milli-units (for a Value target the total); ``utilization``: whole percent of the requests, None
    for other targets; ``ratio``: usage over target, before pods without metric were filled in. ``reason``: ``within-tolerance``,
    ``usage`` (ratio times pods), ``usage-with-missing`` (after filling in), ``direction-reversed`` (which keeps the replicas).
    """

    replicas: int
    usage: int
    ratio: float
    reason: str
    utilization: int | None = None


@dataclass(frozen=True, slots=True)
class ReplicaCalculator:
    """The calculator with the controller's settings. Every method raises MetricsError where the real one returns an error.

    ``current_replicas`` is the scale's spec, ``status_replicas`` its status.
    """

    tolerances: Tolerances = Tolerances()
    cpu_initialization_period: float = 300.0
    initial_readiness_delay: float = 30.0
    version: HpaVersion = CURRENT

    def resource_utilization(
        self,
        current_replicas: int,
        target_utilization: int,
        pods: Sequence[Pod],
        metrics: PodMetrics,
        now: float,
        resource: str = "cpu",
        container: str = "",
    ) -> Proposal:
        """Resource or ContainerResource (``container`` set; ``metrics`` are then that container's) with a target utilisation."""
        groups, values = self._sorted(pods, metrics, resource, now, f"resource {resource}", "resource")
        requests = pod_requests(pods, resource, container)
        fallback = max(100, target_utilization) if self.version.missing_at_target else 100
        return self._proposed(
            current_replicas,
            groups,
            values,
            lambda known: resource_utilization_ratio(known, requests, target_utilization),
            lambda name: quotient(requests[name] * fallback, 100),
            keep_direction=True,
            fill_at_target=False,
        )

    def resource_value(
        self,
        current_replicas: int,
        target_usage: int,
        pods: Sequence[Pod],
        metrics: PodMetrics,
        now: float,
        resource: str = "cpu",
    ) -> Proposal:
        """Resource or ContainerResource with a target average value."""
        groups, values = self._sorted(pods, metrics, resource, now, f"resource {resource}", "resource")
        return self._plain(current_replicas, target_usage, groups, values)

    def pods_value(
        self,
        current_replicas: int,
        target_usage: int,
        pods: Sequence[Pod],
        metrics: PodMetrics,
        now: float,
        name: str = "",
    ) -> Proposal:
        """Pods metric: as an average value, but neither readiness nor warm-up are looked at."""
        groups, values = self._sorted(pods, metrics, "", now, f"metric {name}".rstrip(), "custom")
        return self._plain(current_replicas, target_usage, groups, values)

    def object_value(self, current_replicas: int, target_usage: int, pods: Sequence[Pod], usage: int) -> Proposal:
        """Object metric with a target value."""
        return self._of_ready(current_replicas, target_usage, pods, usage)

    def object_average(self, status_replicas: int, target_usage: int, usage: int) -> Proposal:
        """Object metric with a target average value."""
        return self._per_pod(status_replicas, target_usage, usage)

    def external_value(
        self, current_replicas: int, target_usage: int, pods: Sequence[Pod], values: Sequence[int]
    ) -> Proposal:
        """External metric, one of ``values`` a series, with a target value. Sums beyond 64 bits stay at the largest."""
        _some(values)
        usage = 0
        for value in values:
            if value > 0 and usage > MAX_INT64 - value:
                usage = MAX_INT64
                break
            usage += value
        return self._of_ready(current_replicas, target_usage, pods, usage)

    def external_average(self, status_replicas: int, target_usage: int, values: Sequence[int]) -> Proposal:
        """External metric with a target average value. A sum below zero is taken for an overflow, as the real one takes it."""
        _some(values)
        usage = 0
        for value in values:
            usage += value
            if usage < 0 or usage > MAX_INT64:
                usage = MAX_INT64
                break
        return self._per_pod(status_replicas, target_usage, usage)

    def _sorted(
        self, pods: Sequence[Pod], metrics: PodMetrics, resource: str, now: float, what: str, api: str
    ) -> tuple[Groups, dict[str, int]]:
        if not metrics:
            raise MetricsError(f"unable to get metrics for {what}: no metrics returned from {api} metrics API")
        if not pods:
            raise MetricsError("no pods returned by selector while calculating replica count")
        groups = group_pods(
            pods, metrics, resource, now, self.cpu_initialization_period, self.initial_readiness_delay, self.version
        )
        dropped = {*groups.unready, *(groups.ignored if self.version.drop_ignored_metrics else ())}
        return groups, usable(metrics, dropped)

    def _plain(self, current: int, target: int, groups: Groups, values: dict[str, int]) -> Proposal:
        target = whole(target, "target")

        def measure(known: dict[str, int]) -> tuple[float, None, int]:
            ratio, usage = metric_usage_ratio(known, target)
            return ratio, None, usage

        return self._proposed(
            current,
            groups,
            values,
            measure,
            lambda _: target,
            keep_direction=self.version.pods_keep_direction,
            fill_at_target=self.version.zero_when_at_target,
        )

    def _proposed(
        self,
        current: int,
        groups: Groups,
        values: dict[str, int],
        measure: Callable[[dict[str, int]], tuple[float, int | None, int]],
        fill: Callable[[str], int],
        *,
        keep_direction: bool,
        fill_at_target: bool,
    ) -> Proposal:
        ratio, utilization, usage = measure(values)

        def answer(replicas: int, reason: str) -> Proposal:
            return Proposal(replicas, usage, ratio, reason, utilization)

        up_with_unready = bool(groups.unready) and ratio > 1.0
        if not up_with_unready and not groups.missing:
            if self.tolerances.within(ratio, self.version):
                return answer(current, "within-tolerance")
            return answer(_whole(ratio * groups.ready), "usage")
        filled = dict(values)
        if ratio < 1.0:
            filled |= {name: fill(name) for name in groups.missing}
        elif ratio > 1.0 or fill_at_target:
            filled |= dict.fromkeys(groups.missing, 0)
        if up_with_unready:
            filled |= dict.fromkeys(groups.unready, 0)
        corrected, _, _ = measure(filled)
        if self.tolerances.within(corrected, self.version):
            return answer(current, "within-tolerance")
        if (ratio < 1.0 < corrected) or (corrected < 1.0 < ratio):
            return answer(current, "direction-reversed")
        replicas = _whole(corrected * len(filled))
        if keep_direction and ((corrected < 1.0 and replicas > current) or (corrected > 1.0 and replicas < current)):
            return answer(current, "direction-reversed")
        return answer(replicas, "usage-with-missing")

    def _of_ready(self, current: int, target: int, pods: Sequence[Pod], usage: int) -> Proposal:
        target, usage = whole(target, "target"), whole(usage, "usage")
        ratio = float(usage) / float(target)
        if current == 0:  # neither tolerance nor ready pods: from zero, or not
            return Proposal(_whole(ratio), usage, ratio, "usage")
        if self.tolerances.within(ratio, self.version):
            return Proposal(current, usage, ratio, "within-tolerance")
        return Proposal(_whole(ratio * ready_pods(pods)), usage, ratio, "usage")

    def _per_pod(self, status: int, target: int, usage: int) -> Proposal:
        target, usage = whole(target, "target"), whole(usage, "usage")
        capacity = float(target) * status
        ratio = usage / capacity if capacity else (math.nan if usage == 0 else math.copysign(math.inf, usage))
        mean = (
            MAX_INT64 if float(usage) >= float(MAX_INT64) else math.ceil(float(usage) / float(status)) if status else 0
        )
        if self.tolerances.within(ratio, self.version):
            return Proposal(status, mean, ratio, "within-tolerance")
        return Proposal(_whole(float(usage) / float(target)), mean, ratio, "usage")


def _some(values: Sequence[int]) -> None:
    if not values:
        raise MetricsError("unable to get external metric: no metrics returned from external metrics API")


def _whole(replicas: float) -> int:
    """Rounded up into 32 bits; where Go leaves the overflow undefined it stays at the largest too."""
    return MAX_INT32 if replicas > MAX_INT32 else math.ceil(replicas)
