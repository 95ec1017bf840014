"""Control variates: what is known of the input explains part of the chance in the output."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.stats.intervals import Interval, standard_errors, t_quantile

__all__ = ["Controlled", "controlled"]


@dataclass(frozen=True)
class Controlled:
    """The controlled estimate, the ``coefficients`` it was made with, and how much it gained.

    ``reduction`` is the share of the variance of the mean that the controls took away, as estimated: 0.75 is worth four times the
    replications; below 0 they cost more in degrees of freedom than they explain.
    """

    interval: Interval
    coefficients: tuple[float, ...]
    reduction: float


def controlled(
    values: npt.ArrayLike, controls: npt.ArrayLike, expected: npt.ArrayLike, confidence: float = 0.95
) -> Controlled:
    """The interval for the mean of ``values`` (one a replication), given ``controls`` whose expectations are known.

    ``controls``: one number a replication, or a row of several; ``expected``: their true means. n replications and q controls leave
    n - q - 1 degrees of freedom, 1 at least. The estimate is the intercept of the regression on (control - expectation), and its
    variance that of an intercept; exact where values and controls are jointly normal. ValueError where controls do not vary or repeat
    each other.

    S. Lavenberg, P. Welch, "A perspective on the use of control variables to increase the efficiency of Monte Carlo simulations",
    Management Science 27 (1981).
    """
    outputs = np.asarray(values, dtype=np.float64)
    n = len(outputs)
    known = np.atleast_1d(np.asarray(expected, dtype=np.float64))
    table = np.asarray(controls, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    if outputs.ndim != 1 or table.shape != (n, len(known)):
        raise ValueError(f"controls: shape {table.shape}; a row for each of {n} values, of {len(known)} expectations")
    if not (np.isfinite(outputs).all() and np.isfinite(table).all() and np.isfinite(known).all()):
        raise ValueError("values, controls and expectations: finite numbers")
    q = table.shape[1]
    freedom = n - q - 1
    if freedom < 1:
        raise ValueError(
            f"{n} replications with {q} controls leave {freedom} degrees of freedom; at least {q + 2} are needed"
        )
    centred = table - table.mean(axis=0)
    scale = np.sqrt((centred * centred).sum(axis=0))
    # a control that is constant but for roundings has a scale of roundings
    if not (scale > 1e-12 * np.abs(table).max(axis=0) * math.sqrt(n)).all():
        raise ValueError(f"control {int(np.argmin(scale))} does not vary")
    left, strengths, right = np.linalg.svd(centred / scale, full_matrices=False)
    if strengths[-1] < 1e-9 * strengths[0]:
        raise ValueError("controls: one of them is a combination of the others")
    deviation = outputs - outputs.mean()
    slope = (right.T @ ((left.T @ deviation) / strengths)) / scale
    off = table.mean(axis=0) - known
    residual = deviation - centred @ slope
    # (X'X)^-1 of an intercept: 1/n and what the mean of the controls is off by, in units of their spread
    leverage = 1.0 / n + float((((right @ (off / scale)) / strengths) ** 2).sum())
    error = math.sqrt(float(residual @ residual) / freedom * leverage)
    plain, _ = standard_errors(outputs)
    return Controlled(
        Interval(float(outputs.mean() - slope @ off), t_quantile(0.5 + confidence / 2.0, freedom) * error, n),
        tuple(float(b) for b in slope),
        1.0 - (error / plain) ** 2 if plain else 0.0,
    )
