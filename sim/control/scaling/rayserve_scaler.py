"""Ray Serve's autoscaler for a deployment: metrics as its handles push them, and the default policy."""

from __future__ import annotations

import math
from collections import deque
from typing import Final, Literal

from sim.control.parameters import Seconds
from sim.control.scaling.rayserve import CONTROL_LOOP_INTERVAL, DelayUnit, RayServeConfig, RayServePolicy, ToZero
from sim.control.scaling.view import Decision, DeploymentView

__all__ = ["RayServeScaler"]

_MIN_HANDLE_TIMEOUT: Final = 10.0  # RAY_SERVE_MIN_HANDLE_METRICS_TIMEOUT_S
_SLACK: Final = 1e-6


class RayServeScaler:
    """The autoscaler ``ray-serve``. Parameters are those of ``AutoscalingConfig``.

    Every ``metrics_interval`` the mean number of requests of the last ``look_back_period``, queued and ongoing, is pushed; exact, where
    Ray averages samples. Without replicas a queued request pushes at once. What was pushed is forgotten after two intervals (10 s at least)
    without a push, so a long outage of metrics looks like no requests, as it does to Ray.

    The real control loop runs every 0.1 s. Its inputs change only with a push or when a replica starts or stops, so every ``period``, 1 s,
    is enough: a decision comes less than that later, and is the same. ``loop_period``: how long a loop really takes, for ``delay``
    "iterations" (Ray up to 2.54), which counts loops.
    """

    def __init__(
        self,
        *,
        min_replicas: int = 1,
        max_replicas: int = 1,
        initial_replicas: int | None = None,
        target_ongoing_requests: float = 2.0,
        metrics_interval: Seconds = 10.0,
        look_back_period: Seconds = 30.0,
        upscale_delay: Seconds = 30.0,
        downscale_delay: Seconds = 600.0,
        downscale_to_zero_delay: Seconds | None = None,
        upscaling_factor: float = 1.0,
        downscaling_factor: float = 1.0,
        delay: Literal["wall-clock", "iterations"] = "wall-clock",
        to_zero: Literal["through-one", "direct"] = "through-one",
        loop_period: Seconds = CONTROL_LOOP_INTERVAL,
        period: Seconds = 1.0,
    ) -> None:
        named = (
            ("upscale_delay", upscale_delay),
            ("downscale_delay", downscale_delay),
            ("downscale_to_zero_delay", downscale_to_zero_delay or 0.0),
        )
        for name, value in named:
            if value < 0:
                raise ValueError(f"{name}: {value:g} s; must be at least 0")
        positive = (
            ("metrics_interval", metrics_interval),
            ("look_back_period", look_back_period),
            ("loop_period", loop_period),
            ("period", period),
        )
        for name, value in positive:
            if value <= 0:
                raise ValueError(f"{name}: {value:g} s; must be positive")
        unit: DelayUnit = delay
        way: ToZero = to_zero
        if unit not in ("wall-clock", "iterations"):
            raise ValueError(f"delay: {unit!r}; must be 'wall-clock' or 'iterations'")
        config = RayServeConfig(
            min_replicas=min_replicas,
            initial_replicas=initial_replicas,
            max_replicas=max_replicas,
            target_ongoing_requests=target_ongoing_requests,
            metrics_interval_s=metrics_interval,
            look_back_period_s=look_back_period,
            upscaling_factor=upscaling_factor,
            downscaling_factor=downscaling_factor,
            upscale_delay_s=upscale_delay,
            downscale_delay_s=downscale_delay,
            downscale_to_zero_delay_s=downscale_to_zero_delay,
        )
        self.policy = RayServePolicy(config, unit=unit, to_zero=way)
        self.period = period
        whole = math.isclose(look_back_period / metrics_interval, round(look_back_period / metrics_interval))
        # where the look-back period begins between two samples, they must lie close
        self.sample_period = metrics_interval if whole else min(1.0, metrics_interval)
        self._loop_period = loop_period
        self._samples: deque[tuple[float, float]] = deque()  # (time, request seconds)
        self._pushed: tuple[float, float] | None = None  # when, requests
        self._decided: float | None = None

    def observe(self, view: DeploymentView) -> None:
        """Note the requests so far, and push their mean when it is time."""
        config = self.policy.config
        now = view.now
        samples = self._samples
        if not samples:
            samples.append((now, view.request_seconds))
            self._pushed = (now, float(_in_system(view))) if view.metrics else None
            return
        if now <= samples[-1][0]:
            return
        samples.append((now, view.request_seconds))
        start = now - config.look_back_period_s
        while len(samples) > 1 and samples[1][0] <= start + _SLACK:
            samples.popleft()
        due = self._pushed is None or now - self._pushed[0] >= config.metrics_interval_s - _SLACK
        if view.metrics and due:
            self._pushed = (now, self._mean(start))

    def _mean(self, start: float) -> float:
        """Mean requests from ``start``, or from the first sample, to the last sample."""
        (time, area), (next_time, next_area) = self._samples[0], self._samples[1]
        if time < start:  # between the first two samples: on the line between them
            area += (next_area - area) * (start - time) / (next_time - time)
            time = start
        last_time, last_area = self._samples[-1]
        return (last_area - area) / (last_time - time)

    def _total(self, view: DeploymentView) -> float:
        """The requests that the controller knows of."""
        if view.ready == 0 and view.metrics and view.queued > 0:
            self._pushed = (view.now, float(view.queued))
        if self._pushed is None:
            return 0.0
        timeout = max(2 * self.policy.config.metrics_interval_s, _MIN_HANDLE_TIMEOUT)
        return 0.0 if view.now - self._pushed[0] >= timeout else self._pushed[1]

    def decide(self, view: DeploymentView) -> Decision:
        """The policy's target for the requests known, the replicas running and the target set."""
        config = self.policy.config
        now, running, target = view.now, view.ready, view.target
        total = self._total(view)
        before = self._decided
        self._decided = now
        if before is None and config.initial_replicas is not None:
            decision, reason, loops = config.initial_replicas, "initial replicas", 1
        else:
            loops = 1 if before is None else _loops(now, self._loop_period) - _loops(before, self._loop_period)
            decision = self.policy.decide(total, running, target, now, loops=loops)
            wanted = self.policy.state.counter
            reason = "steady"
            if decision != target:
                reason = "from zero" if running == 0 else "up" if decision > target else "down"
            elif wanted:
                reason = "up, in its delay" if wanted > 0 else "down, in its delay"
        since = self.policy.state.since
        numbers = {
            "requests": total,
            "running": float(running),
            "target": float(target),
            "ratio": total / (config.target_ongoing_requests * running) if running else float("nan"),
            "decision": float(decision),
            "wanted_for": 0.0 if since is None else now - since,
        }
        return Decision(None if decision == target else decision, reason, numbers)


def _loops(now: float, loop_period: float) -> int:
    """Control loops until ``now``."""
    return math.floor(now / loop_period + _SLACK)


def _in_system(view: DeploymentView) -> int:
    return view.queued + sum(replica.running + replica.waiting for replica in view.replicas)
