"""``sim.sweep``: a scenario at many points.

found = sim.sweep(sim.load("scenario.yaml"), {"deployments.chat.replicas": "1..8"})
found.frame[["deployments.chat.replicas", "status", "ttft_p99"]]
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.config.space import amount
from sim.errors import ConfigError, ResultError, did_you_mean
from sim.study.points import points as points_of
from sim.study.points import share, space
from sim.study.store import RunStore
from sim.study.study import Progress, Study
from sim.study.task import Outcome, Task

if TYPE_CHECKING:
    import pandas as pd

    from sim.config import Scenario

__all__ = ["Plan", "SweepResult", "execute", "load", "plan", "sweep"]

STATUSES = ("meets", "", "undecided", "misses", "failed")
"""Best first."""

_MANY = 16  # points, from which on worker processes do all of it: one that dies takes no result along


@dataclass(frozen=True)
class Plan:
    """What is to be run: the points, in order, and how they came about."""

    scenario: Scenario
    points: Sequence[Mapping[str, Any]]
    asked: Mapping[str, Any]

    @property
    def paths(self) -> list[str]:
        """What varies."""
        return [path for path, _ in self.asked["over"]]

    def about(self) -> dict[str, Any]:
        """For the store: what was asked, of which scenario."""
        from sim import __version__

        name = self.scenario.path.name if self.scenario.path is not None else ""
        about = {"scenario": name, "question": self.scenario.question or "", "twinfer": __version__}
        return {**about, "confidence": self.scenario.run.confidence, "asked": dict(self.asked)}


def plan(
    scenario: Scenario,
    over: Mapping[str, Any] | None = None,
    *,
    method: str | None = None,
    points: int | None = None,
    seed: int | None = None,
    shard: tuple[int, int] | None = None,
) -> Plan:
    """The points of a sweep. What is None is as the scenario's section ``sweep`` says. ConfigError for what cannot be."""
    given = scenario.sweep
    if over is not None:
        where, varied = "over", over
    else:
        where, varied = "sweep.over", {} if given is None else given.over
    try:
        found = space(scenario, varied, where)
        method = method or (given.method if given is not None else "grid")
        if points is None and given is not None and method == given.method:
            points = given.points
        seed = (given.seed if given is not None else 0) if seed is None else seed
        every = points_of(found, method, points, seed)
        chosen = every if shard is None else share(every, shard)
    except ConfigError as error:
        raise _placed(error, scenario) from None
    asked: dict[str, Any] = {"over": [[path, one.to_json()] for path, one in found.items()], "method": method}
    if method != "grid":
        asked |= {"points": points, "seed": seed}
    return Plan(scenario, chosen, asked)


def _placed(error: ConfigError, scenario: Scenario) -> ConfigError:
    from dataclasses import replace

    file = None if scenario.path is None else str(scenario.path)
    return ConfigError([replace(problem, file=file) for problem in error.problems])


