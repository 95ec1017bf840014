"""Hedging as gRPC does it (proposal A6): copies of a call go out at a fixed delay until one is answered."""

from __future__ import annotations

import math
from collections.abc import Collection

from sim.control.clients.grpc import RetryThrottle, attempts
from sim.control.parameters import Seconds

__all__ = ["HedgedCall", "HedgingPolicy"]


class HedgingPolicy:
    """``hedgingPolicy`` of a service config. ``max_attempts`` counts the first; above ``limit`` it is taken as ``limit``.
    ``hedging_delay`` 0 (its default): all at once. No ``non_fatal_status_codes``: every error is fatal."""

    __slots__ = ("hedging_delay", "max_attempts", "non_fatal_status_codes")

    def __init__(
        self,
        max_attempts: int = 2,
        hedging_delay: Seconds = 0.0,
        non_fatal_status_codes: Collection[str] = (),
        *,
        limit: int = 5,
    ) -> None:
        self.max_attempts = attempts("max_attempts", max_attempts, limit)
        if not 0.0 <= hedging_delay < math.inf:
            raise ValueError(f"hedging_delay: {hedging_delay}; at least 0 seconds")
        self.hedging_delay = hedging_delay
        self.non_fatal_status_codes = frozenset(code.upper() for code in non_fatal_status_codes)


class HedgedCall:
    """One hedged call. The first copy is sent at ``now``.

    ``next_at``: when the next copy is due (inf: none). ``sent``: copies so far; ``outstanding``: those without an answer.
    ``outcome``: "pending", "ok", "failed" (all copies failed and none is to come) or "fatal" (a status that is not non-fatal: the
    outstanding copies are cancelled). There are no retries after it.
    """

    __slots__ = ("next_at", "outcome", "outstanding", "policy", "sent", "throttle")

    def __init__(self, policy: HedgingPolicy, now: Seconds, throttle: RetryThrottle | None = None) -> None:
        self.policy = policy
        self.throttle = throttle
        self.sent = 1
        self.outstanding = 1
        self.outcome = "pending"
        self.next_at = now + policy.hedging_delay

    def send(self, now: Seconds) -> bool:
        """Called at ``next_at``: whether a copy goes out. A throttled one is cancelled, and with it those that would follow."""
        if self.outcome != "pending" or now < self.next_at:
            return False
        if self.throttle is not None and not self.throttle.allows:
            self._stop()
            return False
        self.sent += 1
        self.outstanding += 1
        more = self.sent < self.policy.max_attempts
        self.next_at = now + self.policy.hedging_delay if more else math.inf
        return True

    def failed(self, now: Seconds, code: str, pushback: Seconds | None = None) -> Seconds:
        """A copy failed: when the next is due (``next_at``; ``now``: at once), inf for never.

        A non-fatal failure brings the next copy forward to now; ``pushback`` moves it to that many seconds from now, and a negative
        one stops all further copies. The ones after it follow at ``hedging_delay`` again.
        """
        if self.outcome != "pending":
            return math.inf
        self.outstanding -= 1
        non_fatal = code.upper() in self.policy.non_fatal_status_codes
        refused = pushback is not None and pushback < 0.0
        throttled = (non_fatal or refused) and self.throttle is not None and not self.throttle.failure()
        if not non_fatal:
            self.outcome = "fatal"
            self.outstanding = 0
            self.next_at = math.inf
        elif refused or throttled or math.isinf(self.next_at):
            self._stop()
        else:
            self.next_at = now + (pushback or 0.0)
        return self.next_at

    def succeeded(self) -> None:
        """A copy was answered: the others are cancelled."""
        if self.outcome != "pending":
            return
        self.outcome = "ok"
        self.outstanding = 0
        self.next_at = math.inf
        if self.throttle is not None:
            self.throttle.success()

    def _stop(self) -> None:
        self.next_at = math.inf
        if self.outstanding == 0:
            self.outcome = "failed"
