"""Measurements that cannot be right: far above others of more work."""

from __future__ import annotations

from typing import Final

import numpy as np

from sim.perf.monotone import Array

__all__ = ["cleaned", "despiked"]

FACTOR: Final = 1.5  # kernels that switch algorithm fall by up to a third with more work; half again as much is a fault


def cleaned(table: Array, labels: tuple[str, str], grids: tuple[Array, Array], name: str, notes: list[str]) -> Array:
    """``table[i, j]``, work rising along both axes, with faulty cells made NaN and each said in ``notes``.

    Two cells disagree when the one of less work (no larger in either axis) takes ``FACTOR`` times the other. The cell that
    disagrees with most others goes first, until none disagree.
    """
    table = table.copy()
    rows, columns = np.indices(table.shape).reshape(2, -1)
    below = (rows[:, None] <= rows[None, :]) & (columns[:, None] <= columns[None, :])
    values = table.ravel()
    disagree = below & (values[:, None] > FACTOR * values[None, :])  # NaN compares false
    while disagree.any():
        worst = int(np.argmax(disagree.sum(axis=0) + disagree.sum(axis=1)))
        i, j = int(rows[worst]), int(columns[worst])
        place = ", ".join(
            f"{label} {grid[k]:.0f}" for label, grid, k in zip(labels, grids, (i, j), strict=True) if label
        )
        notes.append(f"{name}: the point at {place} is out of line with its neighbours and was left out")
        table[i, j] = np.nan
        disagree[worst, :] = False
        disagree[:, worst] = False
    return table


def despiked(at: Array, values: Array, name: str, notes: list[str]) -> tuple[Array, Array]:
    """A curve over rising work without its faulty points."""
    kept = cleaned(values[None, :], ("", "size"), (np.zeros(1), at), name, notes)[0]
    known = ~np.isnan(kept)
    return at[known], kept[known]
