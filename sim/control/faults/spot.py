"""Spot machines: taken back by the cloud, and for a while not to be had again."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from sim.control.cluster.machines import Pool
from sim.control.cluster.node import Node
from sim.control.faults.plans import SpotReclaim
from sim.control.faults.scene import Hit, Scene
from sim.control.faults.times import Place, Renewal, strikes
from sim.kernel.clock import on_grid

if TYPE_CHECKING:
    from simpy import Event

    from sim.control.faults.times import Streams

__all__ = ["reclaim", "shocks"]


def reclaim(scene: Scene, plan: SpotReclaim) -> Generator[Event, Any, None]:
    """Machines are taken back, one by one or by zones."""
    pool = scene.pool(plan.pool)
    holds = _Holds(scene, pool)

    def node_at(place: Place) -> Node | None:
        node = scene.node_at(place)
        return node if node is not None and plan.zone in (None, node.zone) else None

    def hit(hits: Sequence[Hit]) -> None:
        reason = f"{plan.name}: the cloud takes the machine back"
        for node, _, seconds in hits:  # before anyone asks for another, or moves from the first to the last
            holds.begin(node.zone, seconds)
            scene.cluster.cordon(node.number)
        for node, _, seconds in hits:
            scene.log(
                "fault", scene.now, reason, fault=plan.name, pool=plan.pool, node=node.number, zone=node.zone,
                notice=plan.notice, returns=seconds if seconds == seconds else None,
            )  # fmt: skip
            scene.cluster.reclaim(
                node.number,
                plan.notice,
                reason,
                drain_on_notice=plan.drain_on_notice,
                detected_after=plan.detected_after,
            )

    places = scene.machines([plan.pool])
    if plan.together > 0.0 and isinstance(plan.when, Renewal):
        zones = [zone for zone in pool.plan.zones if plan.zone in (None, zone)]
        return _by_zones(scene, plan, zones, places, hit)
    return scene.each(
        plan.name, plan.when, places, plan.returns, node_at, hit, count=plan.count, share=plan.share
    )  # fmt: skip


def shocks(plan: SpotReclaim, zones: Sequence[str], places: Sequence[Place], streams: Streams) -> _Shocks:
    """Times at which a zone's machines go together, and which of ``places``, if they are in that zone.

    A shock takes each with chance c = ``together``, and comes 1/c times as often as one machine is to go: so each goes as often as
    alone (Marshall and Olkin, A multivariate exponential distribution, 1967).
    """
    when = plan.when
    assert isinstance(when, Renewal)
    rarer = Renewal(when.mean * plan.together, when.shape, when.after, when.until)
    beds = {zone: Place(f"{plan.pool}/{zone}") for zone in zones}
    zone_of = {bed: zone for zone, bed in beds.items()}
    lots = {zone: [streams(f"fault/{plan.name}/{plan.pool}/{zone}/{place.slot}") for place in places] for zone in zones}
    for strike in strikes(plan.name, rarer, list(beds.values()), plan.returns, streams):
        zone = zone_of[strike.place]
        taken = [place for place, lot in zip(places, lots[zone], strict=True) if lot.random() < plan.together]
        yield strike.time, zone, taken, strike.seconds


_Shocks = Generator[tuple[float, str, list[Place], float], None, None]


def _by_zones(
    scene: Scene, plan: SpotReclaim, zones: Sequence[str], places: Sequence[Place], hit: Any
) -> Generator[Event, Any, None]:
    for time, zone, taken, seconds in shocks(plan, zones, places, scene.streams):
        yield scene.until(time)
        nodes = [node for place in taken if (node := scene.node_at(place)) is not None]
        hits = [(node, 0, seconds) for node in nodes if node.zone == zone]
        if hits:
            hit(hits)


class _Holds:
    """While a zone is held, no machine of the pool can be had there. A zone that was lost and is back can be had at once."""

    def __init__(self, scene: Scene, pool: Pool) -> None:
        self.scene = scene
        self.pool = pool

    def begin(self, zone: str, seconds: float) -> None:
        """Hold it for so long; not at all if that is NaN."""
        if seconds == seconds:
            key, until = (self.pool.plan.name, zone), self.scene.now + on_grid(seconds)
            self.scene.held[key] = max(self.scene.held.get(key, 0.0), until)
            self.pool.down.add(zone)
            self.scene.after(seconds, lambda: self._end(zone))

    def _end(self, zone: str) -> None:
        scene, name = self.scene, self.pool.plan.name
        if scene.held[name, zone] > scene.now or scene.lost.get(zone, 0) or zone not in self.pool.down:
            return
        self.pool.down.discard(zone)
        scene.log("repair", scene.now, f"zone {zone} has machines again", pool=name, zone=zone)
        scene.look_again()
