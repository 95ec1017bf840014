"""An autoscaler that is told latency objectives, not utilisations: a model sizes, what is measured corrects the model."""

from __future__ import annotations

from dataclasses import replace
from math import isnan
from typing import Final

from sim.control.parameters import Seconds
from sim.control.scaling.capacity import Traffic, operating
from sim.control.scaling.limits import Limit, limits
from sim.control.scaling.meter import Flow, Meter
from sim.control.scaling.replica_rate import LENGTHS_SCV, ReplicaRate
from sim.control.scaling.sizing import Bounds, Hold, needed, positive
from sim.control.scaling.view import Decision, DeploymentView, Knowledge

__all__ = ["SloScaler", "measured"]

FEWEST: Final = 20
"""Requests that must have ended within the window before a measured quantile corrects anything."""
_COLUMNS: Final = {"ttft": 1, "tpot": 2, "e2e": 3}


def measured(view: DeploymentView, limit: Limit, since: float) -> tuple[float, int]:
    """``limit``'s figure over the requests that ended after ``since``, and of how many; NaN of none, and for metrics not in the view.

    The quantile of ranks: the smallest latency that at least that share did not exceed.
    """
    column = _COLUMNS.get(limit.metric)
    if column is None:
        return float("nan"), 0
    found = []
    for row in reversed(view.latencies):
        if row[0] <= since:
            break
        if not isnan(row[column]):
            found.append(row[column])
    if not found:
        return float("nan"), 0
    if limit.quantile is None:
        return sum(found) / len(found), len(found)
    found.sort()
    return found[needed(limit.quantile * len(found), 1.0) - 1], len(found)


