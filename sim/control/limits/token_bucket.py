"""The token bucket of Go's golang.org/x/time/rate: starts full, refills continuously, sells tokens of the future on request.

Reproduces rate/rate.go of golang/time v0.12 and later (commit 2b4e439), to the nanosecond: times and durations are rounded to whole
nanoseconds first, and durations that come out of tokens are truncated to them, as Go does. Methods have Go's names in snake case;
where Go reads the clock, ``now`` is given.
"""

from __future__ import annotations

import sys
from math import inf, isinf, isnan
from typing import Final, NamedTuple

__all__ = ["INF", "Limiter", "Reservation", "Wait", "every"]

INF: Final = inf
"""The infinite rate: all events pass, even with a burst of 0. Go's is the largest float, which is taken for it too."""

_FOREVER: Final = (1 << 63) - 1  # Go's InfDuration, the longest there is: 292 years, in nanoseconds
_NEVER: Final = -(1 << 63)  # the zero time lies further back than a duration can tell


def _limit(limit: float) -> float:
    if isnan(limit):
        raise ValueError("limit is not a number; a rate per second is needed")
    return INF if limit >= sys.float_info.max else limit


def _nanoseconds(seconds: float) -> int:
    if isinf(seconds):
        return _FOREVER if seconds > 0 else _NEVER
    return round(seconds * 1e9)


def _seconds(duration: int) -> float:
    """time.Duration.Seconds: whole seconds and the rest apart, both truncated towards zero."""
    whole, rest = divmod(abs(duration), 1_000_000_000)
    value = float(whole) + rest / 1e9
    return value if duration >= 0 else -value


def _difference(later: int, earlier: int) -> int:
    """time.Time.Sub: saturates at the longest duration."""
    return max(_NEVER, min(_FOREVER, later - earlier))


def _duration_from_tokens(limit: float, tokens: float) -> int:
    if limit <= 0.0:
        return _FOREVER
    duration = tokens / limit * 1e9
    return _FOREVER if duration > float(_FOREVER) else int(duration)


def _tokens_from_duration(limit: float, duration: int) -> float:
    return 0.0 if limit <= 0.0 else _seconds(duration) * limit


def every(interval: float) -> float:
    """The limit, in events per second, of one event each ``interval`` seconds; infinite when that is not above 0."""
    nanoseconds = _nanoseconds(interval)
    return INF if nanoseconds <= 0 else 1.0 / _seconds(nanoseconds)


class Wait(NamedTuple):
    """What :meth:`Limiter.wait_n` answers: ``delay`` seconds to wait, and why it cannot be (None: it can).

    ``reservation`` is there to cancel when the wait is given up; None with an error.
    """

    delay: float
    error: str | None = None
    reservation: Reservation | None = None


class Reservation:
    """Tokens promised for the future. ``ok`` is False when they can never be had, or not within the longest wait allowed."""

    __slots__ = ("_act", "_limit", "_limiter", "_tokens", "ok")

    def __init__(self, limiter: Limiter, ok: bool, tokens: int, act: int, limit: float) -> None:
        self.ok = ok
        self._limiter = limiter
        self._tokens = tokens
        self._act = act
        self._limit = limit  # at the time of the reservation; the limiter's may change

    @property
    def time_to_act(self) -> float:
        """When the reserved events may happen, in seconds; infinite if not ``ok``."""
        return self._act / 1e9 if self.ok else inf

    def delay_from(self, now: float) -> float:
        """Seconds from ``now`` until the reserved events may happen; 0 when they may, infinite if not ``ok``, or in 292 years."""
        if not self.ok:
            return inf
        delay = _difference(self._act, _nanoseconds(now))
        if delay >= _FOREVER:
            return inf
        return max(0, delay) / 1e9

    def cancel_at(self, now: float) -> None:
        """Give the tokens back, but for those that later reservations were promised; nothing once the time to act has passed."""
        limiter, at = self._limiter, _nanoseconds(now)
        if not self.ok or limiter.limit == INF or self._tokens == 0 or self._act < at:
            return
        after = _difference(limiter._last_event, self._act)
        restored = self._tokens - _tokens_from_duration(self._limit, after)
        if restored <= 0.0:
            return
        limiter._tokens = min(limiter._advance(at) + restored, float(limiter.burst))
        limiter._last = at
        if self._act == limiter._last_event:
            before = self._act + _duration_from_tokens(self._limit, -float(self._tokens))
            if before >= at:
                limiter._last_event = before


