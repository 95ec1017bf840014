"""How far the numbers of a profile may be off, all at once."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sim.profiles.parts import Part

__all__ = ["Doubt", "Scaled"]

Scaled = Literal["tokens", "sequences", "prefill", "decode", "host", "request"]


class Doubt(Part):
    """A factor on each of ``parts``, log-normal around 1; ``covariance`` is that of the factors' logarithms.

    The parts are those of a step (``prefill`` and ``decode`` scale mixed attention too) and ``request``, the time spent outside of
    steps. ``method`` says where the covariance comes from.
    """

    parts: Annotated[tuple[Scaled, ...], Field(min_length=1)]
    covariance: tuple[tuple[float, ...], ...]
    method: str

    @model_validator(mode="after")
    def _shape(self) -> Doubt:
        size = len(self.parts)
        if len(set(self.parts)) != size:
            raise ValueError("parts: one is named twice")
        if len(self.covariance) != size or any(len(row) != size for row in self.covariance):
            raise ValueError(f"covariance must be {size} rows of {size}")
        for i, row in enumerate(self.covariance):
            if row[i] < 0.0:
                raise ValueError(f"covariance: the variance of {self.parts[i]} is negative")
            if any(abs(value - self.covariance[j][i]) > 1e-12 for j, value in enumerate(row)):
                raise ValueError("covariance is not symmetric")
        import numpy as np

        values = np.linalg.eigvalsh(np.asarray(self.covariance, dtype=np.float64))
        if not np.isfinite(values).all() or values[0] < -1e-6 * values[-1]:
            raise ValueError("covariance is not positive semidefinite: nothing varies so")
        return self
