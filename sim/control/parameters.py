"""How a policy says what its parameters are, so that a scenario may write them with units: ``30s``, ``10/s``."""

from __future__ import annotations

from typing import Annotated, TypeAlias

__all__ = ["PerSecond", "Seconds"]

Seconds: TypeAlias = Annotated[float, "seconds"]
"""A duration; a scenario may write 250ms, 90s, 5m."""
PerSecond: TypeAlias = Annotated[float, "per second"]
"""A rate; a scenario may write 10/s, 300/min."""
