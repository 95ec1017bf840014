"""What breaks for good until it is repaired or started again: GPUs, machines, processes, zones."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

from sim.control.faults.plans import REPLICA, GpuFailure, NodeFailure, ReplicaCrash, ZoneLoss
from sim.control.faults.scene import Hit, Scene
from sim.control.faults.times import Place

if TYPE_CHECKING:
    from simpy import Event

    from sim.control.cluster.node import Node
    from sim.control.cluster.replica import Replica

__all__ = ["crash", "fail_gpu", "fail_node", "lose_zone"]


def _standing(scene: Scene, plan: NodeFailure) -> Callable[[Place], Node | None]:
    def who(place: Place) -> Node | None:
        node = scene.node_at(place)
        return node if node is not None and plan.zone in (None, node.zone) else None

    return who


def fail_node(scene: Scene, plan: NodeFailure) -> Generator[Event, Any, None]:
    """Machines fail, and are repaired."""

    def hit(hits: Sequence[Hit]) -> None:
        for node, _, seconds in hits:
            _break(scene, plan, node, seconds, {})

    places = scene.machines(plan.pools)
    return scene.each(
        plan.name, plan.when, places, plan.repair, _standing(scene, plan), hit, count=plan.count, share=plan.share
    )


def fail_gpu(scene: Scene, plan: GpuFailure) -> Generator[Event, Any, None]:
    """GPUs fail. Where nothing runs on one, a failure that takes only the replica takes nothing."""

    def hit(hits: Sequence[Hit]) -> None:
        for node, gpu, seconds in hits:
            if plan.takes == REPLICA:
                _crash_on(scene, plan, node, gpu)
            else:
                _break(scene, plan, node, seconds, {"gpu": gpu})

    places = scene.machines(plan.pools, parts=True)
    return scene.each(
        plan.name, plan.when, places, plan.repair, _standing(scene, plan), hit, count=plan.count, share=plan.share
    )


def _break(scene: Scene, plan: NodeFailure, node: Node, seconds: float, numbers: dict[str, Any]) -> None:
    reason = f"{plan.name}: the {'GPU' if numbers else 'machine'} failed"
    repair = seconds if seconds == seconds else None
    scene.log(
        "fault", scene.now, reason, fault=plan.name, pool=node.plan.name, node=node.number, zone=node.zone,
        repair=repair, **numbers,
    )  # fmt: skip
    if scene.cluster.fail_node(node.number, reason, plan.detected_after):
        scene.repair(node, seconds, plan.name)


def _crash_on(scene: Scene, plan: GpuFailure, node: Node, gpu: int) -> None:
    for group in scene.cluster.groups:
        for replica in group.replicas:
            if replica.node is node and gpu in replica.gpus:
                _crash(scene, plan.name, replica, plan.detected_after or 0.0, {"node": node.number, "gpu": gpu})
                return


def crash(scene: Scene, plan: ReplicaCrash) -> Generator[Event, Any, None]:
    """Processes die, and start again."""

    def hit(hits: Sequence[Hit]) -> None:
        for replica, _, _ in hits:
            _crash(scene, plan.name, replica, plan.detected_after, {})

    places = scene.seats(plan.deployments)
    return scene.each(
        plan.name, plan.when, places, None, scene.replica_at, hit, count=plan.count, share=plan.share
    )  # fmt: skip


def _crash(scene: Scene, fault: str, replica: Replica, detected_after: float, numbers: dict[str, Any]) -> None:
    reason = f"{fault}: the process {'hangs' if detected_after > 0.0 else 'died'}"
    if scene.cluster.fail_replica(replica.number, reason, detected_after):
        scene.log(
            "fault", scene.now, reason, deployment=replica.group.plan.name, replica=replica.number, fault=fault,
            detected_after=detected_after, **numbers,
        )  # fmt: skip


def lose_zone(scene: Scene, plan: ZoneLoss) -> Generator[Event, Any, None]:
    """A zone is lost, and comes back when no fault holds it any more."""
    zone = plan.zone

    def hit(seconds: float) -> None:
        reason = f"{plan.name}: zone {zone} is lost"
        scene.lost[zone] = scene.lost.get(zone, 0) + 1
        nodes = scene.cluster.fail_zone(zone, reason, plan.detected_after) if scene.lost[zone] == 1 else []
        lasts = seconds if seconds == seconds else None
        scene.log("fault", scene.now, reason, fault=plan.name, zone=zone, nodes=len(nodes), lasts=lasts)
        scene.after(seconds, back)

    def back() -> None:
        scene.lost[zone] -= 1
        if scene.lost[zone] == 0:
            scene.cluster.restore_zone(zone)
            scene.log("repair", scene.now, f"zone {zone} is back", fault=plan.name, zone=zone)
            scene.zones_are_back()

    return scene.whole(plan.name, plan.when, plan.lasts, hit)
