"""The generator a router draws from when it was given none, in a test or by hand; a simulation always gives it one."""

from __future__ import annotations

import numpy as np

__all__ = ["seeded"]


def seeded(generator: np.random.Generator | None) -> np.random.Generator:
    """``generator``, or a fresh one of seed 0."""
    return generator if generator is not None else np.random.default_rng(0)
