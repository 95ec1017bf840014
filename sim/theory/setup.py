"""Queues whose servers are off when idle and take an exponential time to start: the textbook of cold starts and scaling to zero.

A server is switched off the moment it finds nobody to serve; a job that comes when servers are off starts one of them. Jobs are
served first come first served by whatever server is free first; a start that is not needed any more, because fewer jobs wait than
servers are starting, is broken off. (Were each job to wait for the server it started, M/M/∞/setup would be M/G/∞: one whole
start and one service.)

Sources: P. Welch, On a Generalized M/G/1 Queuing Process, Oper. Res. 12 (1964); A. Gandhi, M. Harchol-Balter, I. Adan, Server Farms
with Setup Costs, Perform. Eval. 67 (2010); A. Gandhi, S. Doroudi, M. Harchol-Balter, A. Scheller-Wolf, Exact Analysis of the
M/M/k/setup Class of Markov Chains via Recursive Renewal Reward, SIGMETRICS 2013 and Queueing Systems 77 (2014).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.theory.queues import little, positive

__all__ = ["MG1Setup", "MM1Setup", "MMInfSetup", "MMkSetup"]


@dataclass(frozen=True)
class MM1Setup:
    """One server. ``service``, ``setup``: mean times, both exponential. ValueError unless ``rate`` x ``service`` < 1."""

    rate: float
    service: float
    setup: float

    def __post_init__(self) -> None:
        positive(rate=self.rate, service=self.service, setup=self.setup)
        if not self.rate * self.service < 1.0:
            raise ValueError(f"utilization: {self.rate * self.service}; below 1 for a steady state")

    @property
    def response(self) -> float:
        """Mean time in the system: 1 / (μ - λ) + 1 / α, that of M/M/1 and one whole start (Welch 1964)."""
        return 1.0 / (1.0 / self.service - self.rate) + self.setup

    @property
    def wait(self) -> float:
        """Mean time until service."""
        return self.response - self.service

    @property
    def off(self) -> float:
        """The share of time the server is off: (1 - ρ) (1 / λ) / (1 / λ + 1 / α), for a cycle is idle, starting, busy."""
        return (1.0 - self.rate * self.service) / (1.0 + self.rate * self.setup)


@dataclass(frozen=True)
class MG1Setup:
    """One server, any service and start: mean ``service`` of squared coefficient of variation ``scv``, mean ``setup`` with ``setup_square``
    the mean of its square. Whoever comes to a server that is on and idle may count as a start of 0."""

    rate: float
    service: float
    scv: float
    setup: float
    setup_square: float

    def __post_init__(self) -> None:
        positive(rate=self.rate, service=self.service, setup=self.setup, setup_square=self.setup_square)
        if not self.rate * self.service < 1.0:
            raise ValueError(f"utilization: {self.rate * self.service}; below 1 for a steady state")

    @property
    def wait(self) -> float:
        """Mean time until service: that of M/G/1 and (2 E[Z] + λ E[Z²]) / (2 (1 + λ E[Z])), Z the start (Welch 1964)."""
        load, starts = self.rate * self.service, self.rate * self.setup
        queue = load * self.service * (1.0 + self.scv) / (2.0 * (1.0 - load))
        return queue + (2.0 * self.setup + self.rate * self.setup_square) / (2.0 * (1.0 + starts))

    @property
    def response(self) -> float:
        """Mean time in the system."""
        return self.wait + self.service


@dataclass(frozen=True)
class MMInfSetup:
    """As many servers as are wanted: every job that comes starts one, and takes whichever is free first, its own or another's.

    The number busy is Poisson(ρ), whatever the starts; independent of it, j servers are starting (and j jobs wait) with a probability
    proportional to Π_{l=1..j} λ / (λ + lα) (Gandhi, Harchol-Balter, Adan 2010). It does not depend on the service time.
    """

    rate: float
    service: float
    setup: float

    def __post_init__(self) -> None:
        positive(rate=self.rate, service=self.service, setup=self.setup)

    @property
    def _weight(self) -> float:
        """Σ_j Π_{l=1..j} λ / (λ + lα)."""
        load = self.rate * self.setup
        term = total = 1.0
        j = 0
        while term > 1e-17 * total:
            j += 1
            term *= load / (load + j)
            total += term
        return total

    def starting(self, j: int) -> float:
        """P(``j`` servers are starting), which is P(``j`` jobs wait)."""
        load = self.rate * self.setup
        return math.prod(load / (load + step) for step in range(1, j + 1)) / self._weight

    @property
    def number_starting(self) -> float:
        """Mean number of servers that are starting, and of jobs that wait."""
        return little(self.rate, self.wait)

    @property
    def wait(self) -> float:
        """Mean time until service: (1 / α) / Σ_j Π λ / (λ + lα), the mean of the number waiting by telescoping its recursion, over λ.

        It is one whole start at little load, and vanishes like sqrt(2 / (πλα)) at much: jobs are served by servers that others started.
        """
        return self.setup / self._weight

    @property
    def response(self) -> float:
        """Mean time in the system."""
        return self.wait + self.service


@dataclass(frozen=True)
class MMkSetup:
    """At most ``servers`` servers, ``queue`` without bound: M/M/k/setup, in which min(jobs that wait, servers that are off) are starting.

    Solved exactly as a quasi-birth-death chain (levels: jobs in the system, phases: servers on), where Gandhi et al. (2013) have
    closed forms by recursive renewal reward. Memory and time grow with ``servers``^3. ValueError without a steady state.
    """

    rate: float
    service: float
    setup: float
    servers: int

    def __post_init__(self) -> None:
        positive(rate=self.rate, service=self.service, setup=self.setup)
        if self.servers < 1 or not self.rate * self.service < self.servers:
            raise ValueError(
                f"utilization: {self.rate * self.service} erlangs on {self.servers} servers has no steady state"
            )

    def _phases(self, level: int) -> int:
        return min(level, self.servers) + 1

    def _out(self, level: int) -> tuple[Any, Any]:
        """At ``level`` jobs: rates between phases (diagonal: minus all that leaves), and rates to the level below."""
        k, n = self.servers, self._phases(level)
        within = np.zeros((n, n))
        down = np.zeros((n, self._phases(max(level - 1, 0))))
        for on in range(n):
            starting = min(level - on, k - on) / self.setup
            ending = on / self.service
            if starting > 0.0:
                within[on, on + 1] = starting
            if on > 0:
                # The server that is free takes a job that waits; if none does, it is switched off.
                down[on, on if level > on else on - 1] += ending
            within[on, on] = -(self.rate + starting + ending)
        return within, down

    def _rate_matrix(self) -> Any:
        """Neuts' R of the levels above ``servers``: the minimal solution of λI + R A1 + R² A2 = 0, all upper triangular."""
        within, down = self._out(self.servers + 1)
        n = self.servers + 1
        r = np.zeros((n, n))
        # Row i only ever moves to phases j >= i: the diagonal solves a quadratic, the rest follows column by column.
        for i in range(n):
            a, b = down[i, i], within[i, i]
            r[i, i] = self.rate / -b if a == 0.0 else (-b - math.sqrt(b * b - 4.0 * a * self.rate)) / (2.0 * a)
        for width in range(1, n):
            for i in range(n - width):
                j = i + width
                known = r[i, j - 1] * within[j - 1, j] + down[j, j] * float(r[i, i + 1 : j] @ r[i + 1 : j, j])
                r[i, j] = -known / (within[j, j] + down[j, j] * (r[i, i] + r[j, j]))
        return r

    @property
    def number(self) -> float:
        """Mean number of jobs in the system."""
        return self._solved()[0]

    @property
    def response(self) -> float:
        """Mean time in the system (Little)."""
        return self.number / self.rate

    @property
    def wait(self) -> float:
        """Mean time until service."""
        return self.response - self.service

    @property
    def number_starting(self) -> float:
        """Mean number of servers that are starting."""
        return self._solved()[1]

    def _solved(self) -> tuple[float, float]:
        k = self.servers
        r = self._rate_matrix()
        # π_{n+1} = π_n R_n: R_n from the level above, down to level 0, where there is one phase only.
        above = r
        ratios = [r]
        for level in range(k, 0, -1):
            within, _ = self._out(level)
            _, down = self._out(level + 1)
            up = self.rate * np.eye(self._phases(level - 1), self._phases(level))
            above = up @ np.linalg.inv(-(within + above @ down))
            ratios.append(above)
        ratios.reverse()  # ratios[n]: from level n to n + 1
        vector = np.ones(1)
        mass = jobs = starting = 0.0
        for level in range(k + 1):
            waiting = np.minimum(level - np.arange(len(vector)), k - np.arange(len(vector)))
            if level < k:
                mass += float(vector.sum())
                jobs += level * float(vector.sum())
                starting += float(vector @ waiting)
                vector = vector @ ratios[level]
        # From level k on, π_{k+m} = π_k R^m.
        geometric = np.linalg.inv(np.eye(k + 1) - r)
        tail = vector @ geometric
        mass += float(tail.sum())
        jobs += k * float(tail.sum()) + float((tail @ r @ geometric).sum())
        starting += float(tail @ (k - np.arange(k + 1)))
        return jobs / mass, starting / mass
