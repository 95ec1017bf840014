"""Matrix products from a table of measured shapes, for shapes that are not in it.

A product of m × k by k × n is bound by arithmetic or by memory, whichever takes longer; what was measured divided by that bound is an
efficiency, which varies slowly with the shape. It is interpolated linearly in log n and log k, held past the edges of the table, and
multiplied with the bound of the shape that was asked for. Shapes in the table come out as measured.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from sim.errors import ProfileError
from sim.perf.monotone import Array

__all__ = ["Gemm"]

START: Final = 2e-6  # seconds a kernel takes with next to no work; keeps the bound of tiny shapes finite


class Gemm:
    """Measured seconds of ``[m, n, k]`` products of one dtype; ``sizes`` are the measured m."""

    def __init__(self, path: Path, rows: pd.DataFrame, operand_bytes: float, flops: float, bandwidth: float) -> None:
        self.path = path
        self._operand = operand_bytes
        self._flops = flops
        self._bandwidth = bandwidth
        table = rows.pivot_table(index=["n", "k"], columns="m", values="latency", aggfunc="mean") * 1e-3
        self.sizes: Array = table.columns.to_numpy(float)
        self._n = np.unique(table.index.get_level_values(0).to_numpy(float))
        self._k = np.unique(table.index.get_level_values(1).to_numpy(float))
        if len(self._n) < 2 or len(self._k) < 2 or len(self.sizes) < 2:
            raise ProfileError(f"{path}: columns m, n, k: at least two sizes each are needed to interpolate")
        full = pd.MultiIndex.from_product([self._n, self._k])
        seconds = table.reindex(full).to_numpy(float).reshape(len(self._n), len(self._k), len(self.sizes))
        n, k = self._n[:, None, None], self._k[None, :, None]
        self._efficiency = _completed(np.log(seconds / self._bound(self.sizes, n, k)))

    def _bound(self, m: Array, n: Array | float, k: Array | float) -> Array:
        moved = self._operand * (m * k + n * k) + 2.0 * m * n
        return np.asarray(np.maximum(2.0 * m * n * k / self._flops, moved / self._bandwidth) + START)

    def seconds(self, n: float, k: float) -> Array:
        """Seconds of an ``m × k`` by ``k × n`` product for each m of ``sizes``."""
        i, u = _place(self._n, n)
        j, v = _place(self._k, k)
        table = self._efficiency
        low = table[i, j] + v * (table[i, j + 1] - table[i, j])
        high = table[i + 1, j] + v * (table[i + 1, j + 1] - table[i + 1, j])
        return np.asarray(np.exp(low + u * (high - low)) * self._bound(self.sizes, n, k))

    def left_out(self, n: float, k: float) -> Array:
        """Relative errors of the measured shapes around n × k, each predicted from those beside it in n and in k."""
        i, _ = _place(self._n, n)
        j, _ = _place(self._k, k)
        errors = []
        for a in (i, i + 1):
            for b in (j, j + 1):
                guesses = [
                    low + (x - left) / (right - left) * (high - low)
                    for grid, at, line in ((self._n, a, self._efficiency[:, b]), (self._k, b, self._efficiency[a]))
                    if 0 < at < len(grid) - 1
                    for low, high in [(line[at - 1], line[at + 1])]
                    for left, x, right in [np.log(grid[at - 1 : at + 2])]
                ]
                if guesses:
                    errors.append(np.exp(np.mean(guesses, axis=0) - self._efficiency[a, b]) - 1.0)
        return np.concatenate(errors) if errors else np.empty(0)


def _place(grid: Array, value: float) -> tuple[int, float]:
    """The cell of ``value`` and how far it lies into it, in logarithms; 0 or 1 past the edges."""
    cell = int(np.clip(np.searchsorted(grid, value, side="right") - 1, 0, len(grid) - 2))
    share = np.log(value / grid[cell]) / np.log(grid[cell + 1] / grid[cell])
    return cell, float(np.clip(share, 0.0, 1.0))


def _completed(table: Array) -> Array:
    """Cells that were not measured take the nearest measured one of their column, then of their row."""
    for axis in (0, 1):
        moved = np.moveaxis(table, axis, 0)
        for at in range(1, len(moved)):
            moved[at] = np.where(np.isnan(moved[at]), moved[at - 1], moved[at])
        for at in range(len(moved) - 2, -1, -1):
            moved[at] = np.where(np.isnan(moved[at]), moved[at + 1], moved[at])
    return table
