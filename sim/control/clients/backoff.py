"""How long a client waits before it tries again: a pure function of the attempt, the delay before and one uniform number.

Sources: M. Brooker, Exponential Backoff And Jitter, AWS Architecture Blog (2015), and its simulator
(aws-samples/aws-arch-backoff-simulator, src/backoff_simulator.py); gRPC proposal A6; Envoy source/common/common/backoff_strategy.cc;
botocore/retries/standard.py.
"""

from __future__ import annotations

import math
from typing import Literal, Protocol, runtime_checkable

from sim.control.parameters import Seconds

__all__ = [
    "BACKOFFS",
    "AwsStandard",
    "Backoff",
    "Constant",
    "DecorrelatedJitter",
    "EnvoyJitter",
    "EnvoyRateLimited",
    "EqualJitter",
    "Exponential",
    "FullJitter",
    "GrpcBackoff",
]


@runtime_checkable
class Backoff(Protocol):
    """Seconds until the next attempt."""

    def delay(self, attempt: int, previous: Seconds, u: float) -> Seconds:
        """The wait after ``attempt`` attempts have failed (1: the first has), ``previous`` the wait before (0: none yet),
        ``u`` uniform on [0, 1). Everything random is in ``u``."""
        ...


def _positive(what: str, value: float) -> None:
    if not value > 0.0 or math.isinf(value):
        raise ValueError(f"{what}: {value}; a positive number of seconds")


def grown(start: float, factor: float, times: int, cap: float) -> float:
    """``min(cap, start * factor ** times)``; growth too large for a float is at the cap."""
    try:
        return min(cap, start * factor**times)
    except OverflowError:
        return cap


