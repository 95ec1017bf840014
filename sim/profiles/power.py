"""What the device draws while it works."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sim.profiles.parts import Amount, Part, Positive, ascending

__all__ = ["Power"]


class Power(Part):
    """Watts of one GPU: at rest, and while it runs steps of ``at`` scheduled tokens without a pause.

    ``counter`` is where the numbers come from: the device's own energy counter (NVML total energy, RAPL), or samples of its power.
    ``clock_mhz`` is the median SM clock seen, ``throttled`` the reasons NVML gave while measuring, other than being idle.
    """

    idle_watts: Amount
    at: tuple[Positive, ...] = ()
    watts: tuple[Amount, ...] = ()
    counter: Literal["nvml energy", "nvml power", "rapl"]
    limit_watts: Annotated[float, Field(gt=0.0)] | None = None
    clock_mhz: float | None = None
    throttled: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _shape(self) -> Power:
        if self.at:
            ascending(self.at, "at")
        if len(self.at) != len(self.watts):
            raise ValueError(f"at has {len(self.at)} points, watts has {len(self.watts)}")
        return self
