"""One machine: its GPUs, what it has cached, and what is on its links."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sim.control.cluster.cache import Cache
from sim.control.cluster.plans import PoolPlan
from sim.control.cluster.transfer import Link

if TYPE_CHECKING:
    from simpy import Event

    from sim.control.cluster.transfer import Flow

__all__ = ["COMING", "FAILED", "LEFT", "UP", "Node"]

COMING: Final = "coming"  # asked for
UP: Final = "up"
FAILED: Final = "failed"  # may come back
LEFT: Final = "left"  # released, or taken away

_NAN = float("nan")


class Node:
    """``leaving``: its end is known (a spot notice). ``by_zone``: it failed with its zone. ``epoch`` counts its lives."""

    __slots__ = (
        "by_zone",
        "cordoned",
        "disk",
        "empty_since",
        "epoch",
        "free",
        "images",
        "joined",
        "leaving",
        "memory",
        "number",
        "occupants",
        "plan",
        "pull_flows",
        "pulls",
        "sleepers",
        "ssd",
        "start",
        "state",
        "volume",
        "wire",
        "zone",
    )

    def __init__(self, number: int, plan: PoolPlan, zone: str, now: float) -> None:
        self.number = number
        self.plan = plan
        self.zone = zone
        self.state = COMING
        self.cordoned = False
        self.leaving = False
        self.by_zone = False
        self.epoch = 0
        self.start = now
        self.joined = _NAN
        self.empty_since = now
        self.free: list[int] = list(range(plan.gpus))  # GPUs that nobody has, in rising order
        self.occupants = 0  # holders of GPUs
        self.sleepers = 0
        self.images: set[str] = set(plan.images)
        self.pulls: dict[str, Event] = {}
        self.pull_flows: list[Flow] = []
        self.ssd = Cache(plan.disk_cache)
        self.memory = Cache(plan.host_memory)
        self.wire = Link(f"node {number} network", plan.network)
        self.disk = Link(f"node {number} disk", plan.disk)
        self.volume = Link(f"node {number} volume", plan.volume)

    @property
    def takes(self) -> bool:
        """Whether replicas may be placed here."""
        return self.state == UP and not self.cordoned

    @property
    def empty(self) -> bool:
        """Whether nothing is here, awake or asleep."""
        return self.occupants == 0 and self.sleepers == 0

    def take(self, count: int) -> tuple[int, ...]:
        """Some ``count`` GPUs, the lowest free ones. :raises ValueError: there are not so many."""
        if count > len(self.free):
            raise ValueError(f"node {self.number}: {count} GPUs are wanted, {len(self.free)} are free")
        taken = tuple(self.free[:count])
        del self.free[:count]
        self.occupants += 1
        return taken

    def give(self, gpus: tuple[int, ...], now: float) -> None:
        """These GPUs are free again."""
        self.free = sorted([*self.free, *gpus])
        self.occupants -= 1
        self.empty_since = now
