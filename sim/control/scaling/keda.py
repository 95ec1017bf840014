"""KEDA's ScaledObject: it switches a workload between nothing and something, and leaves the rest to an HPA on external metrics.

Source: kedacore/keda pkg/scaling/executor/scale_scaledobjects.go (RequestScale), pkg/scaling/scale_handler.go, pkg/fallback/fallback.go,
controllers/keda/hpa.go; commits 8b4f083 (2.x of 2025) and 03b6a23 (its tests, 2026). Times are seconds on the caller's clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from sim.control.scaling.hpa import HorizontalPodAutoscaler, HpaDecision
from sim.control.scaling.hpa_behavior import Behavior
from sim.control.scaling.hpa_pods import MetricsError, Pod
from sim.control.scaling.hpa_spec import MetricSpec, Reading

__all__ = [
    "Fallback",
    "FallbackMetric",
    "Health",
    "Keda",
    "ScaleResult",
    "ScaledObject",
    "Trigger",
    "get_metrics_with_fallback",
    "is_active",
    "request_scale",
]

FallbackBehavior: TypeAlias = Literal["static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"]


@dataclass(frozen=True, slots=True)
class Fallback:
    """``replicas`` to ask for once a trigger has failed more than ``failure_threshold`` times in a row, as ``behavior`` says."""

    failure_threshold: int
    replicas: int
    behavior: FallbackBehavior = "static"

    @property
    def valid(self) -> bool:
        """Whether KEDA uses it: neither number may be negative."""
        return self.failure_threshold >= 0 and self.replicas >= 0

    def wanted(self, current_replicas: int) -> int:
        """Replicas to fall back to."""
        if self.behavior == "currentReplicas":
            return current_replicas
        if self.behavior == "currentReplicasIfHigher":
            return max(current_replicas, self.replicas)
        if self.behavior == "currentReplicasIfLower":
            return min(current_replicas, self.replicas)
        return self.replicas


@dataclass(frozen=True, slots=True)
class ScaledObject:
    """A ScaledObject's spec, with KEDA's defaults. ``creation_timestamp`` starts the initial cooldown.

    ``idle_replica_count`` must be below ``min_replica_count``; KEDA documents 0 as the only one that works, since at any other the HPA
    raises it to its minimum. The rest are annotations: ``paused`` stops KEDA and its HPA, ``paused_replicas`` does so at that many
    replicas, ``paused_scale_in`` and ``paused_scale_out`` one direction of both, ``force_activation`` counts as an active trigger.
    """

    min_replica_count: int = 0
    max_replica_count: int = 100
    idle_replica_count: int | None = None
    polling_interval: float = 30.0
    cooldown_period: float = 300.0
    initial_cooldown_period: float = 0.0
    fallback: Fallback | None = None
    creation_timestamp: float = 0.0
    paused: bool = False
    paused_scale_in: bool = False
    paused_scale_out: bool = False
    force_activation: bool = False
    paused_replicas: int | None = None

    def __post_init__(self) -> None:
        low, high, idle = self.min_replica_count, self.max_replica_count, self.idle_replica_count
        if low < 0:
            raise ValueError(f"min_replica_count {low} must not be negative")
        if high < max(1, low):
            raise ValueError(f"max_replica_count {high} must be at least 1 and at least min_replica_count, {low}")
        if idle is not None and not 0 <= idle < low:
            raise ValueError(f"idle_replica_count {idle} must be at least 0 and less than min_replica_count, {low}")
        if self.polling_interval <= 0:
            raise ValueError(f"polling_interval {self.polling_interval:g} must be greater than 0")
        if self.paused_replicas is not None and self.paused_replicas < 0:
            raise ValueError(f"paused_replicas {self.paused_replicas} must not be negative")
        for name in ("cooldown_period", "initial_cooldown_period"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} {getattr(self, name):g} must not be negative")

    @property
    def stopped(self) -> bool:
        """Whether neither KEDA nor the HPA works: it is paused, at some number of replicas or at those there are."""
        return self.paused or self.paused_replicas is not None

    @property
    def hpa_min_replicas(self) -> int:
        """The minimum of the HPA: never 0."""
        return max(1, self.min_replica_count)


@dataclass(frozen=True, slots=True)
class ScaleResult:
    """What one poll came to: ``replicas`` to scale to (None: leave them), and the status afterwards.

    ``last_active_time``: when a trigger was active last, None if never. ``active``: the Active condition, None while paused;
    ``reason``: its reason (ScalerActive, ScalerNotActive, ScalerCooldown, ScaledObjectPaused). ``ready``: the Ready condition: True,
    False or, None, unknown; ``ready_reason``: ScaledObjectReady, TriggerError or PartialTriggerError.
    """

    replicas: int | None
    last_active_time: float | None
    active: bool | None
    reason: str
    ready: bool | None = True
    ready_reason: str = "ScaledObjectReady"


def is_active(value: float, activation_threshold: float = 0.0) -> bool:
    """Whether a trigger at ``value`` keeps the workload up: strictly above its activation threshold."""
    return value > activation_threshold


def request_scale(
    scaled_object: ScaledObject,
    current_replicas: int,
    active: bool,
    error: bool,
    now: float,
    last_active_time: float | None = None,
) -> ScaleResult:
    """One poll of the executor. ``active``: any trigger is; ``error``: any could not be read."""
    spec, last = scaled_object, last_active_time
    if spec.stopped:
        wanted = None if spec.paused_replicas == current_replicas else spec.paused_replicas
        return ScaleResult(wanted, last, None, "ScaledObjectPaused")
    if active or spec.force_activation:
        idling = spec.idle_replica_count is not None and current_replicas < spec.min_replica_count
        if idling or current_replicas == 0:
            if spec.paused_scale_out:
                return ScaleResult(None, last, True, "ScalerActive")
            return ScaleResult(spec.hpa_min_replicas, now, True, "ScalerActive")
        if error:  # and lastActiveTime is not renewed
            return ScaleResult(None, last, True, "ScalerActive", None, "PartialTriggerError")
        return ScaleResult(None, now, True, "ScalerActive")
    inactive = ScaleResult(None, last, False, "ScalerNotActive")
    if error and spec.fallback is None:
        return ScaleResult(None, last, False, "ScalerNotActive", False, "TriggerError")
    if error and spec.fallback is not None and spec.fallback.replicas != 0:
        return inactive  # at 0 the HPA could not scale to the fallback any more
    idle = spec.idle_replica_count
    if (idle is not None and current_replicas > idle) or (current_replicas > 0 and spec.min_replica_count == 0):
        if spec.paused_scale_in:
            return inactive
        cooled = (
            spec.creation_timestamp + spec.initial_cooldown_period < now
            if last is None
            else last + spec.cooldown_period < now
        )
        if not cooled:
            return ScaleResult(None, last, False, "ScalerCooldown")
        return ScaleResult(spec.min_replica_count if idle is None else idle, last, False, "ScalerNotActive")
    if idle is None and current_replicas < spec.min_replica_count:
        return ScaleResult(spec.min_replica_count, last, False, "ScalerNotActive")
    return inactive


@dataclass(slots=True)
class Health:
    """How often a trigger's metric has failed in a row, and whether it is failing now."""

    failures: int = 0
    failing: bool = False


