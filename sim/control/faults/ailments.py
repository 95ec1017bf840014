"""What ails replicas that live: slow steps, and a gateway that cannot reach them. Stands between the cluster and the data plane.

The cluster too says how fast a generation is, and cuts off what is dead. Here both are joined: paces multiply, and who is dead stays
cut off when a partition ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim.control.cluster.cluster import Cluster
    from sim.control.cluster.plane import DataPlane
    from sim.control.cluster.replica import Replica

__all__ = ["Ailment", "Ailments", "Scope"]


@dataclass(frozen=True, slots=True)
class Scope:
    """Which replicas: all that fulfil everything that is said here. ``nodes`` and ``replicas`` by number."""

    pools: tuple[str, ...] = ()
    deployments: tuple[str, ...] = ()
    zone: str | None = None
    nodes: frozenset[int] | None = None
    replicas: frozenset[int] | None = None

    def covers(self, replica: Replica) -> bool:
        """Whether it is one of them."""
        node, plan = replica.node, replica.group.plan
        return (
            node is not None
            and (not self.pools or plan.pool in self.pools)
            and (not self.deployments or plan.name in self.deployments)
            and (self.zone is None or node.zone == self.zone)
            and (self.nodes is None or node.number in self.nodes)
            and (self.replicas is None or replica.number in self.replicas)
        )


@dataclass(frozen=True, slots=True, eq=False)
class Ailment:
    """``factor``: how many times longer steps take; ``cut``: the gateway cannot reach them."""

    scope: Scope
    factor: float = 1.0
    cut: bool = False


class Ailments:
    """A :class:`~sim.control.cluster.plane.DataPlane` over another, for the replicas of ``cluster``, some of which may be open already."""

    def __init__(self, plane: DataPlane, cluster: Cluster) -> None:
        self.plane = plane
        self.cluster = cluster
        self.active: dict[Ailment, None] = {}  # an ordered set
        self._pace: dict[int, float] = {}  # of its generation
        self._told: dict[int, float] = {}  # what the plane was told
        self._reachable: dict[int, bool] = {}  # of those that are open, or drain
        for group in cluster.groups:
            for replica in group.replicas:
                pace = group.generations[replica.generation].pace
                self._pace[replica.number] = self._told[replica.number] = pace
                if replica.opened == replica.opened and not replica.stopped:
                    self._reachable[replica.number] = True

    def begin(self, ailment: Ailment, now: float) -> int:
        """It begins; how many replicas it meets."""
        self.active[ailment] = None
        return self._review(ailment, now)

    def end(self, ailment: Ailment, now: float) -> int:
        """It is over; how many replicas it was of."""
        del self.active[ailment]
        return self._review(ailment, now)

    def _review(self, ailment: Ailment, now: float) -> int:
        met = [
            replica
            for group in self.cluster.groups
            for replica in group.replicas
            if replica.number in self._reachable and ailment.scope.covers(replica)
        ]
        for replica in met:
            self._slow(replica, now)
            self._reach(replica, now)
        return len(met)

    def _of(self, replica: Replica) -> list[Ailment]:
        return [ailment for ailment in self.active if ailment.scope.covers(replica)]

    def _slow(self, replica: Replica, now: float) -> None:
        number = replica.number
        factor = self._pace.get(number, 1.0) * prod(ailment.factor for ailment in self._of(replica))
        if factor != self._told.get(number, 1.0):
            self._told[number] = factor
            self.plane.pace(number, factor, now)

    def _reach(self, replica: Replica, now: float) -> None:
        reachable = not any(ailment.cut for ailment in self._of(replica))
        if reachable != self._reachable[replica.number]:
            self._reachable[replica.number] = reachable
            self.plane.cut(replica.number, not reachable, now)

    # the data plane

    def create(self, deployment: int) -> int:
        """As the plane's."""
        return self.plane.create(deployment)

    def open(self, replica: int, now: float) -> None:
        """Where it stands it may be slow, or out of reach."""
        found = next(
            one for group in self.cluster.groups for one in group.replicas if one.number == replica
        )  # a few at most a second
        self._slow(found, now)
        self.plane.open(replica, now)
        self._reachable[replica] = True
        self._reach(found, now)

    def close(self, replica: int, now: float) -> None:
        """As the plane's."""
        self.plane.close(replica, now)

    def idle(self, replica: int) -> bool:
        """As the plane's."""
        return self.plane.idle(replica)

    def kill(self, replica: int, now: float, reason: str) -> int:
        """As the plane's."""
        for known in (self._pace, self._told, self._reachable):
            known.pop(replica, None)
        return self.plane.kill(replica, now, reason)

    def pace(self, replica: int, factor: float, now: float) -> None:
        """Of its generation: it is new, and nowhere yet."""
        self._pace[replica] = self._told[replica] = factor
        self.plane.pace(replica, factor, now)

    def cut(self, replica: int, on: bool, now: float) -> None:
        """By the cluster: it is dead, and no longer ours to reach."""
        if self._reachable.pop(replica, True):
            self.plane.cut(replica, on, now)
