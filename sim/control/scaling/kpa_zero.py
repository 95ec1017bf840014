"""What Knative makes of the decider's number: bounds, the initial scale, and the way to zero pods.

knative/serving: pkg/reconciler/autoscaling/kpa/{scaler,kpa}.go, pkg/apis/autoscaling/v1alpha1/pa_lifecycle.go. A pod autoscaler is
*activating* until enough pods are ready, then *active*, and *inactive* when its wanted scale became 0. To zero it must have been
active for the stable window, and then inactive behind the activator for the grace period.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = [
    "ACTIVATION_TIMEOUT_BUFFER",
    "SCALE_UNKNOWN",
    "KpaReconciler",
    "PodAutoscalerStatus",
    "ScalerSpec",
    "Verdict",
    "active_threshold",
    "apply_bounds",
    "compute_active_condition",
    "handle_scale_to_zero",
    "proxied",
    "scale",
]

SCALE_UNKNOWN: Final = -1
ACTIVATION_TIMEOUT_BUFFER: Final = 30.0
Activity = Literal["activating", "active", "inactive"]


@dataclass(frozen=True, slots=True)
class ScalerSpec:
    """What the scaler knows of a revision. ``max_scale`` 0: no limit. Durations in seconds.

    ``reachable`` False ignores ``min_scale``; Knative's "unknown" reachability counts as True. ``scale_to_zero_pod_retention``: how long
    the last pod stays after the autoscaler became inactive, whatever the grace period.
    """

    min_scale: int = 0
    max_scale: int = 0
    initial_scale: int = 1
    reachable: bool = True
    enable_scale_to_zero: bool = True
    stable_window: float = 60.0
    scale_to_zero_grace_period: float = 30.0
    scale_to_zero_pod_retention: float = 0.0
    progress_deadline: float = 600.0
    target_burst_capacity: float = 211.0

    @property
    def lower(self) -> int:
        """The lower bound that counts (``ScaleBounds``)."""
        return self.min_scale if self.reachable else 0


@dataclass(slots=True)
class PodAutoscalerStatus:
    """The Active condition: what it is, why, and since when; and whether the initial scale was once reached."""

    activity: Activity = "activating"
    since: float = 0.0
    initialized: bool = False
    reason: str = ""

    def mark(self, activity: Activity, now: float, reason: str = "") -> None:
        """Set the condition. ``since`` moves if it or its reason changed, as in Kubernetes."""
        if (activity, reason) != (self.activity, self.reason):
            self.activity, self.reason, self.since = activity, reason, now

    def _lasted(self, activity: Activity, now: float) -> float:
        return now - self.since if self.activity == activity else -1.0

    def active_for(self, now: float) -> float:
        """Seconds of being active; -1 if it is not."""
        return self._lasted("active", now)

    def inactive_for(self, now: float) -> float:
        """Seconds of being inactive; -1 if it is not."""
        return self._lasted("inactive", now)

    def can_fail_activation(self, now: float, timeout: float) -> bool:
        """Whether it has been activating for longer than ``timeout``."""
        return self._lasted("activating", now) > timeout


@dataclass(frozen=True, slots=True)
class Verdict:
    """``want``: the scale wanted, -1 for unknown. ``apply``: whether the deployment is to be set to it.

    ``requeue``: seconds after which the real controller looks again (None: it waits for an event). ``probe``: it starts probing for the
    activator. ``reason``: why, in a word or two.
    """

    want: int
    apply: bool
    requeue: float | None = None
    probe: bool = False
    reason: str = ""


def apply_bounds(min_scale: int, max_scale: int, desired: int) -> int:
    """``desired`` within the bounds; a ``max_scale`` of 0 is none."""
    if desired < min_scale:
        return min_scale
    if max_scale != 0 and desired > max_scale:
        return max_scale
    return desired


def handle_scale_to_zero(
    desired: int,
    status: PodAutoscalerStatus,
    spec: ScalerSpec,
    now: float,
    *,
    activator_probe: bool = True,
    proxy_for: float = 0.0,
    proxy_mode: bool = False,
) -> Verdict:
    """What becomes of a wish for zero; other wishes pass.

    ``activator_probe``: whether a probe of the service reaches the activator (not asked at a burst capacity of -1).
    ``proxy_for``: seconds that the activator has been in the path, 0 if it is not; ``proxy_mode``: whether it is told to be.
    """
    if desired != 0:
        return Verdict(desired, True, reason="metrics")
    if not spec.enable_scale_to_zero:
        return Verdict(1, True, reason="scale to zero disabled")
    if status.activity == "activating":
        timeout = spec.progress_deadline + ACTIVATION_TIMEOUT_BUFFER
        if status.can_fail_activation(now, timeout):
            return Verdict(0, True, reason="activation timed out")
        return Verdict(SCALE_UNKNOWN, False, requeue=timeout, reason="activating")
    if status.activity == "active":
        active = status.active_for(now)
        if active >= spec.stable_window:
            # not yet: wanting 0 without applying it makes the autoscaler inactive
            return Verdict(0, False, requeue=3.0 if proxy_mode else None, reason="deactivate")
        return Verdict(1, True, requeue=spec.stable_window - active, reason="active less than the stable window")
    if spec.target_burst_capacity != -1 and not activator_probe:
        return Verdict(0, False, probe=True, reason="activator not in path")
    inactive = status.inactive_for(now)
    retention = spec.scale_to_zero_pod_retention
    if inactive >= max(spec.scale_to_zero_grace_period, retention):
        return Verdict(0, True, reason="idle")
    if inactive < retention:
        return Verdict(0, False, requeue=retention - inactive, reason="last pod retention")
    left = spec.scale_to_zero_grace_period - proxy_for
    if left <= 0:
        return Verdict(0, True, reason="idle, long behind the activator")
    return Verdict(0, False, requeue=left, reason="grace period")


def scale(
    desired: int,
    status: PodAutoscalerStatus,
    spec: ScalerSpec,
    current: int,
    now: float,
    *,
    activator_probe: bool = True,
    proxy_for: float = 0.0,
    proxy_mode: bool = False,
) -> Verdict:
    """``scaler.scale``: what ``desired`` (-1: no metrics yet) leads to; ``apply`` if it differs from ``current`` and is to be set."""
    if desired < 0 and status.activity != "activating":
        return Verdict(desired, False, reason="no metrics")
    lower = spec.lower
    if spec.initial_scale > 1 and not status.initialized:
        lower = max(spec.initial_scale, lower)
    bounded = apply_bounds(lower, spec.max_scale, desired)
    verdict = handle_scale_to_zero(
        bounded, status, spec, now, activator_probe=activator_probe, proxy_for=proxy_for, proxy_mode=proxy_mode
    )
    reason = verdict.reason if bounded == desired or verdict.want != bounded else "bounds"
    return Verdict(verdict.want, verdict.apply and verdict.want != current, verdict.requeue, verdict.probe, reason)


def active_threshold(status: PodAutoscalerStatus, spec: ScalerSpec) -> int:
    """``activeThreshold``: the ready pods that make it active."""
    return max(spec.lower, 1 if status.initialized else spec.initial_scale)


def compute_active_condition(
    want: int, ready: int, status: PodAutoscalerStatus, spec: ScalerSpec, now: float
) -> PodAutoscalerStatus:
    """``computeActiveCondition``: update and return ``status`` after a scale of ``want`` with ``ready`` pods."""
    least = active_threshold(status, spec)
    if ready >= least:
        status.initialized = True
    if want == 0 or least == 0:
        timed_out = status.activity == "activating" and least > 0
        status.mark("inactive", now, "TimedOut" if timed_out else "NoTraffic")
    elif ready < least:
        if want > 0 or status.activity != "inactive":
            status.mark("activating", now, "Queued")
        else:
            status.mark("inactive", now, "NoTraffic")
    elif want > 0 or status.activity != "inactive":
        status.mark("active", now)
    return status


def proxied(want: int, excess_burst_capacity: int, status: PodAutoscalerStatus) -> bool:
    """Whether the activator is told to be in the path: at zero, or without capacity for a burst."""
    return want == 0 or excess_burst_capacity < 0 or (want == SCALE_UNKNOWN and status.activity == "inactive")


class KpaReconciler:
    """``kpa.go``'s reconciliation without Kubernetes: scale, put the activator into the path or out of it, update the status.

    The activator is in the path as soon as it is told to be, and whenever no pod is ready.
    """

    __slots__ = ("proxied_since", "proxy_mode", "spec", "status")

    def __init__(self, spec: ScalerSpec, status: PodAutoscalerStatus | None = None) -> None:
        self.spec = spec
        self.status = PodAutoscalerStatus() if status is None else status
        self.proxy_mode = False
        self.proxied_since: float | None = None

    def reconcile(self, desired: int, excess_burst_capacity: int, ready: int, current: int, now: float) -> Verdict:
        """One pass. ``desired`` and ``excess_burst_capacity`` of the decider, ``ready`` pods, ``current``: what is set now."""
        since = self.proxied_since
        verdict = scale(
            desired,
            self.status,
            self.spec,
            current,
            now,
            activator_probe=since is not None,
            proxy_for=0.0 if since is None else now - since,
            proxy_mode=self.proxy_mode,
        )
        self.proxy_mode = proxied(verdict.want, excess_burst_capacity, self.status)
        if not self.proxy_mode and ready > 0:
            self.proxied_since = None
        elif since is None:
            self.proxied_since = now
        compute_active_condition(verdict.want, ready, self.status, self.spec, now)
        return verdict
