"""Envoy's local rate limit: one default token bucket, and buckets of their own for requests that match a descriptor.

Reproduces LocalRateLimiterImpl (envoyproxy/envoy, source/extensions/filters/common/local_ratelimit/local_ratelimit_impl.cc): as of
2026 with ``filling="continuous"``, as up to 1.30 with ``filling="timer"``. Shadow mode and response headers are left out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sim.control.limits.envoy_bucket import ContinuousBucket, TimedBucket, TokenBucket

__all__ = ["Descriptor", "LocalRateLimiter"]

Entries = tuple[tuple[str, str], ...]

_SHORTEST = 0.05  # seconds between fills


@dataclass(frozen=True)
class Descriptor:
    """A bucket for requests that carry all of ``entries``, in this order and no others. A value of "" stands for any: then each value
    that comes has its own bucket (only with continuous filling)."""

    entries: Mapping[str, str]
    max_tokens: int
    fill_interval: float
    tokens_per_fill: int = 1
    key: Entries = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", tuple(self.entries.items()))
        _check(self.max_tokens, self.tokens_per_fill, self.fill_interval, "descriptor ")

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.key)

    def matches(self, request: Entries) -> bool:
        """Whether a request's entries are these, any value standing for ""."""
        return len(request) == len(self.key) and all(
            name == key and want in ("", value) for (name, value), (key, want) in zip(request, self.key, strict=True)
        )


def _check(max_tokens: int, tokens_per_fill: int, fill_interval: float, whose: str) -> None:
    if max_tokens < 0:
        raise ValueError(f"{whose}max_tokens is {max_tokens}; 0 or more is allowed")
    if tokens_per_fill <= 0:
        raise ValueError(f"{whose}tokens_per_fill is {tokens_per_fill}; 1 or more is allowed")
    if max_tokens > 0 and fill_interval < _SHORTEST:  # a bucket that is always empty need not fill
        raise ValueError(f"{whose}fill_interval is {fill_interval:g} s; 50ms or more is allowed")


class _Any:
    """The buckets of a descriptor with a wildcard, by the values that came; the least recently used is forgotten."""

    __slots__ = ("buckets", "descriptor", "size")

    def __init__(self, descriptor: Descriptor, size: int) -> None:
        self.descriptor = descriptor
        self.size = size
        self.buckets: OrderedDict[Entries, TokenBucket] = OrderedDict()

    def bucket(self, request: Entries, now: float) -> TokenBucket:
        found = self.buckets.get(request)
        if found is None:
            found = self.buckets[request] = _continuous(self.descriptor, now)
            if len(self.buckets) > self.size:
                self.buckets.popitem(last=False)
        else:
            self.buckets.move_to_end(request)
        return found


def _continuous(bucket: Descriptor, now: float) -> TokenBucket:
    rate = bucket.tokens_per_fill / bucket.fill_interval if bucket.fill_interval > 0 else 0.0
    return ContinuousBucket(bucket.max_tokens, rate, now)


class LocalRateLimiter:
    """``max_tokens`` at first and at most, ``tokens_per_fill`` more each ``fill_interval`` seconds; a request takes one.

    A request is described by entries; the first that it fails of the buckets of matching descriptors, slowest first, and of the
    default bucket refuses it, and what the buckets before it gave is lost. With ``always_consume_default_token_bucket`` False the
    default bucket is for requests that match no descriptor. ``lru_size``: how many values of a wildcard are remembered.
    ``fill_interval`` 0: no default bucket. With a timer, descriptors fill each n-th time the default bucket does, so their interval
    must be a multiple of its.
    """

    def __init__(
        self,
        max_tokens: int,
        fill_interval: float,
        tokens_per_fill: int = 1,
        descriptors: Sequence[Descriptor] = (),
        *,
        always_consume_default_token_bucket: bool = True,
        filling: Literal["continuous", "timer"] = "continuous",
        lru_size: int = 20,
        now: float = 0.0,
    ) -> None:
        if filling not in ("continuous", "timer"):
            raise ValueError(f"filling is {filling!r}; continuous and timer are allowed")
        if fill_interval < 0.0:
            raise ValueError(f"fill_interval is {fill_interval:g} s; 50ms or more is allowed")
        if fill_interval > 0.0:
            _check(max_tokens, tokens_per_fill, fill_interval, "")
        self.always_consume_default_token_bucket = always_consume_default_token_bucket
        self.default: TokenBucket | None = None
        self._buckets: dict[Entries, TokenBucket] = {}
        self._any: list[_Any] = []
        self._timed = filling == "timer"
        if fill_interval > 0.0:
            self.default = self._made(Descriptor({}, max_tokens, fill_interval, tokens_per_fill), now)
        for descriptor in descriptors:
            if descriptor.key in self._buckets or any(a.descriptor.key == descriptor.key for a in self._any):
                raise ValueError(f"duplicate descriptor in the local rate descriptor: {descriptor}")
            if self._timed:
                times = round(descriptor.fill_interval * 1e9) % round(fill_interval * 1e9) if fill_interval > 0.0 else 1
                if times != 0:
                    raise ValueError("local rate descriptor limit is not a multiple of token bucket fill timer")
            if "" in dict(descriptor.key).values() and not self._timed:
                self._any.append(_Any(descriptor, lru_size))
            else:
                self._buckets[descriptor.key] = self._made(descriptor, now)

    def _made(self, bucket: Descriptor, now: float) -> TokenBucket:
        if self._timed:
            return TimedBucket(bucket.max_tokens, bucket.tokens_per_fill, bucket.fill_interval, now)
        return _continuous(bucket, now)

    def request_allowed(
        self, now: float, descriptors: Sequence[Mapping[str, str]] = (), *, hits: int = 1, share: float = 1.0
    ) -> bool:
        """Whether a request passes. ``hits``: tokens it takes from the buckets of descriptors (the default bucket gives one).

        ``share`` of the limit that is this proxy's, above 0 and at most 1, when several divide it: a request takes 1 / share.
        """
        if not 0.0 < share <= 1.0:
            raise ValueError(f"share is {share:g}; above 0 and at most 1 is allowed")
        matched = [bucket for entries in descriptors if (bucket := self._bucket(tuple(entries.items()), now))]
        matched.sort(key=lambda bucket: bucket.fill_rate)
        for bucket in matched:
            if not bucket.take(now, hits / share):
                return False
        if (not matched or self.always_consume_default_token_bucket) and self.default is not None:
            return self.default.take(now, 1.0 / share)
        return True

    def remaining_tokens(self, now: float, descriptor: Mapping[str, str] | None = None) -> int:
        """Whole tokens left in the default bucket, or in that of a descriptor. KeyError when there is no such bucket."""
        bucket = self.default if descriptor is None else self._bucket(tuple(descriptor.items()), now)
        if bucket is None:
            raise KeyError(f"no bucket for {descriptor}")
        return int(bucket.remaining_tokens(now) + 1e-9)

    def _bucket(self, request: Entries, now: float) -> TokenBucket | None:
        found = self._buckets.get(request)
        if found is not None:
            return found
        for wildcard in self._any:
            if wildcard.descriptor.matches(request):
                return wildcard.bucket(request, now)
        return None
