"""Spaces too large to be listed: Optuna proposes points, a few replications of each say what they are like, and the best are confirmed.

What a sampler finds best has been lucky among many: its figures flatter it. So the finalists are run anew, on replications nobody has
seen, and chosen from by ranking and selection; only that says anything with confidence, and of the finalists only.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from sim.config.space import Dimension
from sim.errors import TwinferError
from sim.study.optimizing.candidate import Candidate, Levels
from sim.study.optimizing.evaluation import Ask, Evaluator, Point
from sim.study.optimizing.figures import sign
from sim.study.optimizing.search import FIRST, Goal, Progress, Search
from sim.study.optimizing.selecting import select
from sim.study.task import in_a_line

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SAMPLERS", "Explored", "explore", "sample"]

SAMPLERS = ("tpe", "nsga2", "gp")

_BATCH = 8  # points at a time, whatever the number of workers
_SECOND = 8  # replications of points that are neither hopeless nor dear after the first few
_HOPELESS = math.log(1.5)  # a figure so far above its target
_DEAR = 1.1  # times the cheapest that seems to do
_NEAR = math.log(1.1)  # so far above a target a finalist may be
_FINALISTS = 10
_SHARE = 0.6  # of the replications for exploring
_IDLE = 20  # batches without a point that is new
_FRESH = 100_000  # the first replication that exploring has not seen
_LOOSE = Levels(math.log(20.0), math.log(20.0), math.log(20.0))  # for pruning: nothing is claimed


@dataclass
class Explored:
    """Points that were looked at, in order, and what that took."""

    candidates: list[Candidate] = field(default_factory=list)
    spent: int = 0


def sample(
    evaluator: Evaluator,
    over: Mapping[str, Dimension],
    goal: Goal,
    method: str,
    *,
    seed: int = 0,
    pareto: Sequence[str] = (),
    progress: Progress | None = None,
) -> tuple[Search, Explored]:
    """Explore, then confirm. TwinferError if Optuna, or what the method needs, is not installed, or no point can be."""
    explored = explore(evaluator, over, goal, method, seed=seed, pareto=pareto, progress=progress)
    finalists = [one.point for one in _finalists(explored.candidates, goal)]
    search = Search(evaluator, finalists, goal, progress, offset=_FRESH, spent=explored.spent)
    select(search)
    search.notes.append(
        f"Points of the space that were looked at: {len(explored.candidates):,}. What is said of the finalists ({len(finalists)}) rests on "
        "replications of their own. Nothing is said of points that were not looked at."
    )
    return search, explored


def explore(
    evaluator: Evaluator,
    over: Mapping[str, Dimension],
    goal: Goal,
    method: str,
    *,
    seed: int = 0,
    pareto: Sequence[str] = (),
    progress: Progress | None = None,
) -> Explored:
    """Spend the larger part of the budget on points that a sampler proposes. TwinferError if it is too small for that."""
    if goal.budget < 2 * FIRST:
        raise TwinferError(
            f"replications: {goal.budget} are too few for method {method}: {FIRST} to look at a point, {FIRST} to confirm it"
        )
    names = _aims(method, goal, pareto)
    most = max(int(_SHARE * goal.budget), FIRST)
    with _quiet() as optuna, _one_thread(method):
        study = optuna.create_study(
            sampler=_sampler(optuna, method, seed),
            directions=["minimize" if name == goal.minimize or sign(name) > 0.0 else "maximize" for name in names],
        )
        found = Explored()
        known: dict[str, Candidate] = {}
        idle = 0
        while (room := (most - found.spent) // FIRST) and idle < _IDLE:
            if progress is not None:
                progress(min(found.spent, goal.budget), goal.budget, "exploring")
            trials = [study.ask() for _ in range(min(_BATCH, room))]
            points = [{path: _suggested(trial, path, each) for path, each in over.items()} for trial in trials]
            new = _unknown(points, known, evaluator)
            idle = 0 if new else idle + 1
            found.candidates += new
            _measure(evaluator, new, FIRST, found)
            promising = _promising(new, found.candidates, goal)[: (most - found.spent) // (_SECOND - FIRST)]
            _measure(evaluator, promising, _SECOND, found)
            for trial, point in zip(trials, points, strict=True):
                _tell(optuna, study, trial, known[repr(point)], names)
    if all(one.figures is None for one in found.candidates):
        raise TwinferError(f"no point can be simulated: {found.candidates[0].why}")
    return found


def _aims(method: str, goal: Goal, pareto: Sequence[str]) -> list[str]:
    return list(dict.fromkeys((goal.minimize, *pareto))) if method == "nsga2" else [goal.minimize]


@contextmanager
def _quiet() -> Iterator[Any]:
    """Optuna, without its log and its notes on what is experimental."""
    try:
        import optuna
    except ImportError as error:
        raise TwinferError(f"methods tpe, nsga2 and gp need optuna: pip install 'twinfer[study]' ({error})") from error
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield optuna
    finally:
        optuna.logging.set_verbosity(before)


@contextmanager
def _one_thread(method: str) -> Iterator[None]:
    """torch on one thread: its matrices here are tiny, threads that wait for each other on busy cores take several times as long, and
    sums do not depend on their number."""
    if method != "gp":
        yield
        return
    if find_spec("torch") is None:
        raise TwinferError("method gp needs torch: pip install torch, or take tpe")
    torch = import_module("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _sampler(optuna: Any, method: str, seed: int) -> Any:
    if method == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=3 * _BATCH)
    if method == "gp":
        return optuna.samplers.GPSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, multivariate=True)


def _suggested(trial: Any, path: str, dimension: Dimension) -> Any:
    if not dimension.ranged or dimension.steps is not None:
        values = dimension.grid()
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        if dimension.ranged or numbers:  # neighbours are alike
            return values[trial.suggest_int(path, 0, len(values) - 1)]
        return values[trial.suggest_categorical(path, list(range(len(values))))]
    if dimension.whole:
        return dimension.value(trial.suggest_int(path, int(dimension.low), int(dimension.high), log=dimension.log))
    return dimension.value(trial.suggest_float(path, dimension.low, dimension.high, log=dimension.log))


def _unknown(points: Sequence[Point], known: dict[str, Candidate], evaluator: Evaluator) -> list[Candidate]:
    """Candidates for points that were not seen before."""
    new = []
    for point in points:
        key = repr(point)
        if key in known:
            continue
        one = known[key] = Candidate(len(known), point)
        try:
            one.price = evaluator.price(point)
        except TwinferError as error:
            one.status, one.why = "failed", in_a_line(error)
        new.append(one)
    return new


def _measure(evaluator: Evaluator, candidates: Sequence[Candidate], total: int, found: Explored) -> None:
    waiting = [one for one in candidates if one.status != "failed" and one.replications < total]
    asks = [Ask(one.point, one.replications, total - one.replications, one.warmup) for one in waiting]
    for one, measured in zip(waiting, evaluator.measure(asks), strict=True):
        one.take(measured)
        one.judge(_LOOSE)
        found.spent += 0 if measured.figures is None else len(measured.figures)


def _promising(new: Sequence[Candidate], all_: Sequence[Candidate], goal: Goal) -> list[Candidate]:
    """Those that early replications do not rule out: not far above a target, nor much dearer than what seems to do."""
    doing = [one.cost(goal.minimize) for one in all_ if one.figures is not None and one.strain() <= 0.0]
    most = _DEAR * min(doing, default=math.inf)
    return [
        one
        for one in new
        if one.figures is not None
        and not one.figures.exact
        and one.strain() < _HOPELESS
        and not one.cost(goal.minimize) > most
    ]


def _tell(optuna: Any, study: Any, trial: Any, one: Candidate, names: Sequence[str]) -> None:
    values = [] if one.figures is None else [one.figures.estimate(name).value for name in names]
    if not values or any(math.isnan(value) for value in values):
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return
    for limit, over in zip(one.limits, one.excess(), strict=True):
        trial.set_constraint(f"{limit.workload}.{limit.metric}", over)
    study.tell(trial, values)


def _finalists(explored: Sequence[Candidate], goal: Goal) -> list[Candidate]:
    """The cheapest that seem to do, and cheaper ones that are close to it."""
    seen = [one for one in explored if one.figures is not None]
    ranked = sorted(seen, key=lambda one: (one.cost(goal.minimize), one.strain(), one.number))
    doing = [one for one in ranked if one.strain() <= 0.0][: _FINALISTS // 2]
    if not doing:
        return sorted(seen, key=lambda one: (one.strain(), one.number))[:_FINALISTS]
    near = [
        one for one in ranked if 0.0 < one.strain() <= _NEAR and one.cost(goal.minimize) < doing[0].cost(goal.minimize)
    ]
    return [*near[-(_FINALISTS // 2) :], *doing]
