"""When replicas of a deployment were missing, and why: on their way, or taken by a fault. What a wait is attributed by.

On the engines' clock, seconds since the start of the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sim.observe.fleet import begun

if TYPE_CHECKING:
    from sim.observe.record import ReplicationRecord

__all__ = ["Presence", "Span"]

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_FAULTS = ("fail", "reclaim")


@dataclass(frozen=True, eq=False)
class Span:
    """The times at which something was so: from ``times[i]`` to the next if ``so[i]``, from the last to ``end`` likewise."""

    times: Floats
    so: Flags
    end: float

    def within(self, start: Floats, stop: Floats) -> Floats:
        """Seconds between each ``start`` and ``stop`` in which it was so."""
        edges = np.append(self.times, max(self.end, float(self.times[-1])))
        total = np.concatenate([[0.0], np.cumsum(np.diff(edges) * self.so)])
        return np.asarray(np.interp(stop, edges, total) - np.interp(start, edges, total))

    def at(self, moments: Floats) -> Flags:
        """Whether it was so at each moment."""
        return np.asarray(self.so[np.maximum(np.searchsorted(self.times, moments, "right") - 1, 0)])


@dataclass(frozen=True, eq=False)
class Presence:
    """One deployment. ``failed``: fewer replicas served than were asked for, for want of such as a fault had taken. ``coming``: replicas
    had been created and were not ready yet, or none served at all; where neither is due to a fault. ``placeless``: some of these had no
    GPU yet. ``capped``: as many were asked for as ``ceiling``."""

    coming: Span
    failed: Span
    placeless: Span
    capped: Span

    @classmethod
    def of(cls, record: ReplicationRecord, deployment: int, ceiling: int | None = None) -> Presence:
        """As the record's replicas and events have it. ``ceiling``: the most replicas its autoscaler may ask for."""
        replicas = record.replicas
        own = np.flatnonzero(record.owner == deployment)
        first, ready, placed = begun(record)[own], replicas["ready_s"][own], replicas["placed_s"][own]
        gone = np.fmin(np.fmin(replicas["closed_s"][own], replicas["gone_s"][own]), record.end)
        scaled = [event for event in record.events if event["kind"] == "scale" and _is(record, event, deployment)]
        asked = np.array([float(event["t_s"]) for event in scaled])
        wanted = np.array([record.deployments[deployment].replicas, *(int(event["after"]) for event in scaled)])
        taken = _taken(record, own, ready, gone)
        moments = [np.zeros(1), first, ready, placed, gone, asked, taken]
        times = np.unique(np.concatenate([np.asarray(part, np.float64) for part in moments]))
        times = times[(times >= 0.0) & (times <= record.end)]  # and no NaN
        served = ready < gone  # False for NaN
        serving = _count(ready[served], times) - _count(gone[served], times)
        up = np.minimum(np.where(np.isnan(ready), np.inf, ready), gone)
        on_the_way = first < up
        coming = _count(first[on_the_way], times) - _count(up[on_the_way], times)
        at = np.minimum(np.where(np.isnan(placed), np.inf, placed), gone)
        unplaced = first < at
        placeless = _count(first[unplaced], times) - _count(at[unplaced], times)
        target = wanted[np.searchsorted(asked, times, "right")]
        missing = _missing(times, np.maximum(target - serving, 0), taken)
        end = record.end

        def span(so: Flags) -> Span:
            return Span(times, so, end)

        return cls(
            coming=span(((coming > 0) | (serving == 0)) & ~missing),
            failed=span(missing),
            placeless=span(placeless > 0),
            capped=span(np.zeros(len(times), bool) if ceiling is None else target >= ceiling),
        )


def _is(record: ReplicationRecord, event: Any, deployment: int) -> bool:
    return bool(event.get("deployment") == record.deployments[deployment].name)


def _taken(record: ReplicationRecord, own: npt.NDArray[np.int64], ready: Floats, gone: Floats) -> Floats:
    """When faults took replicas that served, once for each."""
    node, ordinal = record.replicas["node"][own], record.replicas["ordinal"][own]
    name = record.deployments[int(record.owner[own[0]])].name if len(own) else ""
    found: list[float] = []
    for event in record.events:
        if event["kind"] not in _FAULTS:
            continue
        when = float(event["t_s"])
        if "node" in event:
            hit = node == event["node"]
        elif event.get("deployment") == name:
            hit = ordinal == event.get("replica", -1)
        else:
            continue
        found += [when] * int((hit & (ready < when) & (gone == when)).sum())
    return np.array(sorted(found))


def _missing(times: Floats, short: npt.NDArray[np.int64], taken: Floats) -> Flags:
    """From each of ``times`` on: whether replicas that a fault took are still missing. What is not short any more has been made up for."""
    new = _count(taken, times)
    new[1:] -= new[:-1].copy()
    owed, missing = 0, np.zeros(len(times), bool)
    for place, (more, less) in enumerate(zip(new.tolist(), short.tolist(), strict=True)):
        owed = min(owed + more, less)
        missing[place] = owed > 0
    return missing


def _count(when: Floats, times: Floats) -> npt.NDArray[np.int64]:
    """How many of ``when`` had come by each of ``times``."""
    return np.searchsorted(np.sort(when), times, "right")
