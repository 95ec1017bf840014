"""What the plots show, thinned to what an eye can see: latency distributions and the fleet over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["POINTS", "Curve", "distribution", "over_time"]

Floats = npt.NDArray[np.float64]

POINTS = 200
"""Points of a curve at the most: more cannot be told apart at the size of the plots."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of a line: ``x`` and ``y`` of one length."""

    x: Floats
    y: Floats


def distribution(values: Any, points: int = POINTS) -> Curve | None:
    """Share of ``values`` (NaN left out) that are at most x, at ``points`` quantiles, closer together towards the tail.

    None if there are no values.
    """
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if not len(finite):
        return None
    if len(finite) <= points:
        x = np.sort(finite)
        return Curve(x, np.arange(1, len(x) + 1) / len(x))
    body = np.linspace(0.0, 0.95, points * 3 // 4, endpoint=False)
    shares = np.concatenate([body, 1.0 - np.geomspace(0.05, 1.0 / len(finite), points - len(body) - 1), [1.0]])
    return Curve(np.quantile(finite, shares), shares)


def over_time(timeline: pd.DataFrame, column: str, points: int = POINTS) -> Curve | None:
    """``column`` summed over replicas and averaged over replications, at each time sampled; in ``points`` means at the most."""
    if column not in timeline.columns or timeline.empty:
        return None
    keys = [key for key in ("replication", "t_s") if key in timeline.columns]
    fleet = timeline.groupby(keys, sort=True)[column].sum().reset_index()
    times = np.asarray(fleet["t_s"], dtype=np.float64)
    values = np.asarray(fleet[column], dtype=np.float64)
    moments, which = np.unique(times, return_inverse=True)
    if len(moments) > points:
        # samples of replications need not be at the same times: means over equal stretches of the run
        edges = np.linspace(moments[0], moments[-1], points + 1)
        which = np.minimum(np.searchsorted(edges, times, side="right") - 1, points - 1)
        moments = (edges[:-1] + edges[1:]) / 2.0
    counts = np.bincount(which, minlength=len(moments))
    sums = np.bincount(which, weights=values, minlength=len(moments))
    seen = counts > 0
    return Curve(moments[seen], sums[seen] / counts[seen])
