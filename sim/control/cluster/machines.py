"""The machines of all pools: asked for when replicas find no room, released when nothing is on them, as a cluster autoscaler does it.

kubernetes/autoscaler, cluster-autoscaler: one node for each that the waiting pods need, those that are coming counted; a node that
was empty for ``idle`` is released. Nodes that are only little used are not emptied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from simpy import Environment

from sim.control.cluster.node import COMING, FAILED, LEFT, UP, Node
from sim.control.cluster.placement import Room, missing
from sim.control.cluster.plans import PoolPlan
from sim.control.cluster.transfer import Link
from sim.control.cluster.usage import NodeInterval
from sim.errors import SimulationError
from sim.kernel.clock import on_grid

if TYPE_CHECKING:
    import numpy as np

    from sim.control.cluster.plane import Log

__all__ = ["Machines", "Pool", "later"]

_NAN = float("nan")
_INFINITE = float("inf")


def later(env: Environment, seconds: float, call: Callable[[], None]) -> None:
    """``call`` when ``seconds`` have passed, on the time grid."""
    env.timeout(on_grid(seconds)).callbacks.append(lambda _: call())


class Pool:
    """A pool at work. ``asked``: when a node was last asked for."""

    __slots__ = ("asked", "down", "nodes", "number", "plan", "provisioning", "review_at", "store")

    def __init__(self, number: int, plan: PoolPlan, provisioning: np.random.Generator) -> None:
        self.number = number
        self.plan = plan
        self.provisioning = provisioning
        self.nodes: list[Node] = []
        self.down: set[str] = set()  # zones
        self.asked = -_INFINITE
        self.review_at = -_INFINITE
        self.store = Link(f"{plan.name} store", plan.store)

    def count(self, *states: str) -> int:
        """Nodes in these states, those whose end is known left out."""
        return sum(1 for node in self.nodes if node.state in states and not node.leaving)

    @property
    def widest(self) -> int:
        """Most GPUs that are free on one node."""
        return max((len(node.free) for node in self.nodes if node.takes), default=0)

    @property
    def empty(self) -> list[Node]:
        """Nodes that could take replicas, and have nothing."""
        return [node for node in self.nodes if node.takes and node.empty]


class Machines:
    """``joined`` is called with the pool when a machine can be used."""

    def __init__(
        self,
        env: Environment,
        plans: Sequence[PoolPlan],
        streams: Callable[[str], np.random.Generator],
        log: Log,
        joined: Callable[[Pool], None],
    ) -> None:
        self.env = env
        self.log = log
        self.pools = [Pool(number, plan, streams(f"provision/{plan.name}")) for number, plan in enumerate(plans)]
        self.nodes: list[Node] = []  # all there ever were, by number
        self.intervals: list[NodeInterval] = []
        self._open: dict[int, int] = {}  # interval of a node that has not ended
        self._joined = joined

    def begin(self) -> None:
        """The nodes that are there at the start."""
        for pool in self.pools:
            for _ in range(pool.plan.nodes):
                self._up(self._new(pool))

    def pool_of(self, node: Node) -> Pool:
        """Its pool."""
        return next(pool for pool in self.pools if pool.plan is node.plan)

    def node(self, number: int) -> Node:
        """The node of that number. :raises SimulationError: there never was one."""
        if not 0 <= number < len(self.nodes):
            raise SimulationError(f"there is no node {number}; there are {len(self.nodes)}, from 0")
        return self.nodes[number]

    def rooms(self, pool: Pool, same: dict[int, int]) -> list[Room]:
        """Where replicas may be placed; ``same``: how many of the deployment a node has."""
        return [
            Room(node.number, node.zone, len(node.free), same.get(node.number, 0)) for node in pool.nodes if node.takes
        ]

    def grow(self, pool: Pool, pending: Sequence[int]) -> None:
        """Ask for the nodes that waiting replicas of ``pending`` GPUs need, that keep ``spare`` ones empty, and the least number."""
        plan = pool.plan
        coming = pool.count(COMING)
        empty = [] if pending else pool.empty
        wanted = missing(pending, (), plan.gpus) + max(plan.spare - len(empty), 0)
        wanted = max(wanted, plan.floor - pool.count(UP, FAILED))
        new = min(wanted - coming, plan.ceiling - pool.count(UP, FAILED, COMING))
        for _ in range(new):
            if all(zone in pool.down for zone in plan.zones):
                return
            self._ask(pool, "replicas wait for GPUs" if pending else "to keep nodes spare" if plan.spare else "least")

    def review(self, pool: Pool) -> None:
        """Release nodes that have been empty for long enough and are not needed, and look again when the next may be."""
        now, plan = self.env.now, pool.plan
        calm = pool.asked + plan.after_add
        for node in sorted(pool.empty, key=lambda node: (node.empty_since, node.number)):
            if pool.count(UP, FAILED, COMING) <= plan.floor or len(pool.empty) <= plan.spare:
                return
            due = max(node.empty_since + plan.idle, calm)
            if due <= now:
                self.end(node, LEFT, "released")
                self.log("release", now, f"empty for {plan.idle:g} s", pool=plan.name, node=node.number)
            else:
                if not now < pool.review_at <= due:
                    pool.review_at = due
                    later(self.env, due - now, lambda: self.review(pool))
                return

    def end(self, node: Node, state: str, ended: str) -> None:
        """The node is there no more."""
        node.state = state
        node.epoch += 1
        index = self._open.pop(node.number)
        self.intervals[index] = replace(self.intervals[index], end=self.env.now, ended=ended)
        if state == LEFT:
            self.pool_of(node).nodes.remove(node)

    def back(self, node: Node) -> None:
        """A failed node works again, with what is on its disk and an empty memory."""
        node.epoch += 1
        node.start = self.env.now
        node.cordoned = node.by_zone = False
        node.memory.clear()
        node.pulls.clear()
        node.pull_flows.clear()
        self._record(node)
        self._up(node)

    def _ask(self, pool: Pool, reason: str) -> None:
        now, plan = self.env.now, pool.plan
        node = self._new(pool)
        pool.asked = now
        seconds = plan.provision.draw(pool.provisioning)
        self.log("provision", now, reason, pool=plan.name, node=node.number, zone=node.zone, seconds=seconds)
        epoch = node.epoch

        def come() -> None:
            if node.epoch == epoch:
                self._up(node)
                self.log("join", self.env.now, "provisioned", pool=plan.name, node=node.number, zone=node.zone)
                self._joined(pool)
                self.review(pool)

        later(self.env, seconds, come)

    def _new(self, pool: Pool) -> Node:
        zones = [zone for zone in pool.plan.zones if zone not in pool.down]
        here = {zone: sum(1 for node in pool.nodes if node.zone == zone) for zone in zones}
        node = Node(len(self.nodes), pool.plan, min(zones, key=lambda zone: here[zone]), self.env.now)
        self.nodes.append(node)
        pool.nodes.append(node)
        self._record(node)
        return node

    def _up(self, node: Node) -> None:
        now = self.env.now
        node.state = UP
        node.joined = node.empty_since = now
        index = self._open[node.number]
        self.intervals[index] = replace(self.intervals[index], joined=now)

    def _record(self, node: Node) -> None:
        self._open[node.number] = len(self.intervals)
        self.intervals.append(
            NodeInterval(node.plan.name, node.number, node.zone, self.env.now, _NAN, _INFINITE),
        )
