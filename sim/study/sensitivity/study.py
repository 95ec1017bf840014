"""``sim.sensitivity``: from a scenario to all that was asked about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sim.config.space import OPTION, watched
from sim.errors import ConfigError, Problem, TwinferError, did_you_mean
from sim.study.sensitivity.breaks import crossings
from sim.study.sensitivity.criteria import limits, objectives
from sim.study.sensitivity.doubt import doubt
from sim.study.sensitivity.factors import STEP_TIMES
from sim.study.sensitivity.parameters import Parameter, defaults, given
from sim.study.sensitivity.readings import Figure, Simulated
from sim.study.sensitivity.result import SensitivityResult
from sim.study.sensitivity.sobol import sobol
from sim.study.sensitivity.tornado import tornado
from sim.study.study import Study
from sim.study.task import Task

if TYPE_CHECKING:
    from sim.config import Scenario

__all__ = ["METHODS", "sensitivity"]

METHODS = ("tornado", "sobol", "breaks", "profile")

_POINTS = 64
_DRAWS = 40
_MOST_LOAD, _LEAST_LOAD = 8.0, 0.125
_MOST_TIMES, _LEAST_TIMES = 4.0, 0.25

_NO_OBJECTIVES = ("ttft_p99", "tpot_p99")


def sensitivity(
    scenario: Scenario,
    *,
    over: Mapping[str, Any] | None = None,
    metrics: Sequence[str] = (),
    methods: Sequence[str] = ("tornado", "breaks"),
    option: str | None = None,
    points: int | None = None,
    draws: int = _DRAWS,
    jobs: int | None = None,
    backend: str = "loky",
    progress: Callable[[int, int, str], None] | None = None,
) -> SensitivityResult:
    """What moves the figures of ``scenario``, what breaks first as its load grows, and how wrong its profiles may be.

    ``over``: values by path, or by factor (``load``, ``prompt_tokens``, ``output_tokens``, ``step_times``, ``price``), as
    :func:`sim.config.space.dimension` reads them; default: the scenario's ``sensitivity.over``, else what it suggests. ``metrics``:
    ``ttft_p99``, or ``chat.ttft_p99`` of one workload; default: the objectives. ``methods``: of :data:`METHODS`. ``points``: rows of the
    Sobol design, a power of two, each of which is a run for every parameter and two more. ``draws``: from the doubt of the profiles.

    All runs see the same requests, replication by replication. ConfigError for what cannot be asked.
    """
    whole = scenario
    if option is not None:
        scenario = scenario.with_option(option)
    asked = scenario.sensitivity
    chosen = _methods(methods)
    figures = _figures(scenario, metrics or (asked.metrics if asked is not None else ()))
    rows = _rows(points if points is not None else (asked.points if asked is not None else None) or _POINTS)
    if draws < 2:
        raise ConfigError([Problem(f"{draws} is too few; at least 2", path="draws")])
    parameters: list[Parameter] = []
    if {"tornado", "sobol"} & set(chosen):
        parameters = _parameters(scenario, over, figures)

    study = Study(scenario, jobs=jobs, backend=backend)
    # the doubt of profiles is asked for by itself, not in every run
    fixed = {"run.calibration_doubt": False} if scenario.run.calibration_doubt else {}
    [base] = study.evaluate([Task(fixed)])
    if base.figures is None:
        raise TwinferError(base.error or "the scenario cannot be run")
    targets = {
        Figure(workload, metric): target
        for workload, objectives in base.figures.objectives.items()
        for metric, target in objectives.items()
    }
    figures = figures or list(targets) or [Figure("", name) for name in _NO_OBJECTIVES]
    exact, count = base.figures.exact, scenario.run.replications
    missing = [figure for figure in figures if base.figures.estimate(figure.metric, figure.workload or None).n == 0]
    if missing:
        raise ConfigError([Problem(f"{figure}: no request has such a figure", path="metrics") for figure in missing])
    evaluate = Simulated(study, _needs(figures, targets), base.warmup_s, fixed, progress)
    confidence, notes = scenario.run.confidence, []
    found: dict[str, Any] = {}

    if "tornado" in chosen:
        found["effects"] = tornado(evaluate, parameters, figures, count, confidence=confidence, targets=targets)
    if "sobol" in chosen:
        found["indices"], found["spreads"] = sobol(
            evaluate, parameters, figures, count, rows, seed=scenario.run.seed, confidence=confidence
        )
    if "breaks" in chosen:
        found["crossings"] = crossings(
            evaluate, "load", [*objectives(targets), *limits()], count, tried=_MOST_LOAD, least=_LEAST_LOAD,
            confidence=confidence, exact=exact,
        )  # fmt: skip
        if not targets:
            notes.append("The scenario has no objectives: only limits were looked for.")
    if "profile" in chosen:
        found["margins"] = crossings(
            evaluate, STEP_TIMES, objectives(targets), count, tried=_MOST_TIMES, least=_LEAST_TIMES,
            confidence=confidence, exact=exact,
        )  # fmt: skip
        if not targets:
            notes.append("The scenario has no objectives: there is no verdict whose robustness could be asked.")
        else:
            said, shares = _doubt(whole, scenario, evaluate, targets, count, draws)
            found["shares"] = shares
            notes += said
    notes += [
        f"{effect.parameter} {effect.value}: {effect.error}" for effect in found.get("effects", ()) if effect.error
    ]
    failed = max((spread.failed for spread in found.get("spreads", ())), default=0)
    if failed:
        notes.append(f"{failed} points of the Sobol design could not be run; their rows were left out.")
    name = "scenario" if scenario.path is None else scenario.path.stem
    return SensitivityResult(
        name,
        scenario.question or "",
        scenario.option or "",
        scenario.digest(),
        scenario.run.seed,
        count,
        confidence,
        exact,
        base.warmup_s,
        notes=tuple(dict.fromkeys(notes)),
        warnings=tuple(dict.fromkeys((*base.warnings, *evaluate.warnings))),
        **{name: tuple(rows) for name, rows in found.items()},
    )


def _methods(methods: Sequence[str]) -> list[str]:
    chosen = list(METHODS) if "all" in methods else list(dict.fromkeys(methods))
    for method in chosen:
        if method not in METHODS:
            known = (*METHODS, "all")
            raise ConfigError(
                [Problem(f"{method!r} is not one of {', '.join(known)}{did_you_mean(method, known)}", path="method")]
            )
    return chosen


def _figures(scenario: Scenario, metrics: Sequence[str]) -> list[Figure]:
    """The figures that are asked for."""
    objectives = {Figure(workload.name, metric) for workload in scenario.workloads for metric in workload.objectives}
    names = [workload.name for workload in scenario.workloads]
    found, problems = [], []
    for metric in metrics:
        workload, _, name = metric.rpartition(".")
        try:
            watched(metric)
            if workload and workload not in names:
                near = did_you_mean(workload, names)
                raise ValueError(f"{workload!r} is not a workload{near}; there are {', '.join(names)}")
            # an objective is asked for by its metric alone where there is one workload
            alone = not workload and len(names) == 1 and Figure(names[0], name) in objectives
            found.append(Figure(names[0] if alone else workload, name))
        except ValueError as error:
            problems.append(Problem(str(error), path="metric"))
    if problems:
        raise ConfigError(problems)
    return list(dict.fromkeys(found))


def _rows(points: int) -> int:
    if points < 2 or points & (points - 1):
        raise ConfigError([Problem(f"{points} is not a power of two, like 32, 64, 128", path="points")])
    return points


def _parameters(scenario: Scenario, over: Mapping[str, Any] | None, figures: Sequence[Figure]) -> list[Parameter]:
    """Those that are asked for, else defaults."""
    if over:
        return given(scenario, over, "--over")
    if scenario.sensitivity is not None and scenario.sensitivity.over:
        return given(scenario, scenario.sensitivity.over, "sensitivity.over")
    costs = any(word in figure.metric for figure in figures for word in ("usd", "cost"))
    return defaults(scenario, costs)


def _needs(figures: Sequence[Figure], targets: Mapping[Figure, float]) -> list[Figure]:
    """All that any method reads."""
    needed = [*figures, Figure("", "usd_per_hour")]
    needed += [Figure(figure.workload, "lost_share") for figure in (*figures, *targets)]
    needed += [figure for criterion in (*objectives(targets), *limits()) for figure in criterion.needs]
    return list(dict.fromkeys(needed))


def _doubt(
    whole: Scenario, scenario: Scenario, evaluate: Simulated, targets: Mapping[Figure, float], count: int, draws: int
) -> tuple[list[str], list[Any]]:
    """Notes, and shares of draws: of the option that was chosen, or of all options."""
    from sim.experiment.build import build

    names = [] if scenario.option is not None else whole.option_names()
    options: dict[str, dict[str, Any]] = {name: {OPTION: name} for name in names} or {scenario.option or "": {}}
    profiles = {
        placed.profile.name: placed.profile.doubt is not None
        for point in options.values()
        for placed in build(scenario.with_changes(point)).deployments
    }
    notes = [
        f"Profile {name} says nothing of its doubt, so nothing is drawn from it; what twinfer calibrate measures does."
        for name, doubtful in profiles.items()
        if not doubtful
    ]
    if not any(profiles.values()):
        return notes, []
    return notes, doubt(evaluate, options, targets, count, draws, confidence=scenario.run.confidence)
