"""One parameter at a time: what each does to a figure at its ends, while the others stay as they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sim.stats import holm, paired, t_interval
from sim.study.sensitivity.parameters import Parameter
from sim.study.sensitivity.readings import Evaluate, Figure, Floats, Reading, Run

__all__ = ["Effect", "tornado"]


@dataclass(frozen=True)
class Effect:
    """What a figure does when ``parameter`` alone goes to ``value``, its ``low`` or ``high`` ``end`` or a ``choice``.

    ``change`` from ``base`` is the mean of paired differences ± ``half_width``; the intervals of all effects on the figure hold at once
    (Bonferroni). ``p`` is that of no change, adjusted by Holm. ``kept``: whether the objective on the figure, if it has one, is kept on the
    mean. ``half_width`` is None for a single replication; ``error`` says why there is no ``change``.
    """

    parameter: str
    label: str
    value: str
    end: str
    why: str
    workload: str
    metric: str
    base: float
    base_half: float | None
    at: float
    change: float
    half_width: float | None
    p: float
    kept: bool | None = None
    error: str = ""


def tornado(
    evaluate: Evaluate,
    parameters: Sequence[Parameter],
    figures: Sequence[Figure],
    count: int,
    *,
    confidence: float = 0.95,
    targets: Mapping[Figure, float] | None = None,
) -> list[Effect]:
    """The effects on each figure, those of the largest swing first.

    ``targets``: objectives on figures. Requests lost are for ``kept`` to tell by the figure (workload, ``lost_share``), if it is among
    ``figures`` of ``evaluate``.
    """
    steps = [(parameter, end, value) for parameter in parameters for end, value in parameter.steps]
    runs = [Run({} if value == parameter.base else {parameter.name: value}, 0, count) for parameter, _, value in steps]
    base, *readings = evaluate([Run({}, 0, count), *runs])
    answer: list[Effect] = []
    for figure in figures:
        target = (targets or {}).get(figure)
        rows = [
            _effect(step, figure, base, reading, count, confidence, target)
            for step, reading in zip(steps, readings, strict=True)
        ]
        answer += _sorted(_simultaneous(rows, confidence))
    return answer


_Row = tuple[Effect, Floats, bool]
"""An effect, the differences by replication, and whether they are exact."""


def _effect(
    step: tuple[Parameter, str, object],
    figure: Figure,
    base: Reading,
    reading: Reading,
    count: int,
    confidence: float,
    target: float | None,
) -> _Row:
    parameter, end, value = step
    was, now = base.get(figure, count), reading.get(figure, count)
    interval = t_interval(was[np.isfinite(was)], confidence)
    half = 0.0 if base.exact and interval.n else _finite(interval.half_width)
    both = np.isfinite(was) & np.isfinite(now)
    differences = (now - was)[both]
    error = reading.error or ("" if both.any() else "no request has such a figure")
    at = float(now[np.isfinite(now)].mean()) if np.isfinite(now).any() else math.nan
    effect = Effect(
        parameter=parameter.name,
        label=parameter.label,
        value=str(value),
        end=end,
        why=parameter.why,
        workload=figure.workload,
        metric=figure.metric,
        base=interval.mean,
        base_half=half,
        at=at,
        change=float(differences.mean()) if len(differences) else math.nan,
        half_width=None,
        p=math.nan,
        kept=None if target is None or not both.any() else _kept(figure, reading, at, target, count),
        error=error,
    )
    return effect, differences, base.exact and reading.exact


def _kept(figure: Figure, reading: Reading, at: float, target: float, count: int) -> bool:
    from sim.study.sensitivity.criteria import may_be_lost

    lost = reading.get(Figure(figure.workload, "lost_share"), count)
    return at <= target and not float(np.nan_to_num(lost).mean()) > may_be_lost(figure.metric)


def _simultaneous(rows: Sequence[_Row], confidence: float) -> list[Effect]:
    """With intervals that hold all at once, and adjusted p-values."""
    tests = max(sum(len(differences) > 0 for _, differences, _ in rows), 1)
    level = 1.0 - (1.0 - confidence) / tests
    found = [paired(differences, np.zeros(len(differences)), level) for _, differences, _ in rows]
    adjusted = holm([difference.p for difference in found])
    return [
        replace(effect, half_width=0.0 if exact and len(differences) else _finite(pair.half_width), p=p)
        for (effect, differences, exact), pair, p in zip(rows, found, adjusted, strict=True)
    ]


def _sorted(effects: Sequence[Effect]) -> list[Effect]:
    swing: dict[str, float] = {}
    for effect in effects:
        size = 0.0 if math.isnan(effect.change) else abs(effect.change)
        swing[effect.parameter] = max(swing.get(effect.parameter, 0.0), size)
    return sorted(effects, key=lambda effect: (-swing[effect.parameter], effect.parameter))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
