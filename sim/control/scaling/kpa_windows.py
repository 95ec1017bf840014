"""Knative's windows: averages over time buckets, plain and exponentially weighted, and the sliding maximum of the scale-down delay.

knative/serving: pkg/autoscaler/aggregation/bucketing.go, pkg/autoscaler/aggregation/max/{window,timewindow}.go.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final, Literal

__all__ = ["MaxTimeWindow", "MaxWindow", "TimedBuckets", "WeightedBuckets", "round_to_digits", "smoothing_coefficient"]

MIN_EXPONENT: Final = 0.2
WEIGHT_PRECISION: Final = 0.9999
PRECISION: Final = 6


def round_to_digits(digits: int, value: float, how: Literal["floor", "round"] = "round") -> float:
    """``value`` with so many decimals: the nearest, halves away from zero. ``how="floor"``: down, as Knative before 1.19 (pull 15940)."""
    power = math.pow(10, digits)
    scaled = value * power
    if how == "floor":
        return math.floor(scaled) / power
    return math.copysign(math.floor(abs(scaled) + 0.5), scaled) / power


def smoothing_coefficient(buckets: float) -> float:
    """How fast weights decay over so many buckets: their sum reaches 0.9999, but the newest weighs 0.2 at least."""
    return max(1.0 - math.pow(1.0 - WEIGHT_PRECISION, 1.0 / buckets), MIN_EXPONENT)


class TimedBuckets:
    """``TimedFloat64Buckets``: sums in buckets of ``granularity`` seconds over ``window`` seconds, and their average.

    Values of one bucket add up. The average divides by the buckets from the first write to the last: a window that has just begun is
    not diluted, and seconds without data after the last write shrink the divisor. Gaps before the last write count as zeros. A
    window without data forgets all. Late values are added where they belong, unless they are a window old. Times are seconds >= 0.
    """

    __slots__ = ("_first", "_how", "_last", "_sums", "_total", "granularity", "window")

    def __init__(self, window: float, granularity: float = 1.0, rounding: Literal["floor", "round"] = "round") -> None:
        if granularity <= 0:
            raise ValueError(f"granularity: {granularity} s; must be positive")
        if window < granularity:
            raise ValueError(f"window: {window} s; must be at least the granularity, {granularity} s")
        self.window = window
        self.granularity = granularity
        self._how = rounding
        self._sums = [0.0] * math.ceil(window / granularity)
        self._total = 0.0  # of all buckets, those before the first write and after the last included
        self._first: int | None = None  # bucket numbers of the first and the last write
        self._last: int | None = None

    def __len__(self) -> int:
        """How many buckets there are."""
        return len(self._sums)

    @property
    def first_write(self) -> float | None:
        """When the bucket of the first write began; None before it and when a resize found no valid data."""
        return None if self._first is None else self._first * self.granularity

    def _number(self, time: float) -> int:
        return math.floor(time / self.granularity)

    def is_empty(self, now: float) -> bool:
        """Whether nothing was recorded for longer than a window. At exactly a window it is not empty, but averages 0."""
        return self._last is None or (self._number(now) - self._last) * self.granularity > self.window

    def record(self, now: float, value: float) -> None:
        """Add ``value`` to the bucket of ``now``."""
        number = self._number(now)
        sums = self._sums
        last = self._last
        if number != last:
            if last is not None and (last - number) * self.granularity >= self.window:
                return  # a window too late
            if self._first is None or self._first > number:
                self._first = number
            if last is None or number > last:
                if last is None or (number - last) * self.granularity >= self.window:
                    self._first = number
                    sums[:] = [0.0] * len(sums)
                    self._total = 0.0
                else:
                    for passed in range(last + 1, number + 1):
                        slot = passed % len(sums)
                        self._total -= sums[slot]
                        sums[slot] = 0.0
                self._last = number
        sums[number % len(sums)] += value
        self._total += value

    def _written(self) -> float:
        """Buckets from the first write to the last, both included."""
        if self._first is None or self._last is None:
            return math.inf
        return self._last - self._first + 1

    def window_average(self, now: float) -> float:
        """The average a bucket, to 6 decimals; 0 when the last write is a window ago."""
        if self._last is None:
            return 0.0
        number = self._number(now)
        sums = self._sums
        behind = number - self._last
        if behind * self.granularity >= self.window:
            return 0.0
        total = self._total
        for passed in range(self._last + 1, number + 1):
            total -= sums[passed % len(sums)]
        valid = min(self._written(), float(len(sums) - max(behind, 0)))
        return round_to_digits(PRECISION, total / valid, self._how)

    def buckets(self, now: float) -> dict[float, float]:
        """The sums by the time their bucket began, newest first, of those that ``now`` may look at."""
        if self._last is None:
            return {}
        count = len(self._sums) - (self._number(now) - self._last)
        return {
            number * self.granularity: self._sums[number % len(self._sums)]
            for number in range(self._last, self._last - min(count, len(self._sums)), -1)
        }

    def resize_window(self, window: float, now: float) -> None:
        """Another window, keeping the newest data. Afterwards the first write counts as if the old window had been full."""
        if window == self.window:
            return
        size = math.ceil(window / self.granularity)
        fresh = [0.0] * size
        total = 0.0
        if self._last is not None and not self.is_empty(now):
            old = len(self._sums)
            for number in range(self._last, self._last - min(size, old), -1):
                kept = self._sums[number % old]
                fresh[number % size] = kept
                total += kept
            self._first = self._last - (old - 1)
        else:
            self._first = None
        self.window = window
        self._sums = fresh
        self._total = total


class WeightedBuckets(TimedBuckets):
    """``WeightedFloat64Buckets``: the same buckets, averaged with weights that fall exponentially with age. Not rounded."""

    __slots__ = ("smoothing",)

    def __init__(self, window: float, granularity: float = 1.0) -> None:
        super().__init__(window, granularity)
        self.smoothing = smoothing_coefficient(len(self))

    def window_average(self, now: float) -> float:
        """The weighted average: m·v₀ + m(1−m)·v₁ + …, v₀ the bucket of ``now``."""
        if self._last is None or self.is_empty(now):
            return 0.0
        count = size = len(self._sums)
        weight = self.smoothing
        behind = self._number(now) - self._last
        if behind > 0:
            weight *= (1.0 - self.smoothing) ** behind
            count -= behind
        average = 0.0
        for back in range(count):
            average += self._sums[(self._last - back) % size] * weight
            weight *= 1.0 - self.smoothing
        return average

    def resize_window(self, window: float, now: float) -> None:
        """Another window; the weights follow it."""
        super().resize_window(window, now)
        self.smoothing = smoothing_coefficient(math.ceil(window / self.granularity))


class MaxWindow:
    """``max.window``: the largest value of the last ``size`` indices. Time passes only when something is recorded."""

    __slots__ = ("_maxima", "size")

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"size: {size}; must be at least 1")
        self.size = size
        self._maxima: deque[tuple[int, float]] = deque()  # (index, value), values descending

    def record(self, index: int, value: float) -> None:
        """Record ``value`` at ``index``; indices never fall. Of several at one index the largest stays."""
        maxima = self._maxima
        while maxima and value >= maxima[-1][1]:
            maxima.pop()
        while maxima and index - maxima[0][0] >= self.size:
            maxima.popleft()
        if maxima and maxima[-1][0] == index:
            value = maxima.pop()[1]  # larger, or it would be gone
        maxima.append((index, value))

    @property
    def current(self) -> float:
        """The largest value; 0 before the first."""
        return self._maxima[0][1] if self._maxima else 0.0


class MaxTimeWindow:
    """``max.TimeWindow``: the same by time, in slots of ``granularity`` seconds, ceil(duration / granularity) of them."""

    __slots__ = ("_window", "granularity")

    def __init__(self, duration: float, granularity: float) -> None:
        self._window = MaxWindow(math.ceil(duration / granularity))
        self.granularity = granularity

    def record(self, now: float, value: float) -> None:
        """Record ``value`` in the slot of ``now``."""
        self._window.record(math.floor(now / self.granularity), value)

    @property
    def current(self) -> float:
        """The largest value of the last ``duration`` seconds as of the last record."""
        return self._window.current
