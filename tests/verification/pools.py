"""Stations whose replicas come and go: the textbook's way to switch servers on and off, and how many are in which state when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from simpy import Environment

from sim.control.cluster.cluster import Cluster
from sim.control.cluster.distribution import Distribution
from sim.control.cluster.plans import PoolPlan, ReplicaPlan, Start
from sim.control.cluster.replica import Group, Replica
from sim.control.cluster.usage import Usage
from sim.control.fleet import Fleet
from sim.control.gateway import Gateway
from sim.control.operator import Operator
from sim.control.plan import FleetPlan
from sim.control.scaling.view import READY, Autoscaler, Decision, DeploymentView
from sim.kernel.drive import drive
from sim.kernel.streams import generator
from tests.verification.stations import Ran

__all__ = ["Polled", "busy", "elastic", "mean", "shares", "silent", "starting"]


def silent(*_: object, **__: object) -> None:
    """A log that nobody reads."""


class _Telling(Gateway):
    """Says at once that a request has come or gone, which no real gateway does."""

    def enter(self, *given: object) -> None:
        super().enter(*given)  # type: ignore[arg-type]
        self.floor.notices.append((given[3], "changed", 0))  # type: ignore[arg-type]

    def ended(self, *given: object) -> None:
        super().ended(*given)  # type: ignore[arg-type]
        self.floor.notices.append((given[3], "changed", 0))  # type: ignore[arg-type]


class _IdleFirst(Cluster):
    """Switches off a server that starts or one that is idle, as in M/M/k/setup; Kubernetes does not look whether a pod is busy."""

    def _fewer(self, group: Group, among: Sequence[Replica], count: int, reason: str) -> None:
        starting = [replica for replica in among if replica.phase != READY]
        idle = [replica for replica in among if replica.phase == READY and self.plane.idle(replica.number)]
        for replica in [*starting, *idle][:count]:
            if replica.phase == READY:
                self._close(replica, reason, group.plan.grace)
            else:
                self._remove(replica, reason)
        assert count <= len(starting) + len(idle), "a busy server would have to go"


class Polled:
    """As many replicas as there are requests, at most ``most``, as seen every ``period``."""

    sample_period = 0.0

    def __init__(self, most: int, period: float) -> None:
        self.most = most
        self.period = period

    def observe(self, view: DeploymentView) -> None:
        """It has nothing to remember."""

    def decide(self, view: DeploymentView) -> Decision:
        """One for each request."""
        return Decision(min(view.arrived - view.ended, self.most), "so many requests")


def elastic(
    given: FleetPlan,
    servers: int,
    setup: Distribution,
    replication: int,
    start: float,
    end: float,
    scaler: Autoscaler | None = None,
) -> tuple[Ran, Usage]:
    """Run it on ``servers`` machines whose replicas take ``setup`` to start, none at first.

    Without a ``scaler`` min(requests, servers) are wanted at each moment, whoever is idle goes first; with one it decides, and the
    cluster is as it is.
    """
    plane = Fleet(given)
    assert given.gateway is not None
    env = Environment()
    pools = [PoolPlan("pool", gpus=1, nodes=servers)]
    replicas = [ReplicaPlan("server", "pool", 0, start=Start(before={"process": setup}, readiness_period=0.0))]
    plain = servers == 1 or scaler is not None
    kind = Cluster if plain else _IdleFirst
    cluster = kind(env, plane, pools, replicas, lambda name: generator(7, replication, name), silent)
    if scaler is None:
        plane.gateway = _Telling(plane, given.gateway)
        station = plane.stations[0]

        def told(when: float, what: str, whom: int) -> None:
            if what == "drained":
                cluster.told(when, what, whom)
            cluster.scale(0, min(station.inside, servers), "so many requests")

    else:
        operator = Operator(env, plane, cluster, [scaler])
        operator.start()
        told = operator.told
    cluster.start()
    drive(env, plane, float("inf"), told)
    ledger = plane.finish()
    assert plane.gateway is not None
    return Ran(ledger, plane.gateway, len(given.table.arrival), start, end), cluster.usage(ledger.end_time)


def starting(usage: Usage) -> list[tuple[float, float]]:
    """From when to when replicas were starting, those that were broken off included."""
    return [(item.placed, item.ready if item.ready == item.ready else item.gone) for item in usage.replicas]


def busy(usage: Usage) -> list[tuple[float, float]]:
    """From when to when replicas were open."""
    return [
        (item.ready, item.closed if item.closed == item.closed else item.gone)
        for item in usage.replicas
        if item.ready == item.ready
    ]


def shares(spans: Iterable[tuple[float, float]], start: float, end: float) -> npt.NDArray[np.float64]:
    """The share of the time from ``start`` to ``end`` in which n of ``spans`` are under way, n = 0, 1, .."""
    cut = [(max(begun, start), min(over, end)) for begun, over in spans if over > start and begun < end]
    changes = sorted([(begun, 1) for begun, _ in cut] + [(over, -1) for _, over in cut])
    found = np.zeros(len(cut) + 1)
    level, since = 0, start
    for when, step in changes:
        found[level] += when - since
        level, since = level + step, when
    found[level] += end - since
    return found / (end - start)


def mean(found: npt.NDArray[np.float64]) -> float:
    """Of such a distribution."""
    return float(found @ np.arange(len(found)))
