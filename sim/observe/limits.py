"""What limited the throughput of each deployment, from the samples of its timeline: shares of the time after the warm-up.

At each sample each replica that serves is, while a request waits in its engine, limited by its

- ``seats``: max_num_seqs sequences run,
- ``kv``: 95 % of the KV blocks are taken, or fewer are free than a mean prompt needs,
- ``compute``: neither, and 95 % of the time since the sample before it was in steps: others wait for room in their token budget;

else by nothing. A moment is split among the replicas that serve. If requests wait at the gateway, or were rejected since the sample before
(but for those that no replica could ever serve), the moment is the gateway's:

- ``admission``: it holds or rejects them with replicas there,
- ``replicas``: none is there, or some are on their way.

Why no more replicas came is read at the moments at which something limited it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sim.observe.metrics import window
from sim.observe.objectives import Estimate
from sim.observe.presence import Presence
from sim.serving.ledger import REJECTED
from sim.stats.intervals import t_interval

if TYPE_CHECKING:
    from sim.observe.record import ReplicationRecord

__all__ = ["LIMITS", "REASONS", "Limit", "limits"]

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

LIMITS = ("kv", "seats", "compute", "admission", "replicas")
REASONS = ("fault", "machines", "starting", "ceiling", "unasked", "fixed")
"""Why no more replicas came: a fault took some, they had no GPU, they were on their way, the autoscaler was at its maximum, it did not ask
for more; there is no autoscaler."""

_FULL = 0.95
_NEVER_SERVED = ("max_model_len", "kv_capacity")


@dataclass(frozen=True)
class Limit:
    """One deployment: the share of the time in which each of :data:`LIMITS` limited it (0 left out), and the shares of that time in which
    each of :data:`REASONS` was why no more replicas came."""

    deployment: str
    shares: Mapping[str, Estimate]
    because: Mapping[str, float]

    @property
    def limited(self) -> float:
        """Share of the time in which anything did."""
        return sum(share.value for share in self.shares.values())

    def to_json(self) -> dict[str, Any]:
        """As a mapping fit for JSON."""
        shares = {name: share.to_json() for name, share in self.shares.items()}
        return {"deployment": self.deployment, "shares": shares, "because": dict(self.because)}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Limit:
        """What :meth:`to_json` gave. KeyError, TypeError or ValueError if it is anything else."""
        shares = {}
        for name in (name for name in LIMITS if name in saved["shares"]):
            value, half = (saved["shares"][name][part] for part in ("value", "half_width"))
            shares[name] = Estimate(float(value), None if half is None else float(half), 1)
        because = {name: float(saved["because"][name]) for name in REASONS if name in saved["because"]}
        return cls(str(saved["deployment"]), shares, because)


def limits(records: Sequence[ReplicationRecord], warmup: float, confidence: float, exact: bool) -> list[Limit]:
    """Of every deployment that was sampled and whose engine is known."""
    found = []
    for number, facts in enumerate(records[0].deployments):
        sampled = [of for record in records if (of := _of_record(record, number, warmup)) is not None]
        if not sampled:
            continue
        shares = {}
        for name in LIMITS:
            interval = t_interval([one.shares[name] for one in sampled], confidence)
            half = interval.half_width if interval.n > 1 else 0.0 if exact else None
            if interval.mean > 0.0:
                shares[name] = Estimate(interval.mean, half, interval.n)
        limited = sum(sum(one.shares.values()) for one in sampled)
        because = {name: sum(one.because[name] for one in sampled) / limited for name in REASONS if limited}
        found.append(Limit(facts.name, shares, {name: share for name, share in because.items() if share > 0.0}))
    return found


@dataclass(frozen=True)
class _Shares:
    """Of one replication; ``because`` as shares of all of the time, too."""

    shares: Mapping[str, float]
    because: Mapping[str, float]


def _of_record(record: ReplicationRecord, number: int, warmup: float) -> _Shares | None:
    facts, samples = record.deployments[number], record.timeline
    if facts.engine is None or not samples or not len(samples["t_s"]):
        return None
    start, stop = window(record, warmup)
    times, moment = _moments(samples["t_s"], stop)
    presence = Presence.of(record, number, facts.ceiling)
    own = (record.owner[samples["replica"].astype(np.int64)] == number) & (samples["t_s"] <= stop)
    by_state = _engines(record, number, own, moment, len(times))
    serving = np.bincount(moment[own], minlength=len(times))
    held = _held(record, number, times)
    none_ready = held & (presence.coming.at(times) | presence.failed.at(times) | (serving == 0))
    state = {name: np.where(held, 0.0, share) for name, share in by_state.items()}
    state |= {"admission": (held & ~none_ready) * 1.0, "replicas": none_ready * 1.0}
    counted = times >= start
    if not counted.any():
        return None
    limited = sum(state.values(), np.zeros(len(times)))
    why = _reasons(record, number, presence, times)
    return _Shares(
        {name: float(share[counted].mean()) for name, share in state.items()},
        {name: float((limited * so)[counted].mean()) for name, so in why.items()},
    )


def _moments(sampled: Floats, stop: float) -> tuple[Floats, npt.NDArray[np.int64]]:
    """All moments up to ``stop`` at which replicas would have been sampled, had there been any; and which of them each sample is of."""
    known = np.unique(sampled)
    period = float(np.diff(known).min()) if len(known) > 1 else 1.0
    count = int(min(stop, float(known[-1]) if len(known) == 1 else stop) / period) + 1
    moment = np.minimum(np.rint((sampled - known[0]) / period).astype(np.int64), count - 1)
    return known[0] + period * np.arange(count), moment


def _engines(
    record: ReplicationRecord, number: int, own: Flags, moment: npt.NDArray[np.int64], moments: int
) -> dict[str, Floats]:
    """By limit: the share of the replicas sampled at each moment that it holds up."""
    facts, samples = record.deployments[number], record.timeline
    engine = facts.engine
    assert engine is not None
    columns = record.columns
    prompts = columns["prompt_tokens"][columns["deployment"] == number]
    needed = float(prompts.mean()) / engine.block_size if len(prompts) else 1.0
    busy = _busy(samples)[own]
    waiting, running, used = (samples[name][own] for name in ("waiting", "running", "kv_used"))
    waits = waiting > 0
    seats = waits & (running >= engine.max_num_seqs)
    taken = (used >= _FULL * facts.kv_blocks) | (facts.kv_blocks - used < needed)
    kv = waits & ~seats & taken
    compute = waits & ~seats & ~kv & (busy >= _FULL)
    serving = np.maximum(np.bincount(moment[own], minlength=moments), 1)
    return {
        name: np.bincount(moment[own], weights=so, minlength=moments) / serving
        for name, so in (("kv", kv), ("seats", seats), ("compute", compute))
    }


def _busy(samples: Mapping[str, Floats]) -> Floats:
    """The share of the time since the sample before that each replica spent in steps; 0 at its first."""
    order = np.lexsort((samples["t_s"], samples["replica"]))
    moments, replica, seconds = (samples[name][order] for name in ("t_s", "replica", "busy_s"))
    share = np.zeros(len(order))
    elapsed = np.diff(moments)
    again = (replica[1:] == replica[:-1]) & (elapsed > 0.0)
    share[order[1:]] = np.divide(np.diff(seconds), elapsed, out=np.zeros(len(elapsed)), where=again)
    return share


def _held(record: ReplicationRecord, number: int, times: Floats) -> Flags:
    """Whether, at each of ``times``, requests wait at the gateway or were rejected since the one before."""
    columns = record.columns
    own = columns["deployment"] == number
    late = record.deployments[number].request_overhead
    began, left = columns["began_s"], np.where(columns["replica"] >= 0, columns["queued_s"] - late, columns["end_s"])
    left = np.where(np.isnan(left), record.end, left)
    waited = own & (left > began)
    line = np.searchsorted(np.sort(began[waited]), times, "right") - np.searchsorted(
        np.sort(left[waited]), times, "right"
    )
    names, reason = record.reason_index()
    hopeless = np.isin(reason, [place for place, name in enumerate(names) if name in _NEVER_SERVED])
    turned_away = np.sort(columns["end_s"][own & (columns["outcome"] == REJECTED) & ~hopeless])
    so_far = np.searchsorted(turned_away, times, "right")
    return np.asarray((line > 0) | (np.diff(so_far, prepend=0) > 0))


def _reasons(record: ReplicationRecord, number: int, presence: Presence, times: Floats) -> dict[str, Flags]:
    """Why no more replicas are there: the first that holds."""
    facts = record.deployments[number]
    scaled = any(event["kind"] == "scale" and event.get("deployment") == facts.name for event in record.events)
    elastic = np.full(len(times), scaled or facts.ceiling is not None)
    found: dict[str, Flags] = {}
    left = np.ones(len(times), bool)
    for name, so in (
        ("fault", presence.failed.at(times)),
        ("machines", presence.placeless.at(times)),
        ("starting", presence.coming.at(times)),
        ("ceiling", presence.capped.at(times)),
        ("unasked", elastic),
        ("fixed", ~elastic),
    ):
        found[name] = left & so
        left &= ~so
    return found
