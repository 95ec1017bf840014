"""Where to measure next: coarse points first, then where interpolation between them is worst, until points kept aside are
predicted well enough.

A point is a tuple of whole numbers, one or two; what is measured there is one positive number. Interpolation is that of
:mod:`sim.perf`: linear in the second number within a row, then linear between rows in whatever the work is along the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import ceil, exp, log
from typing import Final

import numpy as np

from sim.perf.monotone import line

__all__ = [
    "Axis",
    "Point",
    "Survey",
    "Work",
    "aside",
    "explore",
    "free",
    "geometric",
    "interpolated",
    "plain",
    "refined",
    "widest",
]

Point = tuple[int, ...]
Work = Callable[[Point, int], float]
"""The coordinate of a point along an axis in which times are linear: ``work(point, axis)``."""
Snap = Callable[[Point], Point]
"""The nearest point that may be measured."""

CLOSEST: Final = 1.25  # ratio of neighbours between which no point is put
NEAR: Final = 9  # numbers that are tried for the middle of an interval
IDLE: Final = 6  # additions in a row that may gain nothing,
GAIN: Final = 0.95  # which is to leave more than this share of the error
NOTHING: Final = 4.0  # the ratio that an interval from 0 counts as
GOLDEN: Final = (
    0.6180339887498949,
    0.7548776662466927,
    0.5698402909980532,
)  # 1-D, then 2-D: low-discrepancy (R sequence)


@dataclass(frozen=True)
class Axis:
    """Whole numbers from ``low`` to ``high``; ``zero`` if 0 belongs to it too."""

    low: int
    high: int
    zero: bool = False

    def coarse(self, ratio: float) -> list[int]:
        """The ends and points between at most ``ratio`` apart, zero first if it belongs to the axis."""
        return ([0] if self.zero else []) + geometric(self.low, self.high, ratio)


@dataclass
class Survey:
    """What an exploration found: the points to fit, those kept aside, and whether it had the time to finish."""

    points: dict[Point, float] = field(default_factory=dict)
    checks: dict[Point, float] = field(default_factory=dict)
    complete: bool = True

    def error(self, work: Work) -> float:
        """90th percentile of the relative errors at the points kept aside; 0 without any."""
        if not self.checks:
            return 0.0
        errors = [abs(interpolated(self.points, at, work) / value - 1.0) for at, value in self.checks.items()]
        return float(np.quantile(errors, 0.9))


def free(point: Point) -> Point:
    """Any point may be measured."""
    return point


def plain(point: Point, axis: int) -> float:
    """Times are linear in the number itself."""
    return float(point[axis])


def geometric(low: int, high: int, ratio: float) -> list[int]:
    """``low``, ``high`` and numbers between them, evenly spaced by ratio, neighbours at most about ``ratio`` apart; one in the middle at
    least, for only inner points can be predicted from others."""
    if high <= low:
        return [low]
    steps = max(2, ceil(log(high / low) / log(ratio) - 1e-9))
    return sorted({round(low * (high / low) ** (i / steps)) for i in range(steps + 1)})


def aside(
    axes: Sequence[Axis], count: int, taken: Iterable[Point], allowed: Callable[[Point], bool] = lambda point: True
) -> list[Point]:
    """``count`` ``allowed`` points spread evenly (by ratio) over the axes, none of them ``taken``, or as many as there are; always the
    same ones."""
    found: list[Point] = []
    used = set(taken)
    steps = GOLDEN[:1] if len(axes) == 1 else GOLDEN[1:]
    for i in range(1, 16 * count + 1):
        point = tuple(
            round(exp(log(max(axis.low, 1)) + (0.5 + i * step) % 1.0 * log(axis.high / max(axis.low, 1))))
            for axis, step in zip(axes, steps, strict=True)
        )
        if point not in used and len(found) < count and allowed(point):
            used.add(point)
            found.append(point)
    return found


def interpolated(points: Mapping[Point, float], at: Point, work: Work = plain) -> float:
    """The value at ``at`` from ``points`` that are measured; past the ends as :func:`sim.perf.monotone.line` goes on."""
    if len(at) == 1:
        grid = sorted(points)
        return _line(work(at, 0), [work(p, 0) for p in grid], [points[p] for p in grid])
    rows = sorted({p[0] for p in points})
    values = []
    for row in rows:
        grid = sorted(p for p in points if p[0] == row)
        values.append(_line(work((row, at[1]), 1), [work(p, 1) for p in grid], [points[p] for p in grid]))
    return _line(work(at, 0), [work((row, at[1]), 0) for row in rows], values)


def _line(x: float, grid: Sequence[float], values: Sequence[float]) -> float:
    return float(line(np.asarray([x], dtype=float), np.asarray(grid, dtype=float), np.asarray(values, dtype=float))[0])


def refined(
    points: Mapping[Point, float],
    target: float,
    work: Work = plain,
    noise: Mapping[Point, float] | None = None,
    avoid: Iterable[Point] = (),
    snap: Snap = free,
) -> list[Point]:
    """The points that are most worth measuring next: the middle, by ratio, of an interval about which interpolation is worst.

    Each inner point is predicted from its neighbours along each axis; the worst of those that miss by more than ``target`` and by more
    than twice their noise decides. Along the second axis that gives one point, along the first a whole new row: all the
    columns that both its neighbours have. Empty when there is nothing to gain.
    """
    blocked = set(points) | set(avoid)
    for _, axis, at, before, after in sorted(_misses(points, target, work, noise or {}), key=lambda miss: -miss[0]):
        for gap in sorted(((before, at), (at, after)), key=lambda gap: -_ratio(gap[0][axis], gap[1][axis])):
            if new := _split(points, axis, gap, blocked, snap):
                return new
    return []


def widest(points: Mapping[Point, float], avoid: Iterable[Point] = (), snap: Snap = free) -> list[Point]:
    """The middle of the widest interval, by ratio, along any axis, as :func:`refined` gives it: for when every inner point is predicted
    well and those kept aside are not."""
    blocked = set(points) | set(avoid)
    gaps = []
    for axis in range(len(next(iter(points)))):
        for at in points:
            along = _along(points, at, axis)
            gaps += [(axis, pair) for pair in pairwise(along) if pair[0] == at]
    for axis, gap in sorted(gaps, key=lambda found: -_ratio(found[1][0][found[0]], found[1][1][found[0]])):
        if new := _split(points, axis, gap, blocked, snap):
            return new
    return []


def _along(points: Iterable[Point], at: Point, axis: int) -> list[Point]:
    """Those that differ from ``at`` along ``axis`` alone, itself included, in order."""
    return sorted(p for p in points if p[:axis] + p[axis + 1 :] == at[:axis] + at[axis + 1 :])


def _split(
    points: Mapping[Point, float], axis: int, gap: tuple[Point, Point], blocked: set[Point], snap: Snap
) -> list[Point]:
    """New points in the middle of ``gap``: one along the last axis, a row along the first; none where there is no room."""
    low, high = gap
    for middle in _middles(low[axis], high[axis]):
        if axis == len(low) - 1:
            new = [snap((*low[:axis], middle))]
        else:
            shared = {p[1] for p in points if p[0] == low[0]} & {p[1] for p in points if p[0] == high[0]}
            new = [snap((middle, column)) for column in sorted(shared)]
        new = [point for point in new if point not in blocked]
        if new and (axis == len(low) - 1 or len(new) > 1):
            return new
    return []


def _misses(
    points: Mapping[Point, float], target: float, work: Work, noise: Mapping[Point, float]
) -> list[tuple[float, int, Point, Point, Point]]:
    """(error, axis, point, the one before, the one after) of the inner points that are predicted badly."""
    found = []
    for axis in range(len(next(iter(points)))):
        for at in points:
            along = _along(points, at, axis)
            i = along.index(at)
            if not 0 < i < len(along) - 1:
                continue
            before, after = along[i - 1], along[i + 1]
            x0, x, x1 = (work(p, axis) for p in (before, at, after))
            guess = points[before] + (x - x0) / (x1 - x0) * (points[after] - points[before])
            error = abs(guess / points[at] - 1.0)
            if error > max(target, 2.0 * noise.get(at, 0.0)):
                found.append((error, axis, at, before, after))
    return found


def _ratio(low: int, high: int) -> float:
    return high / low if low else NOTHING


def _middles(low: int, high: int) -> list[int]:
    """The number in the middle by ratio, and those beside it in case it is taken; none between close neighbours."""
    if high - low < 2 or _ratio(low, high) < CLOSEST:
        return []
    middle = (low * high) ** 0.5 if low else high / 2.0
    reach = max(1.0, (high - low) / 6.0)
    return sorted((x for x in range(low + 1, high) if abs(x - middle) <= reach), key=lambda x: abs(x - middle))[:NEAR]


def explore(
    measure: Callable[[Point], tuple[float, float]],
    start: Sequence[Point],
    checks: Sequence[Point],
    *,
    target: float,
    most: int,
    in_time: Callable[[], bool],
    worth_more: Callable[[], bool],
    work: Work = plain,
    snap: Snap = free,
) -> Survey:
    """Measure ``start``, then ``checks``, then wherever it helps, until the 90th percentile of the errors at ``checks``, which are never
    fitted, is at most ``target``, nothing is left to gain, several additions in a row did not lessen it (else noise would be chased), or
    ``most`` points are measured.

    ``measure(point)`` gives the value and its relative noise. ``in_time()`` says whether there is time for the start and the checks,
    ``worth_more()`` for refining; the survey is not ``complete`` if either said no.
    """
    survey = Survey()
    noise: dict[Point, float] = {}
    for group, points in ((survey.points, start), (survey.checks, checks)):
        for point in points:
            if not in_time():
                return replace(survey, complete=False)
            group[point], noise[point] = measure(point)
    best, idle = survey.error(work), 0
    while len(survey.points) + len(survey.checks) < most and best > target and idle < IDLE:
        more = refined(survey.points, target, work, noise, survey.checks, snap)
        more = more or widest(survey.points, survey.checks, snap)
        if not more:
            break
        for point in more:
            if not worth_more():
                return replace(survey, complete=False)
            survey.points[point], noise[point] = measure(point)
        error = survey.error(work)
        best, idle = (error, 0) if error < GAIN * best else (best, idle + 1)
    return survey
