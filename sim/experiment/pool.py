"""Workers: this process, processes of this machine, or those of a Ray or Dask cluster, by joblib in all cases.

Results come in the order of their tasks, whoever worked and whoever was done first.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any, TypeVar

from sim.errors import TwinferError, did_you_mean

__all__ = ["BACKENDS", "Pool"]

BACKENDS = ("loky", "ray", "dask")

_SLAB = 64
_ALONE_S = 1.0  # of work, before worker processes are started: they take about as long to start

_Task = TypeVar("_Task")
_Done = TypeVar("_Done")


class Pool:
    """``jobs`` workers (default: as many as this machine has cores, or the cluster has slots) of ``backend``.

    Processes of this machine are started when there is work enough for them, and stay for the next call. ``ray`` and ``dask`` take the
    cluster that the environment names (``RAY_ADDRESS``, ``DASK_SCHEDULER_ADDRESS``) or the one this process is connected to, and
    else start one on this machine. TwinferError for a backend that is unknown or not installed.
    """

    def __init__(self, jobs: int | None = None, backend: str = "loky") -> None:
        if backend not in BACKENDS:
            raise TwinferError(
                f"backend: {backend!r} is not one of {', '.join(BACKENDS)}{did_you_mean(backend, BACKENDS)}"
            )
        self.jobs = jobs
        self.backend = backend
        self._running = backend != "loky"

    def run(self, work: Callable[[_Task], _Done], tasks: Iterable[_Task]) -> Iterator[_Done]:
        """``work(task)`` of each task, in their order. ``tasks`` are taken as they are needed, perhaps by another thread."""
        rest = iter(tasks)
        begin = time.monotonic()
        while not self._running:
            if self._jobs() > 1 and time.monotonic() - begin > _ALONE_S:
                self._running = True
                break
            for task in rest:
                yield work(task)
                break
            else:
                return
        yield from self._spread(work, rest)

    def _jobs(self) -> int:
        return self.jobs or os.cpu_count() or 1

    def _spread(self, work: Callable[[_Task], _Done], tasks: Iterator[_Task]) -> Iterator[_Done]:
        from joblib import Parallel, delayed

        with self._context() as jobs:
            if self.backend != "ray":
                yield from Parallel(n_jobs=jobs, return_as="generator")(delayed(work)(task) for task in tasks)
                return
            while slab := list(islice(tasks, jobs * _SLAB)):  # Ray's backend gives back lists only
                yield from Parallel(n_jobs=jobs)(delayed(work)(task) for task in slab)

    def _context(self) -> AbstractContextManager[int]:
        """What makes joblib use the backend; gives the number of workers."""
        if self.backend == "loky":
            return nullcontext(self._jobs())
        from sim.experiment import clusters

        return clusters.context(self.backend, self.jobs)


def available(module: str, backend: str) -> Any:
    """The imported ``module``. TwinferError if it is not installed."""
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise TwinferError(f"backend {backend} needs {module}: pip install 'twinfer[{backend}]' ({error})") from error
