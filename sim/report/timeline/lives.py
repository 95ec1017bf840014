"""The life of each replica, read from the events: it waits for GPUs, starts in phases, is ready, drains and is gone, or is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.report.timeline.moments import Moments

__all__ = ["Life", "Period", "lives"]


@dataclass(frozen=True)
class Period:
    """Part of a life from ``begin`` to ``end`` seconds, and its own parts, which lie in it and in order."""

    name: str
    begin: float
    end: float
    parts: tuple[Period, ...] = ()


@dataclass
class Life:
    """When a replica was asked for, had its GPUs, was ready, got no more requests, was lost with its machine, which nobody may have
    noticed at first, and was gone; None: never, or not by the end."""

    deployment: str
    replica: int
    asked: float | None = None
    placed: float | None = None
    ready: float | None = None
    closed: float | None = None
    lost: float | None = None
    gone: float | None = None
    phases: dict[str, float] = field(default_factory=dict)
    where: tuple[Any, ...] = ()
    """Its machine and GPUs."""

    def periods(self, end: float) -> Iterator[Period]:
        """Its life up to ``end``, in order."""
        gone = end if self.gone is None else self.gone
        last = gone if self.lost is None else self.lost
        closed = last if self.closed is None else min(self.closed, last)
        ready = closed if self.ready is None else self.ready
        placed = ready if self.placed is None else self.placed
        if self.asked is not None and self.asked < placed:
            yield Period("waiting for GPUs", self.asked, placed)
        if self.placed is not None and placed < ready:
            yield Period("starting", placed, ready, tuple(self._start()))
        if self.ready is not None and ready < closed:
            yield Period("ready", ready, closed)
        if closed < last:
            yield Period("draining", closed, last)
        if last < gone:
            yield Period("lost", last, gone)

    def _start(self) -> Iterator[Period]:
        """The phases of a start that succeeded; the last ends when the replica is ready."""
        if self.ready is None or self.placed is None:
            return
        begin = max(self.placed, self.ready - sum(self.phases.values()))
        for name, seconds in self.phases.items():
            end = min(begin + seconds, self.ready)
            if begin < end:
                yield Period(name.replace("_", " "), begin, end)
            begin = end


def lives(moments: Moments) -> dict[tuple[str, int], Life]:
    """Of all replicas, by deployment and number in it."""
    found = {
        (name, replica): Life(name, replica) for name, replicas in moments.deployments.items() for replica in replicas
    }
    order = {start.deployment: [name for name, _ in start.phases] for start in moments.result.course.starts}
    left: dict[
        tuple[Any, ...], tuple[float, float]
    ] = {}  # by machine and GPUs: when the last one there went, and its age
    since: dict[tuple[str, int], float] = {}
    for row in moments.history:
        when, detail = row["t_s"], json.loads(row["detail"] or "{}")
        if row["kind"] == "fail" and "node" in detail:
            for other in found.values():
                if other.gone is None and other.where[1:2] == (detail["node"],):
                    other.lost = when
        life = found.get((row["deployment"], row["replica"]))
        if life is None:
            continue
        if row["kind"] == "place":
            asked = when - float(detail["waited"])
            life.where = (life.deployment, detail["node"], *detail["gpus"])
            again = left.get(life.where) == (when, asked)  # in its predecessor's place, and as old as that was
            life.placed, life.asked = when, when if again else asked
            since[life.deployment, life.replica] = asked
        elif row["kind"] == "ready":
            life.ready = when
            known = order.get(life.deployment, [])
            place = {name: number for number, name in enumerate(known)}
            life.phases = dict(sorted(detail["phases"].items(), key=lambda phase: place.get(phase[0], len(known))))
        elif row["kind"] == "drain":
            life.closed = when
        elif row["kind"] == "gone":
            life.gone = when
            if life.placed is None:
                life.asked = when - float(detail["seconds"])
            left[life.where] = (when, since.get((life.deployment, life.replica), when))
    for key, life in found.items():
        unheard = life.placed is None and life.asked is None  # where replicas do not come and go, nobody speaks of them
        if life.ready is None and (key in moments.at_start or unheard):
            life.ready = 0.0
    return found
