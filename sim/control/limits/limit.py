"""What a concurrency limit is: an algorithm that is told of samples. The fixed one knows better.

After Netflix/concurrency-limits, package limit.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["FixedLimit", "Limit", "nanoseconds"]


class Limit(Protocol):
    """An algorithm that says how many requests may be in flight."""

    @property
    def limit(self) -> int:
        """The limit now."""
        ...

    def on_sample(self, start: float, rtt: float, inflight: int, did_drop: bool = False) -> int:
        """A request sent at ``start`` ended ``rtt`` seconds later; ``inflight`` were in flight when it was sent, itself included.

        ``did_drop``: it timed out, or was turned away. Returns the new limit.
        """
        ...


def nanoseconds(seconds: float) -> int:
    """A time in whole nanoseconds, in which Java counts."""
    return round(seconds * 1e9)


class FixedLimit:
    """Always ``limit``."""

    __slots__ = ("limit",)

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def on_sample(self, start: float, rtt: float, inflight: int, did_drop: bool = False) -> int:
        """The limit."""
        return self.limit
