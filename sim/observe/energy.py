"""What a run draws from the wall: GPUs at work and at rest, the machines around them, the building around those.

Pure: seconds and watts in, joules out.

What nobody measured is assumed, as shares of a GPU's power limit (TDP):

- a GPU that decodes draws 0.74 of it, one that prefills 512 tokens or more a step all of it: Splitwise's measurements of Llama-2-70B on
  two A100-80GB (Patel et al., ISCA 2024; Mutinifni/splitwise-sim 8f99e7dc, data/perf_model.csv: median ``average_power`` of 512 prompt
  and 128 output tokens 0.736 for one sequence, where prefill is 3 % of the time; ``peak_power`` 1.00). On four GPUs the model decoded at
  0.60, on eight at 0.43: GPUs that wait for each other draw less, so that the assumption is high for small shares of a model.
- one at rest draws 0.115: 46 W of an A100's 400 W, 8 W of a T4's 70 W (Teads' measurements, in cloud-carbon-footprint 0656d555,
  ComputeProcessorTypes.ts); with an engine loaded 0.07 more: 26 to 50 W on A100 and H100 (arXiv 2605.23918).
- the rest of a machine draws half of its GPUs' limits: a node of eight H100 drew 8.4 kW with its GPUs near full use, 5.6 kW of them
  (Latif et al., IEEE Access 13 (2025), 61740-61747).
- a data centre draws 1.59 times what its machines do (Uptime Institute, Annual Data Center Survey 2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Measured", "PowerCurve", "Site", "assumed", "joules", "measured", "site"]

Floats = npt.NDArray[np.float64]

DECODE_SHARE = 0.74
PREFILL_SHARE = 1.0
PREFILL_TOKENS = 512.0
REST_SHARE = 0.115
LOADED_SHARE = 0.07
HOST_SHARE = 0.5
PUE = 1.59


class Measured(Protocol):
    """The power part of a profile (:class:`sim.profiles.Power`)."""

    @property
    def idle_watts(self) -> float:
        """At rest."""

    @property
    def at(self) -> tuple[float, ...]:
        """Tokens a step."""

    @property
    def watts(self) -> tuple[float, ...]:
        """While it runs such steps."""


@dataclass(frozen=True)
class PowerCurve:
    """Watts of one GPU: at rest, and while it runs steps of ``at`` scheduled tokens (rising) without a pause.

    Between two points watts go by the logarithm of the tokens, beyond them they stay. Without points a busy GPU draws what it does at
    rest. ``assumed`` says what the curve rests on if nobody measured it; empty: it was measured.
    """

    idle_watts: float
    at: tuple[float, ...] = ()
    watts: tuple[float, ...] = ()
    assumed: str = ""

    def __post_init__(self) -> None:
        if len(self.at) != len(self.watts):
            raise ValueError(f"at has {len(self.at)} points, watts has {len(self.watts)}")
        if any(tokens <= 0.0 for tokens in self.at) or list(self.at) != sorted(set(self.at)):
            raise ValueError("at: tokens a step must rise from above 0")

    def busy_watts(self, tokens: Floats) -> Floats:
        """While it runs steps of so many ``tokens`` each."""
        if not self.at:
            return np.full(len(tokens), self.idle_watts)
        return np.asarray(np.interp(np.log(np.maximum(tokens, self.at[0])), np.log(self.at), self.watts))


@dataclass(frozen=True)
class Site:
    """Where machines stand. ``idle_watts`` of a GPU that nobody has, ``host_watts`` of the rest of the machine for each of its GPUs;
    the building draws ``pue`` times what the machines do (power usage effectiveness), at ``g_per_kwh`` grams of CO2 (NaN: not known)."""

    idle_watts: float
    host_watts: float
    pue: float
    g_per_kwh: float = float("nan")


def joules(at_work: float, machine_gpu_s: float, held_gpu_s: float, site: Site) -> float:
    """At the wall: ``at_work`` is what GPUs drew that replicas had, ``held_gpu_s`` seconds of them; the other GPUs of the machines,
    which were there for ``machine_gpu_s`` GPU-seconds, rest."""
    resting = max(machine_gpu_s - held_gpu_s, 0.0) * site.idle_watts
    return (at_work + resting + machine_gpu_s * site.host_watts) * site.pue


def measured(power: Measured) -> PowerCurve:
    """The curve of a profile's power part."""
    return PowerCurve(power.idle_watts, tuple(power.at), tuple(power.watts))


def assumed(tdp_watts: float) -> PowerCurve:
    """The curve of a GPU that nobody measured, from its power limit."""
    return PowerCurve(
        idle_watts=(REST_SHARE + LOADED_SHARE) * tdp_watts,
        at=(1.0, 16.0, PREFILL_TOKENS),
        watts=(DECODE_SHARE * tdp_watts, DECODE_SHARE * tdp_watts, PREFILL_SHARE * tdp_watts),
        assumed=f"shares of a power limit of {tdp_watts:g} W, as Splitwise measured them on A100s",
    )


def site(
    tdp_watts: float, *, host_watts: float | None = None, pue: float | None = None, g_per_kwh: float | None = None
) -> Site:
    """Where GPUs of a power limit stand; what is None is assumed, grams of CO2 are not known then."""
    return Site(
        idle_watts=REST_SHARE * tdp_watts,
        host_watts=HOST_SHARE * tdp_watts if host_watts is None else host_watts,
        pue=PUE if pue is None else pue,
        g_per_kwh=float("nan") if g_per_kwh is None else g_per_kwh,
    )
