"""One replica from wanted to gone, and the deployment it is of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sim.control.cluster.plans import ReplicaPlan, Start
from sim.control.scaling.view import DRAINING, PENDING, READY, STARTING

if TYPE_CHECKING:
    from sim.control.cluster.machines import Pool
    from sim.control.cluster.node import Node
    from sim.control.cluster.transfer import Flow

__all__ = ["GONE", "Generation", "Group", "Replica", "ReplicaState", "Sleeper"]

GONE: Final = "gone"

_NAN: Final = float("nan")


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """One replica as its deployment's controllers see it. ``replica`` is its number in the fleet, ``index`` within its deployment.

    ``phase`` as in :mod:`sim.control.scaling.view`; times NaN for what has not happened. ``started``: when it was placed.
    A replica on a lost node is ready until the loss is noticed, then starting until it is replaced.
    """

    replica: int
    index: int
    phase: str
    created: float
    started: float
    ready_since: float
    node: int | None
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Generation:
    """One version of a deployment: how it starts, and how many times longer its steps take."""

    start: Start
    pace: float = 1.0


@dataclass(slots=True, eq=False)
class Replica:
    """``stopped``: nothing runs in it, whatever its phase is (it crashed, or its node is lost). ``noticed``: and it is known."""

    number: int
    index: int
    group: Group
    generation: int
    created: float
    draws: dict[str, float]
    phase: str = PENDING
    node: Node | None = None
    gpus: tuple[int, ...] = ()
    placed: float = _NAN
    ready_since: float = _NAN
    opened: float = _NAN
    closed: float = _NAN
    lost_at: float = _NAN  # when its node was
    stopped: bool = False
    noticed: bool = False
    dead: bool = False  # the data plane has been told
    restarts: int = 0
    crashes: int = 0  # one after another
    running: bool = False  # its process has started
    may_sleep: bool = False
    flow: Flow | None = None
    spent: dict[str, float] = field(default_factory=dict)  # seconds by phase of the start

    @property
    def counted(self) -> bool:
        """Whether it is one of those that its deployment wants."""
        return self.phase in (PENDING, STARTING, READY)

    @property
    def seems_ready(self) -> bool:
        """Whether controllers take it for ready."""
        return self.phase == READY and not self.noticed

    @property
    def plan(self) -> Start:
        """How it starts."""
        return self.group.generations[self.generation].start

    def state(self) -> ReplicaState:
        """As it is now."""
        phase = STARTING if self.phase == READY and self.noticed else self.phase
        node = None if self.node is None else self.node.number
        return ReplicaState(
            self.number, self.index, phase, self.created, self.placed, self.ready_since, node, self.generation
        )


@dataclass(slots=True, eq=False)
class Sleeper:
    """An engine that sleeps on a node; ``gpus`` are its own if it keeps them."""

    number: int
    node: Node
    gpus: tuple[int, ...]
    generation: int
    since: float


class Group:
    """A deployment at work: all its replicas that are not gone, and its sleeping engines."""

    __slots__ = ("created", "generations", "number", "plan", "pool", "replicas", "rollout", "sleepers", "target")

    def __init__(self, number: int, plan: ReplicaPlan, pool: Pool) -> None:
        self.number = number
        self.plan = plan
        self.pool = pool
        self.target = plan.replicas
        self.created = 0  # replicas there ever were
        self.generations = [Generation(plan.start)]
        self.rollout: tuple[int | float, int | float] = (0.25, 0.25)  # max surge, max unavailable
        self.replicas: list[Replica] = []
        self.sleepers: list[Sleeper] = []

    @property
    def generation(self) -> int:
        """The newest."""
        return len(self.generations) - 1

    @property
    def counted(self) -> list[Replica]:
        """Replicas that exist and are not to go."""
        return [replica for replica in self.replicas if replica.counted]

    @property
    def draining(self) -> list[Replica]:
        """Replicas that serve what they have."""
        return [replica for replica in self.replicas if replica.phase == DRAINING]
