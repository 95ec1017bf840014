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
    """``column`` summed over replicas and averaged over replications, at the times sampled; in ``points`` means at the most.

    A replication that has ended counts as 0: nothing is there any more.
    """
    if column not in timeline.columns or timeline.empty:
        return None
    fleet = timeline.groupby(["replication", "t_s"], sort=True)[column].sum().reset_index()
    runs = [
        (np.asarray(run["t_s"], np.float64), np.asarray(run[column], np.float64))
        for _, run in fleet.groupby("replication", sort=True)
    ]
    moments = np.unique(np.concatenate([times for times, _ in runs]))
    if len(moments) > points:
        # samples of replications need not be at the same times: means over equal stretches of the run
        edges = np.linspace(moments[0], moments[-1], points + 1)
        moments = (edges[:-1] + edges[1:]) / 2.0
        runs = [_means(times, values, edges) for times, values in runs]
    total = np.zeros(len(moments))
    for times, values in runs:
        total += np.interp(moments, times, values, right=0.0)
    return Curve(moments, total / len(runs))


def _means(times: Floats, values: Floats, edges: Floats) -> tuple[Floats, Floats]:
    """Mean of the values in each stretch that has any, at the middle of the stretch."""
    stretches = len(edges) - 1
    which = np.minimum(np.searchsorted(edges, times, side="right") - 1, stretches - 1)
    counts = np.bincount(which, minlength=stretches)
    sums = np.bincount(which, weights=values, minlength=stretches)
    seen = counts > 0
    return ((edges[:-1] + edges[1:]) / 2.0)[seen], sums[seen] / counts[seen]
