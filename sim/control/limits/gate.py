"""So many at once, so many waiting, so long: a concurrency limit with a bounded line before it.

Envoy's circuit breaker (max_requests, max_pending_requests) and Triton's queue policy (max_queue_size, default_queue_policy timeout with
the action REJECT) are of this form, and with Poisson arrivals and exponential service it is M/M/c/K, with a deadline M/M/c/K + D.
"""

from __future__ import annotations

from collections.abc import Hashable
from math import inf
from typing import Any, Literal, NamedTuple

from sim.control.limits.line import FifoLine, Line

__all__ = ["Gate", "Left"]


class Left(NamedTuple):
    """What follows when one ends: who gets in, and who has waited too long and is turned away."""

    admitted: list[Any]
    expired: list[Any]


class Gate:
    """At most ``limit`` items inside, at most ``max_queue`` in the line, nobody longer than ``deadline`` seconds there.

    Who has waited for exactly ``deadline`` is turned away. None: unlimited. ``line``: who is next; first come, first served by default.
    """

    __slots__ = ("_since", "deadline", "inside", "limit", "line", "max_queue")

    def __init__(
        self,
        limit: int,
        max_queue: int | None = 0,
        deadline: float | None = None,
        line: Line | None = None,
    ) -> None:
        if limit < 1:
            raise ValueError(f"limit is {limit}; 1 or more is allowed")
        if max_queue is not None and max_queue < 0:
            raise ValueError(f"max_queue is {max_queue}; 0 or more is allowed")
        if deadline is not None and deadline <= 0.0:
            raise ValueError(f"deadline is {deadline:g} s; above 0 is allowed")
        self.limit = limit
        self.max_queue = max_queue
        self.deadline = inf if deadline is None else deadline
        self.line: Line = FifoLine() if line is None else line
        self.inside = 0
        self._since: dict[Hashable, float] = {}  # who waits since when, in order of arrival

    def arrive(
        self, now: float, item: Hashable, *, tenant: str = "default", priority: int = 0, prompt_tokens: int = 0
    ) -> Literal["admit", "wait", "refuse"]:
        """What becomes of an arrival. Those whose deadline has passed take no place in the line; :meth:`expire` names them."""
        if self.inside < self.limit and not self._since:
            self.inside += 1
            return "admit"
        if self.max_queue is not None and len(self._since) - len(self._late(now)) >= self.max_queue:
            return "refuse"
        self.line.push(tenant, item, priority=priority, prompt_tokens=prompt_tokens)
        self._since[item] = now
        return "wait"

    def leave(self, now: float) -> Left:
        """One that was inside has ended. ValueError when nobody is."""
        if self.inside == 0:
            raise ValueError("nobody is inside")
        self.inside -= 1
        expired = self.expire(now)
        admitted = []
        while self.inside < self.limit and len(self.line) > 0:
            item = self.line.pop()
            del self._since[item]
            self.inside += 1
            admitted.append(item)
        return Left(admitted, expired)

    def expire(self, now: float) -> list[Any]:
        """Take out those who have waited too long, in order of arrival; each is named once."""
        late = self._late(now)
        for item in late:
            self.give_up(item)
        return late

    def _late(self, now: float) -> list[Any]:
        late = []
        for item, since in self._since.items():
            if now - since < self.deadline:
                break
            late.append(item)
        return late

    def give_up(self, item: Hashable) -> bool:
        """An item leaves the line by itself; False when it does not wait."""
        if self._since.pop(item, None) is None:
            return False
        return self.line.remove(item)
