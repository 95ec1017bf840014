"""Work of equal pieces under a bound: token buckets, and a server whose customers give up after a timeout.

Poisson arrivals of ``rate`` each bring the work D, done at the speed 1. As long as the bound does not bite, the work V found by an
arrival satisfies the same equation of level crossings whatever happens at the bound, so up to there

    P(V <= x) = P(V = 0) H(x),  H(x) = Σ_{k=0..x/D} (-λ(x - kD))^k / k! e^{λ(x - kD)},

at any load, and only P(V = 0) depends on the bound. A token bucket is such a server: what it has given out and not yet refilled is
work, D = 1 / refill, and a request is refused when its token would bring the work above ``burst`` tokens. With a whole
burst that is M/D/1/K, K = burst.

Sources: A. Erlang (1909) for H; L. Takács, Introduction to the Theory of Queues (1962), for bounded work; O. Brun, J.-M. Garcia, Analytical
Solution of Finite Capacity M/D/1 Queues, J. Appl. Probab. 37 (2000), for M/D/1/K; A. Berger, Performance Analysis of a Rate-Control
Throttle where Tokens and Jobs Queue, IEEE J. Sel. Areas Commun. 9 (1991), for the bucket as a queue.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sim.theory.queues import positive

__all__ = ["MD1Timeout", "TokenBucket", "unnormalised_work"]


def unnormalised_work(rate: float, service: float, work: float) -> float:
    """H(``work``), 0 below 0. ValueError where the alternating series has lost more than its first six digits."""
    if work < 0.0:
        return 0.0
    terms = []
    for k in range(math.floor(work / service + 1e-12) + 1):
        u = rate * max(work - k * service, 0.0)
        size = math.exp(u + k * math.log(u) - math.lgamma(k + 1)) if u > 0.0 else float(k == 0)
        terms.append(-size if k % 2 else size)
    total = math.fsum(terms)
    # exp and log are off by some 1e-15 of each term
    if not total > 0.0 or max(map(abs, terms)) * 1e-14 > 1e-6 * total:
        raise ValueError(f"work: {work} is {work / service:.3g} services; the series loses its digits")
    return total


@dataclass(frozen=True)
class TokenBucket:
    """Requests come at ``rate``, tokens at ``refill`` up to ``burst``; a request takes one, and may wait ``max_wait`` for it."""

    rate: float
    refill: float
    burst: float
    max_wait: float = 0.0

    def __post_init__(self) -> None:
        positive(rate=self.rate, refill=self.refill)
        if not 1.0 <= self.burst < math.inf:
            raise ValueError(f"burst: {self.burst}; at least 1, or nothing is let through")
        if not 0.0 <= self.max_wait < math.inf:
            raise ValueError(f"max_wait: {self.max_wait}; at least 0")

    @property
    def _most(self) -> float:
        """The most work that an arrival may find and be let through."""
        return (self.burst - 1.0) / self.refill + self.max_wait

    def _h(self, work: float) -> float:
        return unnormalised_work(self.rate, 1.0 / self.refill, work)

    @property
    def accepted(self) -> float:
        """The share of requests let through, H / (1 + ρH) at the most work they may find: the work done is what was let in."""
        h = self._h(self._most)
        return h / (1.0 + self.rate / self.refill * h)

    @property
    def delay(self) -> float:
        """Mean wait for its token of a request that is let through: the mean of (V - (burst - 1) / refill)⁺ under V <= most."""
        free = (self.burst - 1.0) / self.refill
        # H is smooth between multiples of a token's time
        cuts = [free, *(k / self.refill for k in range(1 + math.floor(self._most * self.refill) + 1)), self._most]
        cuts = sorted({cut for cut in cuts if free <= cut <= self._most})
        nodes, weights = np.polynomial.legendre.leggauss(20)
        below = 0.0
        for left, right in pairwise(cuts):
            half = 0.5 * (right - left)
            places = left + half * (nodes + 1.0)
            below += half * math.fsum(float(w) * self._h(float(x)) for w, x in zip(weights, places, strict=True))
        return self.max_wait - below / self._h(self._most)


@dataclass(frozen=True)
class MD1Timeout:
    """M/D/1, first come first served, whose customers leave ``timeout`` after they came, served or not; a service that has begun is
    broken off, and was for nothing.

    An arrival brings min(D, timeout - V) of work: V never exceeds the timeout, and H(timeout) P(V = 0) = 1. It is answered in
    time if V + D <= timeout. At high load the server begins what it cannot end: the rate of answers falls to 0.
    """

    rate: float
    service: float
    timeout: float

    def __post_init__(self) -> None:
        positive(rate=self.rate, service=self.service, timeout=self.timeout)

    @property
    def late(self) -> float:
        """The share of customers that leave unanswered."""
        whole = unnormalised_work(self.rate, self.service, self.timeout)
        return 1.0 - unnormalised_work(self.rate, self.service, self.timeout - self.service) / whole

    @property
    def utilization(self) -> float:
        """The share of time the server works, for something or for nothing."""
        return 1.0 - 1.0 / unnormalised_work(self.rate, self.service, self.timeout)
