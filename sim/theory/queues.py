"""M/M/1, M/M/c, M/D/1, M/G/1 in steady state, first come first served.

Sources: L. Kleinrock, Queueing Systems I (1975), chapters 3 and 5; D. Gross, J. Shortle, J. Thompson, C. Harris, Fundamentals of
Queueing Theory, 4th ed. (2008), chapters 2 and 5; J. Little, Oper. Res. 9 (1961).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

__all__ = ["MD1", "MG1", "MM1", "MMc", "erlang_b", "erlang_c", "little", "positive"]


def positive(**values: float) -> None:
    """ValueError, naming the first, unless all are greater than 0 and finite."""
    for name, value in values.items():
        if not 0.0 < value < math.inf:
            raise ValueError(f"{name}: {value}; greater than 0")


def little(rate: float, time: float) -> float:
    """The mean number in a system that ``rate`` enter and each stay ``time`` in: L = λW (Little 1961)."""
    return rate * time


def erlang_b(servers: int, load: float) -> float:
    """The share of arrivals that an M/M/c/c system blocks, at ``load`` = rate x service erlangs.

    By the recursion B(c) = aB(c-1) / (c + aB(c-1)) (Gross et al., 2.6), which neither overflows nor cancels.
    """
    if servers < 0 or load < 0.0:
        raise ValueError("servers and load: not negative")
    blocked = 1.0
    for c in range(1, servers + 1):
        blocked = load * blocked / (c + load * blocked)
    return blocked


def erlang_c(servers: int, load: float) -> float:
    """The share of arrivals that wait in an M/M/c queue at ``load`` < ``servers`` erlangs (Gross et al., 2.3)."""
    if not load < servers:
        raise ValueError(f"load: {load} erlangs on {servers} servers has no steady state")
    blocked = erlang_b(servers, load)
    return blocked / (1.0 - load / servers * (1.0 - blocked))


def _quantile(probability: float) -> float:
    if not 0.0 <= probability < 1.0:
        raise ValueError(f"probability: {probability}; at least 0 and less than 1")
    return probability


class _Queue(ABC):
    """What follows from the mean wait, whatever the queue: customers come at ``rate`` and are served for ``service`` on average."""

    rate: float
    service: float

    @property
    @abstractmethod
    def wait(self) -> float:
        """Mean time in queue."""

    @property
    def response(self) -> float:
        """Mean time in the system."""
        return self.wait + self.service

    @property
    def number(self) -> float:
        """Mean number in the system."""
        return little(self.rate, self.response)

    @property
    def number_waiting(self) -> float:
        """Mean number in the queue."""
        return little(self.rate, self.wait)


@dataclass(frozen=True)
class MG1(_Queue):
    """Poisson arrivals, one server, any service time: ``scv`` is its squared coefficient of variation, variance / mean².

    ValueError unless ``rate`` x ``service`` < 1.
    """

    rate: float
    service: float
    scv: float

    def __post_init__(self) -> None:
        if not 0.0 < self.utilization < 1.0:
            raise ValueError(f"utilization: {self.utilization}; above 0 and below 1 for a steady state")

    @property
    def utilization(self) -> float:
        """The share of time the server is busy."""
        return self.rate * self.service

    @property
    def wait(self) -> float:
        """Mean time in queue: Pollaczek-Khinchine, ρ s (1 + c²) / (2 (1 - ρ)) (Kleinrock 5.6)."""
        return self.utilization * self.service * (1.0 + self.scv) / (2.0 * (1.0 - self.utilization))


class MD1(MG1):
    """Poisson arrivals, one server, every service time ``service``."""

    def __init__(self, rate: float, service: float) -> None:
        super().__init__(rate, service, 0.0)

    def wait_cdf(self, time: float) -> float:
        """P(wait <= ``time``): (1 - ρ) Σ (-λ(t - kD))^k e^{λ(t - kD)} / k! over k = 0 .. floor(t / D) (Erlang 1909).

        The terms alternate and grow with time, so digits are lost: about 1e-9 is right up to 10 service times; refused beyond 20.
        """
        if time < 0.0:
            return 0.0
        steps = math.floor(time / self.service)
        if steps > 20:
            raise ValueError(f"time: {time} is more than 20 service times; the series loses its digits")
        terms = []
        for k in range(steps + 1):
            u = self.rate * (time - k * self.service)
            terms.append((-u) ** k / math.factorial(k) * math.exp(u))
        return (1.0 - self.utilization) * math.fsum(terms)


class MM1(MG1):
    """Poisson arrivals, one server, exponential service times of mean ``service``."""

    def __init__(self, rate: float, service: float) -> None:
        super().__init__(rate, service, 1.0)

    def response_quantile(self, probability: float) -> float:
        """The time in the system that ``probability`` of customers stay within: it is exponential (Kleinrock 5.7)."""
        return -math.log1p(-_quantile(probability)) * self.response

    def wait_quantile(self, probability: float) -> float:
        """The waiting time that ``probability`` of customers stay within; 0 for those who find the server idle."""
        late = (1.0 - _quantile(probability)) / self.utilization
        return max(-math.log(late), 0.0) * self.response

    def number_probability(self, n: int) -> float:
        """P(n in the system) = (1 - ρ) ρ^n."""
        return (1.0 - self.utilization) * self.utilization**n


@dataclass(frozen=True)
class MMc(_Queue):
    """Poisson arrivals, ``servers`` servers with one queue, exponential service times. ValueError without a steady state."""

    rate: float
    service: float
    servers: int

    def __post_init__(self) -> None:
        if self.servers < 1 or not 0.0 < self.utilization < 1.0:
            raise ValueError(
                f"utilization: {self.rate * self.service} erlangs on {self.servers} servers has no steady state"
            )

    @property
    def utilization(self) -> float:
        """The share of time that a server is busy."""
        return self.rate * self.service / self.servers

    @property
    def waiting_probability(self) -> float:
        """The share of customers that wait."""
        return erlang_c(self.servers, self.rate * self.service)

    @property
    def _spare(self) -> float:
        return self.servers / self.service - self.rate

    @property
    def wait(self) -> float:
        """Mean time in queue: C / (cμ - λ) (Gross et al., 2.3)."""
        return self.waiting_probability / self._spare

    def wait_quantile(self, probability: float) -> float:
        """The waiting time that ``probability`` of customers stay within: P(W > t) = C e^{-(cμ - λ)t} (Gross et al., 2.3)."""
        late = (1.0 - _quantile(probability)) / self.waiting_probability
        return max(-math.log(late), 0.0) / self._spare
