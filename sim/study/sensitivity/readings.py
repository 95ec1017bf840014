"""Figures at points, replication by replication: of a scenario, or of any function that stands in its place."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from sim.errors import TwinferError
from sim.study.sensitivity.factors import resolve
from sim.study.task import Task, in_a_line

if TYPE_CHECKING:
    from sim.observe.objectives import Figures
    from sim.study.study import Study

__all__ = ["Evaluate", "Figure", "Reading", "Run", "Simulated"]

Floats = npt.NDArray[np.float64]


class Figure(NamedTuple):
    """A figure of one workload, or (``workload`` empty) of all requests."""

    workload: str
    metric: str

    def __str__(self) -> str:
        return f"{self.workload}.{self.metric}" if self.workload else self.metric


@dataclass(frozen=True)
class Run:
    """Replications ``first`` to ``first + count - 1`` at ``point``: values by path or factor. ``draw``: of the doubt of the profiles."""

    point: Mapping[str, Any]
    first: int
    count: int
    draw: int | None = None

    @property
    def key(self) -> str:
        """The same for equal runs."""
        return json.dumps([sorted(self.point.items()), self.first, self.count, self.draw], default=str)


@dataclass(frozen=True)
class Reading:
    """``values[figure]``: one number a replication, NaN where there is none; ``error``: why there are none at all.

    ``exact``: nothing is left to chance, all replications are the same.
    """

    values: Mapping[Figure, Floats] = field(default_factory=dict)
    error: str = ""
    exact: bool = False

    def get(self, figure: Figure, count: int) -> Floats:
        """The values of ``figure``; all NaN if the run failed."""
        found = self.values.get(figure)
        return np.full(count, np.nan) if found is None else found


class Evaluate(Protocol):
    """Figures of runs, in their order."""

    def __call__(self, runs: Sequence[Run]) -> Iterator[Reading]:
        """The reading of each run."""
        ...


class Simulated:
    """Readings of a scenario, by a study. What was run once is not run again.

    ``warmup`` in seconds is that of all points, so that figures are of the same requests. ``fixed`` are changes that all points have.
    ``progress`` is told what is done, and of how many asked for so far.
    """

    def __init__(
        self,
        study: Study,
        figures: Sequence[Figure],
        warmup: float | None = None,
        fixed: Mapping[str, Any] | None = None,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> None:
        self.study = study
        self.figures = tuple(figures)
        self.warmup = warmup
        self.fixed = dict(fixed or {})
        self.warnings: dict[str, None] = {}
        self._progress = progress
        self._known: dict[str, Reading] = {}
        self._done = 0

    def __call__(self, runs: Sequence[Run]) -> Iterator[Reading]:
        """The reading of each run, in their order; one that cannot be run has an error."""
        tasks: dict[str, Task] = {}
        for run in runs:
            if run.key not in self._known and run.key not in tasks:
                try:
                    tasks[run.key] = self._task(run)
                except TwinferError as error:
                    self._known[run.key] = Reading(error=in_a_line(error))
        total = self._done + len(tasks)
        for key, outcome in zip(tasks, self.study.evaluate(list(tasks.values())), strict=True):
            self._done += 1
            if self._progress is not None:
                self._progress(self._done, total, "")
            self.warnings.update(dict.fromkeys(outcome.warnings))
            if outcome.figures is None:
                self._known[key] = Reading(error=outcome.error or "failed")
            else:
                count = int(outcome.task.count or 1)
                values = {f: _values(outcome.figures, f, count) for f in self.figures}
                self._known[key] = Reading(values, exact=outcome.figures.exact)
        yield from (self._known[run.key] for run in runs)

    def _task(self, run: Run) -> Task:
        changes, times = resolve(self.study.scenario, run.point)
        # Task.draw is an offset: replication r runs with draw r + offset
        draw = None if run.draw is None else run.draw - run.first
        return Task(self.fixed | changes, run.first, run.count, self.warmup, draw, times)


def _values(figures: Figures, figure: Figure, count: int) -> Floats:
    """``figure`` of each replication; of an exact run, which is the same in all of them, ``count`` times."""
    rows: Sequence[Mapping[str, float]]
    # ITL is known of all workloads together only
    whole = not figure.workload or figure.metric.startswith("itl")
    rows = figures.overall if whole else figures.workloads.get(figure.workload, ())
    found = np.array([row.get(figure.metric, np.nan) for row in rows], dtype=np.float64)
    return np.resize(found, count) if figures.exact and len(found) else found
