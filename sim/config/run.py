"""How long, how often and how precisely a scenario is simulated."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from sim.config import units
from sim.config.metrics import FIGURES, listed
from sim.config.units import duration, shown
from sim.config.values import DURATION_SCHEMA, FRACTION_SCHEMA, Flag, Part, Period, Reader, choice, real, whole
from sim.errors import did_you_mean

__all__ = ["Precision", "Run"]


def _warmup(value: Any) -> float | str:
    if value == "auto":
        return "auto"
    try:
        return duration(value)
    except ValueError:
        raise ValueError(f"{shown(value)} is neither auto nor a duration, like 90s or 5m") from None


_WARMUP = Reader(_warmup, {"anyOf": [{"const": "auto"}, DURATION_SCHEMA]})


def _figure(value: Any) -> str:
    if value not in FIGURES:
        near = did_you_mean(value.lower(), FIGURES) if isinstance(value, str) else ""
        raise ValueError(f"{shown(value)} is not a metric{near}; there are {listed()}")
    return str(value)


_FIGURE = Reader(_figure, {"type": "string", "enum": list(FIGURES)})


class Precision(Part):
    """Go on replicating until a metric's interval is narrow enough."""

    metric: Annotated[str, _FIGURE] = Field(description="The metric whose interval decides, like ttft_p99.")
    half_width: Annotated[float, real(0.0, 1.0, above=True, read=units.fraction, schema=FRACTION_SCHEMA)] = Field(
        default=0.05,
        description="How far the value may be off the truth, relative to it: 0.05 or 5%. From 3 replications on; done when half the"
        " interval's width is h / (1 + h) of the value.",
    )
    max_replications: Annotated[int, whole(2, 10_000)] = Field(
        default=100, description="Stop here, narrow enough or not."
    )


class Run(Part):
    """One replication lasts ``duration`` seconds or ``requests`` requests of each workload, whichever ends first."""

    duration: Period | None = Field(default=None, description="Simulated time in which requests arrive.")
    requests: Annotated[int, whole(1, 10**8)] | None = Field(
        default=None, description="At most so many requests of each workload."
    )
    warmup: Annotated[float | Literal["auto"], _WARMUP] | None = Field(
        default=None,
        description="Left out of the figures: a duration, or auto (MSER-5). Default: auto, but 0 where every workload is a"
        " trace or a closed loop.",
    )
    replications: Annotated[int, whole(1, 10_000)] = Field(default=10, description="Independent runs.")
    seed: Annotated[int, whole(0, 2**53)] = Field(default=0, description="Seed of all random streams.")
    confidence: Annotated[
        float, real(0.0, 1.0, above=True, below=True, read=units.fraction, schema=FRACTION_SCHEMA)
    ] = Field(default=0.95, description="Level of every interval.")
    precision: Precision | None = Field(default=None, description="Replicate until this is reached.")
    mode: Annotated[Literal["fast", "reference"], choice("fast", "reference")] = Field(
        default="fast", description="reference: the slow, obvious simulation the fast one is checked against."
    )
    calibration_doubt: Flag = Field(
        default=False,
        description="Let intervals hold the doubt of the profiles too: each replication is also run with step times drawn from it.",
    )
    drain: Flag = Field(default=True, description="Serve what has arrived to its end; otherwise stop at the duration.")
    sample_every: Period | None = Field(default=None, description="Period of the timeline. Default: duration / 240.")
    steps: Flag = Field(
        default=False,
        description="Keep the engines' steps of the first replication too, for the timeline. Not in reference mode.",
    )
