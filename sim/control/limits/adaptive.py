"""Admission policies that find their limit themselves, and the one that sheds by priority.

They count what is in flight in the whole deployment (``ask.inflight``) and are told how each attempt ended. Netflix's take a dropped
attempt for a sample, as long as it was in flight; Envoy's, whose client has hung up, for none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from sim.control.limits.ask import ADMIT, DROPPED, REFUSE, Ask
from sim.control.limits.gradient import GradientController
from sim.control.limits.held import Held
from sim.control.limits.limit import FixedLimit, Limit
from sim.control.limits.netflix import AIMDLimit, Gradient2Limit, VegasLimit
from sim.control.limits.partitions import PartitionedLimiter
from sim.control.limits.windowed import WindowedLimit
from sim.control.parameters import Seconds

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Aimd", "EnvoyAdaptive", "Gradient2", "PriorityShedding", "Vegas"]


class _WholeNumbers:
    """Random whole numbers, as Envoy's generator gives them."""

    __slots__ = ("_generator",)

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator

    def __call__(self) -> int:
        return int(self._generator.integers(1 << 62))


def _at_least(minimum: int, **values: int) -> None:
    for name, value in values.items():
        if value < minimum:
            raise ValueError(f"{name} is {value}; {minimum} or more is allowed")


def _in_order(low: str, least: int, high: str, most: int) -> None:
    if least > most:
        raise ValueError(f"{low} is {least}, above {high} ({most})")


def _smoothing(value: float) -> None:
    if not 0.0 < value <= 1.0:
        raise ValueError(f"smoothing is {value:g}; above 0 and at most 1 is allowed")


class EnvoyAdaptive:
    """Envoy's adaptive concurrency filter; for its parameters see :class:`GradientController`.

    Envoy demands the two intervals; the defaults here are those of its documentation's example.
    """

    __slots__ = ("_controller", "reason")

    def __init__(
        self,
        *,
        concurrency_update_interval: Seconds = 0.1,
        interval: Seconds = 60.0,
        sample_aggregate_percentile: float = 50.0,
        max_concurrency_limit: int = 1000,
        request_count: int = 50,
        min_concurrency: int = 3,
        jitter: float = 15.0,
        buffer: float = 25.0,
        fixed_value: Seconds = 0.0,
        generator: np.random.Generator | None = None,
    ) -> None:
        for name, percent in (
            ("sample_aggregate_percentile", sample_aggregate_percentile),
            ("jitter", jitter),
            ("buffer", buffer),
        ):
            if not 0.0 <= percent <= 100.0:
                raise ValueError(f"{name} is {percent:g}; 0 to 100 (percent) is allowed")
        self._controller = GradientController(
            concurrency_update_interval=concurrency_update_interval,
            interval=interval,
            sample_aggregate_percentile=sample_aggregate_percentile,
            max_concurrency_limit=max_concurrency_limit,
            request_count=request_count,
            min_concurrency=min_concurrency,
            jitter=jitter,
            buffer=buffer,
            fixed_value=fixed_value,
            random=None if generator is None else _WholeNumbers(generator),
        )
        self.reason = "adaptive concurrency"

    @property
    def limit(self) -> int:
        """The limit when it was last asked."""
        return self._controller.concurrency_limit

    def offer(self, ask: Ask, now: float) -> float:
        """See :class:`sim.control.limits.ask.AdmissionPolicy`."""
        return ADMIT if ask.inflight < self._controller.advance(now) else REFUSE

    def ended(self, ask: Ask, now: float, rtt: float) -> None:
        """See :class:`sim.control.limits.ask.AdmissionPolicy`."""
        if rtt != DROPPED:
            self._controller.sample(now, now - rtt)

    def cancelled(self, ask: Ask, now: float) -> None:
        """See :class:`sim.control.limits.ask.AdmissionPolicy`."""


class _Netflix:
    """Netflix's SimpleLimiter: lets in while less than the limit is in flight, and tells the algorithm how it went."""

    __slots__ = ("_algorithm", "_started", "reason")

    def __init__(self, algorithm: Limit) -> None:
        self._algorithm = algorithm
        self._started: Held[float] = Held()
        self.reason = "adaptive concurrency"

    @property
    def limit(self) -> int:
        """The limit now."""
        return self._algorithm.limit

    def offer(self, ask: Ask, now: float) -> float:
        """See :class:`sim.control.limits.ask.AdmissionPolicy`."""
        if ask.inflight >= self._algorithm.limit:
            return REFUSE
        self._started.put(ask.row, now)
        return ADMIT

    def ended(self, ask: Ask, now: float, rtt: float) -> None:
        """See :class:`sim.control.limits.ask.AdmissionPolicy`."""
        started = self._started.first(ask.row)
        dropped = rtt == DROPPED
        # what ends at once still took the nanosecond that the algorithms need
        took = max(1e-9, now - started if dropped else rtt)
        self._algorithm.on_sample(now - took, took, ask.inflight + 1, dropped)

    def cancelled(self, ask: Ask, now: float) -> None:
        """See :class:`sim.control.limits.ask.AdmissionPolicy`."""
        self._started.last(ask.row)


