"""Machines that fail and are repaired, each by itself: how many are up, and how long one makes its customers wait.

Sources: R. Barlow, F. Proschan, Mathematical Theory of Reliability (1965), chapter 5: with a repairman for each, availability depends
on means only, and the number up is binomial; H. White, L. Christie, Queuing with Preemptive Priorities or with Breakdown, Oper. Res. 6
(1958); B. Avi-Itzhak, P. Naor, Some Queuing Problems with the Service Station Subject to Breakdown, Oper. Res. 11 (1963).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sim.theory.queues import positive

__all__ = ["MM1Breakdowns", "MachineRepair"]


@dataclass(frozen=True)
class MachineRepair:
    """``machines`` are up for ``up`` and down for ``down`` on average, independently of each other; of any distributions."""

    machines: int
    up: float
    down: float

    def __post_init__(self) -> None:
        if self.machines < 1:
            raise ValueError(f"machines: {self.machines}; at least 1")
        positive(up=self.up, down=self.down)

    @property
    def availability(self) -> float:
        """The share of time that one is up."""
        return self.up / (self.up + self.down)

    def probability(self, n: int) -> float:
        """P(``n`` are up)."""
        a = self.availability
        return math.comb(self.machines, n) * a**n * (1.0 - a) ** (self.machines - n)

    @property
    def failures(self) -> float:
        """Failures of all machines per unit of time."""
        return self.machines / (self.up + self.down)


@dataclass(frozen=True)
class MM1Breakdowns:
    """M/M/1 whose server fails after ``up`` (whether busy or not) and is back after ``down``, both exponential means. Service that was
    broken off goes on where it was.

    With G(z) = Σ P(n, up) z^n, the balance of a server that is up and of one that is down give
    G(z) = μ P(0, up) / (μ - λz - fλz / (λ(1 - z) + r)), f = 1 / up, r = 1 / down.
    """

    rate: float
    service: float
    up: float
    down: float

    def __post_init__(self) -> None:
        positive(rate=self.rate, service=self.service, up=self.up, down=self.down)
        if not self.rate * self.service < self.availability:
            raise ValueError(
                f"utilization: {self.rate * self.service}; below {self.availability:g}, the time the server is up"
            )

    @property
    def availability(self) -> float:
        """The share of time that the server is up."""
        return self.up / (self.up + self.down)

    @property
    def number(self) -> float:
        """Mean number in the system: the slopes of both generating functions at 1."""
        f, r, rate = 1.0 / self.up, 1.0 / self.down, self.rate
        slope = rate + f * rate * (r + rate) / r**2
        return slope / (1.0 / self.service - rate / self.availability) + self.availability * f * rate / r**2

    @property
    def response(self) -> float:
        """Mean time in the system (Little)."""
        return self.number / self.rate
