"""What a metrics API would answer of a simulated deployment: pods, their metrics as scraped, and totals with the gateway's queue."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sim.control.scaling.hpa_pods import Pod, PodMetric, milli
from sim.control.scaling.view import DRAINING, PENDING, READY, DeploymentView, Scraper

__all__ = ["QUEUED", "DeploymentReadings"]

QUEUED = ("concurrency", "queue")
"""Metrics whose total takes in the requests held at the gateway, which no replica knows of."""
_WHOLE = 1000  # the request of a pod whose metric is a share: 1, in milli-units


class DeploymentReadings:
    """Metrics of a deployment, as old as its last scrape; call :meth:`observe` every ``scrape`` seconds (0: before every reading).

    What was last seen more than ``stale`` seconds ago is forgotten, so an outage of metrics is noticed that late.
    """

    def __init__(self, metrics: Sequence[str], scrape: float, stale: float) -> None:
        for name, value in (("scrape", scrape), ("stale", stale)):
            if not value >= 0 or math.isinf(value):
                raise ValueError(f"{name} {value:g} must be a number of seconds, not negative")
        self._scraper = Scraper(list(dict.fromkeys(metrics)), scrape, stale)
        self._queued = 0
        self._seen = -math.inf

    def observe(self, view: DeploymentView) -> None:
        """Scrape."""
        self._scraper.scrape(view)
        if view.metrics:
            self._queued, self._seen = view.queued, view.now

    def pods(self, view: DeploymentView) -> list[Pod]:
        """The replicas as pods: one that waits for GPUs is Pending, one that starts runs and is not ready, one that drains is deleted."""
        return [
            Pod(
                str(replica.index),
                phase="Pending" if replica.phase == PENDING else "Running",
                ready=replica.phase == READY,
                ready_transition=replica.ready_since if replica.phase == READY else _known(replica.started, view.now),
                start_time=None if replica.phase == PENDING else _known(replica.started, view.now),
                deleted=replica.phase == DRAINING,
                request=_WHOLE,
            )
            for replica in view.replicas
        ]

    def by_pod(self, metric: str, view: DeploymentView) -> dict[str, PodMetric]:
        """``metric`` of every pod it was scraped of, in milli-units."""
        return {
            str(index): PodMetric(milli(sample.value), sample.timestamp, sample.window)
            for index, sample in self._scraper.samples(metric, view).items()
        }

    def total(self, metric: str, view: DeploymentView) -> float | None:
        """The sum of ``metric`` over replicas that do not drain, and of what waits at the gateway; None once that is stale."""
        if view.now - self._seen > self._scraper.stale:
            return None
        samples = self._scraper.samples(metric, view)
        served = sum(samples[replica.index].value for replica in view.live if replica.index in samples)
        return served + (self._queued if metric in QUEUED else 0)


def _known(time: float, otherwise: float) -> float:
    return otherwise if math.isnan(time) else time
