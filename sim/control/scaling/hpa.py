"""Kubernetes' Horizontal Pod Autoscaler, autoscaling/v2: metrics in, a replica count and the conditions out.

Source: kubernetes/kubernetes pkg/controller/podautoscaler/horizontal.go (reconcileAutoscaler); versions differ by
:class:`sim.control.scaling.hpa_version.HpaVersion`. It knows no clock: ``now`` is seconds on the caller's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sim.control.scaling.hpa_behavior import Behavior, scale_down_rules, scale_up_rules, with_window
from sim.control.scaling.hpa_limits import (
    MESSAGES,
    Limited,
    Recommendation,
    ScaleEvent,
    convert_desired_replicas_with_behavior_rate,
    convert_desired_replicas_with_rules,
    stabilize_recommendation,
    stabilize_recommendation_with_behaviors,
    store_scale_event,
)
from sim.control.scaling.hpa_pods import MetricsError, Pod
from sim.control.scaling.hpa_replicas import Proposal, ReplicaCalculator, Tolerances
from sim.control.scaling.hpa_spec import DEFAULT_METRICS, MetricSpec, Reading
from sim.control.scaling.hpa_version import CURRENT, HpaVersion

__all__ = ["Condition", "HorizontalPodAutoscaler", "HpaDecision"]


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of the HPA's status: AbleToScale, ScalingActive, ScalingLimited or ScaledToZero."""

    status: bool
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class HpaDecision:
    """What one reconciliation came to.

    ``replicas``: what the scale is to be, the current ones where ``rescaled`` is False. ``reason``: why it rescales, "" if it does
    not. ``conditions``: the status afterwards. ``error``: of the metrics that failed, None if none did; where ``replicas`` may still
    grow the rest decided. ``raw``, ``stabilized``: what the metrics ask for, and after stabilisation; None where metrics were not
    read. ``metric``: which decided. ``proposals``: one a metric, in order.
    """

    replicas: int
    rescaled: bool
    reason: str
    conditions: Mapping[str, Condition]
    error: str | None = None
    raw: int | None = None
    stabilized: int | None = None
    metric: str = ""
    proposals: Sequence[Proposal | MetricsError] = ()


