"""``sim.optimize``: the cheapest configuration of a scenario that meets its objectives."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sim.config.space import Dimension, Optimize
from sim.errors import TwinferError, did_you_mean
from sim.study import points as designs
from sim.study.optimizing.evaluation import Simulations
from sim.study.optimizing.figures import checked
from sim.study.optimizing.monotone import NONE
from sim.study.optimizing.monotone import monotone as helping_paths
from sim.study.optimizing.optimum import Optimum
from sim.study.optimizing.order import Order
from sim.study.optimizing.sampling import SAMPLERS, sample
from sim.study.optimizing.search import Goal, Progress, Search
from sim.study.optimizing.selecting import bisect, select
from sim.study.optimizing.words import names
from sim.study.store import RunStore
from sim.study.study import Study

if TYPE_CHECKING:
    from sim.config import Scenario

__all__ = ["METHODS", "optimize"]

METHODS = ("auto", "bisect", "select", "tpe", "nsga2", "gp")

_LISTED = 2_000
"""Points that are listed rather than sampled."""
_EACH, _LEAST, _SAMPLED = 3, 300, 2_000


def optimize(
    scenario: Scenario,
    *,
    over: Mapping[str, Any] | None = None,
    method: str | None = None,
    minimize: str | None = None,
    replications: int | None = None,
    confidence: float | None = None,
    tolerance: float | None = None,
    pareto: Sequence[str] | None = None,
    monotone: Sequence[str] | None = None,
    seed: int | None = None,
    jobs: int | None = None,
    backend: str = "loky",
    store: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Optimum:
    """The configuration with the least ``minimize`` among those that meet every objective, with stated confidence.

    ``over``: paths with the values they may take, as the scenario's section ``optimize`` has them; what is None is taken from there.
    ``replications``: at most so many in all. ``tolerance``: relative differences in cost that do not matter. ``monotone``: paths more
    of which is taken never to keep a workload from its objectives; none: ``[]``. ``seed``, ``confidence``: in place of the scenario's.
    ``progress`` is called with replications done, the most there may be, and "". The same arguments give the same answer with any
    number of ``jobs``; ``store``: a folder that keeps what was run, so that it is not run again.

    :raises TwinferError: a path, value, figure or method that cannot be; a scenario without objectives; Optuna or torch is missing.
    """
    section = scenario.optimize or Optimize()
    space = designs.space(scenario, section.over if over is None else over, "optimize.over" if over is None else "over")
    helping = section.monotone if monotone is None else ([monotone] if isinstance(monotone, str) else monotone)
    chosen = _method(
        method or section.method, space, nothing_assumed=helping is not None and list(helping) in ([], [NONE])
    )
    goal = Goal(
        minimize=checked(minimize or section.minimize, "minimize"),
        confidence=_share(confidence, scenario.run.confidence, "confidence"),
        tolerance=_share(tolerance, section.tolerance, "tolerance"),
        budget=_budget(section.replications if replications is None else replications, chosen, space),
    )
    aims = tuple(dict.fromkeys(checked(aim, "pareto") for aim in (section.pareto if pareto is None else pareto)))
    settings = {"run.confidence": goal.confidence, "run.precision": None}
    if seed is not None:
        settings["run.seed"] = seed
    kept = None
    if store is not None:
        asked = {"optimize": {path: each.grid() if each.listed else each.to_json() for path, each in space.items()}}
        kept = RunStore.open(store, scenario.digest(), {"asked": asked})
    evaluator = Simulations(Study(scenario, jobs=jobs, backend=backend, store=kept), goal.minimize, settings)
    if chosen in SAMPLERS:
        search, explored = sample(
            evaluator,
            space,
            goal,
            chosen,
            seed=scenario.run.seed if seed is None else seed,
            pareto=aims,
            progress=progress,
        )
        return Optimum(scenario, search, chosen, aims, explored.candidates, settings=settings)
    points = designs.points(space)
    search = Search(evaluator, points, goal, progress)
    if chosen == "bisect":
        (name,) = names(space).values()
        bisect(search, name)
    else:
        search.assume(Order.along(points, helping_paths(scenario, space, helping)))
        select(search)
    exhaustive = len(points) * scenario.run.replications
    return Optimum(scenario, search, chosen, aims, exhaustive=exhaustive, settings=settings)


def _size(space: Mapping[str, Dimension]) -> int | None:
    """How many points there are; None: they cannot be listed."""
    size = 1
    for each in space.values():
        if not each.listed:
            return None
        size *= len(each.grid())
    return size


def _method(method: str, space: Mapping[str, Dimension], *, nothing_assumed: bool) -> str:
    """The method that is used. ``nothing_assumed``: nothing may be."""
    if method not in METHODS:
        raise TwinferError(f"method: {method!r} is not one of {', '.join(METHODS)}{did_you_mean(method, METHODS)}")
    size = _size(space)
    numbers = len(space) == 1 and all(_rises(each) for each in space.values()) and size is not None
    if method == "bisect" and not numbers:
        given = f"{len(space)} paths" if len(space) > 1 else "values that are not rising numbers, or cannot be listed"
        raise TwinferError(f"method bisect needs one number, like deployments.chat.replicas=1..8; there are {given}")
    if method == "bisect" and nothing_assumed:
        raise TwinferError("method bisect takes it that what costs more does better: monotone none needs method select")
    if method == "select" and size is None:
        raise TwinferError(
            "method select needs values that can be listed: lists, whole numbers, or ranges with steps like 0.5..4:8"
        )
    if method != "auto":
        return method
    if numbers and not nothing_assumed and size is not None and size > 3:
        return "bisect"
    return "select" if size is not None and size <= _LISTED else "tpe"


def _rises(each: Dimension) -> bool:
    if each.ranged:
        return True
    values = each.values
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return False
    return all(one < two for one, two in itertools.pairwise(values))


def _budget(given: Any, method: str, space: Mapping[str, Dimension]) -> int:
    if given is not None:
        if isinstance(given, bool) or not isinstance(given, int) or given < 2:
            raise TwinferError(f"replications: {given!r} is not a whole number of 2 or more")
        return given
    return _SAMPLED if method in SAMPLERS else max(_LEAST, _EACH * (_size(space) or 0))


def _share(given: Any, default: float, what: str) -> float:
    share = default if given is None else given
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0.0 < share < 1.0:
        raise TwinferError(f"{what}: {share!r} is not a number between 0 and 1")
    return float(share)
