"""Workers: this process, processes of this machine, or those of a Ray or Dask cluster, by joblib in all cases.

What comes out does not depend on who worked, nor on who was done first.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from threading import Lock
from typing import Any, Generic, TypeVar

from sim.errors import TwinferError, did_you_mean

__all__ = ["BACKENDS", "DIED", "Pool"]

BACKENDS = ("loky", "ray", "dask")

DIED = "its worker process died twice: out of memory, or killed"
"""What is said of a task that takes its worker with it."""

_ALONE_S = 1.0  # of work, if nobody knows how much there is, before worker processes are started: they take about as long to start
_WORTH_S = 4.0  # of work left, below which starting them costs more than it saves

_Task = TypeVar("_Task")
_Done = TypeVar("_Done")


class Pool:
    """``jobs`` workers (default: as many as this process has cores, or the cluster has slots) of ``backend``.

    Processes of this machine are started when there is work enough for them, and stay for the next call. ``ray`` and ``dask`` take the
    cluster that the environment names (``RAY_ADDRESS``, ``DASK_SCHEDULER_ADDRESS``) or the one this process is connected to, and
    else start one on this machine. TwinferError for a backend that is unknown or not installed.

    A worker that dies ends nothing: what was in its hands, and in those of the others, is run anew, one task at a time, so that the
    one that kills its worker a second time is known.
    """

    def __init__(self, jobs: int | None = None, backend: str = "loky") -> None:
        if backend not in BACKENDS:
            raise TwinferError(
                f"backend: {backend!r} is not one of {', '.join(BACKENDS)}{did_you_mean(backend, BACKENDS)}"
            )
        self.jobs = jobs
        self.backend = backend
        self._running = backend != "loky"
        self._alone = 0.0  # seconds of work that this process has done itself, over all calls

    def start(self) -> None:
        """From now on tasks are not run by this process, however few there are, if there may be others."""
        self._running = self._running or self._many()

    def run(self, work: Callable[[_Task], _Done], tasks: Iterable[_Task], total: int | None = None) -> Iterator[_Done]:
        """``work(task)`` of each task, in their order. ``tasks`` are taken as they are needed, perhaps by another thread.

        ``total``: how many there are, if that is known. TwinferError if a task kills its worker twice.
        """
        waiting: dict[int, _Done] = {}
        following = 0
        for number, done in self.unordered(work, tasks, total):
            waiting[number] = done
            while following in waiting:
                yield waiting.pop(following)
                following += 1

    def unordered(
        self,
        work: Callable[[_Task], _Done],
        tasks: Iterable[_Task],
        total: int | None = None,
        died: Callable[[_Task], _Done] | None = None,
    ) -> Iterator[tuple[int, _Done]]:
        """As :meth:`run`, but each as soon as it is done, with the number of its task. ``died`` answers for one that kills its worker."""
        feed = _Feed(tasks)
        if self._alone > _WORTH_S:  # many small calls are work enough, too
            self.start()
        begin = time.monotonic()
        for number, task in feed:
            if self._running or self._worth(number, total, time.monotonic() - begin):
                self._running = True
                feed.give_back(number)
                yield from self._spread(work, feed, died)
                break
            started = time.monotonic()
            done = work(task)
            self._alone += time.monotonic() - started
            feed.done(number)
            yield number, done
        feed.check()

    def _worth(self, done: int, total: int | None, spent: float) -> bool:
        """Whether worker processes are, after this process has done so many tasks."""
        if done == 0 or not self._many():
            return False
        return spent > _ALONE_S if total is None else spent / done * (total - done) > _WORTH_S

    def _many(self) -> bool:
        return self.backend != "loky" or (self.jobs or os.cpu_count() or 1) > 1

    def _spread(
        self, work: Callable[[_Task], _Done], feed: _Feed[_Task], died: Callable[[_Task], _Done] | None
    ) -> Iterator[tuple[int, _Done]]:
        with self._workers() as parallel:
            while True:
                try:
                    for number, done in parallel(work, feed):
                        feed.done(number)
                        yield number, done
                except BrokenExecutor:
                    pass
                # what a dead worker took along; one by one, so that a task has all the memory, and only itself to blame
                left = feed.pending()
                if not left and feed.ended:
                    return
                for number, task in left:
                    try:
                        ((_, done),) = parallel(work, [(number, task)])
                    except BrokenExecutor:
                        if died is None:
                            raise TwinferError(DIED.replace("its", "a", 1)) from None
                        done = died(task)
                    feed.done(number)
                    yield number, done

    @contextmanager
    def _workers(self) -> Iterator[Callable[..., Iterator[tuple[int, Any]]]]:
        """What runs numbered tasks by joblib: ``parallel(work, [(number, task), ...])`` gives numbered results."""
        from contextlib import nullcontext

        from joblib import Parallel, cpu_count, delayed

        if self.backend == "loky":
            context: Any = nullcontext(self.jobs or cpu_count())
        else:
            from sim.experiment import clusters

            context = clusters.context(self.backend, self.jobs)
        with context as jobs:

            def parallel(work: Callable[[Any], Any], tasks: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
                pool = Parallel(n_jobs=jobs, return_as="generator_unordered")
                results = pool(delayed(_numbered)(work, number, task) for number, task in tasks)
                try:
                    for result in results:  # noqa: UP028 - it is closed below, where its warning is meant to be lost
                        yield result
                finally:
                    with warnings.catch_warnings():
                        warnings.filterwarnings("ignore", category=UserWarning, module="joblib")
                        results.close()

            yield parallel


def _numbered(work: Callable[[_Task], _Done], number: int, task: _Task) -> tuple[int, _Done]:
    return number, work(task)


class _Feed(Generic[_Task]):
    """Tasks with their numbers, for as many threads as like to take some; it knows those that were taken and are not done.

    A fault in ``tasks`` itself ends them, and is raised by :meth:`check`: in joblib's threads it would be lost.
    """

    def __init__(self, tasks: Iterable[_Task]) -> None:
        self._tasks = iter(tasks)
        self._taken: dict[int, _Task] = {}
        self._back: list[tuple[int, _Task]] = []
        self._count = 0
        self._lock = Lock()
        self._fault: BaseException | None = None
        self.ended = False

    def __iter__(self) -> Iterator[tuple[int, _Task]]:
        while (taken := self._take()) is not None:
            yield taken

    def _take(self) -> tuple[int, _Task] | None:
        with self._lock:
            if self._back:
                number, task = self._back.pop()
            elif self.ended:
                return None
            else:
                try:
                    task = next(self._tasks)
                except StopIteration:
                    self.ended = True
                    return None
                except BaseException as fault:  # noqa: BLE001 - raised by check()
                    self.ended, self._fault = True, fault
                    return None
                number, self._count = self._count, self._count + 1
            self._taken[number] = task
            return number, task

    def give_back(self, number: int) -> None:
        """A task that was taken is not run after all; it comes next."""
        with self._lock:
            self._back.append((number, self._taken.pop(number)))

    def done(self, number: int) -> None:
        """A task has its result."""
        with self._lock:
            del self._taken[number]

    def pending(self) -> list[tuple[int, _Task]]:
        """Those taken and not done, by number."""
        with self._lock:
            return sorted(self._taken.items(), key=lambda item: item[0])

    def check(self) -> None:
        """Raise what went wrong in the tasks themselves."""
        if self._fault is not None:
            raise self._fault


def available(module: str, backend: str) -> Any:
    """The imported ``module``. TwinferError if it is not installed."""
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise TwinferError(f"backend {backend} needs {module}: pip install 'twinfer[{backend}]' ({error})") from error
