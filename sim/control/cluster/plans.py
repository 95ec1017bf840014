"""What a cluster is made of, resolved: pools of machines, and what their replicas are and go through when they start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sim.control.cluster.distribution import Distribution, Fixed

__all__ = ["PACK", "REMOTE", "SPREAD", "PoolPlan", "ReplicaPlan", "Start", "WarmPool"]

PACK: Final = "pack"
SPREAD: Final = "spread"
REMOTE: Final = ("object_store", "network_disk")
"""Tiers that are read over the node's network link."""

_INFINITE: Final = float("inf")


@dataclass(frozen=True)
class PoolPlan:
    """Equal machines. Times in seconds, bandwidths in bytes a second (inf: never what limits), sizes in bytes.

    ``nodes`` exist at the start; ``least`` and ``most`` (None: ``nodes``) bound how many there may be later, ``spare`` of them are
    kept empty as placeholder pods would. A new one takes ``provision``; one that is empty for ``idle`` is released, though not within
    ``after_add`` of the last that was asked for (the cluster autoscaler's ``scale-down-unneeded-time`` and
    ``scale-down-delay-after-add``, 10 min each: kubernetes/autoscaler, cluster-autoscaler/config/flags). ``placement`` packs replicas
    on as few nodes as there can be, or spreads them over ``zones``, then nodes.

    ``network``, ``disk`` and ``volume`` (a network disk of its own) are what one node has, ``store`` what registry and object store give
    the whole pool. ``disk_cache`` and
    ``host_memory`` bytes of weights stay on a node's disk and in its memory, those least recently used go first. ``images`` are on
    every node from birth.

    A node that is lost is noticed after ``monitor`` (``node-monitor-grace-period``: 40 s, 50 s in newer versions), and its replicas
    are replaced ``toleration`` later (``default-unreachable-toleration-seconds``: 300 s).
    """

    name: str
    gpus: int
    nodes: int
    least: int | None = None
    most: int | None = None
    provision: Distribution = field(default_factory=lambda: Fixed(0.0))
    idle: float = 600.0
    after_add: float = 600.0
    spare: int = 0
    zones: tuple[str, ...] = ("a",)
    placement: str = PACK
    network: float = _INFINITE
    disk: float = _INFINITE
    volume: float = _INFINITE
    store: float = _INFINITE
    disk_cache: float = 0.0
    host_memory: float = 0.0
    images: frozenset[str] = frozenset()
    monitor: float = 40.0
    toleration: float = 300.0

    def __post_init__(self) -> None:
        if self.gpus < 1:
            raise ValueError(f"gpus {self.gpus}: a node has 1 or more")
        if not 0 <= self.floor <= self.ceiling or not self.nodes <= self.ceiling:
            raise ValueError(f"least {self.floor}, nodes {self.nodes}, most {self.ceiling}: must rise from 0")
        if not self.zones:
            raise ValueError("zones: there is none; name one or more")
        if self.placement not in (PACK, SPREAD):
            raise ValueError(f"placement {self.placement!r} is neither pack nor spread")
        for name in ("network", "disk", "volume", "store"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} {getattr(self, name)}: more than 0 bytes a second are needed")

    @property
    def floor(self) -> int:
        """Fewest nodes."""
        return self.nodes if self.least is None else self.least

    @property
    def ceiling(self) -> int:
        """Most nodes."""
        return self.nodes if self.most is None else self.most


@dataclass(frozen=True)
class Start:
    """What one replica goes through until it serves. All distributions are of seconds without others beside it.

    ``pull`` and ``extract`` the image, unless it is on the node; then ``before`` the weights are read (process, context), ``weights``
    by the tier they are read from (``source``, or ``page_cache`` and ``local_disk`` where a node has them cached), and what comes
    ``after`` (compilation, graph capture, warm-up): names and durations, in order.
    """

    image: str = ""
    image_bytes: float = 0.0
    pull: Distribution | None = None
    extract: Distribution | None = None
    before: Mapping[str, Distribution] = field(default_factory=dict)
    weights_name: str = ""
    weights_bytes: float = 0.0
    source: str = "local_disk"
    weights: Mapping[str, Distribution] = field(default_factory=dict)
    after: Mapping[str, Distribution] = field(default_factory=dict)
    readiness_period: float = 10.0
    endpoint_delay: float = 0.0

    def __post_init__(self) -> None:
        if self.weights and self.source not in self.weights:
            raise ValueError(f"source {self.source!r}: nothing is known of it; known are {', '.join(self.weights)}")

    @property
    def process(self) -> float:
        """Median seconds from the start of the process until its server answers, weights read from ``source``."""
        parts = [*self.before.values(), *self.after.values()]
        if self.weights:
            parts.append(self.weights[self.source])
        return sum(part.median for part in parts)


@dataclass(frozen=True)
class WarmPool:
    """Engines put to sleep rather than removed when there are too many, as vLLM's sleep mode does; at most ``size`` of them.

    ``level`` 1 keeps the weights in ``bytes`` of host memory, 2 drops them and reads them again; the KV cache is lost in both, the
    process and its CUDA graphs survive. ``wake`` is all that waking takes at level 1, and what it takes beside reading the weights at
    level 2. Unless ``keeps_gpus``, others may use the GPUs meanwhile, and waking needs them free. ``asleep`` at the start.
    """

    size: int
    level: int = 1
    bytes: float = 0.0
    wake: Distribution = field(default_factory=lambda: Fixed(0.0))
    keeps_gpus: bool = False
    asleep: int = 0

    def __post_init__(self) -> None:
        if self.level not in (1, 2):
            raise ValueError(f"level {self.level}: an engine sleeps at level 1 or 2")
        if not 0 <= self.asleep <= self.size:
            raise ValueError(f"asleep {self.asleep}: from 0 to size, {self.size}")


@dataclass(frozen=True)
class ReplicaPlan:
    """One deployment: ``replicas`` at the start, of ``gpus`` each on one node of ``pool``.

    A replica that is to go has ``grace`` seconds to serve what it has (``terminationGracePeriodSeconds``). One that crashed starts
    again in its place, at once the first time, then after ``backoff`` doubled each time up to ``backoff_most``, until it has run
    ``backoff_reset`` (the kubelet's: 10 s, 5 min, 10 min).
    """

    name: str
    pool: str
    replicas: int
    gpus: int = 1
    start: Start = field(default_factory=Start)
    grace: float = 30.0
    warm: WarmPool | None = None
    backoff: float = 10.0
    backoff_most: float = 300.0
    backoff_reset: float = 600.0
