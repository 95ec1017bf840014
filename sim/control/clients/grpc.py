"""Retries and their throttling as gRPC does them (proposal A6, grpc-go stream.go, grpc-java RetriableStream, gRPC core).

A :class:`GrpcRetryPolicy` and a :class:`RetryThrottle` are shared by all calls to a server; a :class:`GrpcCall` is one call.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from sim.control.clients.backoff import GrpcBackoff
from sim.control.parameters import Seconds

__all__ = ["GIVE_UP", "NEVER", "GrpcCall", "GrpcRetryPolicy", "RetryThrottle"]

GIVE_UP = math.inf
"""No further attempt: the failure goes to the application."""
NEVER: Seconds = -1.0
"""Pushback that asks not to retry (any negative number, or one that cannot be read, does)."""


class RetryThrottle:
    """gRPC's token bucket of a server: starts full at ``max_tokens``, a counted failure takes 1, a success adds ``token_ratio``.

    Retries and hedges are sent only while the count is *above* half of ``max_tokens``; exactly half is not enough. Counted in
    thousandths, as the implementations do, so that decimals beyond the third of ``token_ratio`` are ignored.
    ``inherit``: a throttle this one replaces (a new service config): the share of tokens left is taken over, and what calls begun
    under the old one report to it counts here.
    """

    __slots__ = ("_max", "_milli", "_ratio", "_replacement")

    def __init__(self, max_tokens: int = 10, token_ratio: float = 0.1, inherit: RetryThrottle | None = None) -> None:
        if not 0 < max_tokens <= 1000 or max_tokens != int(max_tokens):
            raise ValueError(f"max_tokens: {max_tokens}; a whole number above 0, at most 1000")
        if not 0.0 < token_ratio < math.inf:
            raise ValueError(f"token_ratio: {token_ratio}; greater than 0")
        self._max = 1000 * int(max_tokens)
        self._ratio = int(token_ratio * 1000.0 + 1e-6)  # truncated; the addend undoes 0.546 * 1000 = 545.99...
        self._milli = self._max
        self._replacement: RetryThrottle | None = None
        if inherit is not None:
            while inherit._replacement is not None:
                inherit = inherit._replacement
            self._milli = self._max * inherit._milli // inherit._max
            inherit._replacement = self

    @property
    def tokens(self) -> float:
        """Tokens left."""
        if self._replacement is not None:
            return self._replacement.tokens
        return self._milli / 1000.0

    @property
    def allows(self) -> bool:
        """Whether a retry or hedge may be sent: more than half of the tokens are left."""
        if self._replacement is not None:
            return self._replacement.allows
        return 2 * self._milli > self._max

    def failure(self) -> bool:
        """A failure that counts; whether a retry is allowed after it."""
        if self._replacement is not None:
            return self._replacement.failure()
        self._milli = max(self._milli - 1000, 0)
        return self.allows

    def success(self) -> None:
        """A call answered without error."""
        if self._replacement is not None:
            self._replacement.success()
        else:
            self._milli = min(self._milli + self._ratio, self._max)


class GrpcRetryPolicy:
    """``retryPolicy`` of a service config. ``max_attempts`` counts the first one; above ``limit`` (5 unless a channel argument
    says otherwise) it is taken as ``limit``. ``pushback_overrides_code``: grpc-java retries after a pushback of 0 or more
    whatever the status; gRPC core and grpc-go only if the status is retryable.
    """

    __slots__ = ("backoff", "max_attempts", "pushback_overrides_code", "retryable_status_codes")

    def __init__(
        self,
        max_attempts: int = 5,
        initial_backoff: Seconds = 0.1,
        max_backoff: Seconds = 1.0,
        backoff_multiplier: float = 2.0,
        retryable_status_codes: Collection[str] = ("UNAVAILABLE",),
        *,
        backoff: GrpcBackoff | None = None,
        limit: int = 5,
        pushback_overrides_code: bool = False,
    ) -> None:
        self.max_attempts = attempts("max_attempts", max_attempts, limit)
        if not retryable_status_codes:
            raise ValueError("retryable_status_codes: empty; at least one status code")
        self.retryable_status_codes = frozenset(code.upper() for code in retryable_status_codes)
        self.backoff = backoff if backoff is not None else GrpcBackoff(initial_backoff, max_backoff, backoff_multiplier)
        self.pushback_overrides_code = pushback_overrides_code


def attempts(what: str, value: int, limit: int) -> int:
    """A service config's number of attempts: ValueError unless it is above 1, and no more than ``limit`` of them."""
    if value != int(value) or value < 2:
        raise ValueError(f"{what}: {value}; a whole number above 1, the first attempt included")
    return min(int(value), limit)


class GrpcCall:
    """One call under a retry policy: attempts come one after another, each reported by :meth:`failed` or :meth:`succeeded`."""

    __slots__ = ("_since_pushback", "deadline", "policy", "sent", "throttle")

    def __init__(
        self, policy: GrpcRetryPolicy, throttle: RetryThrottle | None = None, deadline: Seconds = math.inf
    ) -> None:
        """``deadline``: the absolute time at which the call fails, whatever its attempts do. The first attempt is sent."""
        self.policy = policy
        self.throttle = throttle
        self.deadline = deadline
        self.sent = 1
        self._since_pushback = 1

    def failed(
        self, code: str, u: float, pushback: Seconds | None = None, now: Seconds = 0.0, committed: bool = False
    ) -> Seconds:
        """Seconds until the next attempt, which then counts as sent; :data:`GIVE_UP` when there is none.

        ``pushback``: seconds the server asked to wait, negative for "do not retry", None when it said nothing. ``committed``:
        response headers had arrived (or the buffer had overflowed): never retried, but the failure still counts.
        A wait that would end at the deadline or after it is GIVE_UP: the call ends with DEADLINE_EXCEEDED by then.
        """
        policy = self.policy
        retryable = code.upper() in policy.retryable_status_codes
        refused = pushback is not None and pushback < 0.0
        # Only what tells of the server's health counts (A6, "Throttling"): bad requests do not.
        throttled = (retryable or refused) and self.throttle is not None and not self.throttle.failure()
        if throttled or refused or committed or self.sent >= policy.max_attempts:
            return GIVE_UP
        if not retryable and not (policy.pushback_overrides_code and pushback is not None):
            return GIVE_UP
        if pushback is not None:
            wait, self._since_pushback = pushback, 1
        else:
            wait = policy.backoff.delay(self._since_pushback, 0.0, u)
            self._since_pushback += 1
        if now + wait >= self.deadline:
            return GIVE_UP
        self.sent += 1
        return wait

    def succeeded(self) -> None:
        """An attempt was answered without error."""
        if self.throttle is not None:
            self.throttle.success()
