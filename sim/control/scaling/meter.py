"""What arrives at a deployment, read off the counters of its view: rates and token means over the last while."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from sim.control.scaling.view import DeploymentView

__all__ = ["Flow", "Meter", "Series"]


@dataclass(frozen=True, slots=True)
class Flow:
    """Over ``seconds``: requests a second, mean prompt and output tokens (of what arrived; NaN if nothing did), mean concurrency."""

    seconds: float
    rate: float
    prompt: float
    output: float
    concurrency: float


class Meter:
    """Counters as they were at each look; :meth:`flow` is their difference over the last ``window`` seconds.

    Views count from the start of a run, at 0, which is the first look of all.
    """

    def __init__(self, window: float) -> None:
        self.window = window
        self._looks: deque[tuple[float, int, int, int, float]] = deque([(0.0, 0, 0, 0, 0.0)])  # a run starts at 0

    def look(self, view: DeploymentView) -> None:
        """Note the counters of ``view``. During an outage of metrics there is nothing to note."""
        looks = self._looks
        if not view.metrics or view.now <= looks[-1][0]:
            return
        looks.append((view.now, view.arrived, view.prompt_tokens, view.output_tokens, view.request_seconds))
        while len(looks) > 2 and looks[1][0] <= view.now - self.window:
            looks.popleft()

    def flow(self) -> Flow | None:
        """From the last look at least ``window`` ago (or from 0) to the latest; None before there is one."""
        if len(self._looks) < 2:
            return None
        old, new = self._looks[0], self._looks[-1]
        seconds = new[0] - old[0]
        arrived = new[1] - old[1]
        nan = float("nan")
        return Flow(
            seconds,
            arrived / seconds,
            (new[2] - old[2]) / arrived if arrived else nan,
            (new[3] - old[3]) / arrived if arrived else nan,
            (new[4] - old[4]) / seconds,
        )


class Series:
    """A figure in buckets of equal length, the last ``points`` of them: the mean rise a second of a counter in each.

    A look that comes late, after an outage say, fills the buckets it missed with their mean.
    """

    def __init__(self, bucket: float, points: int) -> None:
        self.bucket = bucket
        self.points = points
        self.values: deque[float] = deque(maxlen=points)
        self._last = (0.0, 0.0)  # when, and the counter: a run starts at 0

    def add(self, now: float, counter: float) -> None:
        """The counter's value at ``now``."""
        elapsed = now - self._last[0]
        whole = int(elapsed / self.bucket + 0.5)
        if whole < 1:
            return
        rise = (counter - self._last[1]) / elapsed
        self.values.extend([rise] * min(whole, self.points))
        self._last = (now, counter)
