"""How long something takes: warm-up, then repeats until the median is known well enough.

A record of one timed quantity is ``{"us": samples in the order they came, "median", "cv", "outliers", "disturbed"}``; the median and the
coefficient of variation are of the samples that are not outliers. Samples during which threads of this process had to wait for a
processor are ``disturbed``, and left out where others came: on a machine with other work they can take ten times as long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from calibration.campaign import Record
from sim.perf.monotone import Array

__all__ = [
    "Clock",
    "Patience",
    "Run",
    "WallClock",
    "kept",
    "kept_waiting",
    "noise",
    "record",
    "repeated",
    "scaled",
    "timed",
]

Run = Callable[[], Any]

MAD: Final = 1.4826  # standard deviation of a normal distribution by its median absolute deviation
FAR: Final = 5.0  # deviations above the median from which on a sample is an outlier,
SLACK: Final = 0.1  # if it is also this share above it: on a quiet machine the deviation is next to nothing
FEWEST: Final = 3  # samples
TOLERABLE: Final = 0.02  # of a sample's time may be spent waiting for a processor
STUBBORN: Final = 6.0  # times as long as patience lasts, for that many undisturbed ones
WARMING: Final = 8  # runs at most
SETTLED: Final = 0.1  # warm-up is over when a run is at most this share faster than the best before it


class Clock(Protocol):
    """What times a run on one kind of device."""

    notes: list[str]
    shortest: float
    """Seconds that one sample should span at least, that the clock's own cost does not matter."""

    def prepared(self, run: Run) -> Run:
        """``run`` as it will be timed."""

    def sample(self, run: Run, times: int) -> float:
        """Seconds of one ``run``, the mean of ``times`` in a row."""


class WallClock:
    """Wall time, for what runs where it is called."""

    shortest = 2e-4

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.notes: list[str] = []
        self._now = now

    def prepared(self, run: Run) -> Run:
        """``run`` itself."""
        return run

    def sample(self, run: Run, times: int) -> float:
        """Seconds of one ``run``, the mean of ``times`` in a row."""
        start = self._now()
        for _ in range(times):
            run()
        return (self._now() - start) / times


@dataclass(frozen=True)
class Patience:
    """When to stop repeating: once the standard error of the median is below ``accuracy`` of it and there are ``least`` samples,
    or after ``most`` samples, or after ``seconds`` (but never with fewer than three). Disturbed samples do not count."""

    least: int = 5
    most: int = 60
    accuracy: float = 0.01
    seconds: float = 1.0


def kept_waiting() -> float:
    """Seconds that the threads of this process have been ready to run and had no processor; 0 where the system does not count them."""
    total = 0
    for task in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError, ValueError, IndexError):  # a thread may have ended
            total += int(task.read_text(encoding="ascii").split()[1])
    return total * 1e-9


def timed(
    run: Run,
    clock: Clock,
    patience: Patience | None = None,
    now: Callable[[], float] = time.monotonic,
    waiting: Callable[[], float] = kept_waiting,
) -> Record:
    """The record of one ``run``: see the module. ``now`` is the clock that patience is measured with."""
    run = clock.prepared(run)
    times = 1

    def sample() -> dict[str, float]:
        nonlocal times
        seconds = clock.sample(run, times)
        times = max(1, min(10_000, int(np.ceil(clock.shortest / max(seconds, 1e-9)))))
        return {"": seconds}

    samples, disturbed = repeated(sample, patience or Patience(), now, waiting)
    return record(samples[""], disturbed)


def repeated(
    sample: Callable[[], dict[str, float]],
    patience: Patience,
    now: Callable[[], float] = time.monotonic,
    waiting: Callable[[], float] = kept_waiting,
) -> tuple[dict[str, list[float]], int]:
    """Microseconds of each repeat of the things that ``sample`` times, seconds by name, once it is warm: when a repeat is hardly
    faster than the best before; and how many disturbed repeats were left out. Their sum decides whether the median is known well
    enough."""
    start = now()
    best = inf
    for _ in range(WARMING):
        again = sum(sample().values())
        if again > (1.0 - SETTLED) * best or now() - start > patience.seconds:
            break
        best = again
    found: list[tuple[float, dict[str, float]]] = []
    while True:
        before, begun = waiting(), now()
        one = sample()
        found.append(((waiting() - before) / max(now() - begun, 1e-9), one))
        quiet = [sum(one.values()) for share, one in found if share <= TOLERABLE]
        if len(quiet) >= patience.most:
            break
        if len(quiet) >= patience.least and _standard_error(kept(quiet)) <= patience.accuracy:
            break
        spent = now() - start
        if len(found) >= FEWEST and spent > patience.seconds * (1.0 if len(quiet) >= FEWEST else STUBBORN):
            break
    bearable = max(TOLERABLE, sorted(share for share, _ in found)[:FEWEST][-1])
    used = [one for share, one in found if share <= bearable]
    return {name: [one[name] * 1e6 for one in used] for name in used[0]}, len(found) - len(used)


def kept(samples: Sequence[float]) -> Array:
    """The samples that are not outliers: not far above the median by their own median deviation."""
    values = np.asarray(samples, dtype=float)
    middle = np.median(values)
    deviation = MAD * float(np.median(np.abs(values - middle)))
    return np.asarray(values[values <= middle + np.maximum(FAR * deviation, SLACK * middle)])


def noise(one: Record) -> float:
    """Relative standard error of a record's median."""
    return _standard_error(kept(one["us"]))


def scaled(one: Record, factor: float) -> Record:
    """The record of ``factor`` such runs after one another."""
    return record([value * factor for value in one["us"]], one["disturbed"])


def _standard_error(values: Array) -> float:
    middle = float(np.median(values))
    if len(values) < 2 or middle <= 0.0:
        return 0.0
    deviation = MAD * float(np.median(np.abs(values - middle)))
    return float(np.sqrt(np.pi / 2.0 / len(values))) * deviation / middle


def record(samples: Sequence[float], disturbed: int = 0) -> Record:
    """The record of those samples, in microseconds; ``disturbed`` others were left out."""
    good = kept(samples)
    mean = float(good.mean())
    return {
        "us": [float(f"{value:.5g}") for value in samples],
        "median": float(f"{np.median(good):.6g}"),
        "cv": round(float(good.std()) / mean, 4) if mean > 0.0 else 0.0,
        "outliers": len(samples) - len(good),
        "disturbed": disturbed,
    }
