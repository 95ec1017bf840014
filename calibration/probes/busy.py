"""Whether the machine had anything else to do while it was measured: a small reference multiplication is timed now and then."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np

from calibration.campaign import Campaign, Record
from calibration.probes.timing import Clock, Patience, Run, timed

__all__ = ["Witness", "said"]

EVERY: Final = 8.0  # seconds between two looks
DRIFT: Final = 1.10  # slowest over fastest reference median from which on the machine is called unsteady
OFTEN: Final = 0.01  # share of samples that are left out from which on it is said
SHARE: Final = 0.05  # of the processors, taken by others, from which on they are named


class Witness:
    """Times ``reference`` (a multiplication on the measured device) at most every few seconds, into the journal, with what other
    processes and the hypervisor took of the processors since the last look."""

    def __init__(
        self, campaign: Campaign, reference: Run, clock: Clock, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._campaign = campaign
        self._reference = reference
        self._clock = clock
        self._now = now
        self._last = -np.inf
        self._before = _processors()

    def glance(self) -> None:
        """Look, if the last look is some seconds old."""
        if self._now() - self._last < EVERY:
            return
        number = sum(key.startswith("reference/") for key in self._campaign.records)
        self._campaign.expect(1)
        self._campaign.measure(f"reference/{number}", self._look)
        self._last = self._now()

    def unsteadiness(self) -> float:
        """Relative spread (interquartile range over median) of the reference's times so far; 0 before there are three."""
        medians = [r["median"] for key, r in self._campaign.records.items() if key.startswith("reference/")]
        if len(medians) < 3:
            return 0.0
        low, middle, high = np.quantile(medians, [0.25, 0.5, 0.75])
        return float((high - low) / middle)

    def _look(self) -> Record:
        record = timed(self._reference, self._clock, Patience(least=7, most=15, seconds=0.1))
        after = _processors()
        record |= _shares(self._before, after)
        self._before = after
        return record


def said(records: Sequence[Record]) -> list[str]:
    """What the references and the other measurements say of the machine, a line for each complaint; nothing if it was quiet."""
    timings = [one for record in records for one in (record, *record.values()) if isinstance(one, dict) and "us" in one]
    references = [record for record in records if "others" in record]
    notes = []
    medians = [record["median"] for record in references]
    if len(medians) > 1 and max(medians) > DRIFT * min(medians):
        spread = max(medians) / min(medians) - 1.0
        notes.append(
            f"the machine was not steady: one reference multiplication took up to {spread:.0%} longer than at its best"
        )
    for name, whose in (("others", "other processes"), ("steal", "the hypervisor")):
        shares = [record[name] for record in references if record[name] is not None]
        if shares and max(shares) > SHARE:
            notes.append(
                f"the machine was busy: {whose} took up to {max(shares):.0%} of the processors ({np.mean(shares):.0%} on average)"
            )
    samples = sum(len(one["us"]) + one["disturbed"] for one in timings)
    for key, why in (
        ("disturbed", "had to wait for a processor"),
        ("outliers", "were far above their median"),
    ):
        count = sum(one[key] for one in timings)
        if count > OFTEN * samples:
            notes.append(f"{count} of {samples} samples {why} and were left out")
    return notes


def _processors() -> tuple[float, float, float, float] | None:
    """Seconds of all processors since boot: busy, stolen, all; and this process's own. None where the system does not say."""
    with suppress(OSError, ValueError, IndexError):
        line = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0]
        ticks = [float(word) for word in line.split()[1:9]]
        unit = os.sysconf("SC_CLK_TCK")
        idle, steal = ticks[3] + ticks[4], ticks[7]
        own = os.times()
        mine = own.user + own.system + own.children_user + own.children_system
        return (sum(ticks) - idle - steal) / unit, steal / unit, sum(ticks) / unit, mine
    return None


def _shares(before: tuple[float, ...] | None, after: tuple[float, ...] | None) -> dict[str, float | None]:
    if before is None or after is None or after[2] - before[2] < 0.5:
        return {"others": None, "steal": None}
    busy, steal, whole, mine = (b - a for a, b in zip(before, after, strict=True))
    return {"others": round(max(0.0, busy - mine) / whole, 3), "steal": round(max(0.0, steal) / whole, 3)}