class Vegas(_Netflix):
    """Netflix's VegasLimit with its default functions; ``windowed``: behind a WindowedLimit with its defaults."""

    __slots__ = ()

    def __init__(
        self,
        *,
        initial_limit: int = 20,
        max_concurrency: int = 1000,
        smoothing: float = 1.0,
        probe_multiplier: int = 30,
        windowed: bool = False,
        generator: np.random.Generator | None = None,
    ) -> None:
        _at_least(1, initial_limit=initial_limit, max_concurrency=max_concurrency, probe_multiplier=probe_multiplier)
        _in_order("initial_limit", initial_limit, "max_concurrency", max_concurrency)
        _smoothing(smoothing)
        algorithm = VegasLimit(
            initial_limit=initial_limit,
            max_concurrency=max_concurrency,
            smoothing=smoothing,
            probe_multiplier=probe_multiplier,
            generator=generator,
        )
        super().__init__(WindowedLimit(algorithm) if windowed else algorithm)


class Gradient2(_Netflix):
    """Netflix's Gradient2Limit; ``windowed``: behind a WindowedLimit with its defaults, as its documentation has it."""

    __slots__ = ()

    def __init__(
        self,
        *,
        initial_limit: int = 20,
        min_limit: int = 20,
        max_concurrency: int = 200,
        smoothing: float = 0.2,
        queue_size: int = 4,
        long_window: int = 600,
        rtt_tolerance: float = 1.5,
        windowed: bool = False,
    ) -> None:
        _at_least(1, initial_limit=initial_limit, min_limit=min_limit, long_window=long_window)
        _at_least(0, queue_size=queue_size)
        _in_order("min_limit", min_limit, "max_concurrency", max_concurrency)
        _smoothing(smoothing)
        algorithm = Gradient2Limit(
            initial_limit=initial_limit,
            min_limit=min_limit,
            max_concurrency=max_concurrency,
            smoothing=smoothing,
            queue_size=queue_size,
            long_window=long_window,
            rtt_tolerance=rtt_tolerance,
        )
        super().__init__(WindowedLimit(algorithm) if windowed else algorithm)


class Aimd(_Netflix):
    """Netflix's AIMDLimit."""

    __slots__ = ()

    def __init__(
        self,
        *,
        initial_limit: int = 20,
        min_limit: int = 20,
        max_limit: int = 200,
        backoff_ratio: float = 0.9,
        timeout: Seconds = 5.0,
    ) -> None:
        _at_least(1, initial_limit=initial_limit, min_limit=min_limit)
        _in_order("min_limit", min_limit, "max_limit", max_limit)
        super().__init__(
            AIMDLimit(
                initial_limit=initial_limit,
                min_limit=min_limit,
                max_limit=max_limit,
                backoff_ratio=backoff_ratio,
                timeout=timeout,
            )
        )


class PriorityShedding(_Netflix):
    """Netflix's prioritised load shedding: see :class:`PartitionedLimiter`.

    ``shares``: priority to the share of the limit that it is guaranteed, ``{0: 0.7, 1: 0.3}``; a priority that is not named gets in only
    below the limit. By default priority 0, the most important, is guaranteed all. ``algorithm``: how the limit is found, from
    ``limit`` on (fixed: it stays there), with the defaults of :class:`Vegas`, :class:`Gradient2` and :class:`Aimd` otherwise.
    """

    __slots__ = ("_partitions",)

    def __init__(
        self,
        *,
        limit: int = 20,
        shares: Mapping[str, Any] | None = None,
        algorithm: Literal["fixed", "vegas", "gradient2", "aimd"] = "fixed",
        generator: np.random.Generator | None = None,
    ) -> None:
        _at_least(1, limit=limit)
        found: Limit
        if algorithm == "fixed":
            found = FixedLimit(limit)
        elif algorithm == "vegas":
            found = VegasLimit(initial_limit=limit, generator=generator)
        elif algorithm == "gradient2":
            found = Gradient2Limit(initial_limit=limit)
        elif algorithm == "aimd":
            found = AIMDLimit(initial_limit=limit)
        else:
            raise ValueError(f"algorithm is {algorithm!r}; fixed, vegas, gradient2, aimd are allowed")
        super().__init__(found)
        self._partitions = PartitionedLimiter(found, _shares({"0": 1.0} if shares is None else shares))
        self.reason = "priority shedding"

    def offer(self, ask: Ask, now: float) -> float:
        """See :class:`sim.control.limits.ask.AdmissionPolicy`."""
        if not self._partitions.acquire(str(ask.priority), ask.inflight):
            return REFUSE
        self._started.put(ask.row, now)
        return ADMIT

    def ended(self, ask: Ask, now: float, rtt: float) -> None:
        """See :class:`sim.control.limits.ask.AdmissionPolicy`."""
        self._partitions.release(str(ask.priority))
        super().ended(ask, now, rtt)

    def cancelled(self, ask: Ask, now: float) -> None:
        """See :class:`sim.control.limits.ask.AdmissionPolicy`."""
        self._partitions.release(str(ask.priority))
        super().cancelled(ask, now)


def _shares(given: Mapping[str, Any]) -> dict[str, float]:
    shares: dict[str, float] = {}
    for key, value in given.items():
        try:
            priority = str(int(key))
        except (TypeError, ValueError):
            raise ValueError(f"shares: {key!r} is not a priority; a whole number is needed") from None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"shares: the share of {priority} is {value!r}; a number from 0 to 1 is needed")
        shares[priority] = float(value)
    return shares
