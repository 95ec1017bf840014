"""Knative's pod autoscaler (KPA) for a deployment: its metrics, decider and scaler to zero, driven at their real periods."""

from __future__ import annotations

from typing import Literal

from sim.control.parameters import Seconds
from sim.control.scaling.kpa_config import KpaConfig, fraction, panic_window, resolve_metric_target
from sim.control.scaling.kpa_decider import TICK, DeciderSpec, KpaDecider, ScaleResult
from sim.control.scaling.kpa_windows import TimedBuckets, WeightedBuckets
from sim.control.scaling.kpa_zero import SCALE_UNKNOWN, KpaReconciler, ScalerSpec
from sim.control.scaling.view import Decision, DeploymentView

__all__ = ["KpaScaler"]

_NAN = float("nan")
_SCRAPE = 1.0  # seconds between scrapes, and the size of a bucket


class KpaScaler:
    """The autoscaler ``kpa``. Parameters are Knative's annotations; ``target`` None takes the default of the metric.

    Each second the exact mean concurrency (or the arrivals) of that second goes into the windows, as queue proxies and activator report it;
    at zero pods an idle deployment reports nothing, and during an outage of metrics nothing is recorded. ``max`` 0: no limit.
    ``target_utilization``: a share up to 1, or a percentage.
    """

    def __init__(
        self,
        *,
        metric: Literal["concurrency", "rps"] = "concurrency",
        target: float | None = None,
        target_utilization: float | None = None,
        container_concurrency: int = 0,
        stable_window: Seconds = 60.0,
        panic_window_percentage: float = 10.0,
        panic_threshold_percentage: float = 200.0,
        max_scale_up_rate: float = 1000.0,
        max_scale_down_rate: float = 2.0,
        min: int = 0,
        max: int = 0,
        initial_scale: int = 1,
        activation_scale: int = 1,
        scale_to_zero: bool = True,
        scale_to_zero_grace_period: Seconds = 30.0,
        scale_to_zero_pod_retention: Seconds = 0.0,
        scale_down_delay: Seconds = 0.0,
        target_burst_capacity: float = 211.0,
        progress_deadline: Seconds = 600.0,
        aggregation: Literal["linear", "weighted-exponential"] = "linear",
        tick: Seconds = TICK,
    ) -> None:
        config = KpaConfig(
            enable_scale_to_zero=scale_to_zero,
            target_burst_capacity=target_burst_capacity,
            panic_window_percentage=panic_window_percentage,
            panic_threshold_percentage=panic_threshold_percentage,
            max_scale_up_rate=max_scale_up_rate,
            max_scale_down_rate=max_scale_down_rate,
            stable_window=stable_window,
            scale_down_delay=scale_down_delay,
            scale_to_zero_grace_period=scale_to_zero_grace_period,
            scale_to_zero_pod_retention_period=scale_to_zero_pod_retention,
            initial_scale=initial_scale,
            allow_zero_initial_scale=True,
            min_scale=min,
            max_scale=max,
        )
        if target is not None and target < 0.01:
            raise ValueError(f"target: {target:g}; must be at least 0.01")
        if target_utilization is not None and not 0 < target_utilization <= 100:
            raise ValueError(
                f"target_utilization: {target_utilization:g}; must be in (0, 1], or a percentage up to 100"
            )
        if container_concurrency < 0:
            raise ValueError(f"container_concurrency: {container_concurrency}; must be at least 0 (0: no limit)")
        if activation_scale < 1:
            raise ValueError(f"activation_scale: {activation_scale}; must be at least 1")
        if tick <= 0:
            raise ValueError(f"tick: {tick:g} s; must be positive")
        if aggregation not in ("linear", "weighted-exponential"):
            raise ValueError(f"aggregation: {aggregation!r}; must be 'linear' or 'weighted-exponential'")
        self.period = tick
        self.sample_period = _SCRAPE
        share = None if target_utilization is None else fraction(target_utilization)
        per_pod, total = resolve_metric_target(config, metric, container_concurrency, target, share)
        self.spec = DeciderSpec(
            target_value=per_pod,
            total_value=total,
            max_scale_up_rate=max_scale_up_rate,
            max_scale_down_rate=max_scale_down_rate,
            target_burst_capacity=target_burst_capacity,
            panic_threshold=panic_threshold_percentage / 100.0,
            stable_window=stable_window,
            scale_down_delay=scale_down_delay,
            activation_scale=activation_scale,
        )
        self.reconciler = KpaReconciler(
            ScalerSpec(
                min_scale=min,
                max_scale=max,
                initial_scale=initial_scale,
                enable_scale_to_zero=scale_to_zero,
                stable_window=stable_window,
                scale_to_zero_grace_period=scale_to_zero_grace_period,
                scale_to_zero_pod_retention=scale_to_zero_pod_retention,
                progress_deadline=progress_deadline,
                target_burst_capacity=target_burst_capacity,
            )
        )
        windows = TimedBuckets if aggregation == "linear" else WeightedBuckets
        self._stable = windows(stable_window, _SCRAPE)
        self._panic = windows(panic_window(stable_window, panic_window_percentage), _SCRAPE)
        self._rps = metric == "rps"
        self._decider: KpaDecider | None = None
        self._seen: tuple[float, float, int] | None = None  # when, request seconds, arrived
        self._desired = SCALE_UNKNOWN
        # before the first decision: what the initial scale leaves (multiscaler.go)
        capacity = initial_scale * total - target_burst_capacity
        self._excess = int(capacity) if target_burst_capacity > 0 else int(target_burst_capacity)

    def observe(self, view: DeploymentView) -> None:
        """A scrape: the mean of the time since the last one, into the bucket of now."""
        before = self._seen
        self._seen = (view.now, view.request_seconds, view.arrived)
        if before is None or view.now <= before[0] or not view.metrics:
            return
        span = view.now - before[0]
        concurrency = (view.request_seconds - before[1]) / span
        arrived = view.arrived - before[2]
        if concurrency <= 0 and arrived == 0 and view.ready == 0:
            return  # nobody is there who would report
        value = arrived / span if self._rps else concurrency
        self._stable.record(view.now, value)
        self._panic.record(view.now, value)

    def decide(self, view: DeploymentView) -> Decision:
        """A tick: the decider's number, and what bounds and scale-to-zero make of it."""
        now, ready = view.now, view.ready
        decider = self._decider
        if decider is None:
            decider = self._decider = KpaDecider(self.spec, ready, now, self.period)
            self.reconciler.status.since = now
        stable: float | None = None
        panic: float | None = None
        # with the activator always in the path nothing is scraped, and an empty window means no traffic
        if self.spec.target_burst_capacity == -1 or not self._stable.is_empty(now):
            stable, panic = self._stable.window_average(now), self._panic.window_average(now)
        result = decider.scale(stable, panic, ready, now)
        if result.scale_valid:
            self._desired, self._excess = result.desired_pod_count, result.excess_burst_capacity
        verdict = self.reconciler.reconcile(self._desired, self._excess, ready, view.target, now)
        reason = verdict.reason if result.scale_valid else f"no data; {verdict.reason}"
        if result.in_panic:
            reason = f"panic; {reason}"
        return Decision(verdict.want if verdict.apply else None, reason, self._numbers(result, stable, panic, ready))

    def wake(self, view: DeploymentView) -> Decision:
        """A request has come and there is no pod: the activator reports it at once (as a concurrency of 1), which pokes the decider."""
        self._seen = (view.now, view.request_seconds, view.arrived)
        self._stable.record(view.now, 1.0)
        self._panic.record(view.now, 1.0)
        return self.decide(view)

    def _numbers(self, result: ScaleResult, stable: float | None, panic: float | None, ready: int) -> dict[str, float]:
        return {
            "stable": _NAN if stable is None else stable,
            "panic": _NAN if panic is None else panic,
            "target": self.spec.target_value,
            "ready": float(ready),
            "desired_stable": float(result.desired_stable),
            "desired_panic": float(result.desired_panic),
            "in_panic": float(result.in_panic),
            "max_panic_pods": float(result.max_panic_pods),
            "desired": float(self._desired),
            "excess_burst_capacity": float(self._excess),
        }
