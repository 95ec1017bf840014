"""An autoscaler that follows a timetable."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sim.control.parameters import Seconds
from sim.control.scaling.sizing import Bounds, positive
from sim.control.scaling.view import Decision, DeploymentView, Knowledge

__all__ = ["ScheduleScaler", "Timetable", "Window"]

_NUMBER = r"[0-9]*\.?[0-9]+"
_UNITS: Final = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_PART: Final = re.compile(rf"({_NUMBER})\s*(ms|s|min|m|h|d)")
_WHOLE: Final = re.compile(rf"\s*(?:{_NUMBER}\s*(?:ms|s|min|m|h|d)\s*)+")


def _seconds(where: str, written: Any) -> float:
    """A time of the timetable, a number of seconds or text like 1h30m."""
    if isinstance(written, str) and _WHOLE.fullmatch(written):
        return sum(float(value) * _UNITS[unit] for value, unit in _PART.findall(written))
    if isinstance(written, int | float) and not isinstance(written, bool):
        return positive(where, written, zero=True)
    raise ValueError(f"{where} is {written!r}; it must be a time like 90s, 2h or 1h30m")


def _replicas(where: str, written: Any) -> int:
    if isinstance(written, bool) or not isinstance(written, int) or written < 0:
        raise ValueError(f"{where} is {written!r}; it must be a whole number of replicas")
    return written


class Window:
    """``replicas`` from ``start`` (included) to ``end`` (not included), a time of each ``repeat``; past its end it goes round.

    So does KEDA's cron scaler decide (pkg/scalers/cron_scaler.go): it is active unless the next start comes before the next end, and
    cron's next time is always later than now.
    """

    __slots__ = ("end", "replicas", "start")

    def __init__(self, start: float, end: float, replicas: int) -> None:
        self.start = start
        self.end = end
        self.replicas = replicas

    def active(self, time: float) -> bool:
        """Whether it holds at ``time`` within a round."""
        if self.start < self.end:
            return self.start <= time < self.end
        return time >= self.start or time < self.end


class Timetable:
    """Steps and windows of a round of ``repeat`` seconds (None: they happen once). Times are from the start of the round.

    A step holds until the next; before the first one holds the last, of the round before (without ``repeat``: none). Where several
    windows and a step hold, the largest counts, as an HPA takes the largest of several KEDA triggers. ValueError for times
    outside of the round, steps that do not ascend, and a window that ends as it starts.
    """

    def __init__(self, steps: Sequence[Any], windows: Sequence[Any], repeat: float | None) -> None:
        self.repeat = repeat
        self.times: list[float] = []
        self.values: list[int] = []
        for number, step in enumerate(steps):
            if isinstance(step, str) or not isinstance(step, Sequence) or len(step) != 2:
                raise ValueError(
                    f"steps[{number}] is {step!r}; it must be a time and a number of replicas, like [2h, 12]"
                )
            time = self._time(f"steps[{number}]", step[0])
            if self.times and time <= self.times[-1]:
                raise ValueError(
                    f"steps[{number}] is at {time:g} s; it must be later than the one before, at {self.times[-1]:g} s"
                )
            self.times.append(time)
            self.values.append(_replicas(f"steps[{number}]", step[1]))
        self.windows = [self._window(f"windows[{number}]", window) for number, window in enumerate(windows)]

    def _time(self, where: str, written: Any) -> float:
        time = _seconds(where, written)
        if self.repeat is not None and time >= self.repeat:
            raise ValueError(f"{where} is at {time:g} s; a round of {self.repeat:g} s is over by then")
        return time

    def _window(self, where: str, window: Any) -> Window:
        keys = ("start", "end", "replicas")
        if not isinstance(window, Mapping) or set(window) != set(keys):
            raise ValueError(f"{where} is {window!r}; it must have start, end and replicas")
        start = self._time(f"{where}.start", window["start"])
        end = self._time(f"{where}.end", window["end"])
        if start == end:
            raise ValueError(f"{where} starts and ends at {start:g} s; start and end must differ")
        if end < start and self.repeat is None:
            raise ValueError(f"{where} ends at {end:g} s, before it starts; only with a repeat can it go round")
        return Window(start, end, _replicas(f"{where}.replicas", window["replicas"]))

    def at(self, time: float) -> int | None:
        """Replicas at ``time``; None where nothing is said."""
        if self.repeat is not None:
            time %= self.repeat
        said = [window.replicas for window in self.windows if window.active(time)]
        step = bisect_right(self.times, time) - 1
        if self.times and (step >= 0 or self.repeat is not None):
            said.append(self.values[step])  # -1: the last of the round before
        return max(said) if said else None

    def highest(self, start: float, end: float) -> int | None:
        """The most that is said at any time from ``start`` to ``end``, both included; None where nothing is."""
        found = [self.at(start), self.at(end)]
        changes = [*self.times, *(window.start for window in self.windows)]
        if self.repeat is None:
            found += [self.at(time) for time in changes if start < time < end]
        elif end - start >= self.repeat:
            found += [self.at(time) for time in changes]
        else:
            found += [self.at(time) for time in changes if (time - start) % self.repeat < end - start]
        return max((replicas for replicas in found if replicas is not None), default=None)


class ScheduleScaler:
    """Replicas by the time: ``steps`` like ``[[0s, 4], [2h, 12]]``, and ``windows`` like ``{start: 8h, end: 18h, replicas: 12}``.

    The day, or whatever a round of ``repeat`` is (None: once), is at ``offset`` when the run starts. Changes upwards come ``lead`` seconds
    early (None: the cold start it knows, and its period), those downwards on time. Where the timetable says nothing, ``min``.
    It needs no metrics.
    """

    def __init__(
        self,
        *,
        min: int = 1,
        max: int = 100,
        period: Seconds = 15.0,
        steps: Sequence[Sequence[Any]] = (),
        windows: Sequence[Mapping[str, Any]] = (),
        repeat: Seconds | None = 86400.0,
        offset: Seconds = 0.0,
        lead: Seconds | None = None,
        knowledge: Knowledge | None = None,
    ) -> None:
        self.bounds = Bounds(min, max)
        self.period = positive("period", period)
        self.sample_period = 0.0
        if not steps and not windows:
            raise ValueError("a schedule needs steps or windows")
        self.timetable = Timetable(steps, windows, None if repeat is None else positive("repeat", repeat))
        self.offset = positive("offset", offset, zero=True)
        known = 0.0 if knowledge is None else knowledge.cold_start
        self.lead = known + self.period if lead is None else positive("lead", lead, zero=True)

    def observe(self, view: DeploymentView) -> None:
        """Nothing: it is never called."""

    def decide(self, view: DeploymentView) -> Decision:
        """The most that the timetable says from now to ``lead`` ahead."""
        time = view.now + self.offset
        said = self.timetable.highest(time, time + self.lead)
        now = self.timetable.at(time)
        numbers = {"time": time, "lead": self.lead}
        if now is not None:
            numbers["now"] = float(now)
        if said is None:
            return Decision(self.bounds.least, "the timetable says nothing", numbers)
        numbers["said"] = float(said)
        return Decision(self.bounds.within(said), "timetable", numbers)