@dataclass(slots=True)
class HorizontalPodAutoscaler:
    """An HPA and its controller's memory of it.

    ``max_replicas`` is required, as in Kubernetes. ``tolerance``, ``downscale_stabilization``, ``cpu_initialization_period`` and
    ``initial_readiness_delay`` are the flags --horizontal-pod-autoscaler-... of the controller manager. ``behavior`` None is the
    legacy way: 300 s of stabilisation downwards, at most double (``scale_up_limit_factor``) or 4 upwards. ``recommendations``
    None: the first reconciliation notes the current replicas as one, as a controller that has just started does.
    """

    max_replicas: int
    min_replicas: int = 1
    metrics: Sequence[MetricSpec] = DEFAULT_METRICS
    behavior: Behavior | None = None
    tolerance: float = 0.1
    downscale_stabilization: float = 300.0
    cpu_initialization_period: float = 300.0
    initial_readiness_delay: float = 30.0
    version: HpaVersion = CURRENT
    recommendations: list[Recommendation] | None = None
    scale_up_events: list[ScaleEvent] = field(default_factory=list)
    scale_down_events: list[ScaleEvent] = field(default_factory=list)
    conditions: dict[str, Condition] = field(default_factory=dict)
    last_scale_time: float | None = None
    scale_up_limit_factor: float = 2.0

    def __post_init__(self) -> None:
        if self.min_replicas < 0:
            raise ValueError(f"min_replicas {self.min_replicas} must not be negative")
        if self.max_replicas < max(1, self.min_replicas):
            raise ValueError(
                f"max_replicas {self.max_replicas} must be at least 1 and at least min_replicas, {self.min_replicas}"
            )
        for name in ("tolerance", "downscale_stabilization", "cpu_initialization_period", "initial_readiness_delay"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} {getattr(self, name):g} must not be negative")
        if not self.metrics:
            self.metrics = DEFAULT_METRICS

    @property
    def tolerances(self) -> Tolerances:
        """The tolerance of each direction, ``behavior``'s own where it sets one."""
        tolerances = Tolerances(self.tolerance, self.tolerance)
        if self.behavior is None or not self.version.tolerance_in_behavior:
            return tolerances
        down, up = self.behavior.scale_down.tolerance, self.behavior.scale_up.tolerance
        return Tolerances(self.tolerance if down is None else down, self.tolerance if up is None else up)

    def reconcile(
        self,
        now: float,
        current_replicas: int,
        readings: Sequence[Reading],
        pods: Sequence[Pod] = (),
        status_replicas: int | None = None,
    ) -> HpaDecision:
        """One round of the controller.

        ``current_replicas``: the scale's spec; ``status_replicas``: its status, how many pods there are (None: the same).
        ``readings``: one a metric, in the order of ``metrics``. ``pods``: those the scale's selector selects.
        """
        if len(readings) != len(self.metrics):
            raise ValueError(f"there are {len(self.metrics)} metrics, but {len(readings)} readings")
        self._set(
            "AbleToScale", True, "SucceededGetScale", "the HPA controller was able to get the target's current scale"
        )
        if self.recommendations is None:
            self.recommendations = [Recommendation(current_replicas, now)]
        if self.version.scale_from_zero != "condition":
            self.conditions.pop("ScaledToZero", None)  # left from when the gate was on
        zeroed = self._scaled_to_zero()
        if current_replicas == 0 and not self._works_at_zero(zeroed):
            message = "scaling is disabled since the replica count of the target is zero"
            self._set("ScalingActive", False, "ScalingDisabled", message)
            return HpaDecision(0, False, "", dict(self.conditions))
        if current_replicas > self.max_replicas:
            reason = "Current number of replicas above Spec.MaxReplicas"
            return self._rescaled(now, current_replicas, self.max_replicas, reason)
        if 0 < current_replicas < self.min_replicas:
            reason = "Current number of replicas below Spec.MinReplicas"
            return self._rescaled(now, current_replicas, self.min_replicas, reason)

        status = current_replicas if status_replicas is None else status_replicas
        proposals = self._proposals(readings, current_replicas, status, pods, now)
        raw, metric = 0, ""
        for spec, proposal in zip(self.metrics, proposals, strict=True):
            if isinstance(proposal, Proposal) and (raw == 0 or proposal.replicas > raw):
                raw, metric = proposal.replicas, str(spec)
        raw = max(raw, 0)
        error, refused = self._failures(proposals, current_replicas, raw)
        if refused:
            return HpaDecision(current_replicas, False, "", dict(self.conditions), error, proposals=proposals)
        message = f"the HPA was able to successfully calculate a replica count from {metric}"
        self._set("ScalingActive", True, "ValidMetricFound", message)

        reason = f"{metric} above target" if raw > current_replicas else ""
        if raw < current_replicas:
            reason = "All metrics below target"
        stabilized, limited = self.normalize_desired_replicas(now, current_replicas, raw)
        desired = limited.replicas
        if current_replicas == 0 and self.min_replicas != 0 and desired < self.min_replicas:
            desired = self.min_replicas  # scaled to zero under an older minimum
            reason = reason or "Current number of replicas below Spec.MinReplicas"
        if desired == current_replicas:
            return HpaDecision(
                desired, False, "", dict(self.conditions), error, raw, stabilized, metric, proposals=proposals
            )
        return self._rescaled(now, current_replicas, desired, reason, error, raw, stabilized, metric, proposals)

    def normalize_desired_replicas(
        self, now: float, current_replicas: int, desired_replicas: int
    ) -> tuple[int, Limited]:
        """``desired_replicas`` stabilised, and then limited, with ``behavior`` or in the legacy way; notes it as recommended."""
        if self.recommendations is None:
            self.recommendations = []
        ready = ("ReadyForNewScale", "recommended size matches current size")
        if self.behavior is None:
            stabilized = stabilize_recommendation(
                self.recommendations, desired_replicas, now, self.downscale_stabilization
            )
            held = ("ScaleDownStabilized", MESSAGES["ScaleDownStabilized"])
            limited = convert_desired_replicas_with_rules(
                current_replicas, stabilized, self.min_replicas, self.max_replicas, self.scale_up_limit_factor
            )
        else:
            up = scale_up_rules(self.behavior.scale_up)
            down = with_window(scale_down_rules(self.behavior.scale_down), int(self.downscale_stabilization))
            up_window, down_window = up.stabilization_window_seconds, down.stabilization_window_seconds
            steady = stabilize_recommendation_with_behaviors(
                self.recommendations,
                current_replicas,
                desired_replicas,
                now,
                up_window or 0.0,
                down_window or 0.0,
                self.version,
            )
            stabilized, held = steady.replicas, (steady.reason, steady.message)
            limited = convert_desired_replicas_with_behavior_rate(
                current_replicas,
                stabilized,
                self.min_replicas,
                self.max_replicas,
                Behavior(up, down),
                self.scale_up_events,
                self.scale_down_events,
                now,
                self.version,
            )
        self._set("AbleToScale", True, *(ready if stabilized == desired_replicas else held))
        self._set("ScalingLimited", limited.replicas != stabilized, limited.reason, limited.message)
        return stabilized, limited

    def _proposals(
        self, readings: Sequence[Reading], current: int, status: int, pods: Sequence[Pod], now: float
    ) -> list[Proposal | MetricsError]:
        calculator = ReplicaCalculator(
            self.tolerances, self.cpu_initialization_period, self.initial_readiness_delay, self.version
        )
        proposals: list[Proposal | MetricsError] = []
        for spec, reading in zip(self.metrics, readings, strict=True):
            try:
                proposals.append(spec.propose(calculator, reading, current, status, pods, now))
            except MetricsError as fault:
                proposals.append(fault)
        return proposals

    def _failures(
        self, proposals: Sequence[Proposal | MetricsError], current: int, raw: int
    ) -> tuple[str | None, bool]:
        """The error of the metrics that failed, and whether nothing may be decided because of them."""
        failures = [(i, fault) for i, fault in enumerate(proposals) if isinstance(fault, MetricsError)]
        if not failures:
            return None, False
        first, fault = failures[0]
        error = f"invalid metrics ({len(failures)} invalid out of {len(proposals)}), first error is: {fault}"
        if len(failures) < len(proposals) and not (self.version.refuse_down_on_failure and raw < current):
            return error, False
        message = f"the HPA was unable to compute the replica count: {fault}"
        self._set("ScalingActive", False, self.metrics[first].failure, message)
        return error, True

    def _rescaled(
        self,
        now: float,
        current: int,
        desired: int,
        reason: str,
        error: str | None = None,
        raw: int | None = None,
        stabilized: int | None = None,
        metric: str = "",
        proposals: Sequence[Proposal | MetricsError] = (),
    ) -> HpaDecision:
        message = f"the HPA controller was able to update the target scale to {desired}"
        self._set("AbleToScale", True, "SucceededRescale", message)
        store_scale_event(self.behavior, current, desired, self.scale_up_events, self.scale_down_events, now)
        self.last_scale_time = now
        if self.version.scale_from_zero == "condition":
            if current > 0 and desired == 0 and self.min_replicas == 0 and self._has_object_or_external():
                self._set("ScaledToZero", True, "ScaledToZero", "the HPA controller scaled the workload to zero")
            else:
                not_zero = "the HPA controller did not scale the workload to zero"
                self._set("ScaledToZero", False, "NotScaledToZero", not_zero)
        return HpaDecision(
            desired, True, reason, dict(self.conditions), error, raw, stabilized, metric, proposals=proposals
        )

    def _works_at_zero(self, zeroed: bool) -> bool:
        if self.version.scale_from_zero == "min-replicas":
            return self.min_replicas == 0
        return zeroed and (self.min_replicas != 0 or self._has_object_or_external())

    def _scaled_to_zero(self) -> bool:
        condition = self.conditions.get("ScaledToZero")
        return self.version.scale_from_zero == "condition" and condition is not None and condition.status

    def _has_object_or_external(self) -> bool:
        return any(spec.type in ("Object", "External") for spec in self.metrics)

    def _set(self, name: str, status: bool, reason: str, message: str) -> None:
        self.conditions[name] = Condition(status, reason, message)
