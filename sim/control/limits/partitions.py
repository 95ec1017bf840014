"""Who gets in under a limit: Netflix's simple limiter, and the partitioned one, by which its services shed load by priority.

Reproduces SimpleLimiter and AbstractPartitionedLimiter of Netflix/concurrency-limits (package limiter), the latter the means of
"Enhancing Netflix Reliability with Service-Level Prioritized Load Shedding" (2024): there user-initiated requests are guaranteed all of
the limit, prefetches none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil

from sim.control.limits.limit import Limit

__all__ = ["PartitionedLimiter", "SimpleLimiter"]

Bypass = Callable[[str], bool]
"""Whether a request of that name always gets in, and is not counted."""


class SimpleLimiter:
    """Lets requests in while fewer than the limit are in flight; those that ``bypass`` names always, uncounted."""

    __slots__ = ("bypass", "inflight", "limit")

    def __init__(self, limit: Limit, bypass: Bypass | None = None) -> None:
        self.limit = limit
        self.bypass = bypass
        self.inflight = 0

    def acquire(self, name: str = "") -> bool:
        """Whether a request of ``name`` gets in."""
        if self.bypass is not None and self.bypass(name):
            return True
        if self.inflight >= self.limit.limit:
            return False
        self.inflight += 1
        return True

    def release(self, name: str = "") -> None:
        """A request of ``name`` that was let in has ended. ValueError when none is in flight."""
        if self.bypass is not None and self.bypass(name):
            return
        if self.inflight == 0:
            raise ValueError("no request is in flight")
        self.inflight -= 1


class PartitionedLimiter:
    """Below the limit everybody is let in; at or above it, those whose partition has fewer in flight than its share of the limit.

    ``partitions``: name to share, from 0 to 1, together 1 at most. A share is rounded up to whole requests and is 1 at least, also of
    a share of 0, so what is in flight may exceed the limit, by all guarantees at most. A name that is not there has no share. Names that
    ``bypass`` holds of always get in, uncounted.
    """

    __slots__ = ("_busy", "bypass", "limit", "partitions")

    def __init__(self, limit: Limit, partitions: Mapping[str, float], bypass: Bypass | None = None) -> None:
        if not partitions:
            raise ValueError("partitions is empty; at least one share is needed")
        for name, share in partitions.items():
            if not 0.0 <= share <= 1.0:
                raise ValueError(f"the share of {name!r} is {share:g}; 0 to 1 is allowed")
        total = sum(partitions.values())
        if total > 1.0 + 1e-9:  # 0.7 + 0.2 + 0.1 is no whole in floats
            raise ValueError(f"the shares add up to {total:g}; 1 at most is allowed")
        self.limit = limit
        self.bypass = bypass
        self.partitions = dict(partitions)
        self._busy: dict[str, int] = {}

    @property
    def inflight(self) -> int:
        """Requests let in and not released."""
        return sum(self._busy.values())

    def partition_limit(self, name: str) -> int:
        """How many of ``name`` are let in when the limit is reached."""
        share = self.partitions.get(name)
        return 0 if share is None else max(1, ceil(self.limit.limit * share))

    def partition_inflight(self, name: str) -> int:
        """Requests of ``name`` let in and not released; all names that are not there count as one."""
        return self._busy.get(self._name(name), 0)

    def acquire(self, name: str, inflight: int | None = None) -> bool:
        """Whether a request of ``name`` gets in; ``inflight`` in all, where that is counted elsewhere."""
        if self.bypass is not None and self.bypass(name):
            return True
        full = (self.inflight if inflight is None else inflight) >= self.limit.limit
        if full and self.partition_inflight(name) >= self.partition_limit(name):
            return False
        self._busy[self._name(name)] = self.partition_inflight(name) + 1
        return True

    def release(self, name: str) -> None:
        """A request of ``name`` that was let in has ended. ValueError when none is in flight."""
        if self.bypass is not None and self.bypass(name):
            return
        busy = self.partition_inflight(name)
        if busy == 0:
            raise ValueError(f"no request of {name!r} is in flight")
        self._busy[self._name(name)] = busy - 1

    def _name(self, name: str) -> str:
        return name if name in self.partitions else ""
