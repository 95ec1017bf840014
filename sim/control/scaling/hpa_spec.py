"""What an HPA scales on: one metric's specification, and what it makes of a reading of that metric.

Source: kubernetes/kubernetes pkg/controller/podautoscaler/horizontal.go (computeStatusFor...Metric).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

from sim.control.scaling.hpa_pods import MetricsError, Pod, PodMetric, PodMetrics, whole
from sim.control.scaling.hpa_replicas import Proposal, ReplicaCalculator

__all__ = ["DEFAULT_METRICS", "TYPES", "MetricSpec", "Reading"]

Reading: TypeAlias = "Mapping[str, PodMetric | int] | Sequence[int] | int | MetricsError | None"
"""What a metrics API answered: metrics by pod for Resource, ContainerResource and Pods; a value for Object; values of the series for
External (or one value); a MetricsError where it failed; None or nothing where it had none. Values are milli-units."""

TYPES = ("Resource", "ContainerResource", "Pods", "Object", "External")


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """A metric and its target.

    ``type``: one of :data:`TYPES` (another one is reported as the real controller reports it, and fails). ``name``: of the resource or
    metric; only ``cpu`` looks at readiness and warm-up. Exactly one target: ``average_utilization`` in whole percent (Resource,
    ContainerResource), ``average_value`` (all types) or ``value`` (Object, External), the last two in milli-units. ``container``: for
    ContainerResource. ``object_kind``: what an Object metric describes, and ``label``: what to call the metric instead, both for messages.
    """

    type: str
    name: str = "cpu"
    average_utilization: int | None = None
    average_value: int | None = None
    value: int | None = None
    container: str = ""
    object_kind: str = "Service"
    label: str = ""

    def __post_init__(self) -> None:
        for name in ("average_utilization", "average_value", "value"):
            target = getattr(self, name)
            if target is not None and target <= 0:
                raise ValueError(f"metric {self.name!r}: {name} {target} must be greater than 0")

    @property
    def failure(self) -> str:
        """The reason of the condition when it cannot be computed."""
        return f"FailedGet{self.type}Metric" if self.type in TYPES else "InvalidMetricSourceType"

    @property
    def target(self) -> int:
        """Percent for a utilisation, else milli-units; 0 where none is set."""
        return self.average_value or self.average_utilization or self.value or 0

    def __str__(self) -> str:
        if self.label:
            return self.label
        if self.type in ("Resource", "ContainerResource"):
            kind = "container resource" if self.type == "ContainerResource" else "resource"
            if self.average_value is not None:
                return f"{self.name} resource"
            return f"{self.name} {kind} utilization (percentage of request)"
        if self.type == "Object" and self.average_value is None:
            return f"{self.object_kind} metric {self.name}"
        return f"{'pods' if self.type == 'Pods' else 'external'} metric {self.name}"

    def propose(
        self,
        calculator: ReplicaCalculator,
        reading: Reading,
        current_replicas: int,
        status_replicas: int,
        pods: Sequence[Pod],
        now: float,
    ) -> Proposal:
        """What ``reading`` asks for. MetricsError where the controller would report one."""
        if isinstance(reading, MetricsError):
            raise reading
        if self.type in ("Resource", "ContainerResource", "Pods"):
            return self._of_pods(calculator, _by_pod(reading, self), current_replicas, pods, now)
        if self.type not in TYPES:
            raise MetricsError(f'unknown metric source type "{self.type}"')
        if self.average_value is None and self.value is None:
            raise MetricsError(
                f"invalid {self.type.lower()} metric source: neither a value target nor an average value target was set"
            )
        values = _values(reading, self)
        if self.type == "External":
            if self.average_value is not None:
                return calculator.external_average(status_replicas, self.average_value, values)
            return calculator.external_value(current_replicas, cast(int, self.value), pods, values)
        if len(values) != 1:
            raise MetricsError(f"unable to get metric {self.name}: no metrics returned from custom metrics API")
        if self.value is not None:
            return calculator.object_value(current_replicas, self.value, pods, values[0])
        return calculator.object_average(status_replicas, cast(int, self.average_value), values[0])

    def _of_pods(
        self,
        calculator: ReplicaCalculator,
        metrics: PodMetrics,
        current_replicas: int,
        pods: Sequence[Pod],
        now: float,
    ) -> Proposal:
        if self.type == "Pods":
            if self.average_value is None:
                raise MetricsError("invalid pods metric source: no average value target was set")
            return calculator.pods_value(current_replicas, self.average_value, pods, metrics, now, self.name)
        if self.average_value is not None:
            return calculator.resource_value(current_replicas, self.average_value, pods, metrics, now, self.name)
        if self.average_utilization is None:
            raise MetricsError(
                "invalid resource metric source: neither an average utilization target nor an average value (usage) target was set"
            )
        return calculator.resource_utilization(
            current_replicas, self.average_utilization, pods, metrics, now, self.name, self.container
        )


def _by_pod(reading: Reading, spec: MetricSpec) -> PodMetrics:
    if reading is None:
        return {}
    if not isinstance(reading, Mapping):
        raise ValueError(f"metric {spec.name!r}: a {spec.type} metric is read by pod, not as {reading!r}")
    return reading


def _values(reading: Reading, spec: MetricSpec) -> Sequence[int]:
    if reading is None:
        return ()
    if isinstance(reading, (int, float)):
        return (whole(reading, f"metric {spec.name}"),)
    if isinstance(reading, Mapping) or not isinstance(reading, Sequence):
        raise ValueError(f"metric {spec.name!r}: an {spec.type} metric is read as values, not as {reading!r}")
    return reading


DEFAULT_METRICS = (MetricSpec("Resource", "cpu", average_utilization=80),)
"""What an HPA without metrics scales on (pkg/apis/autoscaling/v2/defaults.go)."""
