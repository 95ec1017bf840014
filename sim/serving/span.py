"""The seconds of a span of decode steps, each of which is longer than the one before it by the same amount."""

from __future__ import annotations

from math import ceil, sqrt

__all__ = ["lasting", "steps_by"]


def lasting(steps: int, first: float, growth: float) -> float:
    """Seconds of the first ``steps`` steps: ``first`` is that of the first one, ``growth`` by which each further one is longer."""
    return steps * first + growth * (steps * (steps - 1) // 2)


def steps_by(elapsed: float, first: float, growth: float) -> int:
    """The first step, from 1, that ends ``elapsed`` seconds after the span began or later.

    By the quadratic, then put right for rounding, so that it agrees with ``lasting``, written out here, to the last bit.
    """
    linear = first - growth / 2
    steps = ceil(2 * elapsed / (linear + sqrt(linear * linear + 2 * growth * elapsed)))
    if steps < 1:
        steps = 1
    while steps * first + growth * (steps * (steps - 1) // 2) < elapsed:
        steps += 1
    while steps > 1 and (steps - 1) * first + growth * ((steps - 1) * (steps - 2) // 2) >= elapsed:
        steps -= 1
    return steps
