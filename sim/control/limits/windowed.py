"""The window that turns many samples into one for any of the limits.

Reproduces WindowedLimit, ImmutableAverageSampleWindow and ImmutablePercentileSampleWindow of Netflix/concurrency-limits (package limit).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import floor

from sim.control.limits.limit import Limit, nanoseconds

__all__ = ["WindowedLimit", "tracked_rtt"]


def tracked_rtt(rtts: Sequence[int], percentile: float | None = None) -> int:
    """What a window makes of its round-trip times, in whole nanoseconds: their mean, cut, or a percentile, 0 to 1, of them."""
    if percentile is None:
        return sum(rtts) // len(rtts)
    return sorted(rtts)[max(1, floor(len(rtts) * percentile + 0.5)) - 1]


class WindowedLimit:
    """Gives ``delegate`` one sample a window: the mean or a percentile of round-trip times, the most in flight, whether any dropped.

    A window ends with the first sample that ends more than its length after the last window; the length is twice the window's
    smallest round-trip time, at least ``min_window_time`` and at most ``max_window_time``. One of fewer than ``window_size`` samples is
    thrown away, as are samples below ``min_rtt_threshold``. ``percentile`` None: the mean, cut to nanoseconds.
    """

    __slots__ = (
        "_dropped",
        "_inflight",
        "_max_window",
        "_min_rtt",
        "_min_window",
        "_next",
        "_rtts",
        "delegate",
        "percentile",
        "window_size",
    )

    def __init__(
        self,
        delegate: Limit,
        *,
        min_window_time: float = 1.0,
        max_window_time: float = 1.0,
        window_size: int = 10,
        min_rtt_threshold: float = 100e-6,
        percentile: float | None = None,
    ) -> None:
        for name, value in (("min_window_time", min_window_time), ("max_window_time", max_window_time)):
            if value < 0.1:
                raise ValueError(f"{name} is {value:g} s; 100ms or more is allowed")
        if window_size < 10:
            raise ValueError(f"window_size is {window_size}; 10 or more is allowed")
        if percentile is not None and not 0.0 < percentile < 1.0:
            raise ValueError(f"percentile is {percentile:g}; above 0 and below 1 is allowed")
        self.delegate = delegate
        self.window_size = window_size
        self.percentile = percentile
        self._min_window = nanoseconds(min_window_time)
        self._max_window = nanoseconds(max_window_time)
        self._min_rtt = nanoseconds(min_rtt_threshold)
        self._next = 0
        self._rtts: list[int] = []
        self._inflight = 0
        self._dropped = False

    @property
    def limit(self) -> int:
        """The limit now."""
        return self.delegate.limit

    def on_sample(self, start: float, rtt: float, inflight: int, did_drop: bool = False) -> int:
        """See :meth:`Limit.on_sample`."""
        length = nanoseconds(rtt)
        end = nanoseconds(start) + length
        if length < self._min_rtt:
            return self.limit
        self._rtts.append(length)
        self._inflight = max(self._inflight, inflight)
        self._dropped = self._dropped or did_drop
        if end > self._next:
            rtts, most, dropped = self._rtts, self._inflight, self._dropped
            self._rtts, self._inflight, self._dropped = [], 0, False
            self._next = end + min(max(min(rtts) * 2, self._min_window), self._max_window)
            if len(rtts) >= self.window_size:
                self.delegate.on_sample(start, tracked_rtt(rtts, self.percentile) / 1e9, most, dropped)
        return self.limit
