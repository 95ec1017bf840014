"""Forecasts of a figure in equal buckets: exponential smoothing (statsmodels), and the two naive ones it has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from statistics import NormalDist
from typing import Any, Final, Literal, get_args

__all__ = ["FEWEST", "METHODS", "Forecast", "Forecaster", "Method"]

Method = Literal["holt", "holt-winters", "seasonal-naive", "last"]
METHODS: Final = get_args(Method)
SURPRISE: Final = 3.0
"""Standard deviations off its forecast at which a value says that the world has changed (Shewhart 1931, control limits)."""
FEWEST: Final = 10
"""Points below which exponential smoothing has no start (statsmodels' heuristic: Hyndman et al. 2008, section 2.6)."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """``mean[i]`` and ``deviation[i]`` (standard deviation of the forecast error) ``i + 1`` buckets ahead; ``method``: which was used."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    method: Method

    def upper(self, confidence: float) -> tuple[float, ...]:
        """What will not be exceeded with probability ``confidence`` (above 0, below 1; errors normal), bucket by bucket; never below 0."""
        z = NormalDist().inv_cdf(confidence)
        return tuple(max(0.0, m + z * d) for m, d in zip(self.mean, self.deviation, strict=True))


class Forecaster:
    """Forecasts by ``method`` with seasons of ``season`` points; smoothing parameters are fitted anew every ``refit``-th time, and
    when the last value lay :data:`SURPRISE` standard deviations or more off what was forecast for it: those of a calm hour would
    smooth the beginning of a ramp away.

    * ``holt``: additive damped trend. ``holt-winters``: with an additive season, once two seasons (and ten points beside
      one) were seen; holt until then.
    * ``seasonal-naive``: what was a season ago; ``last`` until one was seen. ``last``: as it was in the last bucket.

    With fewer than :data:`FEWEST` points ``last`` stands in for smoothing. Variances are those of the state-space models (Hyndman
    and Athanasopoulos, Forecasting: Principles and Practice, 3rd ed., sections 5.5 and 8.7).
    """

    def __init__(self, method: Method = "holt-winters", season: int = 0, refit: int = 1) -> None:
        if method not in METHODS:
            raise ValueError(f"method is {method!r}; it must be one of {', '.join(METHODS)}")
        if season < 2 and method == "seasonal-naive":
            raise ValueError("method 'seasonal-naive' needs a season")
        if refit < 1:
            raise ValueError(f"refit is {refit}; it must be at least 1")
        self.method: Method = method
        self.season = season
        self.refit = refit
        self._fitted: dict[str, float] = {}
        self._used: Method | None = None
        self._age = 0
        self._expected: tuple[float, float] | None = None

    def forecast(self, values: Sequence[float], horizon: int) -> Forecast:
        """The next ``horizon`` buckets after ``values``, which are at least one, oldest first."""
        if not values:
            raise ValueError("nothing to forecast from")
        season = self.season
        method = self.method
        if method == "seasonal-naive":
            if len(values) >= season:
                return _seasonal(values, season, horizon)
            method = "last"
        if method == "holt-winters" and (season < 2 or len(values) < max(2 * season, FEWEST + season // 2 * 2)):
            method = "holt"
        if len(values) < FEWEST:
            method = "last"
        if method == "last":
            return _last(values, horizon)
        if max(values) - min(values) <= 1e-9 * abs(max(values)):  # no likelihood: the fit would be perfect
            return Forecast((float(values[-1]),) * horizon, (0.0,) * horizon, method)
        return self._smooth(values, horizon, method)

    def _surprised(self, value: float) -> bool:
        if self._expected is None:
            return False
        mean, sigma = self._expected
        return abs(value - mean) >= SURPRISE * sigma

    def _smooth(self, values: Sequence[float], horizon: int, method: Method) -> Forecast:
        import warnings

        import numpy as np
        from statsmodels.tsa.holtwinters import ExponentialSmoothing

        season = self.season if method == "holt-winters" else 0
        y = np.asarray(values, dtype=np.float64)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter(
                "ignore"
            )  # of fits that stop early (any parameters forecast), and of logarithms of 0 in its AIC
            model = ExponentialSmoothing(
                y,
                trend="add",
                damped_trend=True,
                seasonal="add" if season else None,
                seasonal_periods=season or None,
                initialization_method="heuristic",
            )
            if method != self._used or self._age >= self.refit or self._surprised(float(y[-1])):
                fit = model.fit()
                self._fitted = _parameters(fit.params, bool(season))
                self._used, self._age = method, 0
            else:
                fit = model.fit(optimized=False, **self._fitted)
            self._age += 1
            mean = np.asarray(fit.forecast(horizon), dtype=np.float64)
        used = len(self._fitted) + 2 + season
        sigma = sqrt(float(fit.sse) / max(len(y) - used, 1))
        self._expected = (float(mean[0]), sigma)
        return Forecast(tuple(mean.tolist()), tuple(sigma * g for g in _growth(self._fitted, season, horizon)), method)


def _parameters(found: dict[str, Any], seasonal: bool) -> dict[str, float]:
    names = ["smoothing_level", "smoothing_trend", "damping_trend", *(["smoothing_seasonal"] if seasonal else [])]
    return {name: float(found[name]) for name in names}


def _growth(parameters: dict[str, float], season: int, horizon: int) -> list[float]:
    """Standard deviation of the error h buckets ahead over that of one: sqrt(1 + Σ c_j²), j < h, with
    c_j = α (1 + β* (φ + ... + φ^j)) + γ [j divisible by the season]. statsmodels' ``smoothing_trend`` is β*, as it smooths
    differences of the level."""
    alpha, trend, phi = (parameters[name] for name in ("smoothing_level", "smoothing_trend", "damping_trend"))
    gamma = parameters.get("smoothing_seasonal", 0.0)
    total, damped, growth = 1.0, 0.0, []
    for ahead in range(1, horizon + 1):
        growth.append(sqrt(total))
        damped += phi**ahead
        total += (alpha * (1.0 + trend * damped) + (gamma if season and ahead % season == 0 else 0.0)) ** 2
    return growth


def _root_mean_square(errors: Sequence[float]) -> float:
    return sqrt(sum(e * e for e in errors) / len(errors)) if errors else 0.0


def _last(values: Sequence[float], horizon: int) -> Forecast:
    """A random walk: errors grow with the root of the time."""
    values = list(values)
    sigma = _root_mean_square([b - a for a, b in pairwise(values)])
    return Forecast((float(values[-1]),) * horizon, tuple(sigma * sqrt(h + 1) for h in range(horizon)), "last")


def _seasonal(values: Sequence[float], season: int, horizon: int) -> Forecast:
    """As a season ago: errors grow with the root of the seasons passed."""
    values = list(values)
    sigma = _root_mean_square([b - a for a, b in zip(values, values[season:], strict=False)])
    latest = values[-season:]
    mean = tuple(float(latest[h % season]) for h in range(horizon))
    return Forecast(mean, tuple(sigma * sqrt(h // season + 1) for h in range(horizon)), "seasonal-naive")
