"""What every scaler here does to the number it has found: bounds, and not letting go at once of what was wanted a moment ago."""

from __future__ import annotations

from collections import deque
from math import ceil, inf

__all__ = ["Bounds", "Hold", "needed", "positive"]


def positive(name: str, value: float, zero: bool = False) -> float:
    """``value``, if it is a number above 0 (or 0, with ``zero``); ValueError, naming it, otherwise."""
    if (zero and value == 0.0) or 0.0 < value < inf:
        return float(value)
    raise ValueError(f"{name} is {value!r}; it must be a number {'from' if zero else 'above'} 0")


def needed(demand: float, each: float) -> int:
    """How many replicas that serve ``each`` serve ``demand``; the rounding of floats does not cost a replica."""
    return ceil(demand / each - 1e-9) if demand > 0.0 else 0


class Bounds:
    """``min`` to ``max`` replicas. ValueError where they are no whole numbers with 0 <= min <= max, max >= 1."""

    __slots__ = ("least", "most")

    def __init__(self, min: int, max: int) -> None:
        given: tuple[tuple[str, object], ...] = (("min", min), ("max", max))
        for name, value in given:
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"{name} is {value!r}; it must be a whole number of replicas")
        if max < 1 or min > max:
            raise ValueError(f"min is {min} and max is {max}; max must be at least 1 and not below min")
        self.least = min
        self.most = max

    def within(self, replicas: float) -> int:
        """``replicas``, rounded up, but at least min and at most max; max for infinitely many."""
        if replicas >= self.most:
            return self.most
        return max(self.least, ceil(replicas - 1e-9))


class Hold:
    """The highest of what was said in the last ``window`` seconds: replicas are added at once and let go late.

    The same idea as the scale-down stabilisation window of the Kubernetes HPA. A window of 0 holds nothing.
    """

    __slots__ = ("_said", "window")

    def __init__(self, window: float) -> None:
        self.window = window
        self._said: deque[tuple[float, int]] = deque()  # what is later and higher than all before it is all that counts

    def highest(self, now: float, replicas: int) -> int:
        """Say ``replicas`` at ``now``; the highest said since ``now - window``, that included."""
        said = self._said
        while said and said[-1][1] <= replicas:
            said.pop()
        said.append((now, replicas))
        while said[0][0] < now - self.window:
            said.popleft()
        return said[0][1]
