"""The histogram Envoy keeps latencies in: circllhist, whose bins have two significant decimal digits.

Reproduces hist_insert and hist_approx_quantile of openhistogram/libcircllhist (circllhist.c) for values of 0 and more.
"""

from __future__ import annotations

from math import floor, log10, nan

__all__ = ["Histogram"]

Bin = tuple[int, int]  # (exponent, first two digits): the bin starts at digits / 10 * 10 ** exponent


def _bin(value: float) -> Bin:
    if value == 0.0:
        return (-128, 0)  # sorts first
    exponent = floor(log10(value))
    digits = floor(value / 10.0**exponent * 10.0 + 1e-13)  # the margin is circllhist's
    return (exponent + 1, 10) if digits == 100 else (exponent, digits)


class Histogram:
    """Counts of values by bin. A quantile is interpolated within its bin, so it may differ from any value inserted by a tenth."""

    __slots__ = ("bins", "count")

    def __init__(self) -> None:
        self.bins: dict[Bin, int] = {}
        self.count = 0

    def insert(self, value: float) -> None:
        """Count ``value``, which is 0 or more."""
        key = _bin(value)
        self.bins[key] = self.bins.get(key, 0) + 1
        self.count += 1

    def clear(self) -> None:
        """Forget everything."""
        self.bins.clear()
        self.count = 0

    def quantile(self, q: float) -> float:
        """The value below which the share ``q``, from 0 to 1, lies; NaN of an empty histogram."""
        if not self.bins:
            return nan
        wanted = self.count * q
        below = above = 0.0
        left = width = 0.0
        for exponent, digits in sorted(self.bins):
            left, width = (0.0, 0.0) if digits == 0 else (digits / 10.0 * 10.0**exponent, 10.0**exponent / 10.0)
            below, above = above, above + self.bins[exponent, digits]
            if above >= wanted:
                break
        if below == wanted:
            return left
        if above == wanted:
            return left + width
        return left + (wanted - below) / (above - below) * width
