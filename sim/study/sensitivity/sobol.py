"""Sobol indices of figures over the ranges of parameters, and what part of their variance is the noise of the simulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sim.study.sensitivity.parameters import Parameter
from sim.study.sensitivity.readings import Evaluate, Figure, Floats, Run
from sim.study.sensitivity.saltelli import design, indices

__all__ = ["Index", "Spread", "sobol"]


@dataclass(frozen=True)
class Index:
    """The share of a figure's variance that comes from ``parameter`` alone (``first``), and with all its interactions (``total``)."""

    parameter: str
    label: str
    over: str
    workload: str
    metric: str
    first: float
    first_half: float
    total: float
    total_half: float


@dataclass(frozen=True)
class Spread:
    """A figure over the whole space: its mean and standard deviation, from ``points``, of which ``failed`` could not be run.

    ``noise`` is the part of the variance that is chance: what replications differ by at a point, beside what they differ by at all points
    alike, which moves no index. NaN with a single replication.
    """

    workload: str
    metric: str
    mean: float
    deviation: float
    noise: float
    points: int
    failed: int


def sobol(
    evaluate: Evaluate,
    parameters: Sequence[Parameter],
    figures: Sequence[Figure],
    count: int,
    points: int,
    *,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[list[Index], list[Spread]]:
    """The indices of each figure, the largest totals first, and how it spreads; from ``points`` x (parameters + 2) points.

    All points see the same random numbers, so that a figure is a function of its parameters; it is the mean of ``count`` replications.
    """
    shares = design(points, len(parameters), seed)
    flat = shares.reshape(-1, len(parameters))
    runs = [
        Run({p.name: p.dimension.at(float(share)) for p, share in zip(parameters, row, strict=True)}, 0, count)
        for row in flat
    ]
    readings = list(evaluate(runs))
    failed = sum(bool(reading.error) for reading in readings)
    found: list[Index] = []
    spreads: list[Spread] = []
    for figure in figures:
        table = np.array([reading.get(figure, count) for reading in readings])
        means = table.mean(axis=1)
        result = indices(means.reshape(points, -1), confidence, seed=seed)
        known = means[np.isfinite(means)]
        spreads.append(
            Spread(
                figure.workload,
                figure.metric,
                float(known.mean()) if len(known) else float("nan"),
                float(known.std()) if len(known) else float("nan"),
                0.0 if all(reading.exact for reading in readings) else _noise(table, result.variance),
                len(readings),
                failed,
            )
        )
        rows = [
            Index(p.name, p.label, _range(p), figure.workload, figure.metric, *map(float, numbers))
            for p, *numbers in zip(
                parameters, result.first, result.first_half, result.total, result.total_half, strict=True
            )
        ]
        found += sorted(rows, key=lambda row: (-np.nan_to_num(row.total), row.parameter))
    return found, spreads


def _noise(table: Floats, variance: float) -> float:
    """The interaction of point and replication, as a share of the variance of point means: of ``table`` (points, replications)."""
    table = table[np.isfinite(table).all(axis=1)]
    points, count = table.shape
    if count < 2 or points < 2 or not variance:
        return float("nan")
    rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
    chance = float((rest * rest).sum()) / ((points - 1) * (count - 1)) / count
    return float(min(chance / variance, 1.0))


def _range(parameter: Parameter) -> str:
    dimension = parameter.dimension
    if not dimension.ranged:
        return ", ".join(map(str, dimension.values))
    return f"{dimension.value(dimension.low)} to {dimension.value(dimension.high)}"
