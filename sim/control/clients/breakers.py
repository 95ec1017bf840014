"""Circuit breakers: Envoy's thresholds, which bound what is under way, and resilience4j's, which stops calling what fails.

Sources: Envoy source/common/upstream/resource_manager_impl.h and api/envoy/config/cluster/v3/circuit_breaker.proto; resilience4j 2.x,
circuitbreaker/internal/CircuitBreakerStateMachine.java and CircuitBreakerMetrics.java.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Literal

from sim.control.clients.backoff import grown
from sim.control.clients.budgets import EnvoyRetryBudget
from sim.control.parameters import Seconds

__all__ = [
    "BREAKERS",
    "CLOSED",
    "DISABLED",
    "FORCED_OPEN",
    "HALF_OPEN",
    "METRICS_ONLY",
    "OPEN",
    "CircuitBreaker",
    "EnvoyCircuitBreaker",
    "Metrics",
]

CLOSED = "closed"
OPEN = "open"
HALF_OPEN = "half-open"
FORCED_OPEN = "forced-open"
DISABLED = "disabled"
METRICS_ONLY = "metrics-only"


class EnvoyCircuitBreaker:
    """Envoy's thresholds of a cluster at one priority: a resource may be created while fewer than the maximum exist.

    What would exceed one fails at once (503, "overflow"). ``retry_budget`` replaces ``max_retries`` (Envoy ignores it then).
    """

    __slots__ = ("limits", "retry_budget", "used")

    RESOURCES = ("connections", "pending_requests", "requests", "retries", "connection_pools")

    def __init__(
        self,
        max_connections: int = 1024,
        max_pending_requests: int = 1024,
        max_requests: int = 1024,
        max_retries: int = 3,
        retry_budget: EnvoyRetryBudget | None = None,
        max_connection_pools: int = 2**64 - 1,
    ) -> None:
        limits = (max_connections, max_pending_requests, max_requests, max_retries, max_connection_pools)
        for name, limit in zip(self.RESOURCES, limits, strict=True):
            if limit < 0 or limit != int(limit):
                raise ValueError(f"max_{name}: {limit}; a whole number, at least 0")
        self.limits = dict(zip(self.RESOURCES, (int(limit) for limit in limits), strict=True))
        self.used = dict.fromkeys(self.RESOURCES, 0)
        self.retry_budget = retry_budget

    def limit(self, resource: str) -> int:
        """How many of ``resource`` (connections, pending_requests, requests, retries, connection_pools) may exist now."""
        if resource == "retries" and self.retry_budget is not None:
            return self.retry_budget.limit(self.used["requests"], self.used["pending_requests"])
        return self.limits[resource]

    def can_create(self, resource: str) -> bool:
        """Whether one more is allowed."""
        return self.used[resource] < self.limit(resource)

    def remaining(self, resource: str) -> int:
        """How many more are allowed; of retries under a budget always 0, as Envoy's gauge says."""
        if resource == "retries" and self.retry_budget is not None:
            return 0
        return max(self.limit(resource) - self.used[resource], 0)

    def acquire(self, resource: str) -> bool:
        """Count one more if it is allowed; whether it was."""
        if not self.can_create(resource):
            return False
        self.used[resource] += 1
        return True

    def release(self, resource: str) -> None:
        """One has ended."""
        if self.used[resource] == 0:
            raise ValueError(f"{resource}: none is in use")
        self.used[resource] -= 1


class Metrics:
    """Outcomes of the last calls: of the last ``size`` calls, or of the last ``size`` whole seconds (the one under way included).

    Rates are percent, -1 while there are fewer than ``minimum`` calls.
    """

    __slots__ = ("_calls", "_minimum", "_size", "_timed", "calls", "failed", "slow")

    def __init__(self, size: int, minimum: int, timed: bool = False) -> None:
        self._size = size
        self._minimum = minimum if timed else min(minimum, size)
        self._timed = timed
        self._calls: deque[tuple[int, bool, bool]] = deque()
        self.calls = 0
        self.failed = 0
        self.slow = 0

    def record(self, now: Seconds, failed: bool, slow: bool) -> None:
        """One call ended."""
        second = math.floor(now)
        self._calls.append((second, failed, slow))
        self.calls += 1
        self.failed += failed
        self.slow += slow
        self.expire(now)

    def expire(self, now: Seconds) -> None:
        """Forget what is out of the window by ``now``."""
        oldest = math.floor(now) - self._size
        while self._calls and (self._calls[0][0] <= oldest if self._timed else self.calls > self._size):
            _, failed, slow = self._calls.popleft()
            self.calls -= 1
            self.failed -= failed
            self.slow -= slow

    @property
    def succeeded(self) -> int:
        """Calls that did not fail."""
        return self.calls - self.failed

    @property
    def failure_rate(self) -> float:
        """Percent of calls that failed, or -1."""
        return self._rate(self.failed)

    @property
    def slow_call_rate(self) -> float:
        """Percent of calls that were slow, failed or not, or -1."""
        return self._rate(self.slow)

    def _rate(self, count: int) -> float:
        return -1.0 if self.calls == 0 or self.calls < self._minimum else 100.0 * count / self.calls


