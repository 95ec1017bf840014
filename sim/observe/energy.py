"""What a run draws from the wall: GPUs at work and at rest, the machines around them, the building around those.

Pure: seconds and watts in, joules out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["PowerCurve", "Site", "joules"]

Floats = npt.NDArray[np.float64]


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
