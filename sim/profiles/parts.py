"""What the parts of a profile are made of: checked numbers, repeats of one measurement, held-out errors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["Amount", "Count", "HeldOut", "Micros", "Part", "Positive", "Samples", "Source", "ascending"]

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Micros = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Source = Literal["measured", "composed", "estimated", "assumed", "fitted", "predicted"]


class Part(BaseModel):
    """Any part of a profile: unknown keys are refused, and it cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def ascending(grid: Sequence[float], name: str) -> None:
    """:raises ValueError: ``grid`` is empty or does not rise strictly."""
    if not grid:
        raise ValueError(f"{name} is empty")
    if any(b <= a for a, b in pairwise(grid)):
        raise ValueError(f"{name} must rise strictly")


class HeldOut(Part):
    """Relative error of ``points`` points left out and predicted from the rest: median, 90th and 95th percentile of its size, and
    its mean with sign (``bias``)."""

    method: str
    points: Positive
    median: float
    p90: float
    p95: float | None = None
    bias: float | None = None


class Samples(Part):
    """Repeats of one measurement, in rising order: a distribution, not one number. Seconds unless the name says otherwise."""

    values: Annotated[tuple[Amount, ...], Field(min_length=1)]
    source: Source = "measured"
    note: str = ""

    @model_validator(mode="after")
    def _in_order(self) -> Samples:
        if any(b < a for a, b in pairwise(self.values)):
            raise ValueError("values must be in rising order")
        return self
