"""What is to go wrong in a run, resolved: one frozen plan a fault. Times in seconds; ``name`` names its random streams.

``pools`` and ``deployments``: on whose machines, whose replicas; none named: all. ``count`` or ``share`` of those that stand are
hit at each of the given times (neither: all of them). ``detected_after``: None leaves it to the pool.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from typing import Final

from sim.control.cluster.distribution import Distribution, Fixed
from sim.control.faults.times import Renewal, When

__all__ = [
    "NODE",
    "REPLICA",
    "FaultPlan",
    "GpuFailure",
    "MetricsOutage",
    "NodeFailure",
    "Partition",
    "ReplicaCrash",
    "Rollout",
    "Slowdown",
    "SpotReclaim",
    "ZoneLoss",
]

NODE: Final = "node"
REPLICA: Final = "replica"


def _some(count: int | None, share: float | None) -> None:
    if count is not None and share is not None:
        raise ValueError(f"count {count} and share {share}: one of them")
    if count is not None and count < 1:
        raise ValueError(f"count {count}: 1 or more")
    if share is not None and not 0.0 < share <= 1.0:
        raise ValueError(f"share {share}: more than 0, at most 1")


@dataclass(frozen=True, kw_only=True)
class NodeFailure:
    """A machine fails; ``repair`` later it is back. At random: each machine by itself."""

    name: str
    when: When
    pools: tuple[str, ...] = ()
    zone: str | None = None
    count: int | None = None
    share: float | None = None
    repair: Distribution | None = None
    detected_after: float | None = None

    def __post_init__(self) -> None:
        _some(self.count, self.share)


@dataclass(frozen=True, kw_only=True)
class GpuFailure(NodeFailure):
    """A GPU fails, and takes its whole machine with it until it is repaired, or only the replica that runs on it (``takes``), whose
    container starts again. At random: each GPU by itself."""

    takes: str = NODE

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.takes not in (NODE, REPLICA):
            raise ValueError(f"takes {self.takes!r} is neither node nor replica")


@dataclass(frozen=True, kw_only=True)
class ReplicaCrash:
    """A process dies (``detected_after`` > 0: hangs until a liveness probe finds out), and its container is started again."""

    name: str
    when: When
    deployments: tuple[str, ...] = ()
    count: int | None = None
    share: float | None = None
    detected_after: float = 0.0

    def __post_init__(self) -> None:
        _some(self.count, self.share)


@dataclass(frozen=True, kw_only=True)
class Slowdown:
    """A straggler, or a machine too hot: for ``lasts`` seconds (None: to the end) steps take ``factor`` times as long, on a
    machine for all who run there (``of`` node), or in one replica. ``kind`` is what it is called. Who is slow several ways is slow by
    all factors multiplied. At random: each by itself."""

    name: str
    when: When
    factor: float
    lasts: Distribution | None
    kind: str = "straggler"
    of: str = REPLICA
    pools: tuple[str, ...] = ()
    deployments: tuple[str, ...] = ()
    zone: str | None = None
    count: int | None = None
    share: float | None = None

    def __post_init__(self) -> None:
        _some(self.count, self.share)
        if not (self.factor > 0.0 and isfinite(self.factor)):
            raise ValueError(f"factor {self.factor}: more than 0")
        if self.of not in (NODE, REPLICA):
            raise ValueError(f"of {self.of!r} is neither node nor replica")


@dataclass(frozen=True, kw_only=True)
class Partition:
    """The gateway cannot reach some replicas, which know nothing of it: what they serve fails, and what is sent there will. With neither
    ``count`` nor ``share``: all of these pools, deployments and zone, those that open meanwhile too. At random: the whole of it."""

    name: str
    when: When
    lasts: Distribution
    pools: tuple[str, ...] = ()
    deployments: tuple[str, ...] = ()
    zone: str | None = None
    count: int | None = None
    share: float | None = None

    def __post_init__(self) -> None:
        _some(self.count, self.share)


@dataclass(frozen=True, kw_only=True)
class SpotReclaim:
    """The cloud takes machines of ``pool`` back, ``notice`` seconds after it has said so. At random: each machine by itself, or, with
    ``together``, that share of a zone's machines at once (each of them goes with that chance), as often for each machine as alone.
    ``returns`` later that zone has machines again (None: at once). ``drain_on_notice``: replicas are drained and replaced meanwhile."""

    name: str
    when: When
    pool: str
    notice: float
    zone: str | None = None
    count: int | None = None
    share: float | None = None
    together: float = 0.0
    returns: Distribution | None = None
    drain_on_notice: bool = True
    detected_after: float | None = None

    def __post_init__(self) -> None:
        _some(self.count, self.share)
        if not 0.0 <= self.together <= 1.0:
            raise ValueError(f"together {self.together}: from 0 to 1")
        if self.together > 0.0 and not isinstance(self.when, Renewal):
            raise ValueError("together: has no meaning at given times; use share")
        if not self.notice >= 0.0:
            raise ValueError(f"notice {self.notice}: 0 s or more")


@dataclass(frozen=True, kw_only=True)
class ZoneLoss:
    """All machines of a zone are lost, in all pools, for ``lasts`` seconds (None: to the end)."""

    name: str
    when: When
    zone: str
    lasts: Distribution | None = None
    detected_after: float | None = None


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """A rolling update of ``deployment`` at ``at``: the new version's steps take ``pace`` times as long as the old one's, and it gets
    ``ready`` or hangs. ``new_image``: no machine has its image yet. It is rolled back ``rollback_after`` (None: not), or, with
    ``rollback_on_deadline``, when nothing has come on for ``progress_deadline`` (progressDeadlineSeconds of a Deployment, 600 s)."""

    name: str
    at: float
    deployment: str
    pace: float = 1.0
    ready: bool = True
    new_image: bool = True
    max_surge: int | float = 0.25
    max_unavailable: int | float = 0.25
    progress_deadline: float = 600.0
    rollback_after: float | None = None
    rollback_on_deadline: bool = False

    def __post_init__(self) -> None:
        if not (self.pace > 0.0 and isfinite(self.pace)):
            raise ValueError(f"pace {self.pace}: more than 0")
        if not self.progress_deadline > 0.0:
            raise ValueError(f"progress_deadline {self.progress_deadline}: more than 0 s")


@dataclass(frozen=True, kw_only=True)
class MetricsOutage:
    """Autoscalers get no metrics for ``lasts`` seconds."""

    name: str
    when: When
    lasts: Distribution = field(default_factory=lambda: Fixed(60.0))


FaultPlan = (
    GpuFailure | NodeFailure | ReplicaCrash | Slowdown | Partition | SpotReclaim | ZoneLoss | Rollout | MetricsOutage
)
