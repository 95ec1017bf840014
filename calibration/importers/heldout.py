"""How well a measured point is predicted by the others: leave one out, interpolate, compare."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from sim.perf.monotone import Array
from sim.profiles.schema import HeldOut

__all__ = ["along", "columns", "summary"]


def along(grid: Array, values: Array, work: Callable[[Array], Array] = lambda x: x) -> Array:
    """Relative errors of the inner points of ``values`` over ``grid``, each interpolated linearly in ``work(grid)`` from its
    neighbours. Missing (NaN) points are left out."""
    known = ~np.isnan(values)
    x, y = work(grid[known].astype(float)), values[known]
    if len(x) < 3:
        return np.empty(0)
    weight = (x[1:-1] - x[:-2]) / (x[2:] - x[:-2])
    return np.asarray((y[:-2] + weight * (y[2:] - y[:-2])) / y[1:-1] - 1.0)


def columns(grid: Array, table: Array, work: Callable[[Array], Array] = lambda x: x) -> Array:
    """:func:`along` for every row of ``table``, concatenated."""
    return np.concatenate([along(grid, row, work) for row in table])


def summary(method: str, errors: Array | Iterable[float]) -> HeldOut | None:
    """Median and 90th percentile of the absolute relative errors; None when nothing could be left out."""
    sizes = np.abs(np.asarray(list(errors) if not isinstance(errors, np.ndarray) else errors, dtype=float))
    sizes = sizes[np.isfinite(sizes)]
    if not len(sizes):
        return None
    return HeldOut(
        method=method,
        points=len(sizes),
        median=round(float(np.median(sizes)), 4),
        p90=round(float(np.quantile(sizes, 0.9)), 4),
    )