class Constant:
    """Always ``seconds`` (0: at once). Envoy's FixedBackOffStrategy."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: Seconds = 0.0) -> None:
        if not 0.0 <= seconds < math.inf:
            raise ValueError(f"seconds: {seconds}; at least 0")
        self.seconds = seconds

    def delay(self, attempt: int, previous: Seconds, u: float) -> Seconds:
        """``seconds``."""
        return self.seconds


class Exponential:
    """No jitter: min(cap, base * 2^attempt). ``attempt`` is the published exponent: it is 1 after the first failure, as in the
    simulator of the AWS post, so the first wait is 2 * base; who counts from 0 hands in 0 first."""

    __slots__ = ("base", "cap")

    def __init__(self, base: Seconds = 0.1, cap: Seconds = 20.0) -> None:
        _positive("base", base)
        _positive("cap", cap)
        self.base = base
        self.cap = cap

    def ceiling(self, attempt: int) -> Seconds:
        """min(cap, base * 2^attempt)."""
        return grown(self.base, 2.0, attempt, self.cap)

    def delay(self, attempt: int, previous: Seconds, u: float) -> Seconds:
        """The ceiling."""
        return self.ceiling(attempt)


class FullJitter(Exponential):
    """AWS "full jitter": uniform on [0, min(cap, base * 2^attempt))."""

    __slots__ = ()

    def delay(self, attempt: int, previous: Seconds, u: float) -> Seconds:
        """``u`` of the ceiling."""
        return u * self.ceiling(attempt)


class EqualJitter(Exponential):
    """AWS "equal jitter": half the ceiling, and uniform on the other half."""

    __slots__ = ()

    def delay(self, attempt: int, previous: Seconds, u: float) -> Seconds:
        """ceiling / 2 + ``u`` * ceiling / 2."""
        half = self.ceiling(attempt) / 2.0
        return half + u * half


class DecorrelatedJitter:
    """AWS "decorrelated jitter": min(cap, uniform(base, 3 * previous)); before the first wait ``previous`` is ``base``."""

    __slots__ = ("base", "cap")

    def __init__(self, base: Seconds = 0.1, cap: Seconds = 20.0) -> None:
        _positive("base", base)
        _positive("cap", cap)
        self.base = base
        self.cap = cap

    def delay(self, attempt: int, previous: Seconds, u: float) -> Seconds:
        """``previous`` 0 (or less) stands for "no wait yet"."""
        top = 3.0 * (previous if previous > 0.0 else self.base)
        return min(self.cap, self.base + u * (top - self.base))


class GrpcBackoff:
    """gRPC's: min(initial_backoff * backoff_multiplier^(attempt - 1), max_backoff), then jitter.

    ``jitter`` "plus-minus" (A6 as it stands, grpc-go): times 0.8 to 1.2, *after* the cap, so that a wait may exceed
    ``max_backoff``. "full" (A6 of 2017, and the grpc-java and grpc-go of then): uniform from 0 to the capped value. "none": neither.
    """

    __slots__ = ("backoff_multiplier", "initial_backoff", "jitter", "max_backoff")

    def __init__(
        self,
        initial_backoff: Seconds = 0.1,
        max_backoff: Seconds = 1.0,
        backoff_multiplier: float = 2.0,
        jitter: Literal["plus-minus", "full", "none"] = "plus-minus",
    ) -> None:
        _positive("initial_backoff", initial_backoff)
        _positive("max_backoff", max_backoff)
        if not 0.0 < backoff_multiplier < math.inf:
            raise ValueError(f"backoff_multiplier: {backoff_multiplier}; greater than 0")
        if jitter not in ("plus-minus", "full", "none"):
            raise ValueError(f"jitter: {jitter!r}; plus-minus, full or none")
        self.initial_backoff = initial_backoff
        self.max_backoff = max_backoff
        self.backoff_multiplier = backoff_multiplier
        self.jitter = jitter

    def delay(self, attempt: int, previous: Seconds, u: float) -> Seconds:
        """The wait before attempt ``attempt`` + 1."""
        wait = grown(self.initial_backoff, self.backoff_multiplier, attempt - 1, self.max_backoff)
        if self.jitter == "plus-minus":
            return wait * (0.8 + 0.4 * u)
        return wait * u if self.jitter == "full" else wait


class EnvoyJitter:
    """Envoy's fully jittered exponential back-off of HTTP retries: uniform from 0 to min(base * 2^(attempt - 1), max).

    ``max_interval`` is 10 * ``base_interval`` unless given. ``growth`` "doubling" is the code
    (JitteredExponentialBackOffStrategy); "minus-one" the older JitteredBackOffStrategy and what the documentation still says,
    a ceiling of base * (2^attempt - 1), which stops growing once beyond ``max_interval``, and the draw is cut at it.
    Envoy draws whole milliseconds; here they are not rounded.
    """

    __slots__ = ("base_interval", "growth", "max_interval")

    def __init__(
        self,
        base_interval: Seconds = 0.025,
        max_interval: Seconds | None = None,
        growth: Literal["doubling", "minus-one"] = "doubling",
    ) -> None:
        _positive("base_interval", base_interval)
        if max_interval is None:
            max_interval = 10.0 * base_interval
        if not base_interval <= max_interval < math.inf:
            raise ValueError(f"max_interval: {max_interval}; at least base_interval, {base_interval}")
        if growth not in ("doubling", "minus-one"):
            raise ValueError(f"growth: {growth!r}; doubling or minus-one")
        self.base_interval = base_interval
        self.max_interval = max_interval
        self.growth = growth

    def delay(self, attempt: int, previous: Seconds, u: float) -> Seconds:
        """``u`` of the ceiling of the retry after ``attempt`` failures."""
        if self.growth == "doubling":
            return u * grown(self.base_interval, 2.0, attempt - 1, self.max_interval)
        # The first multiple 2^n - 1 beyond the maximum is the last: the counter is advanced only up to the maximum.
        last = math.floor(math.log2(self.max_interval / self.base_interval + 1.0)) + 1
        return min(u * self.base_interval * (2.0 ** min(attempt, last) - 1.0), self.max_interval)


class EnvoyRateLimited:
    """Envoy's wait after a server's Retry-After / X-RateLimit-Reset of ``interval``: that, and up to half of it more
    (JitteredLowerBoundBackOffStrategy)."""

    __slots__ = ("interval",)

    def __init__(self, interval: Seconds = 1.0) -> None:
        _positive("interval", interval)
        self.interval = interval

    def delay(self, attempt: int, previous: Seconds, u: float) -> Seconds:
        """interval * (1 + ``u`` / 2)."""
        return self.interval * (1.0 + u / 2.0)


class AwsStandard:
    """AWS SDKs' standard retry mode: ``u`` * min(scale * 2^(attempt - 1), max_backoff).

    ``scale`` is 1 s in botocore's version 2.0; its 2.1 has 0.05 s, and 1 s after a throttling error.
    """

    __slots__ = ("max_backoff", "scale")

    def __init__(self, scale: Seconds = 1.0, max_backoff: Seconds = 20.0) -> None:
        _positive("scale", scale)
        _positive("max_backoff", max_backoff)
        self.scale = scale
        self.max_backoff = max_backoff

    def delay(self, attempt: int, previous: Seconds, u: float) -> Seconds:
        """The first wait is uniform on [0, scale)."""
        return u * grown(self.scale, 2.0, attempt - 1, self.max_backoff)


BACKOFFS: dict[str, type] = {
    "constant": Constant,
    "exponential": Exponential,
    "full-jitter": FullJitter,
    "equal-jitter": EqualJitter,
    "decorrelated-jitter": DecorrelatedJitter,
    "grpc": GrpcBackoff,
    "envoy": EnvoyJitter,
    "envoy-rate-limited": EnvoyRateLimited,
    "aws": AwsStandard,
}
"""What a scenario may name as ``backoff: {kind: ...}``; the other keys are the class's parameters."""
