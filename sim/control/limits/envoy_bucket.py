"""Envoy's token buckets: the continuous one that its local rate limit has used since 1.31, and the timer-driven one before it.

Sources, in envoyproxy/envoy: source/common/common/token_bucket_impl.{h,cc}, and for the timer
source/extensions/filters/common/local_ratelimit/local_ratelimit_impl.cc of 1.30 (016c0c8). The runtime guard
``envoy.reloadable_features.no_timer_based_rate_limit_token_bucket`` chose between them.
"""

from __future__ import annotations

from math import ceil, floor
from typing import Final, Protocol

__all__ = ["ContinuousBucket", "TimedBucket", "TokenBucket"]

_SLOWEST: Final = 1.0 / (365 * 24 * 60 * 60)  # tokens per second: one a year
_NEARLY: Final = 1e-9  # tokens: a simulation asks at the very moment of a fill, where floats may be a bit short; real clocks are past it


class TokenBucket(Protocol):
    """What the local rate limit needs of a bucket. ``consume`` takes all of ``tokens``, or nothing, and says which."""

    fill_rate: float

    def take(self, now: float, tokens: float = 1.0) -> bool:
        """Take ``tokens`` if there are as many."""
        ...

    def remaining_tokens(self, now: float) -> float:
        """What is left."""
        ...


class ContinuousBucket:
    """AtomicTokenBucketImpl: up to ``max_tokens``, refilled at ``fill_rate`` tokens per second, full at time ``now``.

    The rate's sign is ignored, and it is one token a year at least. The only state is the time at which the bucket was, or would have
    been, empty. ``init_fill`` False: starts empty. A billionth of a token short is not short.
    """

    __slots__ = ("_empty", "fill_rate", "max_tokens")

    def __init__(self, max_tokens: float, fill_rate: float = 1.0, now: float = 0.0, init_fill: bool = True) -> None:
        if max_tokens < 0:
            raise ValueError(f"max_tokens is {max_tokens}; 0 or more is allowed")
        self.max_tokens = float(max_tokens)
        self.fill_rate = max(abs(fill_rate), _SLOWEST)
        self._empty = now - self.max_tokens / self.fill_rate if init_fill else now

    def remaining_tokens(self, now: float) -> float:
        """Tokens at ``now``; negative after :meth:`spend` of more than there was."""
        return min(self.max_tokens, (now - self._empty) * self.fill_rate)

    def take(self, now: float, tokens: float = 1.0) -> bool:
        """Take ``tokens``, which need not be whole, if there are as many."""
        return self.spend(now, 0.0 if self.remaining_tokens(now) + _NEARLY < tokens else tokens) != 0.0

    def consume(self, now: float, tokens: int = 1, allow_partial: bool = False) -> int:
        """Tokens taken: ``tokens`` or 0; with ``allow_partial`` as many whole ones as there are."""
        total = self.remaining_tokens(now) + _NEARLY
        if total < tokens and allow_partial:
            tokens = max(0, floor(total))
        elif total < tokens:
            return 0
        return int(self.spend(now, float(tokens)))

    def spend(self, now: float, tokens: float) -> float:
        """Take ``tokens`` whatever there is: below zero if need be; a negative number gives back. Returns what was taken."""
        if tokens != 0.0:
            self._empty = now - (self.remaining_tokens(now) - tokens) / self.fill_rate
        return tokens

    def refill(self, now: float, tokens: float) -> None:
        """Give tokens back, no more than there is room for."""
        self.spend(now, -max(0.0, min(tokens, self.max_tokens - self.remaining_tokens(now))))

    def next_token_available(self, now: float) -> float:
        """Seconds until there is a token, as TokenBucketImpl says it: 0 with one, else the whole milliseconds that one token takes from
        nothing, however much of it is there."""
        return 0.0 if self.remaining_tokens(now) + _NEARLY >= 1.0 else ceil(1.0 / self.fill_rate * 1000.0) / 1000.0

    def maybe_reset(self, now: float, tokens: float) -> None:
        """Set what is in the bucket."""
        if not 0 <= tokens <= self.max_tokens:
            raise ValueError(f"tokens is {tokens}; 0 to max_tokens ({self.max_tokens:g}) is allowed")
        self._empty = now - tokens / self.fill_rate


class TimedBucket:
    """``tokens_per_fill`` whole tokens come every ``fill_interval`` seconds after ``now``, all at once, up to ``max_tokens``; starts full.

    At the very moment of a fill, the fill comes first.
    """

    __slots__ = ("_fills", "_start", "_tokens", "fill_interval", "fill_rate", "max_tokens", "tokens_per_fill")

    def __init__(self, max_tokens: int, tokens_per_fill: int, fill_interval: float, now: float = 0.0) -> None:
        self.max_tokens = max_tokens
        self.tokens_per_fill = tokens_per_fill
        self.fill_interval = fill_interval
        self.fill_rate = tokens_per_fill / fill_interval
        self._start = now
        self._fills = 0
        self._tokens = max_tokens

    def remaining_tokens(self, now: float) -> float:
        """Tokens at ``now``."""
        # a timer is set in whole milliseconds, so that 0.3 s are three tenths, whatever floats say
        due = round((now - self._start) * 1e9) // round(self.fill_interval * 1e9)
        if due > self._fills:
            self._tokens = min(self.max_tokens, self._tokens + (due - self._fills) * self.tokens_per_fill)
            self._fills = due
        return float(self._tokens)

    def take(self, now: float, tokens: float = 1.0) -> bool:
        """Take one token if there is one. The timer-driven bucket knows of no other number."""
        if tokens != 1.0:
            raise ValueError(f"tokens is {tokens:g}; the timer-driven bucket takes 1 a request")
        if self.remaining_tokens(now) < 1.0:
            return False
        self._tokens -= 1
        return True
