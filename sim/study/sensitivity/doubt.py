"""How often the verdict holds when step times are drawn from the doubt of the profiles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.stats.intervals import wilson
from sim.study.sensitivity.criteria import may_be_lost
from sim.study.sensitivity.readings import Evaluate, Figure, Floats, Reading, Run

__all__ = ["NOBODY", "Share", "doubt"]

NOBODY = "none of them"
_COST = Figure("", "usd_per_hour")


@dataclass(frozen=True)
class Share:
    """In ``held`` of ``draws`` the objective on ``metric`` is kept by ``option``; or, with no metric, ``option`` is the cheapest that keeps
    all of them. ``low`` to ``high``: the interval of the share (Wilson). ``nominal``: so it is with the profiles as they are."""

    option: str
    workload: str
    metric: str
    target: float
    held: int
    draws: int
    low: float
    high: float
    nominal: bool

    @property
    def share(self) -> float:
        """Of all draws."""
        return self.held / self.draws


def doubt(
    evaluate: Evaluate,
    options: Mapping[str, Mapping[str, Any]],
    targets: Mapping[Figure, float],
    count: int,
    draws: int,
    *,
    confidence: float = 0.95,
) -> list[Share]:
    """For each option (a point by name) and objective the share of draws that keep it; with several options also who wins how often.

    A draw is the same for all options and replications: one possible truth. Its figures are means of ``count`` replications, so a share
    says nothing of chance within the run.
    """
    runs = [Run(point, 0, count) for point in options.values()]
    runs += [
        Run(point, number, 1, draw) for point in options.values() for draw in range(draws) for number in range(count)
    ]
    readings = list(evaluate(runs))
    nominal, drawn = readings[: len(options)], iter(readings[len(options) :])
    answer: list[Share] = []
    kept: list[
        list[bool]
    ] = []  # by option: with the profiles as they are, then by draw, whether all objectives are kept
    costs: list[list[float]] = []
    for option, base in zip(options, nominal, strict=True):
        each = [_together([next(drawn) for _ in range(count)], (*targets, _COST)) for _ in range(draws)]
        truths = [base, *each]
        held = {
            figure: [_keeps(truth, figure, target, count) for truth in truths] for figure, target in targets.items()
        }
        for figure, target in targets.items():
            answer.append(_share(option, figure, target, held[figure], confidence))
        kept.append([all(column) for column in zip(*held.values(), strict=True)] if held else [])
        costs.append([float(np.mean(truth.get(_COST, count))) for truth in truths])
    if len(options) > 1 and targets:
        winners = [_winner(list(options), [k[t] for k in kept], [c[t] for c in costs]) for t in range(draws + 1)]
        for option in [*options, NOBODY]:
            won = [winner == option for winner in winners]
            if any(won):
                answer.append(_share(option, Figure("", ""), math.nan, won, confidence))
    return answer


def _share(option: str, figure: Figure, target: float, truths: Sequence[bool], confidence: float) -> Share:
    """From whether it holds with the profiles as they are, then by draw."""
    nominal, *each = truths
    low, high = wilson(sum(each), len(each), confidence)
    return Share(option, figure.workload, figure.metric, target, sum(each), len(each), low, high, nominal)


def _together(replications: Sequence[Reading], figures: Sequence[Figure]) -> Reading:
    """Single replications as one reading."""
    error = next((reading.error for reading in replications if reading.error), "")
    wanted = {*figures, *(Figure(figure.workload, "lost_share") for figure in figures)}
    columns: dict[Figure, Floats] = {
        figure: np.concatenate([reading.get(figure, 1) for reading in replications]) for figure in wanted
    }
    return Reading(columns, error)


def _keeps(reading: Reading, figure: Figure, target: float, count: int) -> bool:
    """Whether the objective is kept on the mean of the replications that have such a figure."""
    if reading.error:
        return False
    values = reading.get(figure, count)
    values = values[np.isfinite(values)]
    lost = reading.get(Figure(figure.workload, "lost_share"), count)
    return (
        bool(len(values))
        and float(values.mean()) <= target
        and not float(np.nan_to_num(lost).mean()) > may_be_lost(figure.metric)
    )


def _winner(options: Sequence[str], kept: Sequence[bool], costs: Sequence[float]) -> str:
    """The cheapest of those that keep all objectives; of equal ones the first."""
    able = [(cost, number) for number, (keeps, cost) in enumerate(zip(kept, costs, strict=True)) if keeps]
    return options[min(able)[1]] if able else NOBODY
