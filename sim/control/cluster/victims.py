"""Which replicas go first when there are too many: the order in which a Kubernetes ReplicaSet deletes pods. Pure.

kubernetes/kubernetes, pkg/controller/controller_utils.go, ``ActivePodsWithRanks.Less``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cmp_to_key
from math import log2
from typing import Final

__all__ = ["Pod", "compare", "order"]

_NEVER: Final = float("-inf")
_PHASES: Final = {"pending": 0, "unknown": 1, "running": 2}


@dataclass(frozen=True, slots=True)
class Pod:
    """What is looked at. ``phase`` is pending (not yet started), unknown or running; times in seconds, -inf for none.

    ``rank``: pods of its ReplicaSet (and of its other generations) on its node. ``uid`` decides between equals.
    """

    uid: str = ""
    assigned: bool = True
    phase: str = "running"
    ready: bool = True
    deletion_cost: int = 0
    rank: int = 1
    ready_since: float = _NEVER
    restarts: int = 0
    created: float = _NEVER


def compare(a: Pod, b: Pod, now: float | None = None, *, logarithmic: bool = True, deletion_cost: bool = True) -> int:
    """-1 when ``a`` goes before ``b``, 1 when after, 0 when neither.

    Unassigned before assigned, pending before unknown before running, not ready before ready, lower deletion cost, more on the node,
    ready for a shorter time, more restarts, younger. ``logarithmic`` (LogarithmicScaleDown, on since 1.22): ages compare by the
    power of two of their nanoseconds, and equals by ``uid``, so that what lives about as long goes in no particular order.
    ``now`` None: ages compare exactly.
    """
    if a.assigned != b.assigned:
        return 1 if a.assigned else -1
    first, second = _PHASES[a.phase], _PHASES[b.phase]
    if first != second:
        return -1 if first < second else 1
    if a.ready != b.ready:
        return 1 if a.ready else -1
    if deletion_cost and a.deletion_cost != b.deletion_cost:
        return -1 if a.deletion_cost < b.deletion_cost else 1
    if a.rank != b.rank:
        return -1 if a.rank > b.rank else 1
    if a.ready and a.ready_since != b.ready_since:
        return _younger(a, b, a.ready_since, b.ready_since, now if logarithmic else None)
    if a.restarts != b.restarts:
        return -1 if a.restarts > b.restarts else 1
    if a.created != b.created:
        return _younger(a, b, a.created, b.created, now if logarithmic else None)
    return 0


def order(pods: Sequence[Pod], now: float | None = None, *, logarithmic: bool = True) -> list[int]:
    """Indices of ``pods``, those to go first at the front. Of equals the later one in ``pods`` goes first."""

    def before(i: int, j: int) -> int:
        return compare(pods[i], pods[j], now, logarithmic=logarithmic) or j - i

    return sorted(range(len(pods)), key=cmp_to_key(before))


def _younger(a: Pod, b: Pod, first: float, second: float, now: float | None) -> int:
    if now is None or _NEVER in (first, second):
        if first == _NEVER or second == _NEVER:
            return -1 if first == _NEVER else 1
        return -1 if first > second else 1
    difference = _magnitude(now - first) - _magnitude(now - second)
    if difference:
        return -1 if difference < 0 else 1
    return 0 if a.uid == b.uid else -1 if a.uid < b.uid else 1


def _magnitude(age: float) -> int:
    """The power of two of an age in nanoseconds; -1 for none."""
    nanoseconds = round(age * 1e9)
    return int(log2(nanoseconds)) if nanoseconds > 0 else -1
