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
        self._asked: dict[str, float] = {}
        self._found: Capacity | None = None

    def at(self, prompt: float, output: float, limits: Sequence[Limit]) -> Capacity:
        """The capacity for requests of mean ``prompt`` and ``output`` tokens within ``limits``."""
        asked = {"prompt": prompt, "output": output} | {limit.name: limit.seconds for limit in limits}
        if self._found is None or not self._alike(asked):
            traffic = Traffic(max(prompt, 1.0), max(output, 1.0), LENGTHS_SCV, LENGTHS_SCV)
            self._found = capacity(self.knowledge.step, self.knowledge.settings, traffic, limits)
            self._asked = asked
        return self._found

    def _alike(self, asked: dict[str, float]) -> bool:
        old = self._asked
        return asked.keys() == old.keys() and all(abs(asked[name] - old[name]) <= _SAME * old[name] for name in asked)
