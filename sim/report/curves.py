"""What the plots show, thinned to what an eye can see: latency distributions and the fleet over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["POINTS", "Curve", "Grid", "distribution", "front", "latency_grids", "over_time", "ratio_over_time"]

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


@dataclass(frozen=True, slots=True)
class Grid:
    """``values[row][column]`` between edges ``y`` of rows and ``x`` of columns."""

    x: Floats
    y: Floats
    values: Floats


def latency_grids(
    samples: Sequence[tuple[Floats, Floats]], columns: int = 60, rows: int = 32, low: float = 1e-4
) -> list[Grid] | None:
    """How many requests came in each stretch of time and took how long, for each of ``samples``: times of arrival and latencies, seconds
    (NaN: not served). All on the same edges, those of latencies by factors; latencies under ``low`` count as ``low``. None: no latency.
    """
    finite = [(at[known], np.maximum(took[known], low)) for at, took in samples for known in [np.isfinite(took)]]
    taken = [took for _, took in finite if len(took)]
    if not taken:
        return None
    bottom = min(float(np.quantile(took, 0.001)) for took in taken)
    top = max(float(took.max()) for took in taken)
    y = np.geomspace(bottom * 0.98, max(top, bottom * 2.0) * 1.02, rows + 1)
    x = np.linspace(0.0, max(float(at.max()) for at, _ in finite if len(at)) or 1.0, columns + 1)
    return [Grid(x, y, np.histogram2d(np.maximum(took, y[0]), at, bins=(y, x))[0]) for at, took in finite]


def ratio_over_time(timeline: pd.DataFrame, part: str, whole: str, edges: Floats) -> Floats:
    """``part`` over ``whole``, each summed over replicas and moments, in each stretch of time; NaN where nothing was sampled."""
    at = np.asarray(timeline["t_s"], np.float64)
    sums = [np.histogram(at, edges, weights=np.asarray(timeline[column], np.float64))[0] for column in (part, whole)]
    ratio: Floats = np.divide(sums[0], sums[1], out=np.full(len(edges) - 1, np.nan), where=sums[1] > 0.0)
    return ratio


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which of ``points`` (cost, service) no other beats: none has as much service for less, or more for as much. By cost."""
    best, found = -np.inf, []
    for place in sorted(range(len(points)), key=lambda one: (points[one][0], -points[one][1])):
        if points[place][1] > best:
            best = points[place][1]
            found.append(place)
    return found
