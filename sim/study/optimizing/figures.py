"""Figures that can be minimised, and those of which more is better."""

from __future__ import annotations

from typing import Any

from sim.config.metrics import FIGURES, listed
from sim.errors import TwinferError, did_you_mean

__all__ = ["AIMS", "checked", "sign"]

AIMS = (*FIGURES, "energy_kwh", "j_per_token", "gco2")

_MORE = {"throughput_rps", "output_tokens_per_s", "goodput_rps", "slo_attainment", "gpu_utilization"}


def sign(figure: str) -> float:
    """1 if less of it is better, else -1."""
    return -1.0 if figure in _MORE else 1.0


def checked(figure: Any, what: str) -> str:
    """``figure`` if it is one. TwinferError, with the nearest, if it is none."""
    if figure in AIMS:
        return str(figure)
    near = did_you_mean(str(figure), AIMS)
    raise TwinferError(f"{what}: {figure!r} is not a figure{near}; there are {listed(AIMS)}")
