"""A trace in memory, and what a scenario may do to it before replaying it.

Transforms return a new trace and leave the old one as it was. They are applied in the order
``spread``, ``slice``, ``loop``, ``scale``, ``jitter``: the window and the loop are in the trace's own time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

__all__ = ["Trace", "jitter", "loop", "scale", "slice_", "spread"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests as somebody recorded them: arrays of one length, in order of arrival.

    ``arrival_s`` in seconds from the start of the recording; ``span`` is how long the recording lasts, which is the period
    when it is looped. ``tick`` is the resolution of a clock that stamped many requests with the same time (0: none did).
    """

    arrival_s: Floats
    prompt_tokens: Integers
    output_tokens: Integers
    span: float
    priority: Integers | None = None
    session: Integers | None = None
    tick: float = 0.0
    source: str = ""
    format: str = ""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.arrival_s)

    def take(self, rows: npt.NDArray[np.intp], arrival_s: Floats, span: float) -> Trace:
        """Rows ``rows`` of this trace, arriving at ``arrival_s``."""
        return replace(
            self,
            arrival_s=arrival_s,
            prompt_tokens=self.prompt_tokens[rows],
            output_tokens=self.output_tokens[rows],
            priority=None if self.priority is None else self.priority[rows],
            session=None if self.session is None else self.session[rows],
            span=span,
        )


def spread(trace: Trace, generator: np.random.Generator) -> Trace:
    """Requests stamped with a coarse clock, spread evenly at random over the tick that follows their stamp.

    Published traces stamp a whole tick's arrivals (3 s in Mooncake's) with one time; replayed as they stand they would
    be one burst a tick. A trace with a fine clock comes back as it was.
    """
    if trace.tick <= 0.0 or not len(trace):
        return trace
    stamps, which = np.unique(trace.arrival_s, return_inverse=True)
    ticks = np.minimum(np.append(np.diff(stamps), trace.tick), 1.5 * trace.tick)
    arrival = trace.arrival_s + generator.random(len(trace)) * ticks[which]
    order = np.argsort(arrival, kind="stable")
    return replace(trace.take(order, arrival[order], max(trace.span, float(arrival.max()))), tick=0.0)


def slice_(trace: Trace, start: float, end: float = math.inf) -> Trace:
    """Arrivals in [start, end), with ``start`` as the new time 0."""
    rows = np.flatnonzero((trace.arrival_s >= start) & (trace.arrival_s < end))
    return trace.take(rows, trace.arrival_s[rows] - start, max(min(end, trace.span) - start, 0.0))


def loop(trace: Trace, periods: int) -> Trace:
    """The trace ``periods`` times, one after another."""
    if periods == 1 or not len(trace):
        return trace
    rows = np.tile(np.arange(len(trace)), periods)
    laps = np.repeat(np.arange(periods) * trace.span, len(trace))
    return trace.take(rows, trace.arrival_s[rows] + laps, trace.span * periods)


def scale(trace: Trace, factor: float) -> Trace:
    """The same requests at ``factor`` times the rate: time is compressed, so bursts keep their shape."""
    if factor == 1.0:
        return trace
    return replace(trace, arrival_s=trace.arrival_s / factor, span=trace.span / factor, tick=trace.tick / factor)


def jitter(trace: Trace, seconds: float, generator: np.random.Generator) -> Trace:
    """Every arrival moved by a uniform time in [-seconds, seconds]; what would fall before 0 is reflected there."""
    if seconds <= 0.0 or not len(trace):
        return trace
    arrival = np.abs(trace.arrival_s + generator.uniform(-seconds, seconds, len(trace)))
    order = np.argsort(arrival, kind="stable")
    return trace.take(order, arrival[order], max(trace.span, float(arrival.max())))
