"""Closed-form queues: what the simulator must agree with where theory has an answer. Knows nothing of it; math and numpy only.

Times in any one unit, rates per that unit. ``rate`` is the arrival rate, ``service`` the mean service time.
"""

from sim.theory.buckets import MD1Timeout, TokenBucket
from sim.theory.finite import MMcD, MMcK
from sim.theory.machines import MachineRepair, MM1Breakdowns
from sim.theory.queues import MD1, MG1, MM1, MMc, erlang_b, erlang_c, little
from sim.theory.retries import FixedPoint, amplification, fixed_points, late_in_mm1, mmck_loss
from sim.theory.setup import MG1Setup, MM1Setup, MMInfSetup, MMkSetup

__all__ = [
    "MD1",
    "MG1",
    "MM1",
    "FixedPoint",
    "MD1Timeout",
    "MG1Setup",
    "MM1Breakdowns",
    "MM1Setup",
    "MMInfSetup",
    "MMc",
    "MMcD",
    "MMcK",
    "MMkSetup",
    "MachineRepair",
    "TokenBucket",
    "amplification",
    "erlang_b",
    "erlang_c",
    "fixed_points",
    "late_in_mm1",
    "little",
    "mmck_loss",
]
