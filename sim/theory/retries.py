"""What retries do to the load of a station: the fixed point of offered load, and how many of them there are.

A request that fails with probability p at each attempt, independently, and has at most n attempts, makes
1 + p + ... + p^(n-1) = (1 - p^n) / (1 - p) of them on average. p depends on the rate of all attempts together, so that rate x
solves x = λ (1 - p(x)^n) / (1 - p(x)). Where answers that come too late fail although they were worked for, there may be several
solutions: an overloaded state that holds itself up after the overload is gone.

Sources: J. Cohen, Basic Problems of Telephone Traffic Theory and the Influence of Repeated Calls, Philips Telecomm. Rev. 18 (1957);
N. Bronson et al., Metastable Failures in Distributed Systems, HotOS 2021.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["FixedPoint", "amplification", "fixed_points", "late_in_mm1", "mmck_loss"]


def amplification(failure: float, attempts: float) -> float:
    """Mean attempts a request: (1 - p^n) / (1 - p), n at p = 1. ``attempts`` may be inf (then inf at p = 1)."""
    if not 0.0 <= failure <= 1.0:
        raise ValueError(f"failure: {failure}; a probability")
    if not attempts >= 1.0:
        raise ValueError(f"attempts: {attempts}; at least 1")
    if failure == 1.0:
        return attempts
    if attempts == math.inf:
        return 1.0 / (1.0 - failure)
    return -math.expm1(attempts * math.log(failure)) / (1.0 - failure) if failure > 0.0 else 1.0


def mmck_loss(rate: float, service: float, servers: int, places: int) -> float:
    """The share of arrivals that an M/M/c/K station turns away; ``places`` K counts those in service (Gross et al., 2.5).

    p_n = a^n / n! up to c, then times a / c for each place more, over their sum.
    """
    if servers < 1 or places < servers:
        raise ValueError(f"places: {places}; at least servers, {servers}, which are at least 1")
    load = rate * service
    if load <= 0.0:
        return 0.0
    # Σ p_n / p_K, from n = K downwards: each step back divides by the ratio of its neighbours.
    term = total = 1.0
    for n in range(places, 0, -1):
        term *= min(n, servers) / load
        total += term
    return 1.0 / total


def late_in_mm1(rate: float, service: float, timeout: float) -> float:
    """P(time in an M/M/1 > ``timeout``) = e^{-(μ - λ) t}; 1 without a steady state. Late requests are served all the same, as
    where a server does not learn that its client has left."""
    spare = 1.0 / service - rate
    return math.exp(-spare * timeout) if spare > 0.0 else 1.0


@dataclass(frozen=True)
class FixedPoint:
    """``rate`` of all attempts, ``failure`` of one. ``stable``: a small disturbance dies out when attempts follow the failures of
    the load just before (the slope of λ (1 - p^n) / (1 - p) over the rate is below 1)."""

    rate: float
    failure: float
    stable: bool


def fixed_points(
    rate: float, attempts: float, failure: Callable[[float], float], limit: float | None = None, steps: int = 20_000
) -> list[FixedPoint]:
    """Every rate x of attempts at which x = ``rate`` * amplification(failure(x), ``attempts``), ascending.

    Looked for between ``rate`` and ``limit`` (``rate`` * ``attempts``, which bounds them; needed when ``attempts`` is inf) at ``steps``
    points; two that lie closer together than those are not told apart. ``failure`` must not jump between two points.
    """
    if not rate > 0.0:
        raise ValueError(f"rate: {rate}; greater than 0")
    top = rate * attempts if limit is None else limit
    if top == math.inf:
        raise ValueError("limit: needed with attempts without end")

    def excess(x: float) -> float:
        return rate * amplification(failure(x), attempts) - x

    found: list[FixedPoint] = []
    width = (top - rate) / steps
    left, value = rate, excess(rate)
    for step in range(1, steps + 1):
        right = rate + width * step
        after = excess(right)
        if value == 0.0:
            found.append(FixedPoint(left, failure(left), after < 0.0))
        elif value * after < 0.0:
            root = _bisect(excess, left, right, value)
            found.append(FixedPoint(root, failure(root), value > 0.0))
        left, value = right, after
    if value == 0.0:
        # At the very end the excess cannot cross any more: every attempt fails, and a little fewer would fail as well.
        found.append(FixedPoint(left, failure(left), True))
    return found


def _bisect(excess: Callable[[float], float], left: float, right: float, value: float) -> float:
    for _ in range(200):
        middle = 0.5 * (left + right)
        if middle in (left, right):
            break
        if excess(middle) * value > 0.0:
            left = middle
        else:
            right = middle
    return 0.5 * (left + right)
