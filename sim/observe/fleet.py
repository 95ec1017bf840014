"""Replicas and machines of a replication as arrays: who was there from when to when, and who had which GPUs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sim.errors import SimulationError
from sim.observe.bill import Terms
from sim.observe.facts import DeploymentFacts, PoolFacts

if TYPE_CHECKING:
    from sim.control.cluster.usage import Usage
    from sim.observe.record import ReplicationRecord

__all__ = ["Counts", "Fleet", "begun", "held", "overlap", "replica_counts"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

_NAN = float("nan")
_LIFE = ("created_s", "placed_s", "ready_s", "closed_s", "gone_s")


@dataclass(frozen=True)
class Fleet:
    """``replicas`` by fleet number, ``machines`` and ``holdings`` in order of beginning; columns as ReplicationRecord says."""

    pools: tuple[PoolFacts, ...]
    replicas: dict[str, Array]
    machines: dict[str, Array]
    holdings: dict[str, Array]

    @classmethod
    def fixed(cls, deployments: Sequence[DeploymentFacts], pools: Sequence[PoolFacts], end: float) -> Fleet:
        """All replicas and machines there from 0 to ``end``. Without ``pools`` each deployment has one machine of its own."""
        counts = [deployment.replicas for deployment in deployments]
        owner = np.repeat(np.arange(len(deployments)), counts)
        gpus = np.array([deployment.gpus_each for deployment in deployments], np.float64)[owner]
        rows = len(owner)
        start, never = np.zeros(rows), np.full(rows, _NAN)
        pools = tuple(pools) or _own(deployments)
        number = np.repeat(np.arange(len(pools)), [pool.machines for pool in pools])
        machines = len(number)
        return cls(
            pools,
            replicas={
                "deployment": owner,
                "ordinal": np.concatenate([np.arange(0), *(np.arange(count) for count in counts)]),
                "gpus": gpus,
                "node": np.full(rows, -1),
                **dict(zip(_LIFE, (start, start, start, never, never), strict=True)),
            },
            machines={
                "pool": number,
                "node": np.arange(machines),
                "zone": np.full(machines, ""),
                "start_s": np.zeros(machines),
                "joined_s": np.zeros(machines),
                "end_s": np.full(machines, end),
                "ended": np.full(machines, ""),
            },
            holdings={
                "replica": np.arange(rows),
                "deployment": owner,
                "gpus": gpus,
                "start_s": start,
                "end_s": np.full(rows, end),
                "asleep": np.zeros(rows, bool),
            },
        )

    @classmethod
    def of(
        cls,
        usage: Usage,
        deployments: Sequence[DeploymentFacts],
        pools: Sequence[PoolFacts],
        end: float,
    ) -> Fleet:
        """What ``usage``, cut at ``end``, says. SimulationError when it was cut elsewhere, or does not fit the facts."""
        cut = min((interval.end for interval in usage.nodes if not interval.ended), default=end)
        if cut != end:
            raise SimulationError(f"usage was cut at {cut!r} s; the record ends at {end!r} s")
        by_name = {deployment.name: number for number, deployment in enumerate(deployments)}
        awake = [interval for interval in usage.replicas if not interval.asleep and interval.replica >= 0]
        count = 1 + max((interval.replica for interval in awake), default=-1)
        owner, node = np.full(count, -1), np.full(count, -1)
        life = {name: np.full(count, _NAN) for name in _LIFE}
        for interval in awake:  # one after another for a replica that went through more than one life
            number = interval.replica
            first = owner[number] < 0
            owner[number], node[number] = _numbered(by_name, interval.deployment, "deployment"), interval.node
            times = (interval.created, interval.placed, interval.ready, interval.closed, interval.gone)
            for name, moment in zip(_LIFE, times, strict=True):
                if first or name in ("closed_s", "gone_s") or life[name][number] != life[name][number]:
                    life[name][number] = moment
        if (owner < 0).any():
            raise SimulationError(f"usage says nothing of replica {int(np.flatnonzero(owner < 0)[0])}")
        life["gone_s"] = np.where(life["gone_s"] < end, life["gone_s"], _NAN)
        gpus = np.array([deployment.gpus_each for deployment in deployments], np.float64)[owner]
        pools = tuple(pools)
        pool_number = {pool.name: number for number, pool in enumerate(pools)}
        nodes = usage.nodes
        holders = [interval for interval in usage.replicas if interval.gpus]
        return cls(
            pools,
            replicas={"deployment": owner, "ordinal": _ordinals(owner), "gpus": gpus, "node": node, **life},
            machines={
                "pool": _ints(_numbered(pool_number, interval.pool, "pool") for interval in nodes),
                "node": _ints(interval.node for interval in nodes),
                "zone": np.array([interval.zone for interval in nodes], np.str_),
                "start_s": _floats(interval.start for interval in nodes),
                "joined_s": _floats(interval.joined for interval in nodes),
                "end_s": _floats(min(interval.end, end) for interval in nodes),
                "ended": np.array([interval.ended for interval in nodes], np.str_),
            },
            holdings={
                "replica": _ints(interval.replica for interval in holders),
                "deployment": _ints(_numbered(by_name, interval.deployment, "deployment") for interval in holders),
                "gpus": _floats(len(interval.gpus) for interval in holders),
                "start_s": _floats(interval.placed for interval in holders),
                "end_s": _floats(interval.gone if interval.gone == interval.gone else end for interval in holders),
                "asleep": np.array([interval.asleep for interval in holders], bool),
            },
        )


def _own(deployments: Sequence[DeploymentFacts]) -> tuple[PoolFacts, ...]:
    """A pool for each deployment: one machine with all of its GPUs, at its price."""
    return tuple(PoolFacts(one.name, Terms(one.usd_per_hour), 1, float(one.gpus)) for one in deployments)


def _numbered(numbers: Mapping[str, int], name: str, what: str) -> int:
    if name not in numbers:
        raise SimulationError(f"usage names {what} {name!r}, of which there are no facts")
    return numbers[name]


def _ordinals(owner: Array) -> Array:
    """The index of each within its deployment, in order of fleet numbers."""
    ordinal = np.empty(len(owner), np.int64)
    for deployment in np.unique(owner):
        own = owner == deployment
        ordinal[own] = np.arange(int(own.sum()))
    return ordinal


def _ints(values: Iterable[int]) -> Array:
    return np.fromiter(values, np.int64)


def _floats(values: Iterable[float]) -> Floats:
    return np.fromiter(values, np.float64)


def overlap(starts: Floats, ends: Floats, start: float, stop: float) -> Floats:
    """Seconds of each interval that lie between ``start`` and ``stop``."""
    return np.asarray(np.maximum(np.minimum(ends, stop) - np.maximum(starts, start), 0.0))


def held(record: ReplicationRecord, start: float, stop: float) -> Floats:
    """GPU-seconds that each deployment's replicas had between ``start`` and ``stop``, sleeping ones included."""
    holdings = record.holdings
    seconds = overlap(holdings["start_s"], holdings["end_s"], start, stop) * holdings["gpus"]
    return np.bincount(holdings["deployment"], weights=seconds, minlength=len(record.deployments)).astype(np.float64)


