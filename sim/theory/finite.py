"""Queues in which nobody waits without end: so many places, or so much patience. What admission limits and queue timeouts do.

Sources: D. Gross et al., Fundamentals of Queueing Theory, 4th ed. (2008), 2.5; D. Barrer, Queuing with Impatient Customers and Ordered
Service, Oper. Res. 5 (1957); N. Boots, H. Tijms, A Multiserver Queueing System with Impatient Customers, Management Science 45 (1999).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sim.theory.queues import positive

__all__ = ["MMcD", "MMcK"]


def _checked(rate: float, service: float, servers: int) -> None:
    positive(rate=rate, service=service)
    if servers < 1:
        raise ValueError(f"servers: {servers}; at least 1")


@dataclass(frozen=True)
class MMcK:
    """Poisson arrivals, exponential service, ``servers`` servers, ``places`` K in all: who finds them taken is turned away.

    With K = c it is Erlang's loss system, whose blocking does not depend on the distribution of service times.
    """

    rate: float
    service: float
    servers: int
    places: int

    def __post_init__(self) -> None:
        _checked(self.rate, self.service, self.servers)
        if self.places < self.servers:
            raise ValueError(f"places: {self.places}; at least servers, {self.servers}")

    @property
    def probabilities(self) -> list[float]:
        """P(n in the system), n = 0 .. K: each is a / min(n, c) times the one before (Gross et al., 2.5)."""
        load = self.rate * self.service
        logs = [0.0]
        for n in range(1, self.places + 1):
            logs.append(logs[-1] + math.log(load / min(n, self.servers)))
        most = max(logs)
        terms = [math.exp(value - most) for value in logs]
        total = math.fsum(terms)
        return [term / total for term in terms]

    @property
    def blocking(self) -> float:
        """The share of arrivals turned away: P(K), as Poisson arrivals see time averages."""
        return self.probabilities[-1]

    @property
    def throughput(self) -> float:
        """Customers let in, and served, per unit of time."""
        return self.rate * (1.0 - self.blocking)

    @property
    def number(self) -> float:
        """Mean number in the system."""
        return math.fsum(n * p for n, p in enumerate(self.probabilities))

    @property
    def response(self) -> float:
        """Mean time in the system of those let in (Little)."""
        return self.number / self.throughput

    @property
    def wait(self) -> float:
        """Mean time in queue of those let in."""
        return self.response - self.service


@dataclass(frozen=True)
class MMcD:
    """M/M/c whose customers leave when they have waited for ``patience`` without being served: M/M/c + D. Steady at any load.

    Virtual waits have the density v(x) = λ p_{c-1} e^{-(cμ - λ) x} below the patience and fall off like e^{-cμx} beyond it, where
    nobody adds to them; with the states of fewer than c customers that sums to 1.
    """

    rate: float
    service: float
    servers: int
    patience: float

    def __post_init__(self) -> None:
        _checked(self.rate, self.service, self.servers)
        positive(patience=self.patience)

    def _moment(self, power: int) -> float:
        """∫ min(x, D)^power v(x) dx / p_{c-1} over all x > 0, power 0 or 1."""
        drain, d = self.servers / self.service, self.patience
        fall = drain - self.rate
        density = self.rate * math.exp(-fall * d)  # at the patience
        beyond = density / drain * d**power
        if abs(fall * d) < 1e-6:
            return beyond + self.rate * d ** (power + 1) / (power + 1)
        within = self.rate * -math.expm1(-fall * d) / fall
        return beyond + (within if power == 0 else (within - density * d) / fall)

    @property
    def _last(self) -> float:
        """p_{c-1}: one server is free."""
        load = self.rate * self.service
        term = total = 1.0
        for n in range(self.servers - 1, 0, -1):
            term *= n / load
            total += term
        return 1.0 / (total + self._moment(0))

    @property
    def waiting_probability(self) -> float:
        """The share of customers that find all servers busy."""
        return self._last * self._moment(0)

    @property
    def abandoning(self) -> float:
        """The share of customers that leave unserved: ∫ v(x) dx beyond the patience, v(D) / cμ."""
        drain = self.servers / self.service
        return self._last * self.rate * math.exp(-(drain - self.rate) * self.patience) / drain

    @property
    def wait(self) -> float:
        """Mean time in queue of all customers; those who leave have waited for the patience."""
        return self._last * self._moment(1)
