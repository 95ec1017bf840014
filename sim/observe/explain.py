"""The explanation of a run in the user's words: why an objective is not met, and what limited throughput."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sim.observe.causes import CAUSES
from sim.observe.limits import Limit, limits
from sim.observe.objectives import WHOLE_RUN, Estimate, Standing
from sim.observe.why import Attribution, Group, Unserved, attributions, unserved
from sim.observe.words import called, in_seconds, number

if TYPE_CHECKING:
    from sim.observe.record import ReplicationRecord

__all__ = ["CAUSE_WORDS", "Explanation", "explain", "explain_limit"]

CAUSE_WORDS = {
    "retry": "lost in attempts that failed",
    "admission": "waiting at the gateway",
    "failure": "waiting for replicas that a fault had taken",
    "cold start": "waiting for replicas that were starting",
    "queueing": "queueing in the engine",
    "preemption": "preemption",
    "batching": "batching",
    "compute": "computing",
    "overhead": "the way to the engine and back",
}
"""Each of :data:`sim.observe.causes.CAUSES`, after "is"."""

_MEANWHILE_WORDS = {"cold start": "replicas were starting", "failure": "replicas were missing by a fault"}
_LIMIT_WORDS = {
    "kv": "a full KV cache",
    "seats": "max_num_seqs",
    "compute": "compute (no step had room for the prompts that waited)",
    "admission": "the gateway, which held requests or turned them away",
    "replicas": "replicas that were not ready",
}
_REASON_WORDS = {
    "fault": "a fault had taken some",
    "machines": "those wanted waited for a machine",
    "starting": "they were on their way",
    "ceiling": "the autoscaler was at its maximum",
    "unasked": "the autoscaler did not ask for more",
    "fixed": "their number is fixed",
}
_WORTH = 0.1  # a share that is named
_NAMED = 3
_NEARLY_ALL = 0.95
_NOISE = 1e-9  # of a figure: what is left of rounding
_SEEN = 0.005  # limits for less of the time are none


@dataclass(frozen=True)
class Explanation:
    """``causes`` of the tail of every objective on a latency, what became of ``unserved`` requests, and ``limits`` of deployments."""

    causes: Sequence[Attribution] = ()
    unserved: Sequence[Unserved] = ()
    limits: Sequence[Limit] = ()

    @classmethod
    def of(
        cls,
        records: Sequence[ReplicationRecord],
        standings: Sequence[Standing],
        warmup: float,
        confidence: float,
        exact: bool,
    ) -> Explanation:
        """Of replications; the rest as in :func:`sim.observe.why.attributions`."""
        return cls(
            attributions(records, standings, warmup, confidence, exact),
            unserved(records, warmup),
            limits(records, warmup, confidence, exact),
        )

    def to_json(self) -> dict[str, Any]:
        """As a mapping fit for JSON."""
        return {
            "causes": [one.to_json() for one in self.causes],
            "unserved": [one.to_json() for one in self.unserved],
            "limits": [one.to_json() for one in self.limits],
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Explanation:
        """What :meth:`to_json` gave; empty of a result of an earlier version. KeyError, TypeError or ValueError if it is anything else."""
        return cls(
            [Attribution.from_json(one) for one in saved.get("causes", ())],
            [Unserved.from_json(one) for one in saved.get("unserved", ())],
            [Limit.from_json(one) for one in saved.get("limits", ())],
        )

    def of_objective(self, standing: Standing) -> Attribution | None:
        """The tail of one objective."""
        key = (standing.workload, standing.metric)
        return next((one for one in self.causes if (one.workload, one.metric) == key), None)

    def sentences(self, standings: Sequence[Standing], idle_share: Estimate | None = None) -> list[str]:
        """One for each of ``standings``, empty where it is met. ``idle_share``: of the money, for a budget.

        What became of requests that were not served is said once a workload.
        """
        found, said = [], set[str]()
        for standing in standings:
            if standing.status == "meets":
                found.append("")
                continue
            lost = () if standing.workload in said else self.unserved
            found.append(explain(standing, self.of_objective(standing), lost, idle_share))
            said.add(standing.workload)
        return found


def explain(
    standing: Standing,
    attribution: Attribution | None,
    lost: Sequence[Unserved] = (),
    idle_share: Estimate | None = None,
) -> str:
    """Why an objective is missed or undecided, in a sentence.

    ``p99 TTFT of chat misses 2 s (3.9 s): 71% ± 6% of the tail's time is waiting for replicas that were starting, 18% batching.``
    """
    head = _head(standing)
    if standing.workload == WHOLE_RUN:
        if idle_share is None or not idle_share.value > 0.0:
            return f"{head}."
        return f"{head}: {_percent(idle_share.value)} of the money paid for GPUs that no replica had."
    said = []
    gone = [one for one in lost if one.workload == standing.workload and one.outcome != "unfinished"]
    if standing.why and standing.status == "misses":
        said.append(f"{standing.why}{_who(gone)}")
    if attribution is not None and attribution.tail is not None and (attribution.beyond or not said):
        said.append(_tail(attribution.tail, attribution.typical, standing.metric))
    return f"{head}{': ' if said else ''}{'; '.join(said)}."


def explain_limit(limit: Limit) -> str:
    """What limited a deployment, in a sentence."""
    if limit.limited < _SEEN:
        return f"Nothing limited {limit.deployment}: it had room for more."
    by = sorted(limit.shares.items(), key=lambda item: -item[1].value)
    named = [(name, share) for name, share in by if share.value >= _SEEN][:_NAMED] or by[:1]
    parts = [
        f"{_percent(share.value)}{_reach(share) if place == 0 else ''} by {_LIMIT_WORDS[name]}"
        for place, (name, share) in enumerate(named)
    ]
    text = f"{limit.deployment} was limited for {_percent(limit.limited)} of the time: {', '.join(parts)}"
    because = max(limit.because.items(), key=lambda item: item[1], default=("", 0.0))
    if because[1] >= _WORTH:
        share = "" if because[1] >= _NEARLY_ALL else f" ({_percent(because[1])} of that time)"
        text += f"; no more replicas served, as {_REASON_WORDS[because[0]]}{share}"
    return f"{text}."


def _head(standing: Standing) -> str:
    """``p99 TTFT of chat misses 2 s (3.9 ± 0.2 s)``."""
    estimate = standing.estimate
    whose = "" if standing.workload == WHOLE_RUN else f" of {standing.workload}"
    missed = "is over" if standing.workload == WHOLE_RUN else "misses"
    verb = missed if standing.status == "misses" else "is undecided against"
    factor, unit = (1.0, "") if standing.metric.startswith("usd") else in_seconds(max(estimate.value, standing.target))
    after = f" {unit}" if unit else ""
    half = estimate.half_width or 0.0
    reach = f" ± {number(half * factor, 2)}" if half > _NOISE * estimate.value else ""
    served = "of those served: " if standing.status == "misses" and estimate.value <= standing.target else ""
    value = f" ({served}{number(estimate.value * factor)}{reach}{after})" if estimate.n else ""
    return f"{called(standing.metric)}{whose} {verb} {standing.target * factor:,.6g}{after}{value}"


def _who(lost: Sequence[Unserved]) -> str:
    """`` (timeout 3.1%, rejected: queue full 0.4%), 90% of them while replicas were starting``."""
    if not lost:
        return ""
    whole = sum(one.share for one in lost)
    together = {
        cause: sum(one.share * one.meanwhile.get(cause, 0.0) for one in lost) / whole for cause in _MEANWHILE_WORDS
    }
    named = [f"{_called_lost(one)} {one.share:.1%}" for one in lost[:_NAMED]]
    return f" ({', '.join(named)}{', ...' if len(lost) > _NAMED else ''}){_while(together, 'them')}"


def _called_lost(one: Unserved) -> str:
    if not one.reason or one.reason == one.outcome:
        return one.outcome
    return f"{one.outcome}: {one.reason}"


def _tail(tail: Group, typical: Group | None, metric: str) -> str:
    by = sorted(tail.shares.items(), key=lambda item: (-item[1].value, CAUSES.index(item[0])))
    named = [(cause, share) for cause, share in by if share.value >= _WORTH][:_NAMED]
    parts = []
    for place, (cause, share) in enumerate(named):
        of = f"{_reach(share)} of the tail's time is" if place == 0 else ""
        during = _while(tail.meanwhile, "it") if cause == "retry" else ""
        parts.append(f"{_percent(share.value)}{of} {CAUSE_WORDS[cause]}{during}")
    text = ", ".join(parts)
    if typical is None:
        return text
    factor, unit = in_seconds(typical.latency)
    token = " a token" if metric.startswith(("tpot", "itl")) else ""
    return f"{text}; a typical request takes {number(typical.latency * factor)} {unit}{token}"


def _while(meanwhile: Mapping[str, float], whose: str) -> str:
    if not meanwhile:
        return ""
    cause, share = max(meanwhile.items(), key=lambda item: item[1])
    if share < _WORTH:
        return ""
    how = "all" if share >= _NEARLY_ALL else _percent(share)
    return f", {how} of {whose} while {_MEANWHILE_WORDS[cause]}"


def _reach(share: Estimate) -> str:
    return f" ± {_percent(min(share.half_width, 1.0))}" if share.half_width else ""


def _percent(share: float) -> str:
    """``71%``; tenths below 1%."""
    return f"{share:.0%}" if share >= 0.00995 or share == 0.0 else f"{share:.1%}"
