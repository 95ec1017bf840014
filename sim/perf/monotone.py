"""Measured curves made physical: rising with work, linear past the last point."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sim.kernel.clock import QUANTUM, TICKS_PER_SECOND

__all__ = ["Array", "envelope", "isotonic", "isotonic_table", "line", "on_grid"]

Array = npt.NDArray[np.float64]


def on_grid(seconds: Array) -> Array:
    """Each on the time grid."""
    return np.asarray(np.round(seconds * TICKS_PER_SECOND) * QUANTUM)


def isotonic(values: Array) -> Array:
    """The non-decreasing sequence nearest to ``values`` in least squares (pool adjacent violators)."""
    if not np.any(np.diff(values) < 0.0):
        return values
    means: list[float] = []
    sizes: list[int] = []
    for value in values.tolist():
        mean, size = value, 1
        while means and means[-1] > mean:
            total = means.pop() * sizes[-1] + mean * size
            size += sizes.pop()
            mean = total / size
        means.append(mean)
        sizes.append(size)
    return np.repeat(np.asarray(means), np.asarray(sizes))


def isotonic_table(values: Array) -> Array:
    """``values[i, j]`` made non-decreasing along both axes, staying near what was measured."""
    table = values
    for _ in range(3):
        table = np.stack([isotonic(row) for row in table])
        table = np.stack([isotonic(column) for column in table.T]).T
    return np.maximum.accumulate(np.maximum.accumulate(table, axis=0), axis=1)


def envelope(values: Array, axis: int) -> Array:
    """Non-decreasing along ``axis``: halfway between the running maximum and the minimum of what follows."""
    if not np.any(np.diff(values, axis=axis) < 0.0):
        return values
    up = np.maximum.accumulate(values, axis=axis)
    down = np.flip(np.minimum.accumulate(np.flip(values, axis), axis=axis), axis)
    return 0.5 * (up + down)


def line(x: Array, grid: Array, values: Array) -> Array:
    """``values`` over the ascending ``grid`` at ``x``: linear between points, the first held below, linear past the last.

    ``values[..., len(grid)]`` gives ``[..., len(x)]``. The slope past the end is that of the whole last octave, so one noisy or
    flat interval does not decide it; it is never negative.
    """
    last = len(grid) - 1
    if last == 0:
        return np.repeat(values, len(x), axis=-1)
    right = np.clip(np.searchsorted(grid, x, side="left"), 1, last)
    left = right - 1
    weight = np.clip((x - grid[left]) / (grid[right] - grid[left]), 0.0, 1.0)
    inside = values[..., left] + weight * (values[..., right] - values[..., left])
    beyond = x - grid[last]
    if not np.any(beyond > 0.0):
        return np.asarray(inside)
    start = min(int(np.searchsorted(grid, grid[last] / 2.0 + 1e-9, side="right")) - 1, last - 1)
    start = max(start, 0)
    slope = np.maximum((values[..., last] - values[..., start]) / (grid[last] - grid[start]), 0.0)
    return np.asarray(inside + slope[..., None] * np.maximum(beyond, 0.0))
