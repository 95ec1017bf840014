"""What may fail as load grows: the objectives of a scenario, and limits of what serves it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from sim.study.sensitivity.breaks import Criterion
from sim.study.sensitivity.readings import Figure, Reading

__all__ = ["LIMITS", "limits", "may_be_lost", "objectives"]

LIMITS = {
    "KV cache full": (Figure("", "kv_usage_peak"), 0.995),
    "standing queue": (Figure("", "queue_p50"), 1.0),
    "requests lost": (Figure("", "lost_share"), 0.01),
}
"""By name: the figure, and beyond what value the limit is reached. A standing queue: every other request waits more than a second."""


def objectives(targets: Mapping[Figure, float]) -> list[Criterion]:
    """One for each target: it fails in a replication whose figure is above it, or which loses more requests than the figure may hide."""
    return [_objective(figure, target) for figure, target in targets.items()]


def limits() -> list[Criterion]:
    """One for each of :data:`LIMITS`."""
    return [_limit(name, figure, most) for name, (figure, most) in LIMITS.items()]


def may_be_lost(metric: str) -> float:
    """The share of requests that may be lost without touching such a figure, as :meth:`sim.observe.objectives.Figures.standings` has it."""
    statistic = metric.rpartition("_")[2]
    if statistic[:1] == "p" and statistic[1:].isdecimal():
        return 1.0 - float(statistic[1:]) / 100.0 + 1e-12
    return 0.01 + 1e-12


def _objective(figure: Figure, target: float) -> Criterion:
    lost = Figure(figure.workload, "lost_share")
    latency = figure.metric.partition("_")[0] in ("ttft", "tpot", "itl", "e2e", "queue")

    def excess(reading: Reading) -> float:
        if latency and _first(reading, lost) > may_be_lost(figure.metric):
            return math.inf
        return _ratio(_first(reading, figure), target)

    return Criterion(str(figure), figure, target, "objective", excess, (figure, lost) if latency else (figure,))


def _limit(name: str, figure: Figure, most: float) -> Criterion:
    return Criterion(name, figure, most, "limit", lambda reading: _ratio(_first(reading, figure), most), (figure,))


def _first(reading: Reading, figure: Figure) -> float:
    return float(reading.get(figure, 1)[0])


def _ratio(value: float, target: float) -> float:
    # no such figure (of one token there is no TPOT): nothing is too late
    return -math.inf if math.isnan(value) or value <= 0.0 else math.log(value / target)
