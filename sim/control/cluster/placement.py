"""Where a replica goes, and how many nodes are missing. All GPUs of a replica are on one node. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sim.control.cluster.plans import PACK

__all__ = ["Room", "choose", "missing"]


@dataclass(frozen=True, slots=True)
class Room:
    """A node that takes replicas: its number, zone, free GPUs, and how many replicas of the deployment it has already."""

    node: int
    zone: str
    free: int
    same: int = 0


def choose(rooms: Sequence[Room], gpus: int, placement: str = PACK) -> int | None:
    """The node for a replica of ``gpus``; None when none has room.

    ``pack``: the one that is left with fewest GPUs (best fit; kube-scheduler's MostAllocated), the lowest number on a tie.
    ``spread``: the zone with fewest replicas of the deployment, in it the node with fewest, then with most free GPUs.
    """
    able = [room for room in rooms if room.free >= gpus]
    if not able:
        return None
    if placement == PACK:
        return min(able, key=lambda room: (room.free, room.node)).node
    zones: dict[str, int] = {}
    for room in rooms:
        zones[room.zone] = zones.get(room.zone, 0) + room.same
    return min(able, key=lambda room: (zones[room.zone], room.same, -room.free, room.node)).node


def missing(pending: Sequence[int], coming: Sequence[int], gpus_per_node: int) -> int:
    """New nodes that replicas of ``pending`` GPUs need, beside the ``coming`` ones with so many GPUs free.

    The largest first, each on the first node with room, as the cluster autoscaler's bin-packing estimator does. What is larger than
    a node fits nowhere and asks for none.
    """
    free = list(coming)
    new = 0
    for size in sorted(pending, reverse=True):
        if size > gpus_per_node:
            continue
        found = next((index for index, room in enumerate(free) if room >= size), None)
        if found is None:
            free.append(gpus_per_node - size)
            new += 1
        else:
            free[found] -= size
    return new
