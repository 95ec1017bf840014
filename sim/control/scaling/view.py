"""What an autoscaler may look at, and what it answers. Autoscalers are state machines: they know no clock but ``view.now``.

The view holds the truth of its moment. How old and how averaged the numbers are that a controller really has is its own affair:
:class:`Scraper` gives it the last scrape, as a metrics server would, and nothing at all during an outage of metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sim.perf.steptable import StepTable
    from sim.serving.settings import EngineSettings

__all__ = [
    "DRAINING",
    "METRICS",
    "PENDING",
    "READY",
    "STARTING",
    "Autoscaler",
    "Decision",
    "DeploymentView",
    "Knowledge",
    "ReplicaView",
    "Sample",
    "Scraper",
]

PENDING = "pending"  # waits for GPUs
STARTING = "starting"
READY = "ready"
DRAINING = "draining"  # serves what it has, gets nothing new; no longer counted as a replica

_NAN = float("nan")


@dataclass(slots=True)
class ReplicaView:
    """One replica. ``index`` counts within its deployment and is never used again. Times are seconds, NaN for what has not happened.

    ``running`` and ``waiting`` are requests in its engine, ``tokens`` the prompt and declared output tokens of them, ``kv_usage`` the
    share of its KV blocks in use, ``busy_seconds`` the time its GPUs ran steps since the start of the run.
    """

    index: int
    phase: str
    created: float
    started: float = _NAN
    ready_since: float = _NAN
    running: int = 0
    waiting: int = 0
    kv_usage: float = 0.0
    tokens: int = 0
    busy_seconds: float = 0.0


@dataclass(slots=True)
class DeploymentView:
    """One deployment at ``now``.

    ``target``: replicas last asked for. ``replicas``: all that exist, draining ones included. ``queued``: requests held at the
    gateway. ``request_seconds``: time integral of the requests in the deployment (queued, waiting, running), so that a difference
    over an interval is the exact mean concurrency. ``arrived``, ``ended``, ``rejected`` requests and ``prompt_tokens``,
    ``output_tokens`` (declared, of what arrived) count since the start. ``latencies`` are (end, ttft, tpot, e2e) of requests served,
    in order of end, of the last few minutes at least (tpot NaN for one token). ``metrics`` is False while an outage hides
    all of it from whoever scrapes.
    """

    now: float
    target: int
    replicas: Sequence[ReplicaView] = ()
    queued: int = 0
    request_seconds: float = 0.0
    arrived: int = 0
    ended: int = 0
    rejected: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    latencies: Sequence[tuple[float, float, float, float]] = ()
    metrics: bool = True

    @property
    def ready(self) -> int:
        """Replicas that are ready and not draining."""
        return sum(1 for replica in self.replicas if replica.phase == READY)

    @property
    def live(self) -> Sequence[ReplicaView]:
        """Replicas that count: all but the draining."""
        return [replica for replica in self.replicas if replica.phase != DRAINING]


@dataclass(frozen=True)
class Decision:
    """``replicas`` wanted (None: leave it), why, and the numbers it was made from."""

    replicas: int | None
    reason: str
    numbers: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class Autoscaler(Protocol):
    """Decides how many replicas a deployment should have.

    ``period`` seconds pass between calls of :meth:`decide`, ``sample_period`` between calls of :meth:`observe` (0: never called).
    At equal times observe comes first. A constructor parameter named ``knowledge`` is given a :class:`Knowledge` (None when a
    scenario is only checked), one named ``generator`` a numpy Generator of its own.
    """

    period: float
    sample_period: float

    def observe(self, view: DeploymentView) -> None:
        """Look at the deployment between decisions."""
        ...

    def decide(self, view: DeploymentView) -> Decision:
        """How many replicas, now."""
        ...


@dataclass(frozen=True)
class Knowledge:
    """What some autoscalers know beforehand, besides metrics.

    ``step`` and ``settings`` of one replica; ``cold_start`` seconds that a start takes, as expected; ``objectives`` of the workloads
    served (``{"ttft_p99": 2.0}``, the strictest of each). ``arrival``, ``prompt_tokens``, ``output_tokens``: every request that will come,
    for the oracle alone. ``horizon``: when the last may arrive.
    """

    step: StepTable
    settings: EngineSettings
    cold_start: float
    objectives: Mapping[str, float]
    arrival: npt.NDArray[np.float64]
    prompt_tokens: npt.NDArray[np.int64]
    output_tokens: npt.NDArray[np.int64]
    horizon: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One replica's metric as scraped: ``value`` at ``timestamp``, an average over the ``window`` seconds before it (0: of the moment)."""

    value: float
    timestamp: float
    window: float = 0.0


def _utilisation(replica: ReplicaView) -> float:
    return replica.busy_seconds


METRICS: dict[str, Callable[[ReplicaView], float]] = {
    "concurrency": lambda replica: float(replica.running + replica.waiting),
    "running": lambda replica: float(replica.running),
    "queue": lambda replica: float(replica.waiting),
    "kv": lambda replica: replica.kv_usage,
    "tokens": lambda replica: float(replica.tokens),
    "utilisation": _utilisation,  # of a counter: the scraper makes a rate of it
}
"""What of a replica can be scraped: requests in it, running, waiting; KV usage (0 to 1), tokens in flight, GPU utilisation (0 to 1)."""


class Scraper:
    """A metrics server: looks at every ready replica each ``interval`` seconds, and answers with what it last saw.

    Call :meth:`scrape` from ``observe`` with ``sample_period = interval``. ``utilisation`` is a rate over the time between
    two scrapes, so a replica has it from its second scrape on. During an outage of metrics nothing is seen, and what was seen
    ``stale`` seconds ago is forgotten.
    """

    def __init__(self, metrics: Sequence[str], interval: float, stale: float = 60.0) -> None:
        unknown = [name for name in metrics if name not in METRICS]
        if unknown:
            raise ValueError(f"metric {unknown[0]!r} is unknown; there are {', '.join(METRICS)}")
        self.metrics = tuple(metrics)
        self.interval = interval
        self.stale = stale
        self._seen: dict[tuple[str, int], Sample] = {}
        self._busy: dict[int, tuple[float, float]] = {}  # when, busy seconds

    def scrape(self, view: DeploymentView) -> None:
        """Look at every ready replica of ``view``."""
        if not view.metrics:
            return
        for replica in view.replicas:
            if replica.phase != READY:
                continue
            for name in self.metrics:
                value, window = METRICS[name](replica), 0.0
                if name == "utilisation":
                    before = self._busy.get(replica.index)
                    self._busy[replica.index] = (view.now, value)
                    if before is None or view.now <= before[0]:
                        continue
                    window = view.now - before[0]
                    value = (value - before[1]) / window
                self._seen[name, replica.index] = Sample(value, view.now, window)

    def samples(self, metric: str, view: DeploymentView) -> dict[int, Sample]:
        """The last samples of ``metric`` by replica, of the replicas that exist; none that is older than ``stale``."""
        found: dict[int, Sample] = {}
        for replica in view.replicas:
            sample = self._seen.get((metric, replica.index))
            if sample is not None and view.now - sample.timestamp <= self.stale:
                found[replica.index] = sample
        return found
