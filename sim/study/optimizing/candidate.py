"""A configuration that may be chosen: what is known of it, and whether it meets the objectives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from sim.observe.objectives import WHOLE_RUN, Figures, known, may_be_lost
from sim.study.optimizing.evaluation import Measured, Point, joined
from sim.study.optimizing.evidence import evidence, further, logs

__all__ = ["Candidate", "Levels", "Limit", "Status", "limits_of"]

Status = Literal["meets", "misses", "undecided", "failed"]


@dataclass(frozen=True, slots=True)
class Limit:
    """A figure that must be at most ``target``: an objective, or the share of requests that may be lost."""

    workload: str
    metric: str
    target: float

    def every(self, figures: Figures) -> list[float]:
        """The figure of each replication; NaN where there is none."""
        source = None if self.metric.startswith("itl") or self.workload == WHOLE_RUN else self.workload
        return figures.values(self.metric, source)

    def values(self, figures: Figures) -> list[float]:
        """The figure of each replication that has it."""
        return known(self.every(figures))


def limits_of(figures: Figures) -> list[Limit]:
    """What :meth:`~sim.observe.objectives.Figures.standings` judges by: objectives, and losses that would touch them."""
    limits = []
    for workload, objectives in figures.objectives.items():
        limits += [Limit(workload, metric, target) for metric, target in objectives.items()]
        if workload != WHOLE_RUN and objectives:
            limits.append(Limit(workload, "lost_share", min(map(may_be_lost, objectives))))
    return limits


@dataclass(frozen=True, slots=True)
class Levels:
    """Shares of the overall error, for each decision: the logarithm of the evidence it takes.

    ``error`` is what may go wrong in all. The answer is wrong if (1) a point is said to meet the objectives that does not: any of
    ``points`` may be, so each gets a share; a point that misses one objective must be misjudged on that one, so objectives share
    nothing; or (2) the cheapest point that meets them, or one that has more and so is taken to meet those of workloads as well (of
    ``judges`` in all), is said to miss one of its ``limits``: each of those gets a share; other points need none, as only one is the
    cheapest; or (3), where costs are random, that one is said to be dearer than one of the others.
    """

    meets: float
    misses: float
    dearer: float

    @classmethod
    def of(cls, error: float, points: int, limits: int, *, random: bool, judges: int = 1) -> Levels:
        """Levels for an overall ``error``. ``judges``: the most points that may rule out one and the same, itself among them."""
        share = error / (3.0 if random else 2.0)
        return cls(
            math.log(points / share), math.log(judges * max(limits, 1) / share), math.log(max(points - 1, 1) / share)
        )


@dataclass(slots=True)
class Candidate:
    """Point number ``number``. ``price`` is what it costs, if that is known beforehand. ``why``: what it failed for.

    ``dearer``: it is out, as it is not cheaper than another one that meets the objectives, by more than the tolerance. ``assumed``: it is
    out, as it has less than another one that misses them. ``short``: it misses one of a workload's objectives, which less of it would too.
    """

    number: int
    point: Point
    price: float | None = None
    figures: Figures | None = None
    warmup: float | None = None
    status: Status = "undecided"
    dearer: bool = False
    assumed: bool = False
    short: bool = False
    why: str = ""
    limits: list[Limit] = field(default_factory=list)
    _needs: tuple[tuple[int, Levels], int | None] | None = field(default=None, repr=False)

    @property
    def replications(self) -> int:
        """How many it has had."""
        return 0 if self.figures is None else len(self.figures)

    @property
    def open(self) -> bool:
        """Whether replications may still change what is thought of it."""
        return self.status == "undecided" and not self.dearer and not self.assumed

    def take(self, measured: Measured) -> None:
        """Further replications, or that there can be none."""
        if measured.figures is None:
            self.status, self.why = "failed", measured.error or "it cannot be simulated"
            return
        self.warmup = measured.warmup if self.warmup is None else self.warmup
        self.figures = joined(self.figures, measured.figures)
        self.limits = self.limits or limits_of(self.figures)

    def judge(self, levels: Levels) -> None:
        """Decide, if there is evidence enough; what is decided stays decided."""
        if self.status != "undecided" or self.figures is None:
            return
        if self.figures.exact:  # nothing is left to chance, unless step times are in doubt: intervals say it all
            missed = self._standing("misses")
        else:
            missed = {limit.workload for limit in self.limits if self._above(limit) >= levels.misses}
            if (
                missed and self.figures.drawn is not None
            ):  # the doubt of profiles, which replications do not settle, is in intervals
                missed &= self._standing("misses")
        if missed:
            self.status, self.short = "misses", missed != {WHOLE_RUN}
            return
        sure = self.figures.exact or all(self._below(limit) >= levels.meets for limit in self.limits)
        if sure and not self._standing("misses", "undecided"):
            self.status = "meets"

    def _standing(self, *statuses: Status) -> set[str]:
        """The workloads some objective of which has one of these."""
        assert self.figures is not None
        return {standing.workload for standing in self.figures.standings() if standing.status in statuses}

    def strain(self) -> float:
        """How far its worst figure is above its target, as a logarithm; negative: all are below theirs."""
        if self.figures is None:
            return math.nan
        worst = -math.inf
        for limit in self.limits:
            values = limit.values(self.figures)
            if values and limit.target > 0.0:
                mean = sum(values) / len(values)
                worst = max(worst, math.log(max(mean / limit.target, 1e-9)))
        return worst

    def excess(self) -> list[float]:
        """By how much each figure is above its target, relative to it."""
        if self.figures is None:
            return []
        found = []
        for limit in self.limits:
            values = limit.values(self.figures)
            mean = sum(values) / len(values) if values else math.inf
            found.append(min(mean / limit.target - 1.0 if limit.target > 0.0 else mean, 1e6))
        return found

    def needs(self, levels: Levels) -> int | None:
        """About how many more replications would decide it; None if that cannot be told, or would be too many."""
        if self.figures is None or self.figures.exact:
            return None
        asked = (self.replications, levels)
        if self._needs is None or self._needs[0] != asked:
            self._needs = (asked, self._needed(self.figures, levels))
        return self._needs[1]

    def _needed(self, figures: Figures, levels: Levels) -> int | None:
        above, below = [], []
        for limit in self.limits:
            values = limit.values(figures)
            if not values:
                return None
            if sum(values) / len(values) > limit.target:
                above.append(further(*logs(values, limit.target), levels.misses))
            else:
                below.append(further(values, limit.target, levels.meets))
        if above:
            told = [count for count in above if count is not None]
            return min(told) if told else None
        return None if None in below else max((count for count in below if count is not None), default=0)

    def cost(self, minimize: str) -> float:
        """What it costs, as far as is known; NaN before it has been looked at."""
        if self.price is not None:
            return self.price
        return math.nan if self.figures is None else self.figures.estimate(minimize).value

    def beaten_by(self, other: Candidate, minimize: str, tolerance: float, levels: Levels) -> bool:
        """Whether it is sure not to be cheaper than ``other`` by more than a share ``tolerance``."""
        if self.price is not None and other.price is not None:
            return self.price >= (1.0 - tolerance) * other.price
        if self.figures is None or other.figures is None:
            return False
        mine, others = self.figures.values(minimize), other.figures.values(minimize)
        if self.figures.exact and other.figures.exact:
            return mine[0] >= (1.0 - tolerance) * others[0]
        pairs = zip(mine, others, strict=False)  # replications that both had: they saw the same random numbers
        return evidence(known([one - (1.0 - tolerance) * two for one, two in pairs]), 0.0) >= levels.dearer

    def falls_short_of(self, other: Candidate, levels: Levels) -> bool:
        """Whether it is sure to do worse than ``other`` by an objective of a workload, and does not seem to meet that."""
        if self.figures is None or other.figures is None:
            return False
        if self.short and other.status == "meets":
            return True
        for limit in self.limits:
            if limit.workload == WHOLE_RUN:
                continue
            mine, others = limit.every(self.figures), limit.every(other.figures)
            count = min(len(mine), len(others))  # replications that both had: they saw the same random numbers
            more = known([one - two for one, two in zip(mine[:count], others[:count], strict=True)])
            if _mean(known(mine)) > limit.target and evidence(more, 0.0) >= levels.misses:
                return True
        return False

    def _above(self, limit: Limit) -> float:
        assert self.figures is not None
        values = limit.values(self.figures)
        return max(evidence(*logs(values, limit.target)), 0.0) if values else 0.0

    def _below(self, limit: Limit) -> float:
        assert self.figures is not None
        return max(-evidence(limit.values(self.figures), limit.target), 0.0)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
