"""Quantiles of samples and of histograms, and their intervals from replications."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sim.stats.intervals import Interval, t_interval

__all__ = ["histogram_quantiles", "quantile_interval", "quantiles"]


def quantiles(sample: npt.ArrayLike, probabilities: Sequence[float]) -> npt.NDArray[np.float64]:
    """Sample quantiles, linear between order statistics (type 7 of Hyndman & Fan, 1996); NaN of an empty sample."""
    values = np.asarray(sample, dtype=np.float64)
    if not len(values):
        return np.full(len(probabilities), np.nan)
    return np.asarray(np.quantile(values, probabilities), dtype=np.float64)


def quantile_interval(replications: Sequence[npt.ArrayLike], probability: float, confidence: float = 0.95) -> Interval:
    """The Student-t interval over the quantile of each replication: observations inside one may depend on each other.

    Its centre has the bias of a quantile of one replication's size (order 1/size), so replications should hold many
    times 1 / (1 - probability) observations.
    """
    return t_interval([quantiles(sample, [probability])[0] for sample in replications], confidence)


def histogram_quantiles(
    counts: npt.ArrayLike, edges: npt.ArrayLike, probabilities: Sequence[float]
) -> npt.NDArray[np.float64]:
    """Quantiles of a histogram: the observations of a bin are taken as spread evenly over it. NaN if it is empty.

    ``counts[i]`` observations are in ``[edges[i], edges[i + 1])``; a last bin without an upper edge is taken to be as wide, by ratio,
    as the one before.
    """
    numbers = np.asarray(counts, dtype=np.float64)
    bounds = np.asarray(edges, dtype=np.float64)
    if len(bounds) == len(numbers):
        bounds = np.append(bounds, bounds[-1] * bounds[-1] / bounds[-2])
    running = np.cumsum(numbers)
    total = running[-1] if len(running) else 0.0
    if not total:
        return np.full(len(probabilities), np.nan)
    ranks = np.asarray(probabilities, dtype=np.float64) * total
    # the first bin that reaches the rank; an empty bin cannot be the first
    bins = np.minimum(
        np.searchsorted(running, np.maximum(ranks, np.nextafter(0.0, 1.0))), int(np.flatnonzero(numbers)[-1])
    )
    inside = (ranks - (running[bins] - numbers[bins])) / numbers[bins]
    return np.asarray(bounds[bins] + np.clip(inside, 0.0, 1.0) * (bounds[bins + 1] - bounds[bins]))
