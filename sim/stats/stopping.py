"""How many replications a wanted precision takes."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from sim.stats.intervals import Interval, t_interval, t_quantile

__all__ = ["Stopping", "precise", "replications_to_clear", "replications_wanted"]

FEWEST = 3
_MOST = 100_000


def precise(
    values: npt.ArrayLike, relative: float, confidence: float = 0.95, *, absolute: float = 0.0, least: int = FEWEST
) -> bool:
    """Whether the interval over ``values`` is within ±``relative`` of its mean, from at least ``least`` replications.

    The sequential rule of Law & Kelton (Simulation Modeling and Analysis, 5th ed., 9.4.1): stop at the first n for which
    half-width / |mean| <= relative / (1 + relative), which makes ``relative`` a bound on the error against the true mean. A half-width
    of ``absolute`` will do as well, whatever the mean: for figures that may be near 0.
    """
    interval = t_interval(values, confidence)
    if interval.n < max(least, 2) or not math.isfinite(interval.mean):
        return False
    return interval.half_width <= max(absolute, relative / (1.0 + relative) * abs(interval.mean))


class Stopping:
    """The same rule as something that is fed: ``while not rule.done: rule.add(run())``.

    It is done when the values so far are :func:`precise`, or, with ``most``, when there are so many: ``precise`` tells which.
    Asking after every value finds a lucky narrow interval now and then, so its coverage falls below ``confidence``, the more the smaller
    ``least`` is (docs/statistics.md has figures).
    """

    def __init__(
        self,
        relative: float = 0.0,
        absolute: float = 0.0,
        confidence: float = 0.95,
        least: int = 10,
        most: int | None = None,
    ) -> None:
        if not (0.0 <= relative < math.inf and 0.0 <= absolute < math.inf and relative + absolute > 0.0):
            raise ValueError(
                f"relative: {relative}, absolute: {absolute}; not negative, and one of them greater than 0"
            )
        if not 0.0 < confidence < 1.0:
            raise ValueError(f"confidence: {confidence}; between 0 and 1")
        if least < 2 or (most is not None and most < least):
            raise ValueError(f"least: {least}, most: {most}; at least 2, and no more than most")
        self.relative, self.absolute, self.confidence = relative, absolute, confidence
        self.least, self.most = least, most
        self.values: list[float] = []
        self.precise = False

    def add(self, value: float) -> bool:
        """Take one more value; whether it is done then. ValueError for what is not a finite number."""
        if not math.isfinite(value):
            raise ValueError(f"value {len(self.values) + 1}: {value}; a finite number")
        self.values.append(float(value))
        self.precise = precise(self.values, self.relative, self.confidence, absolute=self.absolute, least=self.least)
        return self.done

    @property
    def done(self) -> bool:
        """Whether no more values are wanted."""
        return self.precise or (self.most is not None and len(self.values) >= self.most)

    @property
    def interval(self) -> Interval:
        """The Student-t interval over the values so far."""
        return t_interval(self.values, self.confidence)


def replications_wanted(values: npt.ArrayLike, relative: float, confidence: float = 0.95) -> int:
    """The least total number of replications that would be :func:`precise` if they went on to vary as ``values`` do."""
    sample = np.asarray(values, dtype=np.float64)
    mean = abs(float(sample.mean())) if len(sample) else math.nan
    wanted = _enough(sample, relative / (1.0 + relative) * mean, confidence)
    return max(FEWEST, len(sample) if wanted is None else wanted)


def replications_to_clear(
    values: npt.ArrayLike, target: float, confidence: float = 0.95, doubt: float = 0.0
) -> int | None:
    """The least total number of replications whose interval would leave ``target`` outside, if mean and spread stay as they are.

    ``doubt`` is a standard error that they share, and keep. None if the number cannot be told (fewer than 2 values, a mean on the
    target) or would be more than 100,000.
    """
    sample = np.asarray(values, dtype=np.float64)
    distance = abs(float(sample.mean()) - target) if len(sample) > 1 else 0.0
    return _enough(sample, distance, confidence, doubt) if distance > 0.0 else None


def _enough(sample: npt.NDArray[np.float64], half_width: float, confidence: float, doubt: float = 0.0) -> int | None:
    """The least n, at least that of ``sample``, whose half-width is at most ``half_width``."""
    if len(sample) < 2 or not math.isfinite(half_width):
        return None
    deviation = float(sample.std(ddof=1))

    def fits(n: int) -> bool:
        return t_quantile(0.5 + confidence / 2.0, n - 1) * math.hypot(deviation / math.sqrt(n), doubt) <= half_width

    low = high = len(sample)
    while not fits(high):
        if high >= _MOST:
            return None
        low, high = high, min(high * 2, _MOST)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle + 1, high)
    return high
