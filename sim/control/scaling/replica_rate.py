"""The requests a second that one replica serves, worked out anew when the requests have changed."""

from __future__ import annotations

from collections.abc import Sequence

from typing import Final

from sim.control.scaling.capacity import Capacity, Traffic, capacity
from sim.control.scaling.limits import Limit
from sim.control.scaling.view import Knowledge

__all__ = ["LENGTHS_SCV", "ReplicaRate"]

LENGTHS_SCV: Final = 1.0
"""Squared coefficient of variation of lengths, of which counters tell only the mean: exponential ones, near what LLM traces have."""
_SAME: Final = 0.02  # token means that differ by less are the same: a capacity takes a few milliseconds


class ReplicaRate:
    """:func:`~sim.control.scaling.capacity.capacity` of the known replica for the traffic it is asked about."""

    def __init__(self, knowledge: Knowledge) -> None:
        self.knowledge = knowledge
        self._for: tuple[float, float, tuple[float, ...]] | None = None
        self._found: Capacity | None = None

    def at(self, prompt: float, output: float, limits: Sequence[Limit]) -> Capacity:
        """The capacity for requests of mean ``prompt`` and ``output`` tokens within ``limits``."""
        seconds = tuple(limit.seconds for limit in limits)
        if self._found is None or self._for is None or not self._alike(prompt, output, seconds):
            traffic = Traffic(max(prompt, 1.0), max(output, 1.0), LENGTHS_SCV, LENGTHS_SCV)
            self._found = capacity(self.knowledge.step, self.knowledge.settings, traffic, limits)
            self._for = (prompt, output, seconds)
        return self._found

    def _alike(self, prompt: float, output: float, seconds: tuple[float, ...]) -> bool:
        assert self._for is not None
        pairs = [(prompt, self._for[0]), (output, self._for[1]), *zip(seconds, self._for[2], strict=True)]
        return all(abs(new - old) <= _SAME * old for new, old in pairs)
