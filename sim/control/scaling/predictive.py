"""An autoscaler that forecasts: replicas for the demand there will be when what is started now is ready."""

from __future__ import annotations

from math import ceil, isnan
from typing import Final, Literal

from sim.control.parameters import PerSecond, Seconds
from sim.control.scaling.forecast import Forecaster
from sim.control.scaling.limits import limits
from sim.control.scaling.meter import Meter, Series
from sim.control.scaling.replica_rate import ReplicaRate
from sim.control.scaling.sizing import Bounds, Hold, needed, positive
from sim.control.scaling.view import Decision, DeploymentView, Knowledge

__all__ = ["PredictiveScaler"]

POINTS: Final = 384
"""Buckets that are kept at most: a fit takes tens of milliseconds then."""
SEASONS: Final = 4
"""Seasons that are kept at most."""


class PredictiveScaler:
    """Records arrivals (or concurrency) in buckets, forecasts them over ``lead`` seconds, and sizes for an upper quantile.

    Each ``period``: the largest upper ``confidence`` quantile of the buckets from now to ``lead`` ahead (None: the cold start it
    knows, and its own period), so that it scales up early and never down before the demand has gone. Replicas are then

    * demand / (``rate_per_replica`` x ``utilisation``), in requests a second; without ``rate_per_replica`` that is what the step
      times give for the token means seen and the objectives (:mod:`sim.control.scaling.capacity`);
    * or concurrency / ``target``, when a ``target`` of requests in a replica is given: then the concurrency is what is forecast.

    A number is held for ``hold`` seconds against a lower one. ``bucket`` None: the period, or a 96th of the ``season`` if that is
    longer. ``method`` and ``refit`` (decisions between fits): :class:`~sim.control.scaling.forecast.Forecaster`. While
    metrics are out it decides nothing; when they return, the buckets missed get their mean.

    The idea is that of predictive scaling as clouds offer it and of NVIDIA Dynamo's planner (forecast the next interval's load, divide by
    a replica's throughput); the method is Holt (1957) and Winters (1960).
    """

    wakes = True
    """Asked at once when a request waits for a deployment without any replica."""

    def __init__(
        self,
        *,
        min: int = 1,
        max: int = 100,
        period: Seconds = 30.0,
        bucket: Seconds | None = None,
        lead: Seconds | None = None,
        method: Literal["holt", "holt-winters", "seasonal-naive", "last"] = "holt-winters",
        season: Seconds | None = None,
        confidence: float = 0.9,
        refit: int = 10,
        target: float | None = None,
        rate_per_replica: PerSecond | None = None,
        utilisation: float = 0.8,
        hold: Seconds = 300.0,
        knowledge: Knowledge | None = None,
    ) -> None:
        self.bounds = Bounds(min, max)
        self.period = positive("period", period)
        if not 0.0 < confidence < 1.0:
            raise ValueError(f"confidence is {confidence}; it must lie between 0 and 1")
        if not 0.0 < utilisation <= 1.0:
            raise ValueError(f"utilisation is {utilisation}; it must lie above 0 and at most at 1")
        if target is not None and rate_per_replica is not None:
            raise ValueError("target and rate_per_replica are two answers to one question: give one")
        self.confidence = confidence
        self.utilisation = utilisation
        self.target = None if target is None else positive("target", target)
        self.rate_per_replica = None if rate_per_replica is None else positive("rate_per_replica", rate_per_replica)
        self.sample_period = self.bucket = _bucket(bucket, self.period, season)
        points = 0 if season is None else round(season / self.bucket)
        self.series = Series(
            self.bucket, POINTS if not points else points * (SEASONS if SEASONS * points <= POINTS else 2)
        )
        self.forecaster = Forecaster(method, points, refit)
        known = 0.0 if knowledge is None else knowledge.cold_start
        self.lead = known + self.period if lead is None else positive("lead", lead, zero=True)
        self._hold = Hold(positive("hold", hold, zero=True))
        self._meter = Meter(10.0 * self.bucket)
        self._replica = None if knowledge is None else ReplicaRate(knowledge)
        self._limits = () if knowledge is None else limits(knowledge.objectives)
        self._tokens = (float("nan"), float("nan"))

    def observe(self, view: DeploymentView) -> None:
        """Close a bucket."""
        if view.metrics:
            self.series.add(view.now, float(view.arrived) if self.target is None else view.request_seconds)
            self._meter.look(view)

    def decide(self, view: DeploymentView) -> Decision:
        """Replicas for the forecast. None while there are no metrics, or nothing was measured yet.

        ValueError when neither ``target`` nor ``rate_per_replica`` is given and nothing is known of a replica."""
        if not view.metrics:
            return Decision(None, "metrics are out")
        if view.queued and not view.live and not self.bounds.least:
            return Decision(self._hold.highest(view.now, 1), "a request waits and there is no replica")
        if not self.series.values:
            return Decision(None, "nothing measured yet")
        each = self._each()
        if each is None:
            return Decision(None, "no request yet to learn the lengths from")
        horizon = max(1, ceil(self.lead / self.bucket - 1e-9))
        forecast = self.forecaster.forecast(self.series.values, horizon)
        upper = max(forecast.upper(self.confidence))
        raw = self.bounds.within(needed(upper, each)) if each > 0.0 else self.bounds.most
        wanted = self._hold.highest(view.now, raw)
        numbers = {
            "last": self.series.values[-1],
            "mean": forecast.mean[-1],
            "upper": upper,
            "per_replica": each,
            "lead": self.lead,
            "points": float(len(self.series.values)),
            "raw": float(raw),
        }
        return Decision(wanted, f"{forecast.method} forecast" + (", held" if wanted > raw else ""), numbers)

    def _each(self) -> float | None:
        """What one replica is to carry: requests in it, or requests a second. None while token means are not known."""
        if self.target is not None:
            return self.target
        if self.rate_per_replica is not None:
            return self.rate_per_replica * self.utilisation
        if self._replica is None:
            raise ValueError("without step times of a replica it needs target or rate_per_replica")
        flow = self._meter.flow()
        if flow is not None and not isnan(flow.prompt):
            self._tokens = (flow.prompt, flow.output)
        if isnan(self._tokens[0]):
            return None
        return self._replica.at(*self._tokens, self._limits).rate * self.utilisation


def _bucket(bucket: float | None, period: float, season: float | None) -> float:
    if season is not None:
        positive("season", season)
    if bucket is None:
        return period if season is None or season / 96.0 <= period else season / 96.0
    positive("bucket", bucket)
    if season is not None and not 2.0 <= season / bucket <= POINTS / 2.0:
        raise ValueError(
            f"bucket is {bucket:g} s; with a season of {season:g} s it must lie between {2.0 * season / POINTS:g} and {season / 2.0:g} s"
        )
    return bucket
