"""Where the start-up of a simulation ends: MSER-5."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Truncation", "mser5"]

BATCH = 5
FEWEST_BATCHES = 10


@dataclass(frozen=True)
class Truncation:
    """Drop the first ``index`` observations. Without ``found`` it is 0 and ``why`` says what stood in the way."""

    index: int
    found: bool
    why: str = ""


def mser5(series: npt.ArrayLike) -> Truncation:
    """The number of observations to drop from the start of ``series`` (1-d, in time order).

    The series is averaged in batches of 5, and the truncation is the one that minimises the squared standard error of the
    mean of what is left, sum((y - mean)^2) / m^2, over truncations in the first half only: near the end a handful of batches that
    happen to be alike would win. A minimum on the edge of that half means that the error was still falling when the search
    ended, so the series shows no steady state. Source: White, Cobb, Spratt, "A comparison of five steady-state truncation
    heuristics for simulation", WSC 2000; White, "An effective truncation heuristic", Simulation 69 (1997).
    """
    values = np.asarray(series, dtype=np.float64)
    batches = len(values) // BATCH
    if batches < FEWEST_BATCHES:
        return Truncation(
            0, False, f"too short: {len(values)} observations, at least {FEWEST_BATCHES * BATCH} are needed"
        )
    means = values[: batches * BATCH].reshape(batches, BATCH).mean(axis=1)
    centred = means - means.mean()  # so that the difference of sums below loses nothing
    left = np.arange(batches, 0, -1)
    sums = np.cumsum(centred[::-1])[::-1]
    squares = np.cumsum((centred * centred)[::-1])[::-1]
    half = batches // 2
    errors = np.maximum(squares - sums * sums / left, 0.0)[: half + 1] / (left[: half + 1] * left[: half + 1])
    best = int(np.argmin(errors))
    if best == half:
        return Truncation(0, False, "no steady state: the series is still changing half way through")
    return Truncation(best * BATCH, True)
