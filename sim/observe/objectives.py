"""Figures with their intervals, and whether they keep an objective."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sim.stats.intervals import standard_errors, t_interval
from sim.stats.stopping import replications_to_clear

__all__ = ["WHOLE_RUN", "Estimate", "Figures", "Standing", "Status", "known", "may_be_lost"]

WHOLE_RUN = ""
"""In place of a workload, for objectives on the whole run: a budget."""

Status = Literal["meets", "misses", "undecided"]

_LOST_FOR_A_MEAN = 0.01


@dataclass(frozen=True)
class Estimate:
    """A figure: its mean over ``n`` replications ± ``half_width`` (None: a single replication has no interval).

    ``half_width_doubt`` is what the half-width would be if only the calibration were in doubt; None where that was left out.
    """

    value: float
    half_width: float | None
    n: int
    half_width_doubt: float | None = None

    def to_json(self) -> dict[str, float | None]:
        """``{"value", "half_width"}`` and, if there is one, ``"half_width_doubt"``; None for what is not a number."""
        found = {
            "value": _finite(self.value),
            "half_width": None if self.half_width is None else _finite(self.half_width),
        }
        return found if self.half_width_doubt is None else found | {"half_width_doubt": _finite(self.half_width_doubt)}


@dataclass(frozen=True)
class Standing:
    """How one objective of one workload, or of the whole run (``workload`` is empty), fares. ``more`` replications might settle an
    undecided one, if that can be told."""

    workload: str
    metric: str
    target: float
    estimate: Estimate
    status: Status
    why: str = ""
    more: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As a mapping fit for JSON."""
        return {
            "workload": self.workload,
            "metric": self.metric,
            "target": self.target,
            **self.estimate.to_json(),
            "status": self.status,
            "why": self.why,
            "more_replications": self.more,
        }


