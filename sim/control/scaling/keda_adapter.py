"""KEDA as an autoscaler of a deployment: it activates and deactivates, its HPA does the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sim.control.parameters import Seconds
from sim.control.scaling.hpa_adapter import numbers_of, why
from sim.control.scaling.hpa_behavior import behavior_from
from sim.control.scaling.hpa_readings import DeploymentReadings
from sim.control.scaling.keda import Fallback, Keda, ScaledObject, Trigger
from sim.control.scaling.view import METRICS, Decision, DeploymentView

__all__ = ["KedaScaler"]

_BEHAVIORS = ("static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower")
_TICK = 1e-6  # a period that has passed but for rounding has passed


class KedaScaler:
    """A ScaledObject with one trigger of type AverageValue: the deployment's total of ``metric``, ``threshold`` a replica.

    The total takes in what waits at the gateway, for the metrics concurrency and queue. ``min``, ``max``, ``idle``: replica counts.
    ``fallback``: a mapping with ``failure_threshold``, ``replicas`` and ``behavior``. KEDA polls every ``polling_interval``, its HPA every
    ``sync_period``, on what was scraped last.
    """

    def __init__(
        self,
        *,
        metric: str = "concurrency",
        threshold: float,
        activation_threshold: float = 0.0,
        min: int = 0,
        max: int = 100,
        idle: int | None = None,
        polling_interval: Seconds = 30.0,
        cooldown_period: Seconds = 300.0,
        initial_cooldown: Seconds = 0.0,
        fallback: Mapping[str, Any] | None = None,
        behavior: Mapping[str, Any] | None = None,
        tolerance: float = 0.1,
        downscale_stabilization: Seconds = 300.0,
        sync_period: Seconds = 15.0,
        scrape: Seconds = 15.0,
        stale: Seconds = 60.0,
    ) -> None:
        if metric not in METRICS:
            raise ValueError(f"metric {metric!r} must be one of {', '.join(METRICS)}")
        if sync_period <= 0:
            raise ValueError(f"sync_period {sync_period:g} must be greater than 0")
        self._metric = metric
        self.keda = Keda(
            ScaledObject(min, max, idle, polling_interval, cooldown_period, initial_cooldown, _fallback(fallback)),
            [Trigger(threshold, activation_threshold, name=metric)],
            None if behavior is None else behavior_from(behavior),
            tolerance,
            downscale_stabilization,
        )
        self._readings = DeploymentReadings([metric], scrape, stale)
        self._scrapes_itself = scrape == 0
        self._sync_period = float(sync_period)
        self._next_poll = self._next_sync = -math.inf
        self.period = _common(polling_interval, sync_period)
        self.sample_period = float(scrape)

    def observe(self, view: DeploymentView) -> None:
        """Scrape the deployment."""
        self._readings.observe(view)

    def decide(self, view: DeploymentView) -> Decision:
        """KEDA's poll when it is due, then the round of its HPA, unless the poll has just scaled."""
        if self._scrapes_itself:
            self._readings.observe(view)
        now, value = view.now, self._readings.total(self._metric, view)
        trigger = self.keda.triggers[0]
        numbers: dict[str, float] = {"current": view.target, "ready": view.ready}
        if value is not None:
            numbers |= {"total": value, "activation_threshold": trigger.activation_threshold}
        reason = "between polls"
        if now >= self._next_poll - _TICK:
            self._next_poll = now + self.keda.scaled_object.polling_interval
            result = self.keda.poll(now, view.target, [value])
            reason = result.reason if result.ready else result.ready_reason
            if result.replicas is not None and result.replicas != view.target:
                return Decision(result.replicas, reason, numbers)
        if now >= self._next_sync - _TICK:
            self._next_sync = now + self._sync_period
            decision = self.keda.sync(now, view.target, [value], self._readings.pods(view), len(view.live))
            numbers = numbers_of(decision, self.keda.hpa, [self._metric], view) | numbers
            return Decision(decision.replicas if decision.rescaled else None, why(decision), numbers)
        return Decision(None, reason, numbers)


def _common(a: float, b: float) -> float:
    """The longest period that divides both, to a millisecond."""
    return max(1, math.gcd(round(a * 1000), round(b * 1000))) / 1000.0


def _fallback(given: Mapping[str, Any] | None) -> Fallback | None:
    if given is None:
        return None
    names = {"failureThreshold": "failure_threshold"}
    keys = {names.get(key, key): value for key, value in given.items()}
    unknown = [key for key in keys if key not in ("failure_threshold", "replicas", "behavior")]
    if unknown:
        raise ValueError(f"fallback: {unknown[0]!r} is not one of failure_threshold, replicas, behavior")
    for name in ("failure_threshold", "replicas"):
        if not isinstance(keys.get(name), int) or keys[name] < 0:
            raise ValueError(f"fallback.{name} {keys.get(name)!r} must be a whole number, not negative")
    behavior = keys.get("behavior", "static")
    if behavior not in _BEHAVIORS:
        raise ValueError(f"fallback.behavior {behavior!r} must be one of {', '.join(_BEHAVIORS)}")
    return Fallback(keys["failure_threshold"], keys["replicas"], behavior)
