"""The Kubernetes HPA as an autoscaler of a deployment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from sim.control.parameters import Seconds
from sim.control.scaling.hpa import HorizontalPodAutoscaler, HpaDecision
from sim.control.scaling.hpa_behavior import behavior_from
from sim.control.scaling.hpa_pods import MetricsError, milli
from sim.control.scaling.hpa_readings import DeploymentReadings
from sim.control.scaling.hpa_replicas import Proposal
from sim.control.scaling.hpa_spec import MetricSpec, Reading
from sim.control.scaling.view import METRICS, Decision, DeploymentView

__all__ = ["HpaScaler", "TargetType"]

TargetType: TypeAlias = Literal["average", "utilisation", "total-average", "total"]
"""average: a Pods metric, so much a replica. utilisation: a Resource metric in percent, with the readiness and warm-up rules of CPU, for
metrics that are shares. total-average: an External metric, the deployment's total over so much a replica. total: the same against a
target for all, times the ready replicas."""

_SHARES = ("utilisation", "kv")
_TYPES = ("average", "utilisation", "total-average", "total")


class HpaScaler:
    """Kubernetes' HPA v2 every ``sync_period``, on metrics scraped every ``scrape`` seconds and forgotten after ``stale``.

    Either ``metric`` and ``target``, or ``metrics``: a list of mappings with ``metric``, ``target`` and ``target_type``. ``behavior`` is
    written as in a manifest. ``max`` has no default in Kubernetes either.
    """

    def __init__(
        self,
        *,
        max: int,
        min: int = 1,
        metric: str | None = None,
        target: float | None = None,
        target_type: Literal["average", "utilisation", "total-average", "total"] = "average",
        metrics: Sequence[Mapping[str, Any]] | None = None,
        behavior: Mapping[str, Any] | None = None,
        tolerance: float = 0.1,
        downscale_stabilization: Seconds = 300.0,
        cpu_initialization_period: Seconds = 300.0,
        initial_readiness_delay: Seconds = 30.0,
        sync_period: Seconds = 15.0,
        scrape: Seconds = 15.0,
        stale: Seconds = 60.0,
    ) -> None:
        if sync_period <= 0:
            raise ValueError(f"sync_period {sync_period:g} must be greater than 0")
        if metrics is None:
            metrics = [{"metric": metric, "target": target, "target_type": target_type}]
        elif metric is not None or target is not None:
            raise ValueError("give metric and target, or metrics, not both")
        if not metrics:
            raise ValueError("metrics must hold at least one metric")
        self._scaled_on = [_metric(given) for given in metrics]
        self._readings = DeploymentReadings([name for name, _, _ in self._scaled_on], scrape, stale)
        self._scrapes_itself = scrape == 0
        self.hpa = HorizontalPodAutoscaler(
            max,
            min,
            [spec for _, _, spec in self._scaled_on],
            None if behavior is None else behavior_from(behavior),
            tolerance,
            downscale_stabilization,
            cpu_initialization_period,
            initial_readiness_delay,
        )
        self.period = float(sync_period)
        self.sample_period = float(scrape)

    def observe(self, view: DeploymentView) -> None:
        """Scrape the deployment."""
        self._readings.observe(view)

    def decide(self, view: DeploymentView) -> Decision:
        """One round of the HPA."""
        if self._scrapes_itself:
            self._readings.observe(view)
        decision = self.hpa.reconcile(
            view.now,
            view.target,
            [self._read(name, kind, view) for name, kind, _ in self._scaled_on],
            self._readings.pods(view),
            len(view.live),
        )
        names = [name for name, _, _ in self._scaled_on]
        return Decision(
            decision.replicas if decision.rescaled else None,
            why(decision),
            numbers_of(decision, self.hpa, names, view),
        )

    def _read(self, name: str, kind: TargetType, view: DeploymentView) -> Reading:
        if kind in ("average", "utilisation"):
            return self._readings.by_pod(name, view)
        total = self._readings.total(name, view)
        return MetricsError(f"unable to get external metric {name}") if total is None else milli(total)


def why(decision: HpaDecision) -> str:
    """In a line: why the HPA rescales, or what keeps it from it."""
    if decision.rescaled:
        limited = decision.conditions.get("ScalingLimited")
        bound = f" ({limited.reason})" if decision.raw is not None and limited is not None and limited.status else ""
        return decision.reason + bound
    active = decision.conditions.get("ScalingActive")
    if active is not None and not active.status:
        return f"{active.reason}: {decision.error}" if decision.error else active.reason
    if decision.raw is not None and decision.raw != decision.replicas:
        able, limited = decision.conditions["AbleToScale"], decision.conditions["ScalingLimited"]
        return limited.reason if limited.status else able.reason
    return "within tolerance, or as many as are wanted"


def numbers_of(
    decision: HpaDecision, hpa: HorizontalPodAutoscaler, names: Sequence[str], view: DeploymentView
) -> dict[str, float]:
    """What an HPA's decision was made from; ``average`` and ``target`` are of the first metric, those of others carry its name."""
    numbers: dict[str, float] = {"current": view.target, "ready": view.ready}
    for i, (name, spec, proposal) in enumerate(zip(names, hpa.metrics, decision.proposals, strict=False)):
        suffix = f".{name}" if i else ""
        percent = spec.average_utilization is not None
        numbers["target" + suffix] = spec.target if percent else spec.target / 1000.0
        if isinstance(proposal, Proposal):
            usage = proposal.usage / 1000.0 if proposal.utilization is None else proposal.utilization
            numbers["average" + suffix] = usage
    if decision.raw is not None and decision.stabilized is not None:
        numbers |= {"raw": decision.raw, "stabilised": decision.stabilized, "limited": decision.replicas}
    return numbers


def _metric(given: Mapping[str, Any]) -> tuple[str, TargetType, MetricSpec]:
    unknown = [key for key in given if key not in ("metric", "target", "target_type")]
    if unknown:
        raise ValueError(f"metrics: {unknown[0]!r} is not one of metric, target, target_type")
    name, target, kind = given.get("metric"), given.get("target"), given.get("target_type", "average")
    if name not in METRICS:
        raise ValueError(f"metric {name!r} must be one of {', '.join(METRICS)}")
    if isinstance(target, bool) or not isinstance(target, int | float) or not target > 0:
        raise ValueError(f"target {target!r} of metric {name!r} must be a number greater than 0")
    if kind not in _TYPES:
        raise ValueError(f"target_type {kind!r} must be one of {', '.join(_TYPES)}")
    if kind == "utilisation":
        if name not in _SHARES:
            raise ValueError(
                f"target_type utilisation needs a share: metric {name!r} is none, {' and '.join(_SHARES)} are"
            )
        if target != int(target):
            raise ValueError(f"target {target:g} of metric {name!r} must be whole percent")
        return name, kind, MetricSpec("Resource", "cpu", average_utilization=int(target), label=name)
    if kind == "average":
        return name, kind, MetricSpec("Pods", name, average_value=milli(target), label=name)
    if kind == "total-average":
        return name, kind, MetricSpec("External", name, average_value=milli(target), label=name)
    return name, kind, MetricSpec("External", name, value=milli(target), label=name)
