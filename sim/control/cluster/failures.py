"""What goes wrong with replicas, nodes and zones, when it is noticed, and what comes in their place. Others decide that it does."""

from __future__ import annotations

from sim.control.cluster.lifecycle import Lifecycle
from sim.control.cluster.machines import later
from sim.control.cluster.node import COMING, FAILED, LEFT, UP, Node
from sim.control.cluster.replica import GONE, Group, Replica
from sim.control.scaling.view import DRAINING, READY, STARTING

__all__ = ["Failures"]


class Failures(Lifecycle):
    """Until a loss is noticed, the gateway sends requests to what is no more (:meth:`~sim.control.cluster.plane.DataPlane.cut`), and
    they fail; from then on it does not, and after a while replicas are replaced."""

    def fail_replica(self, replica: int, reason: str, detected_after: float = 0.0) -> bool:
        """It crashes, or (``detected_after`` > 0) hangs until a liveness probe finds out. Its container is started again in its place:
        image and page cache are there, GPUs stay its own. False when there is nothing to fail."""
        found = self._alive.get(replica)
        if found is None or found.stopped or found.phase not in (STARTING, READY, DRAINING):
            return False
        if detected_after <= 0.0:
            self._crash(found, reason)
            return True
        self._cut(found)
        later(self.env, detected_after, lambda: self._crash(found, reason))
        return True

    def fail_node(
        self, node: int, reason: str, detected_after: float | None = None, toleration: float | None = None
    ) -> bool:
        """It is dead, with all on it. ``detected_after`` (default: the pool's ``monitor``) the gateway knows, ``toleration`` later
        (default: the pool's) its replicas are replaced. It counts as one of the pool's until it is restored. False: it is not up."""
        found = self.machines.node(node)
        plan = found.plan
        if found.state == COMING:
            self._cancel(found, reason)
            return True
        if found.state != UP:
            return False
        self._lose(
            found,
            LEFT if found.leaving else FAILED,
            reason,
            plan.monitor if detected_after is None else detected_after,
            plan.toleration if toleration is None else toleration,
        )
        return True

    def restore_node(self, node: int) -> bool:
        """A failed node is back: its disk as it was, its memory empty. Replicas that were not replaced yet start there again.
        False: it has not failed."""
        found = self.machines.node(node)
        if found.state != FAILED or found.zone in self.machines.pool_of(found).down:
            return False
        lost = self._lost(found)
        self.machines.back(found)
        self.log("restore", self.env.now, "the node is back", pool=found.plan.name, node=node)
        found.free = sorted(set(range(found.plan.gpus)) - {gpu for replica in lost for gpu in replica.gpus})
        found.occupants = len(lost)
        for replica in lost:
            self._restart(replica, "the node is back", 0.0)
        pool = self.machines.pool_of(found)
        self._schedule(pool)
        self.machines.review(pool)
        return True

    def cordon(self, node: int) -> None:
        """Nothing new is placed there."""
        found = self.machines.node(node)
        found.cordoned = True
        self._schedule(self.machines.pool_of(found))

    def uncordon(self, node: int) -> None:
        """Replicas may be placed there again."""
        found = self.machines.node(node)
        if found.leaving or found.state == LEFT:
            return
        found.cordoned = False
        pool = self.machines.pool_of(found)
        self._schedule(pool)
        self.machines.review(pool)

    def reclaim(
        self,
        node: int,
        notice: float,
        reason: str,
        *,
        drain_on_notice: bool = True,
        detected_after: float | None = None,
    ) -> bool:
        """The cloud takes a spot machine back in ``notice`` seconds. From now on nothing is placed there, and it no longer counts as
        one of the pool's. With ``drain_on_notice`` its replicas are closed and replaced at once, and have their grace period or the notice,
        whichever is shorter; else they serve to the end, and are replaced once the loss is noticed. False: it is not up."""
        found = self.machines.node(node)
        if found.state == COMING:
            self._cancel(found, reason)
            return True
        if found.state != UP or found.leaving:
            return False
        found.cordoned = found.leaving = True
        self.log("reclaim", self.env.now, reason, pool=found.plan.name, node=node, notice=notice)
        if drain_on_notice:
            touched: list[Group] = []
            for replica in self._on(found):
                if replica.phase == STARTING:
                    self._remove(replica, reason)
                elif replica.phase == READY:
                    self._close(replica, reason, min(replica.group.plan.grace, notice), sleep=False)
                touched.append(replica.group)
            for group in dict.fromkeys(touched):
                self._settle(group, reason)
        self._schedule(self.machines.pool_of(found))
        epoch = found.epoch

        def take() -> None:
            if found.epoch == epoch:
                seen = found.plan.monitor if detected_after is None else detected_after
                self._lose(found, LEFT, reason, seen, 0.0)

        later(self.env, notice, take)
        return True

    def fail_zone(self, zone: str, reason: str, detected_after: float | None = None) -> list[int]:
        """All nodes of a zone are lost, and none can be had there until :meth:`restore_zone`. The nodes that were up."""
        lost: list[int] = []
        for pool in self.machines.pools:
            if zone not in pool.plan.zones:
                continue
            pool.down.add(zone)
            here = [node for node in pool.nodes if node.zone == zone]
            for node in here:
                if node.state == UP:
                    node.by_zone = node.cordoned = True  # so that nothing moves from the first to the last
                    lost.append(node.number)
            for node in here:
                self.fail_node(node.number, reason, detected_after)
        return lost

    def restore_zone(self, zone: str) -> None:
        """The zone is back, and with it the nodes that failed because of it."""
        for pool in self.machines.pools:
            pool.down.discard(zone)
            for node in [node for node in pool.nodes if node.zone == zone and node.by_zone]:
                self.restore_node(node.number)
            self._schedule(pool)

    # replicas

    def _crash(self, replica: Replica, reason: str) -> None:
        if replica.phase == GONE or replica.node is None or replica.node.state != UP:
            return
        self.log("fail", self.env.now, reason, deployment=replica.group.plan.name, replica=replica.number)
        if replica.phase == DRAINING:
            self._remove(replica, reason)
            return
        plan = replica.group.plan
        ran = self.env.now - (replica.placed if replica.ready_since != replica.ready_since else replica.ready_since)
        replica.crashes = 1 if ran >= plan.backoff_reset else replica.crashes + 1
        wait = 0.0
        if replica.crashes > 1:
            doublings = min(replica.crashes - 2, 1000)  # 2.0**1024 is no float
            wait = min(plan.backoff * 2.0**doublings, plan.backoff_most)
        self._restart(replica, reason, wait)

    def _restart(self, replica: Replica, reason: str, wait: float) -> None:
        """Another comes in its place, on its GPUs."""
        group, node = replica.group, replica.node
        assert node is not None
        self._remove(replica, reason, keeps_gpus=True)
        fresh = self._create(group, replica.generation)
        fresh.created = replica.created
        fresh.restarts = replica.restarts + 1
        fresh.crashes = replica.crashes
        self._place(fresh, node, replica.gpus)
        self.env.process(self._run(fresh, wait))
        self._settle(group, reason)

    def _cut(self, replica: Replica) -> None:
        self._stop(replica)
        if replica.opened == replica.opened:
            self.plane.cut(replica.number, True, self.env.now)

    # nodes

    def _on(self, node: Node) -> list[Replica]:
        return [replica for replica in list(self._alive.values()) if replica.node is node]

    def _lost(self, node: Node) -> list[Replica]:
        return [replica for replica in self._on(node) if replica.lost_at == replica.lost_at]

    def _cancel(self, node: Node, reason: str) -> None:
        """A node that was asked for does not come."""
        pool = self.machines.pool_of(node)
        self.machines.end(node, LEFT, reason)
        self.log("fail", self.env.now, reason, pool=pool.plan.name, node=node.number, zone=node.zone)
        self._schedule(pool)

    def _lose(self, node: Node, state: str, reason: str, detected_after: float, toleration: float) -> None:
        now = self.env.now
        pool = self.machines.pool_of(node)
        for group in self.groups:
            for sleeper in [sleeper for sleeper in group.sleepers if sleeper.node is node]:
                self._end_sleep(group, sleeper)
        self.machines.end(node, state, reason)
        for flow in node.pull_flows:
            self.traffic.stop(flow)
        here = self._on(node)
        self.log("fail", now, reason, pool=node.plan.name, node=node.number, zone=node.zone, replicas=len(here))
        for replica in here:
            replica.lost_at = now
            if replica.phase == DRAINING:
                self._remove(replica, reason)
            else:
                self._cut(replica)
        epoch = node.epoch
        if detected_after > 0.0:
            later(self.env, detected_after, lambda: self._notice(node, epoch, reason, toleration))
        else:
            self._notice(node, epoch, reason, toleration)
        self._schedule(pool)

    def _notice(self, node: Node, epoch: int, reason: str, toleration: float) -> None:
        """The gateway and the controllers know."""
        if node.epoch != epoch:
            return
        touched: list[Group] = []
        for replica in self._lost(node):
            replica.noticed = True
            touched.append(replica.group)
            if replica.opened == replica.opened:
                self.plane.kill(replica.number, self.env.now, reason)
                replica.dead = True
        for group in dict.fromkeys(touched):
            self._settle(group, reason)
        if toleration > 0.0:
            later(self.env, toleration, lambda: self._evict(node, epoch, reason))
        else:
            self._evict(node, epoch, reason)

    def _evict(self, node: Node, epoch: int, reason: str) -> None:
        """Its replicas are taken to be gone, and replaced."""
        if node.epoch != epoch:
            return
        touched: list[Group] = []
        for replica in self._lost(node):
            touched.append(replica.group)
            self._remove(replica, reason)
        for group in dict.fromkeys(touched):
            self._settle(group, reason)