class Limiter:
    """Allows events at ``limit`` per second, and bursts of at most ``burst``.

    A limit of 0 or less never refills: only the first burst passes. ``n > burst`` is never allowed, unless the limit is :data:`INF`.
    When time runs backwards no tokens are taken away, but the clock of the bucket goes back with what it lets through. What it refuses
    changes nothing (releases before 2022 moved the clock back for that, too).
    """

    __slots__ = ("_last", "_last_event", "_tokens", "burst", "limit")

    def __init__(self, limit: float, burst: int) -> None:
        self.limit = _limit(limit)
        self.burst = burst
        self._tokens = float(burst)
        self._last = _NEVER  # when _tokens was last brought up to date
        self._last_event = _NEVER  # the latest time to act, past or future

    def tokens_at(self, now: float) -> float:
        """Tokens at ``now``: negative when more is reserved than there is."""
        return self._advance(_nanoseconds(now))

    def allow(self, now: float) -> bool:
        """Whether one event may happen now; takes a token if so."""
        return self.allow_n(now, 1)

    def allow_n(self, now: float, n: int) -> bool:
        """Whether ``n`` events may happen now; takes all ``n`` tokens or none."""
        return self._reserve(_nanoseconds(now), n, 0).ok

    def reserve(self, now: float) -> Reservation:
        """Reserve one event."""
        return self.reserve_n(now, 1)

    def reserve_n(self, now: float, n: int, max_wait: float = inf) -> Reservation:
        """Reserve ``n`` events, as soon as they may happen; not ``ok`` if that is more than ``max_wait`` seconds away."""
        return self._reserve(_nanoseconds(now), n, _nanoseconds(max_wait))

    def wait(self, now: float, deadline: float | None = None, cancelled: bool = False) -> Wait:
        """As :meth:`wait_n` for one event."""
        return self.wait_n(now, 1, deadline, cancelled)

    def wait_n(self, now: float, n: int, deadline: float | None = None, cancelled: bool = False) -> Wait:
        """How long a caller of Go's WaitN would block before ``n`` events, or why it would return an error at once.

        ``deadline``: when the caller's context ends, in the time of ``now``; a wait beyond it is not begun and takes nothing.
        ``cancelled``: the context has ended already. A caller that gives up while it waits cancels the reservation.
        """
        if n > self.burst and self.limit != INF:
            return Wait(0.0, f"rate: Wait(n={n}) exceeds limiter's burst {self.burst}")
        if cancelled:
            return Wait(0.0, "context canceled")
        longest = _FOREVER if deadline is None else _difference(_nanoseconds(deadline), _nanoseconds(now))
        if longest <= 0 and deadline is not None:
            return Wait(0.0, "context deadline exceeded")
        reservation = self._reserve(_nanoseconds(now), n, longest)
        if not reservation.ok:
            return Wait(0.0, f"rate: Wait(n={n}) would exceed context deadline")
        return Wait(reservation.delay_from(now), None, reservation)

    def set_limit_at(self, now: float, limit: float) -> None:
        """Change the rate. What has been earned at the old one is kept, and so are reservations."""
        limit = _limit(limit)
        self._settle(_nanoseconds(now))
        self.limit = limit

    def set_burst_at(self, now: float, burst: int) -> None:
        """Change the burst. The tokens do not change: a larger bucket has to fill."""
        self._settle(_nanoseconds(now))
        self.burst = burst

    def _settle(self, at: int) -> None:
        self._tokens = self._advance(at)
        self._last = at

    def _advance(self, at: int) -> float:
        """Tokens at a time; changes nothing."""
        elapsed = _difference(at, min(self._last, at))
        earned = 0.0 if elapsed == 0 else _tokens_from_duration(self.limit, elapsed)
        return min(self._tokens + earned, float(self.burst))

    def _reserve(self, at: int, n: int, longest: int) -> Reservation:
        if self.limit == INF:
            return Reservation(self, True, n, at, 0.0)
        tokens = self._advance(at) - n
        wait = _duration_from_tokens(self.limit, -tokens) if tokens < 0.0 else 0
        if n > self.burst or wait > longest:
            return Reservation(self, False, 0, 0, self.limit)
        act = at + wait
        self._last = at
        self._tokens = tokens
        self._last_event = act
        return Reservation(self, True, n, act, self.limit)
