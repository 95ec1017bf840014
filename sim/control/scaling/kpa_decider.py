"""Knative's decider: how many pods the metrics ask for, in stable and in panic mode.

knative/serving: pkg/autoscaler/scaling/autoscaler.go; the number of activators: pkg/reconciler/autoscaling/kpa/kpa.go. Bounds, the initial
scale and the way to zero come afterwards (kpa_zero.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from sim.control.scaling.kpa_windows import MaxTimeWindow

__all__ = ["MIN_ACTIVATORS", "TICK", "DeciderSpec", "KpaDecider", "ScaleResult", "num_activators"]

TICK: Final = 2.0  # seconds between decisions
MIN_ACTIVATORS: Final = 2


@dataclass(frozen=True, slots=True)
class DeciderSpec:
    """What a decision is made by. ``target_value`` and ``total_value``: of one pod (kpa_config.resolve_metric_target).

    ``panic_threshold``: a ratio, 2.0 for 200 %. ``scale_down_delay`` is read when a decider is made, not at an update.
    ``reachable``: whether a route leads to the revision; an unreachable one falls at any rate, without delay.
    """

    target_value: float = 70.0
    total_value: float = 100.0
    max_scale_up_rate: float = 1000.0
    max_scale_down_rate: float = 2.0
    target_burst_capacity: float = 211.0
    activator_capacity: float = 100.0
    panic_threshold: float = 2.0
    stable_window: float = 60.0
    scale_down_delay: float = 0.0
    activation_scale: int = 0
    reachable: bool = True

    def __post_init__(self) -> None:
        for name in ("target_value", "max_scale_up_rate", "max_scale_down_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: {getattr(self, name):g}; must be positive")


@dataclass(frozen=True, slots=True)
class ScaleResult:
    """A decision. ``desired_pod_count`` counts only if ``scale_valid``: without data nothing is decided.

    Besides: ``excess_burst_capacity`` (negative: the activator goes into the path), the pods that the stable and the panic value ask
    for after the rate limits and the activation scale, whether it panicked, and ``max_panic_pods``.
    """

    desired_pod_count: int
    excess_burst_capacity: int
    scale_valid: bool = True
    desired_stable: int = 0
    desired_panic: int = 0
    in_panic: bool = False
    max_panic_pods: int = 0


_INVALID: Final = ScaleResult(0, 0, scale_valid=False)


class KpaDecider:
    """The state machine behind one revision. Made while more than one pod is ready it starts in panic, so as not to fall below them.

    ``panic_time`` (None: not in panic) and ``max_panic_pods`` are open: a test may set them.
    """

    __slots__ = ("_delay", "max_panic_pods", "panic_time", "spec")

    def __init__(self, spec: DeciderSpec, ready: int | None = 0, now: float = 0.0, tick: float = TICK) -> None:
        """``ready`` pods at ``now``; None when they cannot be counted, as for a new revision."""
        self.spec = spec
        self.panic_time: float | None = now if ready is not None and ready > 1 else None
        self.max_panic_pods = ready or 0
        # no delay differs from a window of one slot: of two decisions in one slot that would keep the larger
        self._delay = MaxTimeWindow(spec.scale_down_delay, tick) if spec.scale_down_delay > 0 else None

    def update(self, spec: DeciderSpec) -> None:
        """Decide by another spec from now on; panic goes on."""
        self.spec = spec

    def scale(self, stable: float | None, panic: float | None, ready: int | None, now: float) -> ScaleResult:
        """The pods wanted at ``now``, given the metric's averages over both windows and the ready pods.

        None for a value that cannot be had: then the result is not valid, and the state stays.
        """
        if stable is None or panic is None or ready is None:
            return _INVALID
        spec = self.spec
        pods = max(1.0, float(ready))
        most = math.ceil(spec.max_scale_up_rate * pods)
        least = math.floor(pods / spec.max_scale_down_rate) if spec.reachable else 0
        raw_stable = math.ceil(stable / spec.target_value)
        raw_panic = math.ceil(panic / spec.target_value)
        by_stable = min(max(raw_stable, least), most)
        by_panic = min(max(raw_panic, least), most)
        if spec.activation_scale > 1:
            if raw_stable > 0:
                by_stable = max(by_stable, spec.activation_scale)
            if raw_panic > 0:
                by_panic = max(by_panic, spec.activation_scale)

        if raw_panic / pods >= spec.panic_threshold:
            self.panic_time = now
        elif self.panic_time is not None and self.panic_time + spec.stable_window < now:
            self.panic_time = None
            self.max_panic_pods = 0

        desired = by_stable
        if self.panic_time is not None:
            # in panic it never falls
            desired = self.max_panic_pods = max(by_stable, by_panic, self.max_panic_pods)
        if self._delay is not None and spec.reachable:
            self._delay.record(now, desired)
            desired = int(self._delay.current)

        if spec.target_burst_capacity == 0:
            excess = 0
        elif spec.target_burst_capacity > 0:
            excess = math.floor(ready * spec.total_value - spec.target_burst_capacity - panic)
        else:
            excess = -1
        in_panic = self.panic_time is not None
        return ScaleResult(desired, excess, True, by_stable, by_panic, in_panic, self.max_panic_pods)


def num_activators(ready: int, spec: DeciderSpec) -> int:
    """``computeNumActivators``: how many activators a revision gets; they cover its capacity and the burst, 2 at least."""
    if spec.target_burst_capacity == 0:
        return MIN_ACTIVATORS
    capacity = ready * spec.total_value + max(spec.target_burst_capacity, 0.0)
    return max(MIN_ACTIVATORS, math.ceil(capacity / spec.activator_capacity))
