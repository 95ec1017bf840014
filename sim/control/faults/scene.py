"""What all faults of a run share: the clock, the cluster, who stands at which place, and what has been broken and not yet repaired."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from sim.control.cluster.machines import later
from sim.control.cluster.node import FAILED, UP, Node
from sim.control.cluster.replica import Group, Replica
from sim.control.faults.ailments import Ailments
from sim.control.faults.slots import Slots, many
from sim.control.faults.times import At, Lottery, Place, Streams, When, strikes
from sim.errors import SimulationError, did_you_mean
from sim.kernel.clock import on_grid

if TYPE_CHECKING:
    from simpy import Environment, Event

    from sim.control.cluster.cluster import Cluster
    from sim.control.cluster.distribution import Distribution
    from sim.control.cluster.machines import Pool
    from sim.control.cluster.plane import Log

__all__ = ["Hit", "Scene", "Watched"]

Hit = tuple[Any, int, float]
"""Who (a Node or a Replica), which part of it, for how many seconds (NaN: for as long as it takes)."""


class Watched(Protocol):
    """Who is blind while ``blind`` is more than 0 (:class:`sim.control.operator.Operator`)."""

    blind: int


class Scene:
    """One a run."""

    def __init__(
        self, env: Environment, cluster: Cluster, ailments: Ailments, operator: Watched, streams: Streams, log: Log
    ) -> None:
        self.env = env
        self.cluster = cluster
        self.ailments = ailments
        self.operator = operator
        self.streams = streams
        self.log = log
        self.lost: dict[str, int] = {}  # zones, and how many faults each is lost to
        self.held: dict[tuple[str, str], float] = {}  # until when no machine of a pool is to be had in a zone
        self.pools: dict[str, Pool] = {pool.plan.name: pool for pool in cluster.machines.pools}
        self.groups: dict[str, Group] = {group.plan.name: group for group in cluster.groups}
        self._slots: dict[str, Slots] = {}
        self._waiting: dict[int, tuple[int, str]] = {}  # nodes that could be repaired but for their zone; epoch, fault

    @property
    def now(self) -> float:
        """Seconds from the start."""
        return float(self.env.now)

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """``call`` in ``seconds``; never, if that is NaN."""
        if seconds == seconds:
            later(self.env, seconds, call)

    # places

    def pool(self, name: str) -> Pool:
        """:raises SimulationError: there is none of that name."""
        if name not in self.pools:
            raise SimulationError(f"faults: {name!r} is not one of the pools{did_you_mean(name, list(self.pools))}")
        return self.pools[name]

    def group(self, name: str) -> Group:
        """A deployment. :raises SimulationError: there is none of that name."""
        if name not in self.groups:
            near = did_you_mean(name, list(self.groups))
            raise SimulationError(f"faults: {name!r} is not one of the deployments{near}")
        return self.groups[name]

    def machines(self, pools: Sequence[str], parts: bool = False) -> list[Place]:
        """Places of machines: as many as there may ever be at once. ``parts``: with their GPUs."""
        found = [self.pool(name) for name in pools] or list(self.pools.values())
        return [
            Place(pool.plan.name, slot, pool.plan.gpus if parts else 1)
            for pool in found
            for slot in range(pool.plan.ceiling)
        ]

    def seats(self, deployments: Sequence[str]) -> list[Place]:
        """Places of replicas: as many as there may ever be at once."""
        found = [self.group(name) for name in deployments] or list(self.groups.values())
        return [
            Place(group.plan.name, slot)
            for group in found
            for slot in range(group.pool.plan.ceiling * (group.pool.plan.gpus // group.plan.gpus))
        ]

    def node_at(self, place: Place) -> Node | None:
        """The machine that stands there, if it is up; one that the cloud takes back stands nowhere any more."""
        pool = self.pool(place.group)
        slots = self._slots.setdefault(f"pool {place.group}", Slots())
        slots.update(node.number for node in pool.nodes if not node.leaving)
        number = slots.at(place.slot)
        node = None if number is None else self.cluster.machines.node(number)
        return node if node is not None and node.state == UP else None

    def replica_at(self, place: Place) -> Replica | None:
        """The replica that stands there, if it is alive; those that drain or wait for GPUs, or are on a machine that the cloud takes
        back, stand nowhere."""
        group = self.group(place.group)
        slots = self._slots.setdefault(f"deployment {place.group}", Slots())
        slots.update(one.number for one in group.counted if one.node is not None and not one.node.leaving)
        number = slots.at(place.slot)
        return next((one for one in group.replicas if one.number == number and not one.stopped), None)

    # processes

    def each(
        self,
        fault: str,
        when: When,
        places: Sequence[Place],
        lasts: Distribution | None,
        who: Callable[[Place], Any],
        hit: Callable[[Sequence[Hit]], None],
        *,
        count: int | None = None,
        share: float | None = None,
    ) -> Generator[Event, Any, None]:
        """At random each place is struck by itself; at given times ``count`` or ``share`` of those that stand. ``who`` is there?"""
        if isinstance(when, At):
            lottery = Lottery(fault, places, lasts, self.streams)
            for time in when.times:
                yield self.until(time)
                self.drawn(lottery, who, hit, count, share)
            return
        for strike in strikes(fault, when, places, lasts, self.streams):
            yield self.until(strike.time)
            found = who(strike.place)
            if found is not None:
                hit([(found, strike.part, strike.seconds)])

    def drawn(
        self,
        lottery: Lottery,
        who: Callable[[Place], Any],
        hit: Callable[[Sequence[Hit]], None],
        count: int | None,
        share: float | None,
    ) -> None:
        """Some of those that stand are hit, now."""
        standing = [(who(ticket.place), ticket.part, ticket.seconds) for ticket in lottery.draw()]
        standing = [one for one in standing if one[0] is not None]
        chosen = standing[: many(len(standing), count, share)]
        if chosen:
            hit(chosen)

    def whole(
        self, fault: str, when: When, lasts: Distribution | None, hit: Callable[[float], None]
    ) -> Generator[Event, Any, None]:
        """Something that has no places: ``hit`` is told for how long."""

        def all_of_it(hits: Sequence[Hit]) -> None:
            hit(hits[0][2])

        return self.each(fault, when, [Place()], lasts, lambda place: place, all_of_it)

    def until(self, time: float) -> Event:
        """Wait until then."""
        return self.env.timeout(max(on_grid(time) - self.now, 0.0))

    # repairs

    def repair(self, node: Node, seconds: float, fault: str) -> None:
        """The node has just failed, and is repaired in ``seconds``."""
        epoch = node.epoch
        self.after(seconds, lambda: self._repaired(node, epoch, fault))

    def _repaired(self, node: Node, epoch: int, fault: str) -> None:
        if node.epoch != epoch or node.state != FAILED:
            return
        if self.cluster.restore_node(node.number):
            self.log("repair", self.now, "repaired", fault=fault, pool=node.plan.name, node=node.number, zone=node.zone)
        else:  # its zone is down
            self._waiting[node.number] = (epoch, fault)

    def look_again(self) -> None:
        """Machines can be had again: pools ask for those they miss, and what waited for its zone is repaired."""
        self.cluster.restore_zone("")  # no zone's name: nothing comes back, all pools look
        self.zones_are_back()

    def zones_are_back(self) -> None:
        """Machines that waited for their zone come back too."""
        waiting, self._waiting = self._waiting, {}
        for number, (epoch, fault) in waiting.items():
            self._repaired(self.cluster.machines.node(number), epoch, fault)
