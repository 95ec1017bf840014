"""The cluster: how many replicas each deployment has, and all that follows from changing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Any

from sim.control.cluster.distribution import Distribution
from sim.control.cluster.failures import Failures
from sim.control.cluster.node import Node
from sim.control.cluster.replica import Generation, Group, Replica, ReplicaState, Sleeper
from sim.control.cluster.rollout import fenceposts, fewer_old, new_size
from sim.control.cluster.usage import ReplicaInterval, Usage, cut_node, cut_replica
from sim.control.cluster.victims import Pod, order
from sim.control.scaling.view import DRAINING, READY
from sim.errors import SimulationError
from sim.kernel.streams import stable_hash

if TYPE_CHECKING:
    from sim.control.cluster.plans import Start

__all__ = ["Cluster", "NodeState"]

_NAN = float("nan")


@dataclass(frozen=True, slots=True)
class NodeState:
    """A machine: ``state`` is coming, up or failed; ``free`` GPUs; the replicas on it by their number in the fleet."""

    node: int
    pool: str
    zone: str
    state: str
    cordoned: bool
    free: int
    replicas: tuple[int, ...]


class Cluster(Failures):
    """Machines and replicas of one replication, on the clock of ``env``. ``plane`` is told what becomes of replicas, ``log`` why.

    ``streams`` gives the generator of a purpose: ``start/<deployment>/<phase>`` and ``provision/<pool>``. Deployments are numbered as
    given. Call :meth:`start` first; give :meth:`told` to :func:`sim.kernel.drive.drive`. Failures:
    :class:`~sim.control.cluster.failures.Failures`.
    """

    def start(self) -> None:
        """The nodes and replicas there are at the start, ready now. :raises SimulationError: they do not fit."""
        self.machines.begin()
        fresh = [self._create(group) for group in self.groups for _ in range(group.plan.replicas)]
        for replica in sorted(fresh, key=lambda replica: -replica.group.plan.gpus):
            self._place(replica, self._room_at_start(replica.group))
            self._warm(replica)
            replica.phase = READY
            replica.running = True
            replica.ready_since = self.env.now
        for replica in fresh:
            self._open(replica)
        for group in self.groups:
            for _ in range(group.plan.warm.asleep if group.plan.warm else 0):
                self._lull(group)
        for pool in self.machines.pools:
            self._schedule(pool)
            self.machines.review(pool)

    def scale(self, deployment: int, replicas: int, reason: str, /, **numbers: Any) -> None:
        """It shall have so many replicas. ``numbers`` go to the log with the reason, but for those it says itself."""
        if replicas < 0:
            raise ValueError(f"replicas {replicas}: 0 or more")
        group = self.groups[deployment]
        if replicas == group.target:
            return
        before, group.target = group.target, replicas
        own = {"deployment": group.plan.name, "replica": -1, "before": before, "after": replicas}
        self.log("scale", self.env.now, reason, **(numbers | own))
        self._settle(group, reason)

    def replace(
        self,
        deployment: int,
        reason: str,
        *,
        start: Start | None = None,
        pace: float = 1.0,
        max_surge: int | float = 0.25,
        max_unavailable: int | float = 0.25,
    ) -> int:
        """A rolling update to a new generation, its number: it starts as ``start`` says (default: as the last), and its steps take
        ``pace`` times the profile's. Surge and unavailable as a Kubernetes Deployment takes them: floats are shares, ints replicas."""
        group = self.groups[deployment]
        fenceposts(max_surge, max_unavailable, group.target)
        group.generations.append(Generation(group.generations[-1].start if start is None else start, pace))
        group.rollout = (max_surge, max_unavailable)
        self.log(
            "rollout", self.env.now, reason, deployment=group.plan.name, generation=group.generation, pace=pace
        )  # fmt: skip
        for sleeper in list(group.sleepers):
            self._end_sleep(group, sleeper)
            if sleeper.gpus:
                self._free(sleeper.node, sleeper.gpus, group.pool)
        self._settle(group, reason)
        return group.generation

    def told(self, when: float, what: str, whom: int) -> None:
        """What the data plane has to tell: a closed replica has ``drained``."""
        replica = self._alive.get(whom)
        if what == "drained" and replica is not None and replica.phase == DRAINING:
            self._drained(replica, "drained", sleep=replica.may_sleep)

    # what can be read

    def target(self, deployment: int) -> int:
        """Replicas last asked for."""
        return self.groups[deployment].target

    def states(self, deployment: int) -> list[ReplicaState]:
        """All replicas that are not gone, oldest first, draining ones included; sleeping engines are none."""
        return [replica.state() for replica in self.groups[deployment].replicas]

    def asleep(self, deployment: int) -> int:
        """Engines that sleep."""
        return len(self.groups[deployment].sleepers)

    def nodes(self, pool: str | None = None) -> list[NodeState]:
        """The machines of a pool, or of all: those that are there, coming or failed."""
        on: dict[int, list[int]] = {}
        for replica in self._alive.values():
            if replica.node is not None:
                on.setdefault(replica.node.number, []).append(replica.number)
        return [
            NodeState(
                node.number, node.plan.name, node.zone, node.state, node.cordoned, len(node.free),
                tuple(on.get(node.number, ())),
            )
            for each in self.machines.pools
            if pool is None or each.plan.name == pool
            for node in each.nodes
        ]  # fmt: skip

    def cold_start(self, deployment: int, *, provision: bool = False, cached: bool = True) -> float:
        """Seconds that a start is expected to take when nothing else loads: medians, the wait for the probe and the endpoint included.

        ``cached``: the image is on the node. ``provision``: a node has to be had first, which has no image."""
        group = self.groups[deployment]
        start = group.generations[-1].start
        image = 0.0
        if provision or not cached:
            slowest = min(group.pool.plan.network, group.pool.plan.store)
            image = start.image_bytes / slowest if start.pull is None else start.pull.median
            image += 0.0 if start.extract is None else start.extract.median
            if (start.image or group.plan.name) in group.pool.plan.images:
                image = 0.0
        process = start.process
        if start.readiness_period > 0.0:
            process = start.readiness_period * -(-process // start.readiness_period)
        node: Distribution = group.pool.plan.provision
        return (node.median if provision else 0.0) + image + process + start.endpoint_delay

    def usage(self, end: float) -> Usage:
        """Who had what until ``end``."""
        nodes = [cut_node(interval, end) for interval in self.machines.intervals]
        replicas: list[ReplicaInterval] = list(self._intervals)
        for replica in self._alive.values():
            node = -1 if replica.node is None else replica.node.number
            replicas.append(
                ReplicaInterval(
                    replica.number, replica.group.plan.name, node, replica.gpus, replica.created, replica.placed,
                    replica.opened, replica.closed, replica.lost_at,
                )
            )  # fmt: skip
        replicas += [
            self._asleep(group, sleeper, _NAN) for group in self.groups for sleeper in group.sleepers if sleeper.gpus
        ]
        cut = [cut_replica(interval, end) for interval in replicas]
        found = sorted((item for item in cut if item is not None), key=lambda item: (item.replica, item.created))
        return Usage(tuple(item for item in nodes if item is not None), tuple(found))

    # what it should have

    def _settle(self, group: Group, reason: str) -> None:
        while self._step(group, reason):
            pass
        self._schedule(group.pool)

    def _step(self, group: Group, reason: str) -> bool:
        """One step of what a Deployment and its ReplicaSets do; False when there is none to do."""
        counted = group.counted
        new = [replica for replica in counted if replica.generation == group.generation]
        old = [replica for replica in counted if replica.generation != group.generation]
        surge, unavailable = fenceposts(*group.rollout, group.target) if old else (0, 0)
        more = new_size(group.target, surge, len(counted), len(new)) - len(new)
        if more > 0:
            for _ in range(more):
                if not self._wake(group):
                    self._create(group)
            return True
        if more < 0:
            self._fewer(group, new, -more, reason)
            return True
        ready = (sum(replica.seems_ready for replica in old), sum(replica.seems_ready for replica in new))
        fewer = fewer_old(group.target, unavailable, len(old), ready[0], len(new), ready[1])
        self._fewer(group, old, fewer, reason)
        return fewer > 0

    def _fewer(self, group: Group, among: Sequence[Replica], count: int, reason: str) -> None:
        """Remove ``count`` of them, in the order in which a ReplicaSet deletes pods."""
        on: dict[int, int] = {}
        for replica in group.counted:
            if replica.node is not None:
                on[replica.node.number] = on.get(replica.node.number, 0) + 1
        pods = [_pod(replica, on) for replica in among]
        for index in order(pods, self.env.now)[:count]:
            replica = among[index]
            if replica.phase == READY and not replica.stopped:
                self._close(replica, reason, group.plan.grace)
            else:
                self._remove(replica, reason)

    # the start of the run

    def _room_at_start(self, group: Group) -> Node:
        node = self._room(group)
        if node is None:
            plan = group.pool.plan
            raise SimulationError(
                f"deployments.{group.plan.name}: {group.plan.replicas} replicas of {group.plan.gpus} GPUs do not fit at the start:"
                f" pool {plan.name} has {plan.nodes} nodes of {plan.gpus} GPUs"
            )
        return node

    def _warm(self, replica: Replica) -> None:
        """Its node has what it would have read."""
        node, start = replica.node, replica.plan
        assert node is not None
        node.images.add(start.image or replica.group.plan.name)
        self.starter.keep(replica)

    def _lull(self, group: Group) -> None:
        warm, node = group.plan.warm, self._room_at_start(group)
        assert warm is not None
        if warm.level == 1 and not node.memory.hold(warm.bytes):
            raise SimulationError(
                f"deployments.{group.plan.name}: node {node.number} has no {warm.bytes:g} bytes of memory for a sleeping engine"
            )
        gpus = node.take(group.plan.gpus) if warm.keeps_gpus else ()
        node.images.add(group.plan.start.image or group.plan.name)
        node.sleepers += 1
        group.sleepers.append(Sleeper(-1, node, gpus, group.generation, self.env.now))


def _pod(replica: Replica, on: dict[int, int]) -> Pod:
    return Pod(
        uid=f"{stable_hash(f'{replica.group.plan.name}/{replica.index}'):020d}",
        assigned=replica.node is not None,
        phase="running" if replica.running else "pending",
        ready=replica.seems_ready,
        rank=1 if replica.node is None else on.get(replica.node.number, 1),
        ready_since=replica.ready_since if not isnan(replica.ready_since) else float("-inf"),
        restarts=replica.restarts,
        created=replica.created,
    )
