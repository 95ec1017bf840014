"""Who had which machine, and which GPUs of it, from when to when: what bills and energy are made from."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["NodeInterval", "ReplicaInterval", "Usage"]

_NAN = float("nan")


@dataclass(frozen=True, slots=True)
class NodeInterval:
    """A machine from when it was asked for (0 for those there at the start) to when it was released, failed or taken away.

    ``joined``: when it could be used, NaN if it never could. ``ended``: how it ended, empty while it is there.
    """

    pool: str
    node: int
    zone: str
    start: float
    joined: float
    end: float
    ended: str = ""


@dataclass(frozen=True, slots=True)
class ReplicaInterval:
    """A replica and its GPUs (their numbers on the node; none while it waits for them). NaN for what has not happened.

    Its GPUs are its own from ``placed`` to ``gone``. ``ready`` is when requests could first go there, ``closed`` when no more did.
    ``asleep``: an engine that sleeps and keeps its GPUs, under the number it had.
    """

    replica: int
    deployment: str
    node: int
    gpus: tuple[int, ...]
    created: float
    placed: float
    ready: float
    closed: float
    gone: float
    asleep: bool = False


@dataclass(frozen=True)
class Usage:
    """All of a run, in order of beginning; what has not ended is cut at the end of the run."""

    nodes: tuple[NodeInterval, ...]
    replicas: tuple[ReplicaInterval, ...]

    @property
    def node_seconds(self) -> float:
        """Seconds of all machines."""
        return sum(interval.end - interval.start for interval in self.nodes)

    @property
    def gpu_seconds(self) -> float:
        """Seconds that GPUs were a replica's, sleeping ones included."""
        return sum(
            (interval.gone - interval.placed) * len(interval.gpus) for interval in self.replicas if interval.gpus
        )


def cut_node(interval: NodeInterval, end: float) -> NodeInterval | None:
    """As of ``end``; None if it began later."""
    if interval.start >= end:
        return None
    done = interval.end <= end
    joined = interval.joined if interval.joined <= end else _NAN
    return replace(interval, joined=joined, end=interval.end if done else end, ended=interval.ended if done else "")


def cut_replica(interval: ReplicaInterval, end: float) -> ReplicaInterval | None:
    """As of ``end``; None if it began later."""
    if interval.created >= end:
        return None
    gone = min(interval.gone, end) if interval.gone == interval.gone else end
    placed = interval.placed if interval.placed <= end else _NAN
    return replace(
        interval,
        placed=placed,
        gpus=interval.gpus if placed == placed else (),
        ready=interval.ready if interval.ready <= end else _NAN,
        closed=interval.closed if interval.closed <= end else _NAN,
        gone=gone,
    )