@dataclass(frozen=True)
class Figures:
    """The figures of every replication, in order: ``overall[r][metric]``, ``workloads[name][r][metric]``; NaN where there is none.

    ``objectives[workload][metric]`` is the target; those on the whole run are under :data:`WHOLE_RUN`. With ``exact``, nothing in the
    run is left to chance, so that one replication says all there is to say and its figures have intervals of width 0. ``drawn`` are
    the figures of the same replications (with ``exact``: of the one, again and again) with step times drawn from the doubt of the
    profiles, a draw each; None: it was left out.
    """

    overall: Sequence[Mapping[str, float]]
    workloads: Mapping[str, Sequence[Mapping[str, float]]] = field(default_factory=dict)
    objectives: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    confidence: float = 0.95
    exact: bool = False
    drawn: Figures | None = None

    def __len__(self) -> int:
        return len(self.overall)

    def values(self, metric: str, workload: str | None = None) -> list[float]:
        """``metric`` of each replication; of an ``exact`` one, which all of them would be, once for each draw."""
        rows = self.overall if workload is None else self.workloads[workload]
        values = [row.get(metric, math.nan) for row in rows]
        return values * len(self.drawn) if self.exact and self.drawn is not None else values

    def shifts(self, metric: str, workload: str | None = None) -> list[float]:
        """By how much the draw of each replication moved ``metric``; empty without draws."""
        if self.drawn is None:
            return []
        pairs = zip(self.drawn.values(metric, workload), self.values(metric, workload), strict=True)
        return [drawn - nominal for drawn, nominal in pairs]

    def estimate(self, metric: str, workload: str | None = None) -> Estimate:
        """``metric`` over the replications that have it."""
        values = known(self.values(metric, workload))
        interval = t_interval(values, self.confidence, known(self.shifts(metric, workload)))
        if interval.n < 2:
            sure = self.exact and self.drawn is None and interval.n
            return Estimate(interval.mean, 0.0 if sure else None, interval.n)
        doubt = None if self.drawn is None else interval.half_width_doubt
        return Estimate(interval.mean, interval.half_width, interval.n, doubt)

    def summary(self, workload: str | None = None) -> dict[str, Estimate]:
        """Every figure, of all requests or of those of one workload."""
        rows = self.overall if workload is None else self.workloads[workload]
        return {metric: self.estimate(metric, workload) for metric in (rows[0] if rows else ())}

    def standings(self) -> list[Standing]:
        """How every objective fares, in the order of the scenario."""
        return [
            self._standing(workload, metric, target)
            for workload, objectives in self.objectives.items()
            for metric, target in objectives.items()
        ]

    def to_json(self) -> dict[str, Any]:
        """All of it but the confidence, in an order that sorting keys does not disturb."""
        return {
            "metrics": _names(self.overall),
            "overall": [list(row.values()) for row in self.overall],
            "workloads": [
                {"name": name, "metrics": _names(rows), "values": [list(row.values()) for row in rows]}
                for name, rows in self.workloads.items()
            ],
            "objectives": [
                {"workload": workload, "metric": metric, "target": target}
                for workload, targets in self.objectives.items()
                for metric, target in targets.items()
            ],
            "exact": self.exact,
            "drawn": None if self.drawn is None else self.drawn.to_json(),
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any], confidence: float) -> Figures:
        """What :meth:`to_json` gave. KeyError, TypeError or ValueError if it is anything else."""
        objectives: dict[str, dict[str, float]] = {}
        for row in saved["objectives"]:
            objectives.setdefault(str(row["workload"]), {})[str(row["metric"])] = float(row["target"])
        figures = cls(
            overall=_rows(saved["metrics"], saved["overall"]),
            workloads={str(w["name"]): _rows(w["metrics"], w["values"]) for w in saved["workloads"]},
            objectives=objectives,
            confidence=confidence,
            exact=bool(saved["exact"]),
            drawn=None if saved.get("drawn") is None else cls.from_json(saved["drawn"], confidence),
        )
        if not figures.overall or any(len(rows) != len(figures) for rows in figures.workloads.values()):
            raise ValueError("its replications do not agree")
        if figures.drawn is not None and len(figures.drawn) != len(figures) and not figures.exact:
            raise ValueError("its draws and its replications do not agree")
        return figures

    def _standing(self, workload: str, metric: str, target: float) -> Standing:
        """Meets if the upper confidence bound is within the target, misses if the lower is beyond it.

        Latencies are of served requests. An option must not pass because it turned away those it would have served late: a
        request lost counts as later than any target, so a p99 is missed once more than 1 % are lost (a mean: 1 % as well).
        ITL is known of all workloads together only. A budget is kept whoever was served.
        """
        source = None if metric.startswith("itl") or workload == WHOLE_RUN else workload
        estimate = self.estimate(metric, source)
        lost = 0.0 if workload == WHOLE_RUN else self.estimate("lost_share", workload).value
        if lost > may_be_lost(metric) + 1e-12:
            return Standing(workload, metric, target, estimate, "misses", f"{lost:.1%} of its requests were not served")
        if estimate.n == 0:
            return Standing(workload, metric, target, estimate, "undecided", "no request has such a figure")
        if estimate.half_width is None:
            return Standing(workload, metric, target, estimate, "undecided", "one replication has no interval")
        if estimate.value + estimate.half_width <= target:
            return Standing(workload, metric, target, estimate, "meets")
        if estimate.value - estimate.half_width > target:
            return Standing(workload, metric, target, estimate, "misses")
        values = known(self.values(metric, source))
        _, doubt = standard_errors(values, known(self.shifts(metric, source)))
        wanted = replications_to_clear(values, target, self.confidence, doubt)
        more = None if wanted is None else max(wanted - len(values), 1)
        why = "the target is inside the interval"
        if more is not None:
            why += f"; about {more} more replications might settle it"
        elif estimate.half_width_doubt:
            why += "; more replications cannot settle it, a better calibration can"
        return Standing(workload, metric, target, estimate, "undecided", why, more)


def may_be_lost(metric: str) -> float:
    """The share of requests that may be lost without touching such a figure."""
    statistic = metric.rpartition("_")[2]
    return 1.0 - float(statistic[1:]) / 100.0 if statistic[0] == "p" else _LOST_FOR_A_MEAN


def known(values: Sequence[float]) -> list[float]:
    """``values`` without those that are not a number."""
    return [value for value in values if not math.isnan(value)]


def _names(rows: Sequence[Mapping[str, float]]) -> list[str]:
    return list(rows[0]) if rows else []


def _rows(names: Sequence[Any], rows: Sequence[Sequence[Any]]) -> list[dict[str, float]]:
    return [
        {str(name): math.nan if value is None else float(value) for name, value in zip(names, row, strict=True)}
        for row in rows
    ]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
