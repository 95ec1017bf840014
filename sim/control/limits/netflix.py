"""Netflix's concurrency limits: Vegas, Gradient2, AIMD.

Reproduces Netflix/concurrency-limits at 78a74b9 (concurrency-limits-core, package limit): its parameters in snake case, its integer
arithmetic, round-trip times rounded to nanoseconds. A sample is given to ``on_sample``; the answer, and ``limit``, is the new limit.
What differed in earlier releases and can still be had is said at each class.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, log10
from typing import TYPE_CHECKING

from sim.control.limits.limit import nanoseconds

if TYPE_CHECKING:
    import numpy as np

__all__ = ["AIMDLimit", "ExpAvgMeasurement", "Gradient2Limit", "VegasLimit"]


def _log10(limit: float) -> int:
    """Log10RootIntFunction: whole, and 1 at least."""
    return 1 if limit < 10.0 else int(log10(int(limit)))


class AIMDLimit:
    """One more after a success with at least half of the limit in flight, ``backoff_ratio`` of it after a drop or more than ``timeout``.

    The limit stays in [``min_limit``, ``max_limit``] from the first sample on. Early releases began at 10, went down to 1 and had no
    maximum.
    """

    __slots__ = ("_timeout", "backoff_ratio", "limit", "max_limit", "min_limit")

    def __init__(
        self,
        *,
        initial_limit: int = 20,
        min_limit: int = 20,
        max_limit: int = 200,
        backoff_ratio: float = 0.9,
        timeout: float = 5.0,
    ) -> None:
        if not 0.5 <= backoff_ratio < 1.0:
            raise ValueError(f"backoff_ratio is {backoff_ratio:g}; 0.5 or more, and below 1, is allowed")
        if timeout <= 0.0:
            raise ValueError(f"timeout is {timeout:g} s; above 0 is allowed")
        self.limit = initial_limit
        self.min_limit = min_limit
        self.max_limit = max_limit
        self.backoff_ratio = backoff_ratio
        self._timeout = nanoseconds(timeout)

    def on_sample(self, start: float, rtt: float, inflight: int, did_drop: bool = False) -> int:
        """See :meth:`sim.control.limits.limit.Limit.on_sample`."""
        limit = self.limit
        if did_drop or nanoseconds(rtt) > self._timeout:
            limit = int(limit * self.backoff_ratio)
        elif inflight * 2 >= limit:
            limit += 1
        self.limit = min(self.max_limit, max(self.min_limit, limit))
        return self.limit


class VegasLimit:
    """Grows while the queue it infers, ``limit · (1 - rtt_noload / rtt)`` rounded up, is short; shrinks when it is long.

    By default, with L = log10 of the limit, whole and at least 1: a queue of ``threshold`` (L) or less adds ``beta`` (6 L), less than
    ``alpha`` (3 L) adds L (``increase``), more than ``beta`` takes L away (``decrease``), as a drop does. With less than half of the limit
    in flight it does not change. ``alpha`` and ``beta`` are numbers or functions of the limit, ``threshold`` a function of it;
    ``increase`` and ``decrease`` make a new limit of the old. The lowest round-trip time is taken for that without load; every
    ``probe_multiplier · limit`` samples, times a random number in [0.5, 1) (1 without a ``generator``), the present one is. The sample
    that sets it changes no limit. Early releases took the square root for the logarithm of limits of 1000 and more.
    """

    __slots__ = (
        "_alpha",
        "_beta",
        "_decrease",
        "_estimated",
        "_generator",
        "_increase",
        "_noload",
        "_probe_count",
        "_probe_jitter",
        "_threshold",
        "max_concurrency",
        "probe_multiplier",
        "smoothing",
    )

    def __init__(
        self,
        *,
        initial_limit: int = 20,
        max_concurrency: int = 1000,
        smoothing: float = 1.0,
        alpha: int | Callable[[int], int] | None = None,
        beta: int | Callable[[int], int] | None = None,
        threshold: Callable[[int], int] | None = None,
        increase: Callable[[float], float] | None = None,
        decrease: Callable[[float], float] | None = None,
        probe_multiplier: int = 30,
        generator: np.random.Generator | None = None,
    ) -> None:
        self.max_concurrency = max_concurrency
        self.smoothing = smoothing
        self.probe_multiplier = probe_multiplier
        self._alpha = alpha
        self._beta = beta
        self._threshold = threshold
        self._increase = increase
        self._decrease = decrease
        self._generator = generator
        self._estimated = float(initial_limit)
        self._noload = 0
        self._probe_count = 0
        self._probe_jitter = self._jitter()

    @property
    def limit(self) -> int:
        """The limit now."""
        return int(self._estimated)

    @property
    def rtt_noload(self) -> float:
        """The round-trip time taken for that without load, in seconds; 0 before the first sample."""
        return self._noload / 1e9

    def on_sample(self, start: float, rtt: float, inflight: int, did_drop: bool = False) -> int:
        """See :meth:`sim.control.limits.limit.Limit.on_sample`. ValueError when ``rtt`` is not above 0."""
        length = nanoseconds(rtt)
        if length <= 0:
            raise ValueError(f"rtt must be >0 but got {rtt:g}")
        self._probe_count += 1
        if self._probe_jitter * self.probe_multiplier * self._estimated <= self._probe_count:
            self._probe_jitter = self._jitter()
            self._probe_count = 0
            self._noload = length
        elif self._noload == 0 or length < self._noload:
            self._noload = length
        else:
            self._update(length, inflight, did_drop)
        return self.limit

    def _jitter(self) -> float:
        return 1.0 if self._generator is None else 0.5 + 0.5 * float(self._generator.random())

    def _update(self, rtt: int, inflight: int, did_drop: bool) -> None:
        estimated, limit = self._estimated, int(self._estimated)
        queue = ceil(estimated * (1.0 - self._noload / rtt))
        if did_drop:
            new = self._decreased(estimated)
        elif inflight * 2 < estimated:
            return
        else:
            beta = self._bound(self._beta, 6, limit)
            if queue <= (_log10(limit) if self._threshold is None else self._threshold(limit)):
                new = estimated + beta
            elif queue < self._bound(self._alpha, 3, limit):
                new = estimated + _log10(estimated) if self._increase is None else self._increase(estimated)
            elif queue > beta:
                new = self._decreased(estimated)
            else:
                return
        new = max(1.0, min(float(self.max_concurrency), new))
        self._estimated = (1.0 - self.smoothing) * estimated + self.smoothing * new

    def _decreased(self, estimated: float) -> float:
        return estimated - _log10(estimated) if self._decrease is None else self._decrease(estimated)

    @staticmethod
    def _bound(bound: int | Callable[[int], int] | None, logarithms: int, limit: int) -> int:
        if bound is None:
            return logarithms * _log10(limit)
        return bound(limit) if callable(bound) else bound


class ExpAvgMeasurement:
    """The mean of the first ``warmup_window`` values, then an exponential average that gives a new one a weight of 2 / (``window`` + 1)."""

    __slots__ = ("_count", "_sum", "value", "warmup_window", "window")

    def __init__(self, window: int, warmup_window: int) -> None:
        self.window = window
        self.warmup_window = warmup_window
        self.value = 0.0
        self._sum = 0.0
        self._count = 0

    def add(self, sample: float) -> float:
        """Take in ``sample``; the average now."""
        if self._count < self.warmup_window:
            self._count += 1
            self._sum += sample
            self.value = self._sum / self._count
        else:
            factor = 2.0 / (self.window + 1)
            self.value = self.value * (1.0 - factor) + sample * factor
        return self.value


class Gradient2Limit:
    """Follows ``limit · gradient + queue_size``, with ``gradient = rtt_tolerance · long / rtt`` kept in [0.5, 1].

    ``long`` is an exponential average of ``long_window`` round-trip times, and loses a twentieth (``long_decay``) when it is more than
    twice the present one. ``smoothing`` is the weight of a new limit, which stays in [``min_limit``, ``max_concurrency``]. With less than
    half of the limit in flight it does not change. A drop is a sample like any other. ``queue_size`` is a number or a function of the
    limit. Early releases had a tolerance of 1 and a decay of 0.9.
    """

    __slots__ = (
        "_estimated",
        "_long",
        "_queue_size",
        "long_decay",
        "max_concurrency",
        "min_limit",
        "rtt_tolerance",
        "smoothing",
    )

    def __init__(
        self,
        *,
        initial_limit: int = 20,
        min_limit: int = 20,
        max_concurrency: int = 200,
        smoothing: float = 0.2,
        queue_size: int | Callable[[int], int] = 4,
        long_window: int = 600,
        rtt_tolerance: float = 1.5,
        long_decay: float = 0.95,
    ) -> None:
        if rtt_tolerance < 1.0:
            raise ValueError(f"rtt_tolerance is {rtt_tolerance:g}; 1 or more is allowed")
        self.min_limit = min_limit
        self.max_concurrency = max_concurrency
        self.smoothing = smoothing
        self.rtt_tolerance = rtt_tolerance
        self.long_decay = long_decay
        self._queue_size = queue_size
        self._estimated = float(initial_limit)
        self._long = ExpAvgMeasurement(long_window, 10)

    @property
    def limit(self) -> int:
        """The limit now."""
        return int(self._estimated)

    @property
    def long_rtt(self) -> float:
        """The average of round-trip times, in seconds."""
        return self._long.value / 1e9

    def on_sample(self, start: float, rtt: float, inflight: int, did_drop: bool = False) -> int:
        """See :meth:`sim.control.limits.limit.Limit.on_sample`. ValueError when ``rtt`` is not above 0."""
        short = float(nanoseconds(rtt))
        if short <= 0.0:
            raise ValueError(f"rtt must be >0 but got {rtt:g}")
        estimated = self._estimated
        queue = self._queue_size(int(estimated)) if callable(self._queue_size) else self._queue_size
        long = self._long.add(short)
        if long / short > 2.0:
            self._long.value *= self.long_decay
        if inflight >= estimated / 2.0:
            gradient = max(0.5, min(1.0, self.rtt_tolerance * long / short))
            new = estimated * (1.0 - self.smoothing) + (estimated * gradient + queue) * self.smoothing
            self._estimated = max(float(self.min_limit), min(float(self.max_concurrency), new))
        return self.limit
