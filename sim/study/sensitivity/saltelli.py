"""Sobol indices of a function of independent inputs, by Saltelli's design.

Two samples A and B of n points, and for each input i the sample AB_i, which is A with that input from B. With f(A) and so on the values,
V their variance, the shares of V are (A. Saltelli et al., Computer Physics Communications 181 (2010) 259-270, table 2):

    first order   mean of f(B) (f(AB_i) - f(A)) / V                  (b): Saltelli 2010
    total         mean of (f(A) - f(AB_i))² / 2 V                    (f): Jansen 1999
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Indices", "design", "indices"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Indices:
    """Shares of the variance of one output: by itself (``first``) and with all it does together with others (``total``), one of each an
    input; ``first_half`` and ``total_half`` are half-widths of their intervals. ``variance`` is the output's. NaN where nothing varies."""

    first: Floats
    total: Floats
    first_half: Floats
    total_half: Floats
    variance: float


def design(n: int, inputs: int, seed: int) -> Floats:
    """Points in [0, 1): shape (n, inputs + 2, inputs), of each row A, then AB_1 to AB_inputs, then B.

    A and B are the halves of one scrambled Sobol' sequence of 2 x ``inputs`` dimensions. ``n`` is a power of two, of which its balance is
    made; ValueError otherwise.
    """
    if n < 2 or n & (n - 1):
        raise ValueError(f"points: {n} is not a power of two, like 64")
    if inputs < 1:
        raise ValueError("inputs: at least 1")
    from scipy.stats import qmc

    both = qmc.Sobol(2 * inputs, scramble=True, rng=np.random.default_rng(seed)).random(n)
    a, b = both[:, :inputs], both[:, inputs:]
    points = np.repeat(a[:, None, :], inputs + 2, axis=1)
    for i in range(inputs):
        points[:, i + 1, i] = b[:, i]
    points[:, -1, :] = b
    return points


def indices(values: npt.ArrayLike, confidence: float = 0.95, resamples: int = 1000, seed: int = 0) -> Indices:
    """The indices from ``values`` of :func:`design`'s points, shape (n, inputs + 2). Rows with a NaN are left out.

    Intervals are the normal ones with the spread over ``resamples`` bootstrap samples of rows (G. Archer, A. Saltelli, I. Sobol',
    J. Stat. Comput. Simul. 58 (1997)). Rows of a Sobol' sequence are more even than independent ones, so they are, if anything, wide.
    """
    table = np.asarray(values, dtype=np.float64)
    table = table[np.isfinite(table).all(axis=1)]
    n, inputs = len(table), table.shape[1] - 2
    nothing = np.full(inputs, np.nan)
    if n < 2:
        return Indices(nothing, nothing, nothing, nothing, np.nan)
    ends = table[:, [0, -1]]
    variance = float(ends.var())
    # equal values may have a mean that is off by a rounding
    if variance <= (1e-12 * np.abs(ends).max()) ** 2:
        return Indices(nothing, nothing, nothing, nothing, 0.0)
    # the estimator of first order has less spread about a mean of 0
    centred = table - table.mean()
    first, total = _shares(centred)
    from statistics import NormalDist

    rng = np.random.default_rng(seed)
    drawn = np.array([_shares(centred[rng.integers(0, n, n)]) for _ in range(resamples)])
    with np.errstate(invalid="ignore"):
        halves = NormalDist().inv_cdf(0.5 + confidence / 2.0) * np.nanstd(drawn, axis=0, ddof=1)
    return Indices(first, total, halves[0], halves[1], variance)


def _shares(table: Floats) -> tuple[Floats, Floats]:
    a, crossed, b = table[:, :1], table[:, 1:-1], table[:, -1:]
    variance = table[:, [0, -1]].var()
    if variance == 0.0:
        return np.full(crossed.shape[1], np.nan), np.full(crossed.shape[1], np.nan)
    moved = crossed - a
    return (b * moved).mean(axis=0) / variance, (moved * moved).mean(axis=0) / (2.0 * variance)