class SloScaler:
    """Replicas such that the objectives hold at the arrival rate and token means of the last ``window`` seconds.

    The idea is that of NVIDIA Dynamo's SLA planner (components/planner, planner_core.py): a model of the engine says what load it
    serves within an objective; measured over expected latency is a correction factor, and the objective is divided by it before the
    model is asked again. Here the model is :mod:`sim.control.scaling.capacity` (prefill and decode in one engine, Dynamo's are
    apart), latencies are the quantiles that the objectives name instead of means, and each objective has a factor of its own,
    smoothed by ``smoothing`` (weight of the new one) and kept within 1/``most_correction`` to ``most_correction``. What waits
    already is to be served within ``catch_up`` seconds beside what arrives (Chiron's back-pressure, arXiv 2501.08090, simplified).

    ``ttft``, ``tpot``: limits on the 99th percentile, which replace objectives of that metric; without any, objectives come from what is
    known. replicas = (rate + waiting / catch_up) / (capacity x ``utilisation``), held for ``hold`` seconds against a lower number.
    Nothing is corrected from fewer than 20 ended requests, nor where the model says that the load does not fit: latency is then a
    matter of how long it has not. Where even a lone request breaks an objective, no number of replicas helps and it is left
    out of sizing, which the decision says.
    """

    wakes = True
    """Asked at once when a request waits for a deployment without any replica."""

    def __init__(
        self,
        *,
        min: int = 1,
        max: int = 100,
        period: Seconds = 30.0,
        window: Seconds = 120.0,
        ttft: Seconds | None = None,
        tpot: Seconds | None = None,
        utilisation: float = 0.9,
        smoothing: float = 0.3,
        most_correction: float = 3.0,
        catch_up: Seconds = 60.0,
        hold: Seconds = 300.0,
        knowledge: Knowledge | None = None,
    ) -> None:
        self.bounds = Bounds(min, max)
        self.period = self.sample_period = positive("period", period)
        self.window = positive("window", window)
        if not 0.0 < utilisation <= 1.0:
            raise ValueError(f"utilisation is {utilisation}; it must lie above 0 and at most at 1")
        if not 0.0 <= smoothing <= 1.0:
            raise ValueError(f"smoothing is {smoothing}; it must lie between 0 and 1")
        if not 1.0 <= most_correction < float("inf"):
            raise ValueError(f"most_correction is {most_correction}; it must be at least 1")
        self.utilisation = utilisation
        self.smoothing = smoothing
        self.most_correction = most_correction
        self.catch_up = positive("catch_up", catch_up)
        own = {
            f"{name}_p99": positive(name, value)
            for name, value in (("ttft", ttft), ("tpot", tpot))
            if value is not None
        }
        known = {} if knowledge is None else knowledge.objectives
        self.limits = limits(own | {name: v for name, v in known.items() if f"{name.partition('_')[0]}_p99" not in own})
        if knowledge is not None and not self.limits:
            raise ValueError("there is no latency objective to keep; give ttft or tpot, or the workload objectives")
        self.corrections = dict.fromkeys((limit.name for limit in self.limits), 1.0)
        self._knowledge = knowledge
        self._replica = None if knowledge is None else ReplicaRate(knowledge)
        self._hold = Hold(positive("hold", hold, zero=True))
        self._meter = Meter(self.window)
        self._tokens = (float("nan"), float("nan"))

    def observe(self, view: DeploymentView) -> None:
        """Note the counters."""
        self._meter.look(view)

    def decide(self, view: DeploymentView) -> Decision:
        """Correct the model by what was measured, then ask it. None while there are no metrics, or nothing was measured yet.

        ValueError when nothing is known of a replica."""
        if self._replica is None:
            raise ValueError("it needs the step times of a replica")
        if not view.metrics:
            return Decision(None, "metrics are out")
        if view.queued and not view.live and not self.bounds.least:
            return Decision(self._hold.highest(view.now, 1), "a request waits and there is no replica")
        flow = self._meter.flow()
        if flow is None:
            return Decision(None, "nothing measured yet")
        if not isnan(flow.prompt):
            self._tokens = (flow.prompt, flow.output)
        if isnan(self._tokens[0]):
            return Decision(None, "no request yet to learn the lengths from")
        numbers = {"rate": flow.rate, "prompt_tokens": self._tokens[0], "output_tokens": self._tokens[1]}
        self._correct(view, flow, numbers)
        kept = [replace(limit, seconds=limit.seconds / self.corrections[limit.name]) for limit in self.limits]
        found = self._replica.at(*self._tokens, kept)
        reason = f"bound by {found.bound_by}"
        while found.at is None:  # what a lone request breaks
            reason = f"{found.bound_by} cannot be kept at any load"
            kept = [limit for limit in kept if limit.name != found.bound_by]
            found = self._replica.at(*self._tokens, kept)
        each = found.rate * self.utilisation
        waiting = view.queued + sum(replica.waiting for replica in view.replicas)
        raw = self.bounds.within(needed(flow.rate + waiting / self.catch_up, each))
        wanted = self._hold.highest(view.now, raw)
        numbers |= {"per_replica": each, "waiting": float(waiting), "raw": float(raw)}
        return Decision(wanted, reason + (", held" if wanted > raw else ""), numbers)

    def _correct(self, view: DeploymentView, flow: Flow, numbers: dict[str, float]) -> None:
        knowledge = self._knowledge
        ready = view.ready
        if knowledge is None or not ready or flow.rate == 0.0:
            return
        traffic = Traffic(max(self._tokens[0], 1.0), max(self._tokens[1], 1.0), LENGTHS_SCV, LENGTHS_SCV)
        expected = operating(knowledge.step, knowledge.settings, traffic, flow.rate / ready)
        for limit in self.limits:
            value, ended = measured(view, limit, view.now - self.window)
            if ended:
                numbers[f"measured_{limit.name}"] = value
            if ended >= FEWEST and not expected.bound_by:
                ratio = value / expected.latency(limit.metric, limit.quantile)
                correction = self.corrections[limit.name] * (1.0 - self.smoothing) + self.smoothing * ratio
                most = self.most_correction
                self.corrections[limit.name] = max(1.0 / most, min(most, correction))
            numbers[f"correction_{limit.name}"] = self.corrections[limit.name]