def sweep(
    scenario: Scenario,
    over: Mapping[str, Any] | None = None,
    *,
    method: str | None = None,
    points: int | None = None,
    seed: int | None = None,
    jobs: int | None = None,
    backend: str = "loky",
    store: str | os.PathLike[str] | None = None,
    shard: tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> SweepResult:
    """Run ``scenario`` at the points of a space, on all cores or a cluster.

    ``over``: paths with their values (``[1, 2, 4]``, ``"1..8"``, ``{"from": 0.5, "to": 4, "steps": 8}``); the path ``option`` applies
    options of the scenario. ``method``: ``grid``, ``random``, ``latin-hypercube`` or ``sobol``, so many ``points`` by ``seed``. All of
    it, if None, as the scenario's section ``sweep`` says. ``store``: a folder in which runs are kept, and found again; ``shard``: (k, n),
    of all points every nth from the kth on. Every point sees the same requests. A point that cannot be run is in the result, with the
    reason. ConfigError for a space that cannot be, ResultError for a store that cannot.
    """
    return execute(
        plan(scenario, over, method=method, points=points, seed=seed, shard=shard), jobs, backend, store, progress
    )


def execute(
    planned: Plan,
    jobs: int | None = None,
    backend: str = "loky",
    store: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> SweepResult:
    """Run what is planned."""
    scenario = planned.scenario
    kept = None if store is None else RunStore.open(store, scenario.digest(), planned.about())
    study = Study(scenario, jobs=jobs, backend=backend, store=kept)
    if len(planned.points) >= _MANY:
        study.pool.start()
    tasks = [Task(point) for point in planned.points]
    outcomes = list(study.evaluate(tasks, progress))
    return SweepResult(
        outcomes,
        planned.paths,
        question=scenario.question or "",
        name=scenario.path.name if scenario.path is not None else "",
        notes=[] if kept is None else kept.notes,
        found=0 if kept is None else kept.found,
    )


def load(store: str | os.PathLike[str]) -> SweepResult:
    """What is in the store of a sweep, of the scenario it was last asked for. ResultError if it is none."""
    kept, about = RunStore.read(store)
    try:
        confidence = float(about["confidence"])
        paths = list(dict.fromkeys(path for asked in about["asked"] for path, _ in asked["over"]))
        question, name = str(about["question"]), str(about["scenario"])
    except (KeyError, TypeError, ValueError) as error:
        raise ResultError(f"{Path(store) / 'sweep.json'}: is not as `twinfer sweep` writes it: {error!r}") from error
    outcomes = [outcome.at(confidence) for outcome in kept.outcomes()]
    outcomes.sort(key=lambda outcome: [_order(outcome.point.get(path)) for path in paths])
    return SweepResult(outcomes, paths, question=question, name=name, notes=kept.notes, found=len(outcomes))


def _order(value: Any) -> tuple[bool, float, str]:
    """Numbers by size, with or without a unit, then all else by how it is written."""
    number = amount(value)
    return number is None, number or 0.0, str(value)


@dataclass(frozen=True)
class SweepResult:
    """The outcomes of a sweep, in the order of its points. ``paths`` vary. ``found``: how many were in the store already.

    ``notes`` are sentences for the user.
    """

    outcomes: Sequence[Outcome]
    paths: Sequence[str]
    question: str = ""
    name: str = ""
    notes: Sequence[str] = ()
    found: int = 0
    _tables: dict[Any, pd.DataFrame] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.outcomes)

    @cached_property
    def failed(self) -> list[Outcome]:
        """The points that could not be run."""
        return [outcome for outcome in self.outcomes if outcome.figures is None]

    @cached_property
    def ranked(self) -> list[Outcome]:
        """Best first: those that meet all objectives, then undecided ones, then those that miss; each by price an hour."""

        def rank(outcome: Outcome) -> tuple[int, float]:
            price = outcome.figures.estimate("usd_per_hour").value if outcome.figures is not None else 0.0
            return STATUSES.index(outcome.status), round(price, 6)  # sums of the same prices differ in the last digits

        return sorted(self.outcomes, key=rank)

    @property
    def best(self) -> Outcome | None:
        """The cheapest point that meets all objectives; None if none does for sure."""
        first = next(iter(self.ranked), None)
        return first if first is not None and first.status == "meets" else None

    @property
    def metrics(self) -> list[str]:
        """The figures there are."""
        return list(
            dict.fromkeys(name for o in self.outcomes if o.figures is not None for name in o.figures.overall[0])
        )

    @property
    def workloads(self) -> list[str]:
        """The workloads there are."""
        return list(dict.fromkeys(name for o in self.outcomes if o.figures is not None for name in o.figures.workloads))

    @property
    def targets(self) -> dict[tuple[str, str], float | None]:
        """Objectives by (workload, metric); None for one that varies from point to point."""
        found: dict[tuple[str, str], float | None] = {}
        for outcome in self.outcomes:
            for workload, targets in () if outcome.figures is None else outcome.figures.objectives.items():
                for metric, target in targets.items():
                    same = found.setdefault((workload, metric), target) == target
                    found[workload, metric] = target if same else None
        return found

    @property
    def frame(self) -> pd.DataFrame:
        """A row a point: the paths, ``key``, ``status``, ``error``, then each figure of all requests and its half-width."""
        return self.table()

    def table(self, workload: str | None = None) -> pd.DataFrame:
        """:attr:`frame`, or the same of one workload. ResultError if there is no such workload."""
        import pandas as pd

        if workload not in self._tables:
            rows = []
            for outcome in self.outcomes:
                row: dict[str, Any] = {path: outcome.point.get(path) for path in self.paths}
                row |= {"key": outcome.key, "status": outcome.status, "error": outcome.error}
                figures = outcome.figures
                if figures is not None:
                    if workload is not None and workload not in figures.workloads:
                        known = list(figures.workloads)
                        raise ResultError(
                            f"workload: {workload!r} is not one of {', '.join(known)}{did_you_mean(str(workload), known)}"
                        )
                    for name, estimate in figures.summary(workload).items():
                        row[name], row[f"{name}_half_width"] = estimate.value, estimate.half_width
                rows.append(row)
            head = [*self.paths, "key", "status", "error"]
            frame = pd.DataFrame(rows, columns=list(dict.fromkeys([*head, *(name for row in rows for name in row)])))
            for name in frame.columns.difference(head):
                frame[name] = frame[name].astype(float)
            self._tables[workload] = frame
        return self._tables[workload].copy()

    def __repr__(self) -> str:
        counts = {status: sum(outcome.status == status for outcome in self.outcomes) for status in STATUSES}
        said = ", ".join(f"{count} {status}" for status, count in counts.items() if count and status)
        return f"<SweepResult {self.name or 'scenario'}: {len(self)} points{f' ({said})' if said else ''}>"

    def _repr_html_(self) -> str:
        from sim.display import html_table
        from sim.observe.words import shown

        metrics = list(dict.fromkeys([metric for _, metric in self.targets] + ["ttft_p99", "tpot_p99", "usd_per_hour"]))
        rows = [[*self.paths, "status", *metrics]]
        for outcome in self.ranked[:50]:
            cells = [str(outcome.point.get(path, "")) for path in self.paths]
            if outcome.figures is None:
                rows.append([*cells, f"failed: {outcome.error}", *("" for _ in metrics)])
            else:
                rows.append([*cells, outcome.status, *(shown(outcome.figures.estimate(name)) for name in metrics)])
        more = f"<p>{len(self) - 50:,} more points</p>" if len(self) > 50 else ""
        return html_table(rows) + more
