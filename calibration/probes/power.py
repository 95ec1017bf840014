"""What the device draws, how fast its clock runs and why it is slower than it could be, while something runs on it.

A GPU is read through NVML: joules by its energy counter where it has one, else its power sampled and integrated. A CPU's packages
have energy counters in Linux's powercap (RAPL). Where there is nothing to read, readings say None, never 0.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final, Literal

from calibration import nvml
from sim.profiles.power import Power

if TYPE_CHECKING:
    from calibration.device import Device

__all__ = ["Counter", "CpuMeter", "GpuMeter", "Meter", "Reading", "meter", "power_part", "throttled"]

Counter = Literal["nvml energy", "nvml power", "rapl"]

PERIOD: Final = 0.02
"""Seconds between two samples of power and clock."""
POWERCAP: Final = Path("/sys/class/powercap")


@dataclass
class Reading:
    """What was seen while one thing ran; filled when it is over. Watts are the mean; the clock is the median in MHz."""

    seconds: float = 0.0
    joules: float | None = None
    watts: float | None = None
    clock_mhz: float | None = None
    throttled: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """For a campaign's journal."""
        return {
            "seconds": self.seconds,
            "joules": self.joules,
            "watts": self.watts,
            "clock_mhz": self.clock_mhz,
            "throttled": list(self.throttled),
        }

    def _close(self, seconds: float, joules: float | None) -> None:
        self.seconds, self.joules = seconds, joules
        self.watts = None if joules is None or seconds <= 0.0 else joules / seconds


class Meter:
    """A device without a counter: readings have seconds and nothing else."""

    counter: Counter | None = None
    limit_watts: float | None = None

    @contextmanager
    def watch(self) -> Iterator[Reading]:
        """Read while the body runs. Hold the load for a second at least: counters and averages move every 20 to 1,000 ms.

        The body waits for the device itself, else what it only enqueued is not seen.
        """
        reading = Reading()
        start = time.perf_counter()
        try:
            yield reading
        finally:
            reading._close(time.perf_counter() - start, None)


class GpuMeter(Meter):
    """One NVIDIA GPU. The energy counter is preferred: it misses nothing between samples."""

    def __init__(self, card: nvml.Card) -> None:
        self._card = card
        counts = card.energy() is not None
        self.counter = "nvml energy" if counts else "nvml power" if card.power() is not None else None
        self.limit_watts = card.power_limit()

    @contextmanager
    def watch(self) -> Iterator[Reading]:
        """As :meth:`Meter.watch`, with the clock and its limits sampled meanwhile."""
        reading, samples, over = Reading(), _Samples(), threading.Event()
        thread = threading.Thread(target=self._sample, args=(samples, over), daemon=True)
        before, start = self._card.energy(), time.perf_counter()
        thread.start()
        try:
            yield reading
        finally:
            after, seconds = self._card.energy(), time.perf_counter() - start
            over.set()
            thread.join()
        if samples.error is not None:
            raise samples.error
        reading._close(seconds, samples.joules(seconds) if before is None or after is None else after - before)
        reading.clock_mhz = median(samples.clocks) if samples.clocks else None
        reading.throttled = nvml.words(samples.reasons)

    def _sample(self, samples: _Samples, over: threading.Event) -> None:
        start = time.perf_counter()
        try:
            while True:
                watts, clock, reasons = self._card.power(), self._card.clock(), self._card.reasons()
                if watts is not None:
                    samples.times.append(time.perf_counter() - start)
                    samples.watts.append(watts)
                # A clock seen while nothing runs says nothing of the load's.
                if clock is not None and not (reasons or 0) & nvml.IDLE:
                    samples.clocks.append(clock)
                samples.reasons |= reasons or 0
                if over.wait(PERIOD):
                    return
        except Exception as error:  # noqa: BLE001 - told to the thread that waits for this one
            samples.error = error


@dataclass
class _Samples:
    times: list[float] = field(default_factory=list)
    watts: list[float] = field(default_factory=list)
    clocks: list[float] = field(default_factory=list)
    reasons: int = 0
    error: Exception | None = None

    def joules(self, seconds: float) -> float | None:
        """Power integrated by trapezoids, the first and last sample held to the ends of the ``seconds`` watched."""
        if not self.watts:
            return None
        times = [0.0, *(min(at, seconds) for at in self.times), seconds]
        watts = [self.watts[0], *self.watts, self.watts[-1]]
        return sum(
            (t1 - t0) * (w0 + w1) / 2.0 for t0, t1, w0, w1 in zip(times, times[1:], watts, watts[1:], strict=False)
        )


class CpuMeter(Meter):
    """The packages of a CPU through RAPL, their cores, caches and memory controllers together, every process's work included."""

    def __init__(self, zones: Sequence[Path]) -> None:
        self._zones = [(zone, int((zone / "max_energy_range_uj").read_text(encoding="ascii"))) for zone in zones]
        self.counter = "rapl"

    @contextmanager
    def watch(self) -> Iterator[Reading]:
        """As :meth:`Meter.watch`. A counter that wrapped once meanwhile is put right."""
        reading = Reading()
        before, start = self._microjoules(), time.perf_counter()
        try:
            yield reading
        finally:
            seconds = time.perf_counter() - start
            gone = zip(before, self._microjoules(), self._zones, strict=True)
            reading._close(seconds, sum((b - a) % (most + 1) for a, b, (_, most) in gone) / 1e6)

    def _microjoules(self) -> list[int]:
        return [int((zone / "energy_uj").read_text(encoding="ascii")) for zone, _ in self._zones]


def meter(device: Device, powercap: Path = POWERCAP) -> Meter:
    """What reads the power of ``device``; its ``counter`` is None if nothing does."""
    if (card := device.card) is not None:
        return GpuMeter(card)
    zones = [zone for zone in sorted(powercap.glob("intel-rapl:*")) if _is_package(zone)]
    return CpuMeter(zones) if zones else Meter()


def power_part(
    idle: float | None,
    points: Sequence[tuple[int, float | None]],
    *,
    counter: Counter | None,
    limit_watts: float | None = None,
    clock_mhz: float | None = None,
    throttled: Sequence[str] = (),
) -> Power | None:
    """The profile's part: ``idle`` watts, read before anything ran, and (scheduled tokens, watts) under load; None without a counter."""
    known = sorted((tokens, watts) for tokens, watts in points if watts is not None)
    if counter is None or idle is None:
        return None
    return Power(
        idle_watts=idle,
        at=tuple(tokens for tokens, _ in known),
        watts=tuple(watts for _, watts in known),
        counter=counter,
        limit_watts=limit_watts,
        clock_mhz=clock_mhz,
        throttled=tuple(dict.fromkeys(throttled)),
    )


def throttled(reasons: Sequence[str]) -> str | None:
    """A note for people: that clocks were held back while measuring, and why; None if they were not."""
    if not reasons:
        return None
    return f"clocks were held back while measuring: {', '.join(dict.fromkeys(reasons))}"


def _is_package(zone: Path) -> bool:
    """A whole socket whose counter can be read (since Linux 5.10 only root may), not one of its parts or the whole platform."""
    try:
        name = (zone / "name").read_text(encoding="ascii").strip()
        (zone / "energy_uj").read_text(encoding="ascii")
    except OSError:
        return False
    return name.startswith("package-")
