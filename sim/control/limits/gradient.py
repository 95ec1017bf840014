"""Envoy's adaptive concurrency: the gradient controller.

Reproduces GradientController (envoyproxy/envoy, source/extensions/filters/http/adaptive_concurrency/controller/gradient_controller.cc, as
of 2026), latency histogram included. Its timers run as soon as it is told of a time at or after theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, inf, sqrt

from sim.control.limits.histogram import Histogram

__all__ = ["GradientController"]

_STUCK = 5  # windows at the minimum after which the minRTT is doubted


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000.0)


def _share(percent: float) -> float:
    return max(0.0, min(percent, 100.0)) / 100.0


class GradientController:
    """How many requests may be outstanding, from how latency compares with that of an idle upstream.

    Every ``concurrency_update_interval`` the limit becomes ``limit · gradient + sqrt(limit · gradient)``, cut to a whole number and kept
    in [``min_concurrency``, ``max_concurrency_limit``], with ``gradient = minRTT · (1 + buffer) / sampleRTT`` kept in [0.5, 2]. Both RTTs
    are the ``sample_aggregate_percentile`` of their samples. The minRTT is measured at first, each ``interval`` (and up to ``jitter``
    percent of it) after the last time, and when the limit was at its minimum for five windows in a row: the limit is ``min_concurrency``
    until ``request_count`` requests have been sent and answered, then what it was before. With ``fixed_value`` it is not measured.

    ``jitter``, ``buffer`` and ``sample_aggregate_percentile`` are percentages, cut to 0 to 100. Times are seconds; intervals are rounded
    to milliseconds, latencies cut to microseconds. ``random`` gives whole numbers from 0, of which the jitter is the remainder; without
    it no jitter is added. ``now``: the time at which the controller is made.
    """

    __slots__ = (
        "_armed",
        "_deferred",
        "_epoch",
        "_interval",
        "_latencies",
        "_min_rtt",
        "_min_rtt_timer",
        "_percentile",
        "_random",
        "_sample_rtt",
        "_sample_timer",
        "_stuck",
        "_update_interval",
        "buffer",
        "concurrency_limit",
        "fixed_value",
        "gradient",
        "jitter",
        "max_concurrency_limit",
        "min_concurrency",
        "outstanding",
        "request_count",
        "rq_blocked",
    )

    def __init__(
        self,
        *,
        concurrency_update_interval: float,
        interval: float = 0.0,
        sample_aggregate_percentile: float = 50.0,
        max_concurrency_limit: int = 1000,
        request_count: int = 50,
        min_concurrency: int = 3,
        jitter: float = 15.0,
        buffer: float = 25.0,
        fixed_value: float = 0.0,
        random: Callable[[], int] | None = None,
        now: float = 0.0,
    ) -> None:
        if concurrency_update_interval <= 0.0:
            raise ValueError(f"concurrency_update_interval is {concurrency_update_interval:g} s; above 0 is allowed")
        if fixed_value <= 0.0 and _milliseconds(interval) < 1:
            raise ValueError(f"interval is {interval:g} s; 1ms or more is allowed, unless there is a fixed_value")
        for name, value in (
            ("max_concurrency_limit", max_concurrency_limit),
            ("request_count", request_count),
            ("min_concurrency", min_concurrency),
        ):
            if value < 1:
                raise ValueError(f"{name} is {value}; 1 or more is allowed")
        self.max_concurrency_limit = max_concurrency_limit
        self.min_concurrency = min_concurrency
        self.request_count = request_count
        self.fixed_value = fixed_value
        self.jitter = _share(jitter)
        self.buffer = _share(buffer)
        self.concurrency_limit = min_concurrency
        self.outstanding = 0
        self.rq_blocked = 0
        self.gradient = 0.0  # the last one; 0 before the first
        self._percentile = _share(sample_aggregate_percentile)
        self._interval = _milliseconds(interval)
        self._update_interval = _milliseconds(concurrency_update_interval) / 1000.0
        self._random = random
        self._latencies = Histogram()  # microseconds
        self._min_rtt = 0  # microseconds, as is the sampled one
        self._sample_rtt = 0
        self._stuck = 0
        self._deferred = 0  # the limit to return to; above 0 while the minRTT is measured
        self._epoch = -inf
        self._armed = 0
        self._min_rtt_timer = (inf, 0)  # (when, which was armed first)
        self._sample_timer = (inf, 0)
        if fixed_value > 0.0:
            self._min_rtt = _milliseconds(fixed_value) * 1000
            self._update_limit(min_concurrency, now)
        else:
            self._enter_min_rtt_window(now)
        self._sample_timer = self._arm(now + self._update_interval)

    @property
    def in_min_rtt_sampling_window(self) -> bool:
        """Whether the minRTT is being measured."""
        return self._deferred > 0

    @property
    def min_rtt(self) -> float:
        """The latency taken for that of an idle upstream, in seconds; 0 before it was measured."""
        return self._min_rtt / 1e6

    @property
    def sample_rtt(self) -> float:
        """The latency of the last window with samples, in seconds."""
        return self._sample_rtt / 1e6

    @property
    def next_min_rtt_calculation(self) -> float:
        """When the minRTT will be measured next; infinite while it is, or with a fixed value."""
        return self._min_rtt_timer[0]

    def advance(self, now: float) -> int:
        """Run the timers due up to ``now``; the concurrency limit then."""
        while True:
            first = min(self._min_rtt_timer, self._sample_timer)
            if first[0] > now:
                return self.concurrency_limit
            if first == self._min_rtt_timer:
                self._min_rtt_timer = (inf, 0)
                self._enter_min_rtt_window(first[0])
            elif self.in_min_rtt_sampling_window:
                self._sample_timer = (inf, 0)  # armed again when the minRTT is known
            else:
                self._reset_sample_window(first[0])
                self._sample_timer = self._arm(first[0] + self._update_interval)

    def forwarding_decision(self, now: float) -> bool:
        """Whether a request may be sent now; it is outstanding then, until sampled or cancelled. False: Envoy answers 503."""
        if self.outstanding < self.advance(now):
            self.outstanding += 1
            return True
        self.rq_blocked += 1
        return False

    def record_latency_sample(self, now: float, sent: float) -> None:
        """A request that was let through at ``sent`` has been answered. Not counted if sent before the present minRTT window began."""
        self.advance(now)
        self.outstanding -= 1
        self.sample(now, sent)

    def cancel_latency_sample(self, now: float) -> None:
        """A request that was let through ended without an answer: it is no longer outstanding, and is not sampled."""
        self.advance(now)
        self.outstanding -= 1

    def sample(self, now: float, sent: float) -> None:
        """Count the latency of an answer; for those who count what is outstanding themselves."""
        self.advance(now)
        if sent < self._epoch:
            return
        self._latencies.insert(float(round((now - sent) * 1e9) // 1000))
        if self.in_min_rtt_sampling_window and self._latencies.count >= self.request_count:
            self._min_rtt = self._aggregated()
            self._update_limit(self._deferred, now)
            self._deferred = 0
            self._min_rtt_timer = self._arm(now + self._jittered())
            self._sample_timer = self._arm(now + self._update_interval)

    def _arm(self, when: float) -> tuple[float, int]:
        self._armed += 1
        return (when, self._armed)

    def _jittered(self) -> float:
        extra = 0
        if self.jitter > 0.0 and self._random is not None:
            extra = self._random() % ceil(self._interval * self.jitter)
        return (self._interval + extra) / 1000.0

    def _enter_min_rtt_window(self, now: float) -> None:
        if self.in_min_rtt_sampling_window:
            return
        self._deferred = self.concurrency_limit
        self._update_limit(self.min_concurrency, now)
        self._latencies.clear()
        self._epoch = now

    def _aggregated(self) -> int:
        value = int(self._latencies.quantile(self._percentile))
        self._latencies.clear()
        return value

    def _reset_sample_window(self, now: float) -> None:
        if self._latencies.count == 0:
            return
        self._sample_rtt = self._aggregated()
        buffered = self._min_rtt + self._min_rtt * self.buffer
        raw = buffered / self._sample_rtt if self._sample_rtt > 0 else 2.0
        self.gradient = max(0.5, min(2.0, raw))
        limit = self.concurrency_limit * self.gradient
        self._update_limit(
            max(self.min_concurrency, min(self.max_concurrency_limit, int(limit + sqrt(limit)))),
            now,
        )

    def _update_limit(self, new: int, now: float) -> None:
        old, self.concurrency_limit = self.concurrency_limit, new
        if not self.in_min_rtt_sampling_window and old == new == self.min_concurrency:
            self._stuck += 1
        else:
            self._stuck = 0
        if self._stuck >= _STUCK and self.fixed_value <= 0.0:
            self._min_rtt_timer = self._arm(now)
