"""SimPy's clock over a data plane: the plane is advanced in bulk up to the next SimPy event, then that event happens.

Autoscalers, faults, samplers and whatever else decides a few times a second are SimPy processes; arrivals and engine steps are not
SimPy events at all. At equal times the plane goes first, so a process sees all that happened up to its moment. What the plane has to
tell a process (a replica has drained, say) stops it, and is told at its very moment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from simpy import Environment

__all__ = ["Notice", "Plane", "Told", "drive"]

Notice = tuple[float, str, int]
"""When, what, of whom."""
Told = Callable[[float, str, int], None]


class Plane(Protocol):
    """Something with a calendar of its own. ``notices`` are what it has to tell; it stops as soon as there is one."""

    notices: list[Notice]

    def advance(self, until: float) -> bool:
        """Process every event up to and at ``until``, or to the first notice; False when none is left at all."""
        ...


def drive(env: Environment, plane: Plane, until: float, told: Told | None = None) -> None:
    """Run ``plane`` and the processes of ``env`` to ``until``, or to when the plane has nothing left to do."""
    while True:
        next_event = env.peek()
        last = next_event > until or next_event == float("inf")
        more = plane.advance(until if last else next_event)
        if plane.notices:
            _pass_on(env, plane, told)
            continue
        if last or not more:
            return
        env.step()


def _pass_on(env: Environment, plane: Plane, told: Told | None) -> None:
    """Make an event of each notice; the plane first goes on to the end of that moment."""
    for when, what, whom in plane.notices:
        if told is not None:
            event = env.timeout(max(when - env.now, 0.0), (when, what, whom))
            event.callbacks.append(lambda event: told(*event.value))
    plane.notices.clear()