def begun(record: ReplicationRecord) -> Floats:
    """From when each replica was on its way: its creation; of a process that is started again in the place of another, whose creation is
    its own, when it was placed."""
    replicas = record.replicas
    names = ("deployment", "created_s", "node", "placed_s", "gone_s")
    when = replicas["created_s"].copy()
    lost: dict[tuple[float, ...], float] = {}  # when the first in its place was gone
    for number, (*place, placed, gone) in enumerate(zip(*(replicas[name].tolist() for name in names), strict=True)):
        key = tuple(place)
        if lost.get(key, math.inf) <= placed:
            when[number] = placed
        if gone == gone:
            lost[key] = min(gone, lost.get(key, math.inf))
    return np.asarray(when)


@dataclass(frozen=True)
class Counts:
    """Replicas of each deployment over time: row d of ``ready``, ``starting`` and ``target`` holds from ``times[i]`` to the next.

    ``starting`` ones exist and have not been ready (those that wait for a GPU included); ``target`` is what was last asked for.
    """

    times: Floats
    ready: npt.NDArray[np.int64]
    starting: npt.NDArray[np.int64]
    target: npt.NDArray[np.int64]


def replica_counts(record: ReplicationRecord) -> Counts:
    """How many replicas each deployment had, at every moment at which that changed."""
    replicas, deployments = record.replicas, len(record.deployments)
    owner, created, ready = replicas["deployment"], begun(record), replicas["ready_s"]
    gone = np.fmin(replicas["closed_s"], replicas["gone_s"])  # NaN where both are
    scaled = [event for event in record.events if event["kind"] == "scale"]
    moments = [[0.0], created, ready, gone, [float(event["t_s"]) for event in scaled]]
    times = np.unique(np.concatenate([np.asarray(part, np.float64) for part in moments]))
    times = times[times <= record.end]  # and no NaN

    def count(when: Floats, whose: Array) -> Array:
        return np.searchsorted(np.sort(when[whose & ~np.isnan(when)]), times, "right")

    shape = (deployments, len(times))
    up, starting, target = (np.zeros(shape, np.int64) for _ in range(3))
    names = [deployment.name for deployment in record.deployments]
    for number in range(deployments):
        own = owner == number
        served = own & ~np.isnan(ready)
        up[number] = count(ready, own) - count(gone, served)
        starting[number] = count(created, own) - count(ready, own) - count(gone, own & ~served)
        target[number] = record.deployments[number].replicas
    for event in scaled:
        target[names.index(event["deployment"]), np.searchsorted(times, float(event["t_s"])) :] = int(event["after"])
    return Counts(times, up, starting, target)
