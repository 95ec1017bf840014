"""What leaves replicas alive: slow ones, those out of the gateway's reach, and autoscalers without metrics."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

from sim.control.faults.ailments import Ailment, Scope
from sim.control.faults.plans import NODE, MetricsOutage, Partition, Slowdown
from sim.control.faults.scene import Hit, Scene
from sim.control.faults.times import Lottery, Place

if TYPE_CHECKING:
    from simpy import Event

    from sim.control.cluster.node import Node
    from sim.control.cluster.replica import Replica

__all__ = ["blind", "partition", "slow"]


def _in(scene: Scene, pools: tuple[str, ...], zone: str | None) -> Callable[[Place], Replica | None]:
    """The replica at a place, if it is in these pools and that zone."""

    def who(place: Place) -> Replica | None:
        replica = scene.replica_at(place)
        return replica if replica is not None and Scope(pools=pools, zone=zone).covers(replica) else None

    return who


def slow(scene: Scene, plan: Slowdown) -> Generator[Event, Any, None]:
    """Machines, or replicas, that take longer for a while."""

    def node_at(place: Place) -> Node | None:
        node = scene.node_at(place)
        return node if node is not None and plan.zone in (None, node.zone) else None

    def hit(hits: Sequence[Hit]) -> None:
        for found, _, seconds in hits:
            if plan.of == NODE:
                scope = Scope(nodes=frozenset((found.number,)))
                _ail(
                    scene, plan, Ailment(scope, factor=plan.factor), seconds, {"node": found.number, "zone": found.zone}
                )
            else:
                scope = Scope(replicas=frozenset((found.number,)))
                who = {"deployment": found.group.plan.name, "replica": found.number}
                _ail(scene, plan, Ailment(scope, factor=plan.factor), seconds, who)

    if plan.of == NODE:
        places: list[Place] = scene.machines(plan.pools)
        at: Callable[[Place], Node | Replica | None] = node_at
    else:
        places = scene.seats(plan.deployments)
        at = _in(scene, plan.pools, plan.zone)
    return scene.each(plan.name, plan.when, places, plan.lasts, at, hit, count=plan.count, share=plan.share)


def _ail(scene: Scene, plan: Slowdown, ailment: Ailment, seconds: float, who: dict[str, Any]) -> None:
    reason = f"{plan.name}: steps take {plan.factor:g} times as long"
    met = scene.ailments.begin(ailment, scene.now)
    lasts = seconds if seconds == seconds else None
    scene.log("fault", scene.now, reason, fault=plan.name, factor=plan.factor, lasts=lasts, replicas=met, **who)
    who = {name: value for name, value in who.items() if name != "replica"}  # it may be gone by then

    def over() -> None:
        left = scene.ailments.end(ailment, scene.now)
        scene.log("repair", scene.now, "as fast as before", fault=plan.name, replicas=left, **who)

    scene.after(seconds, over)


def partition(scene: Scene, plan: Partition) -> Generator[Event, Any, None]:
    """Replicas that the gateway cannot reach for a while."""
    some = plan.count is not None or plan.share is not None
    everything = Scope(pools=plan.pools, deployments=plan.deployments, zone=plan.zone)
    for name in plan.pools:
        scene.pool(name)
    places = scene.seats(plan.deployments)
    lottery = Lottery(plan.name, places, None, scene.streams) if some else None

    def hit(seconds: float) -> None:
        if lottery is None:
            begin(everything, seconds)
            return

        def chosen(hits: Sequence[Hit]) -> None:
            begin(Scope(replicas=frozenset(replica.number for replica, _, _ in hits)), seconds)

        scene.drawn(lottery, _in(scene, plan.pools, plan.zone), chosen, plan.count, plan.share)

    def begin(scope: Scope, seconds: float) -> None:
        ailment = Ailment(scope, cut=True)
        met = scene.ailments.begin(ailment, scene.now)
        numbers: dict[str, Any] = {"pools": list(plan.pools), "deployments": list(plan.deployments), "zone": plan.zone}
        scene.log(
            "fault", scene.now, f"{plan.name}: the gateway cannot reach them", fault=plan.name, replicas=met,
            lasts=seconds, **numbers,
        )  # fmt: skip

        def over() -> None:
            left = scene.ailments.end(ailment, scene.now)
            scene.log("repair", scene.now, "they can be reached again", fault=plan.name, replicas=left)

        scene.after(seconds, over)

    return scene.whole(plan.name, plan.when, plan.lasts, hit)


def blind(scene: Scene, plan: MetricsOutage) -> Generator[Event, Any, None]:
    """Autoscalers see nothing for a while."""

    def hit(seconds: float) -> None:
        scene.operator.blind += 1
        scene.log("fault", scene.now, f"{plan.name}: autoscalers get no metrics", fault=plan.name, lasts=seconds)
        scene.after(seconds, over)

    def over() -> None:
        scene.operator.blind -= 1
        scene.log("repair", scene.now, "metrics are there again", fault=plan.name)

    return scene.whole(plan.name, plan.when, plan.lasts, hit)