class CircuitBreaker:
    """resilience4j's: closed, open once the failure rate (or the rate of slow calls) reaches its threshold, then half-open on probation.

    Open, it permits nothing until *more* than ``wait_duration_in_open_state`` has passed; the first call asked for after that makes it
    half-open (or the passing of time, with ``automatic_transition_from_open_to_half_open_enabled``). Half-open, it permits
    ``permitted_number_of_calls_in_half_open_state`` calls; once ``minimum_number_of_calls`` of them (or all) have ended it is closed,
    or open again with the next longer wait: ``wait_duration_in_open_state`` * ``wait_multiplier``^(times before), at most
    ``max_wait_duration``. ``max_wait_duration_in_half_open_state`` > 0: open again when that passes without a verdict.
    A count-based window judges once min(``minimum_number_of_calls``, ``sliding_window_size``) calls have ended. Thresholds are percent.

    :meth:`force_open`, :meth:`disable` and :meth:`metrics_only` put it where it stays until it is told otherwise.
    """

    __slots__ = (
        "_automatic",
        "_half_open_wait",
        "_max_wait",
        "_minimum",
        "_multiplier",
        "_opened",
        "_permits",
        "_permitted",
        "_since",
        "_slow_after",
        "_state",
        "_thresholds",
        "_timed",
        "_wait",
        "_window",
        "metrics",
        "not_permitted",
    )

    def __init__(
        self,
        failure_rate_threshold: float = 50.0,
        slow_call_rate_threshold: float = 100.0,
        slow_call_duration_threshold: Seconds = 60.0,
        permitted_number_of_calls_in_half_open_state: int = 10,
        max_wait_duration_in_half_open_state: Seconds = 0.0,
        sliding_window_type: Literal["count-based", "time-based"] = "count-based",
        sliding_window_size: int = 100,
        minimum_number_of_calls: int = 100,
        wait_duration_in_open_state: Seconds = 60.0,
        automatic_transition_from_open_to_half_open_enabled: bool = False,
        wait_multiplier: float = 1.0,
        max_wait_duration: Seconds = math.inf,
    ) -> None:
        for name, percent in (
            ("failure_rate_threshold", failure_rate_threshold),
            ("slow_call_rate_threshold", slow_call_rate_threshold),
        ):
            if not 0.0 < percent <= 100.0:
                raise ValueError(f"{name}: {percent}; above 0, at most 100 percent")
        for name, count in (
            ("permitted_number_of_calls_in_half_open_state", permitted_number_of_calls_in_half_open_state),
            ("sliding_window_size", sliding_window_size),
            ("minimum_number_of_calls", minimum_number_of_calls),
        ):
            if count < 1 or count != int(count):
                raise ValueError(f"{name}: {count}; a whole number, at least 1")
        if not wait_duration_in_open_state > 0.0 or not slow_call_duration_threshold > 0.0:
            raise ValueError("wait_duration_in_open_state, slow_call_duration_threshold: longer than 0 seconds")
        if max_wait_duration_in_half_open_state < 0.0:
            raise ValueError(
                f"max_wait_duration_in_half_open_state: {max_wait_duration_in_half_open_state}; at least 0"
            )
        if wait_multiplier < 1.0:
            raise ValueError(f"wait_multiplier: {wait_multiplier}; at least 1")
        if sliding_window_type not in ("count-based", "time-based"):
            raise ValueError(f"sliding_window_type: {sliding_window_type!r}; count-based or time-based")
        self._thresholds = (failure_rate_threshold, slow_call_rate_threshold)
        self._slow_after = slow_call_duration_threshold
        self._permitted = int(permitted_number_of_calls_in_half_open_state)
        self._half_open_wait = max_wait_duration_in_half_open_state
        self._timed = sliding_window_type == "time-based"
        self._window = int(sliding_window_size)
        self._minimum = int(minimum_number_of_calls)
        self._wait = wait_duration_in_open_state
        self._automatic = automatic_transition_from_open_to_half_open_enabled
        self._multiplier = wait_multiplier
        self._max_wait = max_wait_duration
        self._since = 0.0
        self._opened = 0
        self._permits = 0
        self.not_permitted = 0
        """Calls refused in this state."""
        self._state = CLOSED
        self.metrics = Metrics(self._window, self._minimum, self._timed)
        """Of the calls in this state (when open: those that led to it, and late answers)."""

    def state(self, now: Seconds) -> str:
        """:data:`CLOSED`, :data:`OPEN`, :data:`HALF_OPEN`, or as it was told.

        Looking does not end the wait of an open one, unless it is automatic.
        """
        if self._state == OPEN and self._automatic and now >= self._until:
            self._half_open(self._until)
        if self._state == HALF_OPEN and 0.0 < self._half_open_wait <= now - self._since:
            self.open(self._since + self._half_open_wait)
        return self._state

    @property
    def _until(self) -> float:
        return self._since + grown(self._wait, self._multiplier, self._opened - 1, self._max_wait)

    def acquire(self, now: Seconds) -> bool:
        """Whether a call may be made; half-open, it then counts as one of those permitted."""
        if self.state(now) in (CLOSED, DISABLED, METRICS_ONLY):
            return True
        if self._state == OPEN and now > self._until:
            self._half_open(now)
        if self._state == HALF_OPEN and self._permits > 0:
            self._permits -= 1
            return True
        self.not_permitted += 1
        return False

    def release(self) -> None:
        """A permitted call ended without a verdict (cancelled, or an error that is ignored): its permission is free again."""
        if self._state == HALF_OPEN:
            self._permits += 1

    def succeeded(self, now: Seconds, duration: Seconds = 0.0) -> None:
        """A permitted call was answered after ``duration``."""
        self._record(now, False, duration)

    def failed(self, now: Seconds, duration: Seconds = 0.0) -> None:
        """A permitted call failed after ``duration``."""
        self._record(now, True, duration)

    def _record(self, now: float, failed: bool, duration: float) -> None:
        state = self.state(now)
        if state in (DISABLED, FORCED_OPEN):
            return
        self.metrics.record(now, failed, duration > self._slow_after)
        if state in (OPEN, METRICS_ONLY):  # when open, a call from before: counted, but it decides nothing
            return
        failures, slows = self.metrics.failure_rate, self.metrics.slow_call_rate
        if failures < 0.0:
            return
        if failures >= self._thresholds[0] or slows >= self._thresholds[1]:
            self.open(now)
        elif state == HALF_OPEN:
            self.close()

    def open(self, now: Seconds) -> None:
        """Open it, as exceeding a threshold does."""
        self._state = OPEN
        self._since = now
        self._opened += 1

    def force_open(self) -> None:
        """Permit nothing, whatever time passes; nothing is recorded."""
        self._told(FORCED_OPEN)

    def disable(self) -> None:
        """Permit everything; nothing is recorded."""
        self._told(DISABLED)

    def metrics_only(self) -> None:
        """Permit everything and record it, whatever the rates."""
        self._told(METRICS_ONLY)

    def close(self) -> None:
        """Close it and forget what was recorded; resilience4j's reset."""
        self._told(CLOSED)

    def _told(self, state: str) -> None:
        self._state = state
        self._opened = 0
        self.not_permitted = 0
        self.metrics = Metrics(self._window, self._minimum, self._timed)

    def half_open(self, now: Seconds) -> None:
        """Put an open one on probation, as the end of its wait does. ValueError when it is closed."""
        if self.state(now) == CLOSED:
            raise ValueError("a closed circuit breaker cannot become half-open")
        self._half_open(now)

    def _half_open(self, now: float) -> None:
        self._state = HALF_OPEN
        self._since = now
        self._permits = self._permitted
        self.not_permitted = 0
        self.metrics = Metrics(self._permitted, self._minimum)


BREAKERS: dict[str, type[Any]] = {"envoy": EnvoyCircuitBreaker, "resilience4j": CircuitBreaker}
"""What a scenario may name as ``breaker: {kind: ...}``; the other keys are the class's parameters."""