@dataclass(frozen=True, slots=True)
class FallbackMetric:
    """A trigger's metric as the HPA gets it: ``value`` (None: the error is passed on), and whether it is the fallback's."""

    value: float | None
    active: bool = False


def get_metrics_with_fallback(
    health: Health,
    value: float | None,
    fallback: Fallback | None,
    target: float,
    current_replicas: int = 0,
    ready_replicas: int | None = None,
    metric_type: Literal["AverageValue", "Value"] = "AverageValue",
) -> FallbackMetric:
    """What the HPA is told of a trigger whose reading was ``value``, None where it failed. Changes ``health``.

    The fallback is a value made up so that the HPA wants its replicas: ``target`` times replicas, over ``ready_replicas`` for metrics
    of type Value (without any of which there is no fallback).
    """
    if value is not None:
        health.failures, health.failing = 0, False
        return FallbackMetric(value)
    health.failures, health.failing = health.failures + 1, True
    if fallback is None or not fallback.valid or health.failures <= fallback.failure_threshold:
        return FallbackMetric(None)
    replicas = float(fallback.wanted(current_replicas))
    if metric_type == "Value":
        if not ready_replicas or ready_replicas < 0:
            return FallbackMetric(None)
        replicas /= ready_replicas
    return FallbackMetric(int(target * 1000 * replicas) / 1000, True)


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger: ``threshold`` is the target of the HPA (a replica's share for AverageValue), ``activation_threshold`` KEDA's own."""

    threshold: float
    activation_threshold: float = 0.0
    metric_type: Literal["AverageValue", "Value"] = "AverageValue"
    name: str = "external"

    def __post_init__(self) -> None:
        if int(self.threshold * 1000) <= 0:
            raise ValueError(f"threshold {self.threshold:g} must be at least 0.001")
        if self.metric_type not in ("AverageValue", "Value"):
            raise ValueError(f"metric_type {self.metric_type!r} must be AverageValue or Value")


@dataclass(slots=True)
class Keda:
    """A ScaledObject at work: :meth:`poll` each polling interval, :meth:`sync` at the HPA's own period.

    Both take the triggers' values as read then, None for one that could not be read. ``behavior`` and the rest are the HPA's.
    """

    scaled_object: ScaledObject
    triggers: Sequence[Trigger]
    behavior: Behavior | None = None
    tolerance: float = 0.1
    downscale_stabilization: float = 300.0
    last_active_time: float | None = None
    health: list[Health] = field(default_factory=list)
    hpa: HorizontalPodAutoscaler = field(init=False)

    def __post_init__(self) -> None:
        if not self.triggers:
            raise ValueError("a ScaledObject needs at least one trigger")
        self.health = self.health or [Health() for _ in self.triggers]
        self.hpa = HorizontalPodAutoscaler(
            self.scaled_object.max_replica_count,
            self.scaled_object.hpa_min_replicas,
            [_metric(trigger) for trigger in self.triggers],
            _paused(self.behavior, self.scaled_object),
            self.tolerance,
            self.downscale_stabilization,
        )

    def poll(self, now: float, current_replicas: int, values: Sequence[float | None]) -> ScaleResult:
        """Activate or deactivate. An unread trigger is an error, which with no fallback holds the workload up."""
        active = any(
            value is not None and is_active(value, trigger.activation_threshold)
            for trigger, value in zip(self.triggers, values, strict=True)
        )
        result = request_scale(self.scaled_object, current_replicas, active, None in values, now, self.last_active_time)
        self.last_active_time = result.last_active_time
        return result

    def sync(
        self,
        now: float,
        current_replicas: int,
        values: Sequence[float | None],
        pods: Sequence[Pod] = (),
        status_replicas: int | None = None,
    ) -> HpaDecision:
        """One round of the HPA, which asks KEDA for the metrics then. Failures are counted here; at 0 replicas it does not ask.

        While the ScaledObject is paused there is no HPA: nothing is decided.
        """
        if self.scaled_object.stopped:
            return HpaDecision(current_replicas, False, "", {})
        if current_replicas == 0:
            return self.hpa.reconcile(now, 0, [None] * len(self.triggers), pods, status_replicas)
        ready = sum(1 for pod in pods if pod.ready and pod.phase == "Running" and not pod.deleted)
        readings: list[Reading] = []
        for trigger, health, value in zip(self.triggers, self.health, values, strict=True):
            metric = get_metrics_with_fallback(
                health,
                value,
                self.scaled_object.fallback,
                trigger.threshold,
                current_replicas,
                ready,
                trigger.metric_type,
            )
            if metric.value is None:
                readings.append(MetricsError(f"unable to get external metric {trigger.name}"))
            else:
                readings.append(int(metric.value * 1000))  # KEDA cuts where Kubernetes rounds up
        return self.hpa.reconcile(now, current_replicas, readings, pods, status_replicas)


def _paused(behavior: Behavior | None, spec: ScaledObject) -> Behavior | None:
    """``behavior`` with the paused directions disabled, as KEDA writes it into the HPA."""
    if spec.paused_scale_in:
        behavior = behavior or Behavior()
        behavior = replace(behavior, scale_down=replace(behavior.scale_down, select_policy="Disabled"))
    if spec.paused_scale_out:
        behavior = behavior or Behavior()
        behavior = replace(behavior, scale_up=replace(behavior.scale_up, select_policy="Disabled"))
    return behavior


def _metric(trigger: Trigger) -> MetricSpec:
    target = int(trigger.threshold * 1000)
    if trigger.metric_type == "Value":
        return MetricSpec("External", trigger.name, value=target, label=trigger.name)
    return MetricSpec("External", trigger.name, average_value=target, label=trigger.name)
