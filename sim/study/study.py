"""A scenario, workers, and perhaps a store: points of it are evaluated."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Protocol

from sim.errors import TwinferError
from sim.experiment.pool import Pool
from sim.study.task import Done, Job, Outcome, Task, key_of, perform

if TYPE_CHECKING:
    from sim.config import Scenario

__all__ = ["Progress", "Store", "Study"]

Progress = Callable[[int, int, str], None]
"""Called with what is done, what there is to do (0: not known), and what was done last."""


class Store(Protocol):
    """Where outcomes are kept by key."""

    def find(self, task: Task, key: str) -> Outcome | None:
        """The outcome kept under ``key``, as that of ``task``."""
        ...

    def keep(self, outcome: Outcome, job: Job) -> None:
        """Keep an outcome, whole or not at all."""
        ...


class Study:
    """``scenario`` is what tasks change. ``jobs`` and ``backend`` as in :class:`sim.experiment.pool.Pool`.

    What ``store`` has is not run again, and what is run is kept in it as soon as it is done.
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
        total = len(tasks) if isinstance(tasks, Sized) else 0
        for done, outcome in enumerate(self._evaluate(tasks), 1):
            if progress is not None:
                progress(done, total, "")
            yield outcome

    def _evaluate(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        # what was asked, in order: outcomes that are known, and tasks that are being run
        order: deque[Outcome | tuple[Task, str, Job]] = deque()

        def jobs() -> Iterator[Job]:
            for task in tasks:
                prepared = self._prepared(task)
                order.append(prepared)
                if not isinstance(prepared, Outcome):
                    yield prepared[2]

        for done in self.pool.run(perform, jobs()):
            yield from _known(order)
            asked = order.popleft()
            assert not isinstance(asked, Outcome)
            yield self._finished(*asked, done)
        yield from _known(order)

    def _prepared(self, task: Task) -> Outcome | tuple[Task, str, Job]:
        """What is known of a task already, or what is to be run."""
        try:
            scenario = self.scenario.with_changes(task.changes)
        except TwinferError as error:
            return Outcome(task, "", None, error=" ".join(str(error).splitlines()))
        count = scenario.run.replications if task.count is None else task.count
        job = Job(scenario, task.first, count, task.warmup, task.draw, task.times)
        key = key_of(job)
        found = None if self.store is None else self.store.find(task, key)
        return (task, key, job) if found is None else found

    def _finished(self, task: Task, key: str, job: Job, done: Done) -> Outcome:
        outcome = Outcome(task, key, *done)
        if self.store is not None:
            self.store.keep(outcome, job)
        return outcome


def _known(order: deque[Outcome | tuple[Task, str, Job]]) -> Iterator[Outcome]:
    while order and isinstance(order[0], Outcome):
        yield order.popleft()  # type: ignore[misc]
