"""The time grid: every simulated time is a multiple of ``QUANTUM`` seconds, held in a float.

A double has 53 bits, so multiples of 2**-36 s (14.6 ps) are exact up to 2**17 s, 36 hours, and sums and products of them are
exact too. That is what lets ``m`` decode steps be one closed-form event and still end at the very same float as ``m`` events
added up one by one: the fast simulation and the slow reference agree bit for bit. Past 36 hours times are rounded like any
other float; nothing breaks but that exactness.
"""

from __future__ import annotations

__all__ = ["QUANTUM", "TICKS_PER_SECOND", "on_grid"]

TICKS_PER_SECOND = 2.0**36
QUANTUM = 2.0**-36


def on_grid(seconds: float) -> float:
    """The grid point nearest to ``seconds``."""
    return round(seconds * TICKS_PER_SECOND) * QUANTUM
