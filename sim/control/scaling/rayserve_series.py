"""How Ray Serve's controller adds up and averages metrics: step functions of several reporters.

ray-project/ray: python/ray/serve/_private/metrics_utils.py. A series is a list of (time, value), by time; a value holds until the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

__all__ = ["Series", "aggregate_timeseries", "merge_instantaneous_total", "time_weighted_average"]

Series = Sequence[tuple[float, float]]


def time_weighted_average(
    series: Series, window_start: float | None = None, window_end: float | None = None, last_window_s: float = 1.0
) -> float | None:
    """The mean of a step function over [start, end). None without data or interval.

    Without a start it begins at the first point, without an end it ends ``last_window_s`` after the last. Before the first point it is 0.
    """
    if not series:
        return None
    start = series[0][0] if window_start is None else window_start
    end = series[-1][0] + last_window_s if window_end is None else window_end
    if end <= start:
        return None
    area = 0.0
    value = 0.0
    time = start
    for when, then in series:
        if when <= start:
            value = then
            continue
        if when >= end:
            break
        area += value * (when - time)
        value, time = then, when
    area += value * (end - time)
    return area / (end - start)


def merge_instantaneous_total(reporters: Sequence[Series]) -> list[tuple[float, float]]:
    """The sum of several step functions, as the points where it changes, rounded to 10 ms (the last of several stays).

    The series of a lone reporter comes back as it is.
    """
    active = [series for series in reporters if series]
    if len(active) < 2:
        return list(active[0]) if active else []
    events = sorted((time, which, value) for which, series in enumerate(active) for time, value in series)
    values = [0.0] * len(active)
    total = 0.0
    merged: list[tuple[float, float]] = []
    for time, which, value in events:
        change = value - values[which]
        if change == 0:
            continue
        values[which] = value
        total += change
        point = (round(time, 2), total)
        if merged and merged[-1][0] == point[0]:
            merged[-1] = point
        else:
            merged.append(point)
    return merged


def aggregate_timeseries(
    series: Series,
    aggregation_function: Literal["mean", "max", "min"] = "mean",
    last_window_s: float = 1.0,
    window_start: float | None = None,
) -> float | None:
    """One number of a series: its time-weighted mean, its largest or its smallest value. None without data.

    ``window_start``: leave out what is before.
    """
    if aggregation_function == "mean":
        return time_weighted_average(series, window_start, None, last_window_s)
    values = [value for time, value in series if window_start is None or time >= window_start]
    if not values:
        return None
    return max(values) if aggregation_function == "max" else min(values)
