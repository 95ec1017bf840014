"""What one replica goes through: created, placed, started, ready, closed, drained, gone; asleep and awake again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from math import isnan
from typing import TYPE_CHECKING, Any

from simpy import Environment, Event

from sim.control.cluster.machines import Machines, Pool, later
from sim.control.cluster.node import UP, Node
from sim.control.cluster.placement import choose
from sim.control.cluster.plans import PoolPlan, ReplicaPlan, WarmPool
from sim.control.cluster.replica import GONE, Group, Replica, Sleeper
from sim.control.cluster.starting import Starter
from sim.control.cluster.transfer import Traffic
from sim.control.cluster.usage import ReplicaInterval
from sim.control.scaling.view import DRAINING, PENDING, READY, STARTING
from sim.errors import SimulationError
from sim.kernel.clock import on_grid

if TYPE_CHECKING:
    import numpy as np

    from sim.control.cluster.plane import DataPlane, Log

__all__ = ["Lifecycle"]

_NAN = float("nan")


class Lifecycle(ABC):
    """Replicas on machines, one by one. What each deployment should have is decided by :class:`~sim.control.cluster.cluster.Cluster`."""

    def __init__(
        self,
        env: Environment,
        plane: DataPlane,
        pools: Sequence[PoolPlan],
        deployments: Sequence[ReplicaPlan],
        streams: Callable[[str], np.random.Generator],
        log: Log,
    ) -> None:
        self.env = env
        self.plane = plane
        self.log = log
        self.traffic = Traffic(env)
        self.starter = Starter(env, self.traffic, streams)
        self.machines = Machines(env, pools, streams, log, self._schedule)
        self._alive: dict[int, Replica] = {}  # by number in the fleet
        self._intervals: list[ReplicaInterval] = []
        by_name = {pool.plan.name: pool for pool in self.machines.pools}
        self.groups: list[Group] = []
        for number, plan in enumerate(deployments):
            if plan.pool not in by_name:
                raise SimulationError(f"deployments.{plan.name}: there is no pool {plan.pool!r}")
            pool = by_name[plan.pool]
            if not 1 <= plan.gpus <= pool.plan.gpus:
                raise SimulationError(
                    f"deployments.{plan.name}: {plan.gpus} GPUs of a replica; a node of pool {plan.pool} has {pool.plan.gpus}"
                )
            self.groups.append(Group(number, plan, pool))

    @abstractmethod
    def _settle(self, group: Group, reason: str) -> None:
        """Bring the deployment to what it should be."""

    # creation and placement

    def _create(self, group: Group, generation: int | None = None) -> Replica:
        number = self.plane.create(group.number)
        generation = group.generation if generation is None else generation
        draws = self.starter.draw(group, generation)
        replica = Replica(number, group.created, group, generation, self.env.now, draws)
        group.created += 1
        group.replicas.append(replica)
        self._alive[number] = replica
        pace = group.generations[generation].pace
        if pace != 1.0:
            self.plane.pace(number, pace, self.env.now)
        return replica

    def _schedule(self, pool: Pool) -> None:
        """Place what waits for GPUs, oldest first (what does not fit holds nobody up), and ask for the nodes that are missing."""
        groups = [group for group in self.groups if group.pool is pool]
        waiting = [replica for group in groups for replica in group.replicas if replica.phase == PENDING]
        left: list[int] = []
        widest = pool.widest
        for replica in sorted(waiting, key=lambda replica: (replica.created, replica.number)):
            node = self._room(replica.group) if replica.group.plan.gpus <= widest else None
            if node is None:
                left.append(replica.group.plan.gpus)
            else:
                self._place(replica, node)
                widest = pool.widest
                self.env.process(self._run(replica))
        self.machines.grow(pool, left)

    def _room(self, group: Group) -> Node | None:
        same: dict[int, int] = {}
        for replica in group.counted:
            if replica.node is not None:
                same[replica.node.number] = same.get(replica.node.number, 0) + 1
        plan = group.pool.plan
        chosen = choose(self.machines.rooms(group.pool, same), group.plan.gpus, plan.placement)
        return None if chosen is None else self.machines.nodes[chosen]

    def _place(self, replica: Replica, node: Node, gpus: tuple[int, ...] | None = None) -> None:
        """On ``node``, with GPUs that it has already or that are free there."""
        now, group = self.env.now, replica.group
        if node.state != UP:
            raise SimulationError(f"replica {replica.number} is placed on node {node.number}, which is {node.state}")
        replica.node = node
        replica.gpus = node.take(group.plan.gpus) if gpus is None else gpus
        replica.placed = now
        replica.phase = STARTING
        self.log(
            "place",
            now,
            group.pool.plan.placement,
            deployment=group.plan.name,
            replica=replica.number,
            node=node.number,
            zone=node.zone,
            gpus=list(replica.gpus),
            waited=now - replica.created,
        )

    # the start

    def _run(self, replica: Replica, wait: float = 0.0) -> Generator[Event, Any, None]:
        yield from self.starter.start(replica, wait)
        yield from self._serve(replica)

    def _serve(self, replica: Replica) -> Generator[Event, Any, None]:
        """It is ready; once its endpoint is known, requests go there."""
        if replica.stopped:
            return
        self._ready(replica)
        if replica.plan.endpoint_delay > 0.0:
            yield self.env.timeout(on_grid(replica.plan.endpoint_delay))
        if replica.phase == READY and not replica.stopped:
            self._open(replica)

    def _ready(self, replica: Replica) -> None:
        now, group = self.env.now, replica.group
        replica.phase = READY
        replica.ready_since = now
        self.log(
            "ready",
            now,
            "its probe succeeded" if "wake" not in replica.spent else "it is awake",
            deployment=group.plan.name,
            replica=replica.number,
            seconds=now - replica.created,
            waited=replica.placed - replica.created,
            phases=dict(replica.spent),
        )
        self._settle(group, "ready")

    def _open(self, replica: Replica) -> None:
        node = replica.node
        if node is None or node.state != UP:
            raise SimulationError(f"replica {replica.number} opens on a node that is not there")
        replica.opened = self.env.now
        self.plane.open(replica.number, self.env.now)

    # the end

    def _close(self, replica: Replica, reason: str, grace: float, *, sleep: bool = True) -> None:
        """It gets nothing new; when it has served what it has, or after ``grace``, it is gone (or asleep)."""
        now = self.env.now
        replica.phase = DRAINING
        replica.closed = now
        self.log("drain", now, reason, deployment=replica.group.plan.name, replica=replica.number, grace=grace)
        if isnan(replica.opened) or replica.stopped:
            self._remove(replica, reason)
            return
        self.plane.close(replica.number, now)
        if self.plane.idle(replica.number):
            self._drained(replica, reason, sleep=sleep)
            return
        replica.may_sleep = sleep
        later(self.env, grace, lambda: self._overdue(replica))

    def _drained(self, replica: Replica, reason: str, *, sleep: bool) -> None:
        if replica.phase != DRAINING:
            return
        if not (sleep and self._sleep(replica)):
            self._remove(replica, reason)

    def _overdue(self, replica: Replica) -> None:
        if replica.phase == DRAINING:
            self._remove(replica, "its grace period is over")

    def _remove(self, replica: Replica, reason: str, *, keeps_gpus: bool = False) -> int:
        """It is gone at once; how many requests that cost. ``keeps_gpus``: who comes in its place has them."""
        now, group = self.env.now, replica.group
        self._stop(replica)
        failed = 0 if replica.dead else self.plane.kill(replica.number, now, reason)
        if isnan(replica.closed):
            replica.closed = now
        self._book(replica)
        replica.phase = GONE
        group.replicas.remove(replica)
        del self._alive[replica.number]
        self.log(
            "gone", now, reason, deployment=group.plan.name, replica=replica.number, failed=failed,
            seconds=now - replica.created,
        )  # fmt: skip
        if replica.node is not None and replica.gpus and not keeps_gpus:
            self._free(replica.node, replica.gpus, group.pool)
        return failed

    def _stop(self, replica: Replica) -> None:
        """Nothing runs in it any more."""
        replica.stopped = True
        if replica.flow is not None:
            self.traffic.stop(replica.flow)
            replica.flow = None

    def _book(self, replica: Replica) -> None:
        node = replica.node
        gone = self.env.now if isnan(replica.lost_at) else replica.lost_at
        self._intervals.append(
            ReplicaInterval(
                replica.number, replica.group.plan.name, -1 if node is None else node.number, replica.gpus,
                replica.created, replica.placed, replica.opened, min(replica.closed, gone), gone,
            )
        )  # fmt: skip

    def _free(self, node: Node, gpus: tuple[int, ...], pool: Pool) -> None:
        if node.state == UP:
            node.give(gpus, self.env.now)
            self._schedule(pool)
            self.machines.review(pool)

    # asleep

    def _sleep(self, replica: Replica) -> bool:
        """Whether it went to sleep rather than away."""
        group, node, now = replica.group, replica.node, self.env.now
        warm = group.plan.warm
        if warm is None or node is None or not node.takes or len(group.sleepers) >= warm.size:
            return False
        if replica.generation != group.generation or (warm.level == 1 and not node.memory.hold(warm.bytes)):
            return False
        gpus = replica.gpus if warm.keeps_gpus else ()
        node.sleepers += 1
        group.sleepers.append(Sleeper(replica.number, node, gpus, replica.generation, now))
        self.log(
            "sleep", now, "not needed now", deployment=group.plan.name, replica=replica.number, level=warm.level,
            node=node.number, keeps_gpus=warm.keeps_gpus,
        )  # fmt: skip
        self._remove(replica, "it sleeps", keeps_gpus=warm.keeps_gpus)
        return True

    def _wake(self, group: Group) -> bool:
        """Whether a sleeping engine could be woken: the one that went to sleep last, where its GPUs are free."""
        for sleeper in reversed(group.sleepers):
            node = sleeper.node
            if node.takes and (sleeper.gpus or len(node.free) >= group.plan.gpus):
                break
        else:
            return False
        replica = self._create(group)
        self._end_sleep(group, sleeper)
        self._place(replica, node, sleeper.gpus or None)
        self.log(
            "wake", self.env.now, "more replicas are wanted", deployment=group.plan.name, replica=replica.number,
            node=node.number, slept=self.env.now - sleeper.since,
        )  # fmt: skip
        self.env.process(self._awake(replica))
        return True

    def _awake(self, replica: Replica) -> Generator[Event, Any, None]:
        yield from self.starter.wake(replica)
        yield from self._serve(replica)

    def _end_sleep(self, group: Group, sleeper: Sleeper) -> None:
        """It sleeps no more; its GPUs, if it kept any, are the caller's."""
        node, warm = sleeper.node, group.plan.warm
        assert isinstance(warm, WarmPool)
        group.sleepers.remove(sleeper)
        node.sleepers -= 1
        if node.occupants == 0:
            node.empty_since = self.env.now
        if warm.level == 1:
            node.memory.held -= warm.bytes
        if sleeper.gpus:
            self._intervals.append(self._asleep(group, sleeper, self.env.now))

    def _asleep(self, group: Group, sleeper: Sleeper, end: float) -> ReplicaInterval:
        return ReplicaInterval(
            sleeper.number, group.plan.name, sleeper.node.number, sleeper.gpus, sleeper.since, sleeper.since, _NAN, _NAN,
            end, asleep=True,
        )  # fmt: skip
