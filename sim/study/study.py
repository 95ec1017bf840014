"""A scenario, workers, and perhaps a store: points of it are evaluated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from threading import Lock
from typing import TYPE_CHECKING, Protocol

from sim.errors import TwinferError
from sim.experiment.pool import Pool
from sim.study.task import Done, Job, Outcome, Task, died, in_a_line, key_of, key_of_unmade, perform

if TYPE_CHECKING:
    from sim.config import Scenario

__all__ = ["Progress", "Store", "Study"]

Progress = Callable[[int, int, str], None]
"""Called with what is done, what there is to do (0: not known), and what was done last: empty."""


class Store(Protocol):
    """Where outcomes are kept by key. Called from more than one thread, but by one at a time."""

    def find(self, task: Task, key: str) -> Outcome | None:
        """The outcome kept under ``key``, as that of ``task``; None if there is none, or it is worth another try."""
        ...

    def keep(self, outcome: Outcome) -> None:
        """Keep an outcome, whole or not at all."""
        ...


class Study:
    """``scenario`` is what tasks change. ``jobs`` and ``backend`` as in :class:`sim.experiment.pool.Pool`.

    What ``store`` has is not run again, and what is run is kept in it as soon as it is done. Tasks that come to the same run are run
    once.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        jobs: int | None = None,
        backend: str = "loky",
        store: Store | None = None,
    ) -> None:
        self.scenario = scenario
        self.pool = Pool(jobs, backend)
        self.store = store

    def evaluate(self, tasks: Iterable[Task], progress: Progress | None = None) -> Iterator[Outcome]:
        """The outcome of each task, in their order. Tasks are taken as workers get to them."""
        total = len(tasks) if isinstance(tasks, Sized) else None
        call = _Call(self, tasks)
        waiting: dict[int, Outcome] = {}
        following = 0
        for done, (index, outcome) in enumerate(call.run(total), 1):
            if progress is not None:
                progress(done, total or 0, "")
            waiting[index] = outcome
            while following in waiting:
                yield waiting.pop(following)
                following += 1


class _Call:
    """One evaluation of tasks: which of them wait for which run. Tasks are prepared in whatever thread the pool takes them in."""

    def __init__(self, study: Study, tasks: Iterable[Task]) -> None:
        self._study = study
        self._tasks = tasks
        self._lock = Lock()
        self._known: list[tuple[int, Outcome]] = []
        self._keys: list[str] = []  # by number of the job
        self._asked: dict[str, list[tuple[int, Task]]] = {}  # runs in hand

    def run(self, total: int | None) -> Iterator[tuple[int, Outcome]]:
        """Outcomes with the places of their tasks, as they come."""
        for number, done in self._study.pool.unordered(perform, self._jobs(), total, died):
            yield from self._found()
            yield from self._finished(number, done)
        yield from self._found()

    def _jobs(self) -> Iterator[Job]:
        base = self._study.scenario
        for index, task in enumerate(self._tasks):
            try:
                scenario = base.with_changes(task.changes)
            except TwinferError as error:
                self._unmade(index, task, error)
                continue
            count = scenario.run.replications if task.count is None else task.count
            job = Job(scenario, task.first, count, task.warmup, task.draw, task.times)
            key = key_of(job)
            with self._lock:
                if key in self._asked:
                    self._asked[key].append((index, task))
                    continue
                found = self._find(task, key)
                if found is not None:
                    self._known.append((index, found.at(scenario.run.confidence)))
                    continue
                self._asked[key] = [(index, task)]
                self._keys.append(key)
            yield job

    def _unmade(self, index: int, task: Task, error: TwinferError) -> None:
        outcome = Outcome(task, key_of_unmade(self._study.scenario.digest(), task), None, error=in_a_line(error))
        with self._lock:
            self._keep(outcome)
            self._known.append((index, outcome))

    def _found(self) -> Iterator[tuple[int, Outcome]]:
        with self._lock:
            known, self._known = self._known, []
        yield from known

    def _finished(self, number: int, done: Done) -> list[tuple[int, Outcome]]:
        with self._lock:
            key = self._keys[number]
            outcomes = []
            for index, task in self._asked.pop(key):
                outcome = Outcome(task, key, *done)
                self._keep(outcome)
                outcomes.append((index, outcome))
        return outcomes

    def _find(self, task: Task, key: str) -> Outcome | None:
        return None if self._study.store is None else self._study.store.find(task, key)

    def _keep(self, outcome: Outcome) -> None:
        if self._study.store is not None:
            self._study.store.keep(outcome)
