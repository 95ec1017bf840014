"""Retry budgets: how many retries all calls of a client may make together.

Sources: Envoy source/common/upstream/resource_manager_impl.h; Finagle service/RetryBudget.scala with com.twitter.util TokenBucket and
WindowedAdder (Linkerd's budget is the same idea and has the same defaults); botocore retries/quota.py and retries/standard.py.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from sim.control.parameters import PerSecond, Seconds

__all__ = ["BUDGETS", "AwsRetryQuota", "EnvoyRetryBudget", "FinagleRetryBudget", "LeakyBucket"]


class EnvoyRetryBudget:
    """Envoy: a share of the requests active and pending now may be retries, and always ``min_retry_concurrency``.

    ``budget_percent`` in percent, as Envoy's. A budget replaces the breaker's ``max_retries``.
    """

    __slots__ = ("active", "budget_percent", "min_retry_concurrency")

    def __init__(self, budget_percent: float = 20.0, min_retry_concurrency: int = 3) -> None:
        if not 0.0 <= budget_percent <= 100.0:
            raise ValueError(f"budget_percent: {budget_percent}; 0 to 100")
        if min_retry_concurrency < 0:
            raise ValueError(f"min_retry_concurrency: {min_retry_concurrency}; at least 0")
        self.budget_percent = budget_percent
        self.min_retry_concurrency = min_retry_concurrency
        self.active = 0
        """Retries under way, those that wait for their back-off included."""

    def limit(self, requests: int, pending: int = 0) -> int:
        """Retries that may be under way while so many requests are active and pending; fractions are cut off."""
        return max(int(self.budget_percent / 100.0 * (requests + pending)), self.min_retry_concurrency)

    def acquire(self, requests: int, pending: int = 0) -> bool:
        """Whether one more retry may start; if so it is counted until :meth:`release`."""
        if self.active >= self.limit(requests, pending):
            return False
        self.active += 1
        return True

    def release(self) -> None:
        """A retry has ended, or was never sent."""
        self.active -= 1


class _WindowedAdder:
    """com.twitter.util.WindowedAdder: a sum over about ``window`` milliseconds, in 10 slices of which one is written to."""

    __slots__ = ("_at", "_buffer", "_old", "_slice", "_writer")

    def __init__(self, window: int, now: int, slices: int = 10) -> None:
        self._slice = window // slices
        self._buffer = [0] * (slices - 1)
        self._writer = 0
        self._at = 0
        self._old = now

    def _expire(self, now: int) -> None:
        if now - self._old < self._slice:
            return
        size = len(self._buffer)
        self._buffer[self._at] = self._writer
        self._writer = 0
        self._at = (self._at + 1) % size
        for _ in range(min((now - self._old) // self._slice - 1, size)):
            self._buffer[self._at] = 0
            self._at = (self._at + 1) % size
        self._old = now

    def add(self, amount: int, now: int) -> None:
        self._expire(now)
        self._writer += amount

    def sum(self, now: int) -> int:
        self._expire(now)
        return self._writer + sum(self._buffer)


class LeakyBucket:
    """com.twitter.util.TokenBucket.newLeakyBucket: tokens expire about ``ttl`` after they were put in; ``reserve`` more every ``ttl``.

    What is taken is a negative deposit, so it too is forgotten after ``ttl``. Slices of the window are counted from ``start``.
    """

    __slots__ = ("_adder", "reserve")

    def __init__(self, ttl: Seconds, reserve: int = 0, start: Seconds = 0.0) -> None:
        self._adder = _WindowedAdder(round(ttl * 1000.0), _milliseconds(start))
        self.reserve = reserve

    def put(self, tokens: int, now: Seconds) -> None:
        """Put tokens in."""
        self._adder.add(tokens, _milliseconds(now))

    def try_get(self, tokens: int, now: Seconds) -> bool:
        """All of them or none."""
        if self.count(now) < tokens:
            return False
        self._adder.add(-tokens, _milliseconds(now))
        return True

    def count(self, now: Seconds) -> int:
        """Tokens that can be taken."""
        return self._adder.sum(_milliseconds(now)) + self.reserve


class FinagleRetryBudget:
    """Finagle and Linkerd: each request deposits, each retry withdraws; deposits expire after about ``ttl``.

    ``min_retries_per_sec`` come on top, as a reserve of ``ttl`` times as many at any time. ``percent_can_retry`` 0.2: one retry for five
    requests (up to 1000, so that a request may pay for several). Whole milliseconds, as there. With ``percent_can_retry``
    0 only the reserve is left; with both 0 there is never a retry.
    """

    __slots__ = ("_bucket", "_deposit", "_withdrawal", "min_retries_per_sec", "percent_can_retry", "ttl")

    def __init__(
        self,
        ttl: Seconds = 10.0,
        min_retries_per_sec: PerSecond = 10,
        percent_can_retry: float = 0.2,
        start: Seconds = 0.0,
    ) -> None:
        """``start``: the time it is made; slices of the window are counted from it."""
        if not 1.0 <= ttl <= 60.0:
            raise ValueError(f"ttl: {ttl}; 1 to 60 seconds")
        if min_retries_per_sec < 0 or min_retries_per_sec != int(min_retries_per_sec):
            raise ValueError(f"min_retries_per_sec: {min_retries_per_sec}; a whole number, at least 0")
        if not 0.0 <= percent_can_retry <= 1000.0:
            raise ValueError(f"percent_can_retry: {percent_can_retry}; 0 to 1000 (0.2 is 20 %)")
        self.ttl = ttl
        self.min_retries_per_sec = int(min_retries_per_sec)
        self.percent_can_retry = percent_can_retry
        # Tokens are whole: a deposit is 1000 of them, so that a withdrawal can be a fraction of one.
        self._deposit = 1000 if percent_can_retry > 0.0 else 0
        self._withdrawal = int(1000.0 / percent_can_retry) if percent_can_retry > 0.0 else 1
        reserve = self.min_retries_per_sec * int(ttl) * self._withdrawal
        self._bucket = LeakyBucket(ttl, reserve, start)

    def deposit(self, now: Seconds) -> None:
        """A request (not a retry) is made."""
        self._bucket.put(self._deposit, now)

    def withdraw(self, now: Seconds) -> bool:
        """Whether a retry may be made; if so it is paid for."""
        return self._bucket.try_get(self._withdrawal, now)

    def balance(self, now: Seconds) -> int:
        """Retries that could be made now."""
        return self._bucket.count(now) // self._withdrawal


def _milliseconds(now: float) -> int:
    return math.floor(now * 1000.0 + 1e-6)


class AwsRetryQuota:
    """AWS SDKs' standard retry mode: a bucket of ``capacity`` tokens that retries pay from.

    Version "2.0": a retry costs 5, after a timeout 10. Version "2.1": 14, after a throttling error 5. A call that ends well gives
    back what its last retry cost, or ``no_retry_increment`` if it had none; one that fails gives nothing back.
    """

    __slots__ = ("available", "capacity", "no_retry_increment", "retry_cost", "throttling_cost", "timeout_cost")

    def __init__(
        self,
        capacity: int = 500,
        version: Literal["2.0", "2.1"] = "2.0",
        retry_cost: int | None = None,
        timeout_cost: int | None = None,
        throttling_cost: int | None = None,
        no_retry_increment: int = 1,
    ) -> None:
        if version not in ("2.0", "2.1"):
            raise ValueError(f"version: {version!r}; 2.0 or 2.1")
        if capacity < 0:
            raise ValueError(f"capacity: {capacity}; at least 0 tokens")
        usual = retry_cost if retry_cost is not None else (5 if version == "2.0" else 14)
        timeout = timeout_cost if timeout_cost is not None else (10 if version == "2.0" else usual)
        throttling = throttling_cost if throttling_cost is not None else (usual if version == "2.0" else 5)
        for name, cost in (("retry_cost", usual), ("timeout_cost", timeout), ("throttling_cost", throttling)):
            if cost < 0:
                raise ValueError(f"{name}: {cost}; at least 0 tokens")
        self.capacity = capacity
        self.available = capacity
        self.retry_cost = usual
        self.timeout_cost = timeout
        self.throttling_cost = throttling
        self.no_retry_increment = no_retry_increment

    def cost(self, reason: str) -> int:
        """Tokens of a retry after ``reason``: "timeout", "rejected" (throttled by the server) or anything else."""
        return {"timeout": self.timeout_cost, "rejected": self.throttling_cost}.get(reason, self.retry_cost)

    def acquire(self, reason: str = "failed") -> int | None:
        """Pay for a retry: the tokens taken, None when there are not enough (the call then fails)."""
        amount = self.cost(reason)
        if amount > self.available:
            return None
        self.available -= amount
        return amount

    def release(self, amount: int | None = None) -> None:
        """A call ended well; ``amount``: what its last retry took, None if it was never retried."""
        self.available = min(self.capacity, self.available + (self.no_retry_increment if amount is None else amount))


BUDGETS: dict[str, type[Any]] = {"envoy": EnvoyRetryBudget, "finagle": FinagleRetryBudget, "aws": AwsRetryQuota}
"""What a scenario may name as ``budget: {kind: ...}``; the other keys are the class's parameters."""
