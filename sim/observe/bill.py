"""What machines cost, as clouds bill them: whole ones, by the time each was had, at the terms of their pool.

Pure: intervals in, money out. Times are seconds since the start of the run.

- Amazon EC2 (Linux) and Google Compute Engine bill by the second, 60 s at least; Azure by the second; others by the hour begun.
  ``granularity`` and ``minimum`` say which. Sources are in docs/cost.md.
- A machine that is still there at the end of the run is billed for the time it was there until then: its next second, minute or
  hour is not rounded up, as the run ends before the bill does.
- ``reserved`` machines are paid from the start to the end, whether they are used or not. At each moment they cover so many of the
  machines that are billed; those beyond are billed at the running price (EC2 applies reservations so: by the second, to whichever
  instance runs).
- A ``series`` of prices (of spot capacity) holds from each of its times to the next; before the first, the first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["KINDS", "ON_DEMAND", "RESERVED", "SPOT", "Bill", "Terms", "bill", "split"]

Floats = npt.NDArray[np.float64]

ON_DEMAND = "on-demand"
RESERVED = "reserved"
SPOT = "spot"
KINDS = (ON_DEMAND, RESERVED, SPOT)

_HOUR = 3600.0
_ROUNDING = 1e-9  # of a unit: what sums of binary fractions may be off by


@dataclass(frozen=True)
class Terms:
    """How the machines of one pool are billed. Prices are dollars an hour of a machine, times seconds.

    ``usd_per_hour`` is the running price: on demand, or of spot capacity without a ``series``, which is (time, price) pairs, times
    rising. Of ``reserved`` machines each costs ``reserved_usd_per_hour``. A machine that ended was had for ``minimum`` at least, rounded
    up to a multiple of ``granularity`` (0: not rounded). One that the cloud took back within ``free_within`` costs nothing.

    Raises ValueError for terms that are no terms.
    """

    usd_per_hour: float
    kind: str = ON_DEMAND
    minimum: float = 0.0
    granularity: float = 0.0
    reserved: int = 0
    reserved_usd_per_hour: float = 0.0
    series: tuple[tuple[float, float], ...] = ()
    free_within: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind {self.kind!r} is not one of {', '.join(KINDS)}")
        for name in ("usd_per_hour", "minimum", "granularity", "reserved", "reserved_usd_per_hour", "free_within"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} {getattr(self, name)!r}: 0 or more")
        moments = [moment for moment, _ in self.series]
        if any(later <= sooner for sooner, later in pairwise(moments)):
            raise ValueError("series: times must rise")
        if any(not 0.0 <= price < math.inf for _, price in self.series):
            raise ValueError("series: prices are 0 or more")


@dataclass(frozen=True, eq=False)
class Bill:
    """The bill of one pool. ``usd_per_second[i]`` is what is spent between ``times[i]`` and ``times[i + 1]``.

    ``billed_s`` are the seconds that each machine is billed for. ``paid_s`` machine-seconds are paid: ``reserved_s``, used or not, and
    ``running_s`` at the running price; ``reserved_usd`` and ``running_usd`` likewise.
    """

    times: Floats
    usd_per_second: Floats
    billed_s: Floats
    reserved_s: float
    running_s: float
    reserved_usd: float
    running_usd: float

    @property
    def usd(self) -> float:
        """All of it."""
        return self.reserved_usd + self.running_usd

    @property
    def paid_s(self) -> float:
        """Machine-seconds that are paid."""
        return self.reserved_s + self.running_s

    def between(self, start: float, stop: float) -> float:
        """Dollars for the time from ``start`` to ``stop``."""
        seconds = np.clip(self.times, start, max(start, stop))
        return float((np.diff(seconds) * self.usd_per_second).sum())


def bill(intervals: Sequence[Sequence[float]] | Floats, terms: Terms, end: float, reclaimed: Any = None) -> Bill:
    """The bill for machines that were had in ``intervals``, rows of (start, end) in [0, ``end``], when the run ended at ``end``.

    A machine whose interval reaches ``end`` is still there. ``reclaimed``: a flag for each that the cloud took back, none by default.
    ValueError for an interval that ends before it starts.
    """
    had = np.asarray(intervals, np.float64).reshape(-1, 2)
    starts, ends = had[:, 0], np.minimum(had[:, 1], end)
    if not (starts <= ends).all():
        raise ValueError("intervals: one ends before it starts, or starts after the end of the run")
    billed = _billed(ends - starts, terms)
    if reclaimed is not None:
        billed = np.where(np.asarray(reclaimed, bool) & (ends - starts < terms.free_within), 0.0, billed)
    billed = np.where(ends >= end, ends - starts, billed)
    until = starts + billed
    moments = [starts, until, [0.0, end], [moment for moment, _ in terms.series if moment > 0.0]]
    times = np.unique(np.concatenate([np.asarray(part, np.float64) for part in moments]))
    seconds, since = np.diff(times), times[:-1]
    there = np.searchsorted(np.sort(starts), since, "right") - np.searchsorted(np.sort(until), since, "right")
    running = np.maximum(there - terms.reserved, 0)
    reserved = np.where(since < end, terms.reserved, 0)
    price = _price(since, terms)
    return Bill(
        times=times,
        usd_per_second=(running * price + reserved * terms.reserved_usd_per_hour) / _HOUR,
        billed_s=billed,
        reserved_s=terms.reserved * end,
        running_s=float((running * seconds).sum()),
        reserved_usd=terms.reserved * terms.reserved_usd_per_hour * (end / _HOUR),
        running_usd=float((running * price * (seconds / _HOUR)).sum()),
    )


def _billed(seconds: Floats, terms: Terms) -> Floats:
    """Seconds that machines which ended are billed for."""
    least = np.maximum(seconds, terms.minimum)
    if terms.granularity == 0.0:
        return least
    return np.asarray(np.ceil(least / terms.granularity - _ROUNDING) * terms.granularity)


def _price(moments: Floats, terms: Terms) -> Floats:
    """The running price at each moment, dollars an hour."""
    if not terms.series:
        return np.full(len(moments), terms.usd_per_hour)
    starts, prices = (np.array(column) for column in zip(*terms.series, strict=True))
    return np.asarray(prices[np.maximum(np.searchsorted(starts, moments, "right") - 1, 0)])


def split(usd: float, paid: float, used: Sequence[float] | Floats) -> tuple[Floats, Floats]:
    """What each of those who share a pool spends of ``usd``: for the GPU-seconds it ``used``, and for its share of the idle rest.

    ``paid`` are the GPU-seconds of the bill: machines had, rounded up, and reserved ones that nobody needed. The idle ones belong to all
    in proportion to what they used; to all alike if nobody used any.
    """
    had = np.asarray(used, np.float64)
    total = float(had.sum())
    of_paid = max(paid, total)  # more was used than is paid where the cloud took a machine back and asks nothing for it
    own = usd * (had / of_paid) if of_paid > 0.0 else np.zeros(len(had))
    share = had / total if total > 0.0 else np.full(len(had), 1.0 / max(len(had), 1))
    return own, max(usd - float(own.sum()), 0.0) * share
