"""Admission policies with fixed limits: token buckets and concurrency limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, isnan
from typing import Any, Literal

from sim.control.limits.ask import ADMIT, REFUSE, Ask
from sim.control.limits.held import Held
from sim.control.limits.local_ratelimit import Descriptor, LocalRateLimiter
from sim.control.limits.token_bucket import Limiter, Reservation
from sim.control.parameters import PerSecond, Seconds

__all__ = ["ConcurrencyLimit", "EnvoyLocal", "TokenBucket"]


def _choice(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; {', '.join(allowed)} are allowed")


class TokenBucket:
    """golang.org/x/time/rate: ``rate`` requests, or tokens, per second, and ``burst`` at once, for all together or each tenant or model.

    ``of``: what a request takes: 1, its prompt tokens, or its prompt and declared output tokens (how many it will really generate no
    gateway knows). One that takes more than ``burst`` is always turned away. ``mode`` allow: turned away when the bucket has too
    little, and what it took stays taken when a policy behind this one refuses. ``mode`` reserve: it waits until there is enough,
    unless that is more than ``max_wait``, and a refusal behind gives back what later reservations were not promised.
    """

    __slots__ = ("_buckets", "_reserved", "burst", "max_wait", "mode", "of", "per", "rate", "reason")

    def __init__(
        self,
        *,
        rate: PerSecond,
        burst: int,
        of: Literal["requests", "prompt_tokens", "tokens"] = "requests",
        per: Literal["all", "tenant", "model"] = "all",
        mode: Literal["allow", "reserve"] = "allow",
        max_wait: Seconds | None = None,
    ) -> None:
        if isnan(rate) or rate < 0.0:
            raise ValueError(f"rate is {rate:g}; 0/s or more is allowed")
        if burst < 0:
            raise ValueError(f"burst is {burst}; 0 or more is allowed")
        if max_wait is not None and not max_wait >= 0.0:
            raise ValueError(f"max_wait is {max_wait:g} s; 0s or more is allowed")
        if max_wait is not None and mode == "allow":
            raise ValueError("max_wait is given, but mode is allow: nobody waits; mode reserve is needed")
        _choice("of", of, ("requests", "prompt_tokens", "tokens"))
        _choice("per", per, ("all", "tenant", "model"))
        _choice("mode", mode, ("allow", "reserve"))
        self.rate = rate
        self.burst = burst
        self.of = of
        self.per = per
        self.mode = mode
        self.max_wait = inf if max_wait is None else max_wait
        self.reason = "rate limit" if of == "requests" else "token rate limit"
        self._buckets: dict[str, Limiter] = {}
        self._reserved: Held[Reservation] = Held()

    def offer(self, ask: Ask, now: float) -> float:
        """See :class:`sim.control.limits.ask.AdmissionPolicy`."""
        key = "" if self.per == "all" else ask.tenant if self.per == "tenant" else ask.model
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Limiter(self.rate, self.burst)
        n = 1
        if self.of != "requests":
            n = ask.prompt_tokens + (ask.output_tokens if self.of == "tokens" else 0)
        if self.mode == "allow":
            return ADMIT if bucket.allow_n(now, n) else REFUSE
        reservation = bucket.reserve_n(now, n, self.max_wait)
        delay = reservation.delay_from(now)
        if delay < inf:
            self._reserved.put(ask.row, reservation)
        return delay

    def ended(self, ask: Ask, now: float, rtt: float) -> None:
        """See :class:`sim.control.limits.ask.AdmissionPolicy`."""
        if self.mode == "reserve":
            self._reserved.first(ask.row)

    def cancelled(self, ask: Ask, now: float) -> None:
        """See :class:`sim.control.limits.ask.AdmissionPolicy`."""
        if self.mode == "reserve":
            self._reserved.last(ask.row).cancel_at(now)


class EnvoyLocal:
    """Envoy's local rate limit: a request takes one of at most ``max_tokens``, of which ``tokens_per_fill`` come each ``fill_interval``.

    ``descriptors``: buckets of their own, each ``{entries: {tenant: acme}, max_tokens: 10, tokens_per_fill: 1, fill_interval: 60}`` with
    ``fill_interval`` in seconds; entries are of tenant, model and priority, and "" is any. See :class:`LocalRateLimiter` for them,
    for ``filling`` and for ``always_consume_default_token_bucket``. What was taken stays taken when a policy behind this one refuses.
    """

    __slots__ = ("_keys", "_limiter", "reason")

    def __init__(
        self,
        *,
        max_tokens: int,
        fill_interval: Seconds,
        tokens_per_fill: int = 1,
        descriptors: Sequence[Mapping[str, Any]] = (),
        always_consume_default_token_bucket: bool = True,
        filling: Literal["continuous", "timer"] = "continuous",
    ) -> None:
        made = [_descriptor(number, given) for number, given in enumerate(descriptors)]
        self._limiter = LocalRateLimiter(
            max_tokens,
            fill_interval,
            tokens_per_fill,
            made,
            always_consume_default_token_bucket=always_consume_default_token_bucket,
            filling=filling,
        )
        self._keys = list(dict.fromkeys(tuple(descriptor.entries) for descriptor in made))
        self.reason = "rate limit"

    def offer(self, ask: Ask, now: float) -> float:
        """See :class:`sim.control.limits.ask.AdmissionPolicy`."""
        described = [{key: str(getattr(ask, key)) for key in keys} for keys in self._keys]
        return ADMIT if self._limiter.request_allowed(now, described) else REFUSE

    def ended(self, ask: Ask, now: float, rtt: float) -> None:
        """See :class:`sim.control.limits.ask.AdmissionPolicy`."""

    def cancelled(self, ask: Ask, now: float) -> None:
        """See :class:`sim.control.limits.ask.AdmissionPolicy`."""


def _descriptor(number: int, given: Mapping[str, Any]) -> Descriptor:
    where = f"descriptors[{number}]"
    allowed = ("entries", "max_tokens", "tokens_per_fill", "fill_interval")
    for key in given:
        _choice(f"a key of {where}", key, allowed)
    entries = given.get("entries")
    if not isinstance(entries, Mapping) or not entries:
        raise ValueError(f"{where}.entries is {entries!r}; something like {{tenant: acme}} is needed")
    for key in entries:
        _choice(f"a key of {where}.entries", key, ("tenant", "model", "priority"))
    numbers: dict[str, Any] = {"tokens_per_fill": 1, **{key: given[key] for key in given if key != "entries"}}
    for key in allowed[1:]:
        value = numbers.get(key)
        whole = key != "fill_interval"
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            raise ValueError(
                f"{where}.{key} is {value!r}; a {'whole number' if whole else 'number of seconds'} is needed"
            )
    try:
        return Descriptor({key: str(value) for key, value in entries.items()}, **numbers)
    except ValueError as fault:
        raise ValueError(f"{where}: {fault}") from None


class ConcurrencyLimit:
    """At most ``limit`` attempts in flight, of all together or of each tenant; the next is turned away."""

    __slots__ = ("_inflight", "limit", "per", "reason")

    def __init__(self, *, limit: int, per: Literal["all", "tenant"] = "all") -> None:
        if limit < 1:
            raise ValueError(f"limit is {limit}; 1 or more is allowed")
        _choice("per", per, ("all", "tenant"))
        self.limit = limit
        self.per = per
        self.reason = "concurrency limit"
        self._inflight: dict[str, int] = {}  # by tenant, of those who have any

    def offer(self, ask: Ask, now: float) -> float:
        """See :class:`sim.control.limits.ask.AdmissionPolicy`."""
        if self.per == "all":
            return ADMIT if ask.inflight < self.limit else REFUSE
        inflight = self._inflight.get(ask.tenant, 0)
        if inflight >= self.limit:
            return REFUSE
        self._inflight[ask.tenant] = inflight + 1
        return ADMIT

    def ended(self, ask: Ask, now: float, rtt: float) -> None:
        """See :class:`sim.control.limits.ask.AdmissionPolicy`."""
        self.cancelled(ask, now)

    def cancelled(self, ask: Ask, now: float) -> None:
        """See :class:`sim.control.limits.ask.AdmissionPolicy`."""
        if self.per == "all":
            return
        inflight = self._inflight.get(ask.tenant, 0)
        if inflight == 0:
            raise ValueError(f"no attempt of tenant {ask.tenant!r} is in flight")
        if inflight == 1:
            del self._inflight[ask.tenant]
        else:
            self._inflight[ask.tenant] = inflight - 1
