"""SimPy's clock over a data plane: the plane is advanced in bulk up to the next SimPy event, then that event happens.

Autoscalers, faults, samplers and whatever else decides a few times a second are SimPy processes; arrivals and engine steps are not
SimPy events at all. At equal times the plane goes first, so a process sees all that happened up to its moment.
"""

from __future__ import annotations

from typing import Protocol

from simpy import Environment

__all__ = ["Plane", "drive"]


class Plane(Protocol):
    """Something with a calendar of its own."""

    def advance(self, until: float) -> bool:
        """Process every event up to and at ``until``; False when none is left at all."""
        ...


def drive(env: Environment, plane: Plane, until: float) -> None:
    """Run ``plane`` and the processes of ``env`` to ``until``, or to when the plane has nothing left to do."""
    while True:
        next_event = env.peek()
        if next_event > until or next_event == float("inf"):
            plane.advance(until)
            return
        if not plane.advance(next_event):
            return
        env.step()
