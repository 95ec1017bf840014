"""Machines that fail and are repaired, each by itself: how many are up.

Source: R. Barlow, F. Proschan, Mathematical Theory of Reliability (1965), chapter 5: with a repairman for each, availability depends
on means only, and the number up is binomial.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["MachineRepair"]


@dataclass(frozen=True)
class MachineRepair:
    """``machines`` are up for ``up`` and down for ``down`` on average, independently of each other; of any distributions."""

    machines: int
    up: float
    down: float

    def __post_init__(self) -> None:
        if self.machines < 1:
            raise ValueError(f"machines: {self.machines}; at least 1")
        for name, value in (("up", self.up), ("down", self.down)):
            if not 0.0 < value < math.inf:
                raise ValueError(f"{name}: {value}; greater than 0")

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
