"""A client of the gateway: how long it waits, when it tries again, and what it does not try because others failed.

One :class:`Client` stands for all users that share its throttle, budget and breaker (a workload). It keeps no request: the caller tells
it what became of each attempt, and how many there were.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sim.control.clients.backoff import BACKOFFS, Backoff
from sim.control.clients.breakers import BREAKERS, CircuitBreaker, EnvoyCircuitBreaker
from sim.control.clients.budgets import BUDGETS, AwsRetryQuota, EnvoyRetryBudget, FinagleRetryBudget
from sim.control.clients.building import build
from sim.control.clients.grpc import GIVE_UP, RetryThrottle
from sim.control.parameters import Seconds

__all__ = ["REASONS", "Client"]

REASONS = ("rejected", "failed", "timeout")
"""What can become of an attempt that is not answered: turned away at the gateway, lost with its replica or in error, too late."""


class Client:
    """Timeouts, retries, hedging and their limits.

    ``timeout``: seconds an attempt may take. ``deadline``: seconds that all attempts of a request may take together. ``patience``: seconds
    after which the user leaves if there is no first token. The caller keeps these three clocks; None: never.
    ``max_attempts``: attempts of a request, the first included (1: no retries). ``backoff``: ``{kind: ...}`` of
    :data:`~sim.control.clients.backoff.BACKOFFS`. ``retry_on``: outcomes of :data:`REASONS` that are tried again.
    ``throttle``: ``{max_tokens, token_ratio}`` of gRPC. ``budget``: ``{kind: envoy | finagle | aws, ...}``.
    ``hedge_after``: seconds after which a copy is sent, up to ``hedge_max_attempts`` copies in all; instead of retries, as in gRPC.
    ``breaker``: ``{kind: envoy | resilience4j, ...}``; of Envoy's thresholds those on requests and retries are applied.

    For each attempt call :meth:`first` (or :meth:`again`) and, if it was let go, exactly one of :meth:`failed`, :meth:`succeeded`,
    :meth:`cancelled`. For each finite answer of :meth:`failed` call :meth:`again` when it is due, or :meth:`dropped`.
    """

    def __init__(
        self,
        *,
        timeout: Seconds | None = None,
        deadline: Seconds | None = None,
        patience: Seconds | None = None,
        max_attempts: int = 1,
        backoff: Mapping[str, Any] | str = "full-jitter",
        retry_on: Sequence[str] = REASONS,
        throttle: Mapping[str, Any] | None = None,
        budget: Mapping[str, Any] | str | None = None,
        hedge_after: Seconds | None = None,
        hedge_max_attempts: int = 2,
        breaker: Mapping[str, Any] | str | None = None,
    ) -> None:
        for name, seconds in (("timeout", timeout), ("deadline", deadline), ("patience", patience)):
            if seconds is not None and not seconds > 0.0:
                raise ValueError(f"{name}: {seconds}; longer than 0 seconds")
        if hedge_after is not None and hedge_after < 0.0:
            raise ValueError(f"hedge_after: {hedge_after}; at least 0 seconds")
        for name, count, least in (("max_attempts", max_attempts, 1), ("hedge_max_attempts", hedge_max_attempts, 2)):
            if count < least or count != int(count):
                raise ValueError(f"{name}: {count}; a whole number, at least {least}")
        if hedge_after is not None and max_attempts > 1:
            raise ValueError(f"max_attempts: {max_attempts} with hedge_after; a request is hedged or retried, not both")
        unknown = [reason for reason in retry_on if reason not in REASONS]
        if isinstance(retry_on, str) or unknown:
            raise ValueError(
                f"retry_on: {retry_on if isinstance(retry_on, str) else unknown[0]!r}; a list of {', '.join(REASONS)}"
            )
        self.timeout = timeout
        self.deadline = deadline
        self.patience = patience
        self.max_attempts = int(max_attempts)
        self.backoff: Backoff = build("backoff", BACKOFFS, backoff)
        self.retry_on = frozenset(retry_on)
        self.throttle: RetryThrottle | None = None
        if throttle is not None:
            self.throttle = build("throttle", {"grpc": RetryThrottle}, {"kind": "grpc"} | dict(throttle))
        self.budget: EnvoyRetryBudget | FinagleRetryBudget | AwsRetryQuota | None = None
        if budget is not None:
            self.budget = build("budget", BUDGETS, budget)
        self.breaker: EnvoyCircuitBreaker | CircuitBreaker | None = None
        if breaker is not None:
            self.breaker = build("breaker", BREAKERS, breaker)
        self.hedge_after = hedge_after
        self.hedge_max_attempts = int(hedge_max_attempts)
        self.active = 0
        """Attempts under way."""
        self.retrying = 0
        """Attempts after the first, under way or waiting for their back-off."""

    def first(self, now: Seconds) -> bool:
        """Whether the first attempt of a request may be sent (False: the breaker is open); if so it is under way."""
        if isinstance(self.budget, FinagleRetryBudget):
            self.budget.deposit(now)
        return self._send(now)

    def again(self, now: Seconds, hedge: bool = False) -> bool:
        """Whether the retry that :meth:`failed` announced, or a further copy (``hedge``), may be sent; if so it is under way.

        A retry that may not ends the request. A copy that may not leaves the others alone, and is the last to be asked for.
        """
        if hedge and not self._reserve(now, "failed"):
            return False
        if self._send(now):
            return True
        self._unreserve()
        return False

    def failed(
        self,
        now: Seconds,
        attempt_number: int,
        previous_delay: Seconds,
        reason: str,
        u: float,
        *,
        duration: Seconds = 0.0,
        pushback: Seconds | None = None,
        sent: int | None = None,
    ) -> Seconds:
        """Attempt ``attempt_number`` (from 1) ended ``duration`` after it was sent, for ``reason``: seconds until the next; inf: give up.

        ``previous_delay``: what this method answered for the attempt before (0: none). ``u``: uniform on [0, 1).
        ``pushback``: seconds the server asked to wait, kept exactly; negative: it asked not to try again.
        Hedged, ``sent`` is the number of copies sent so far (``attempt_number`` if not given); the answer is 0 when the next goes at once
        (``again(now, hedge=True)``), inf when none follows; a ``reason`` not in ``retry_on`` ends the request, with its other copies.
        """
        if reason not in REASONS:
            raise ValueError(f"reason: {reason!r}; {', '.join(REASONS)}")
        if isinstance(self.breaker, CircuitBreaker):
            self.breaker.failed(now, duration)
        if attempt_number > 1:
            self._unreserve()
        # Envoy resets a timed-out request before it asks for a retry, and an answered one only after.
        late = reason == "timeout"
        if late:
            self._ended()
        delay = self._next(now, sent or attempt_number, previous_delay, reason, u, pushback)
        if not late:
            self._ended()
        return delay

    def _next(
        self, now: float, sent: int, previous_delay: float, reason: str, u: float, pushback: float | None
    ) -> float:
        retryable = reason in self.retry_on
        refused = pushback is not None and pushback < 0.0
        throttled = (retryable or refused) and self.throttle is not None and not self.throttle.failure()
        if throttled or refused or not retryable:
            return GIVE_UP
        if self.hedge_after is not None:
            return (pushback or 0.0) if sent < self.hedge_max_attempts else GIVE_UP
        if sent >= self.max_attempts or not self._reserve(now, reason):
            return GIVE_UP
        return pushback if pushback is not None else self.backoff.delay(sent, previous_delay, u)

    def succeeded(
        self, now: Seconds, attempt_number: int = 1, *, duration: Seconds = 0.0, reason: str = "failed"
    ) -> None:
        """Attempt ``attempt_number`` was answered ``duration`` after it was sent. ``reason``: why the attempt before it had failed."""
        if isinstance(self.breaker, CircuitBreaker):
            self.breaker.succeeded(now, duration)
        if self.throttle is not None:
            self.throttle.success()
        if isinstance(self.budget, AwsRetryQuota):
            self.budget.release(self.budget.cost(reason) if attempt_number > 1 else None)
        if attempt_number > 1:
            self._unreserve()
        self._ended()

    def cancelled(self, now: Seconds, attempt_number: int = 1) -> None:
        """Attempt ``attempt_number`` was abandoned: a copy of it was answered, the user left, the deadline passed. It says nothing of
        the server."""
        if isinstance(self.breaker, CircuitBreaker):
            self.breaker.release()
        if attempt_number > 1:
            self._unreserve()
        self._ended()

    def dropped(self, now: Seconds) -> None:
        """A retry that was announced will not be asked for: the user left or the deadline passed while it waited."""
        self._unreserve()

    def hedge(self, now: Seconds, sent: int) -> Seconds:
        """Seconds from ``now``, when copy ``sent`` has just gone out, until the next is due; inf: there is none."""
        if self.hedge_after is None or sent >= self.hedge_max_attempts:
            return math.inf
        return self.hedge_after

    def _send(self, now: float) -> bool:
        breaker = self.breaker
        if isinstance(breaker, EnvoyCircuitBreaker):
            if not breaker.acquire("requests"):
                return False
        elif breaker is not None and not breaker.acquire(now):
            return False
        self.active += 1
        return True

    def _ended(self) -> None:
        self.active -= 1
        if isinstance(self.breaker, EnvoyCircuitBreaker):
            self.breaker.release("requests")

    def _reserve(self, now: float, reason: str) -> bool:
        """A further attempt of a request: allowed by the throttle, the budget, the breaker's bound on retries? If so it counts."""
        if self.throttle is not None and not self.throttle.allows:
            return False
        budget = self.budget
        if isinstance(budget, EnvoyRetryBudget):
            if not budget.acquire(self.active):
                return False
        elif isinstance(self.breaker, EnvoyCircuitBreaker) and not self.breaker.can_create("retries"):
            return False
        if isinstance(budget, FinagleRetryBudget) and not budget.withdraw(now):
            return False
        if isinstance(budget, AwsRetryQuota) and budget.acquire(reason) is None:
            return False
        if isinstance(self.breaker, EnvoyCircuitBreaker) and not isinstance(budget, EnvoyRetryBudget):
            self.breaker.acquire("retries")
        self.retrying += 1
        return True

    def _unreserve(self) -> None:
        self.retrying -= 1
        if isinstance(self.budget, EnvoyRetryBudget):
            self.budget.release()
        elif isinstance(self.breaker, EnvoyCircuitBreaker):
            self.breaker.release("retries")
