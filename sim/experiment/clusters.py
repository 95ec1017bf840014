"""Ray and Dask as joblib's backends: the cluster that is there, or one on this machine.

Both libraries bring a backend of their own. Ray's starts its workers anew for each call, deals tasks out in turn whoever is free, and
gives back lists only; Dask's never returns when a worker has died. Here joblib's batches are plain tasks of the cluster, which keeps
its workers warm, gives work to whoever is free, and says what became of it.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

from joblib.parallel import AutoBatchingMixin, ParallelBackendBase, parallel_config, register_parallel_backend

from sim.errors import TwinferError
from sim.experiment.pool import available

__all__ = ["context"]

Send = Callable[[Callable[[], Any]], Any]
"""Sends a batch to the cluster, and gives a future of its result."""

_NAME = "twinfer"


@contextmanager
def context(backend: str, jobs: int | None) -> Iterator[int]:
    """While it is open, joblib's work goes to the cluster; gives the number of workers to use."""
    send, slots, deaths = (_ray if backend == "ray" else _dask)(jobs)
    workers = max(min(jobs or slots, slots), 1)
    register_parallel_backend(_NAME, _Cluster)
    with parallel_config(_NAME, send=send, workers=workers, deaths=deaths):
        yield workers


@cache
def _caller() -> ThreadPoolExecutor:
    """The thread in which joblib hears of results: it sends more work then, which the clusters' own threads must not."""
    return ThreadPoolExecutor(1, "twinfer")


class _Cluster(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """joblib's batches as tasks of a cluster. ``deaths``: what its futures raise when a worker has died."""

    supports_retrieve_callback = True
    MAX_IDEAL_BATCH_DURATION = 1.0

    def __init__(self, send: Send, workers: int, deaths: tuple[type[BaseException], ...], **rest: Any) -> None:
        super().__init__(**rest)
        self._send, self._workers, self._deaths = send, workers, deaths
        self._over = False

    def effective_n_jobs(self, n_jobs: int) -> int:
        """How many batches are in the cluster's hands at a time, or half of that."""
        return self._workers

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], None] | None = None) -> Any:
        """Send a batch off."""
        future = self._send(func)
        if callback is not None:
            future.add_done_callback(lambda done: None if self._over else _caller().submit(callback, done))
        return future

    apply_async = submit  # its name before joblib 1.5

    def retrieve_result_callback(self, future: Any) -> Any:
        """The results of a batch. BrokenExecutor if its worker has died."""
        try:
            result = future.result()
        except self._deaths as death:
            raise BrokenExecutor(str(death)) from death
        if isinstance(result, TwinferError):
            raise result
        return result

    def start_call(self) -> None:
        """A call of joblib begins."""
        self._over = False

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Nobody waits for what the cluster still has."""
        self._over = not ensure_ready

    def get_nested_backend(self) -> tuple[Any, int]:
        """Within a worker: no further workers."""
        from joblib.parallel import SequentialBackend

        return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), 1


def _ray(jobs: int | None) -> tuple[Send, int, tuple[type[BaseException], ...]]:
    ray = available("ray", "ray")
    if not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS")
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray's, of its own future
            if address:
                ray.init(address=address, **quiet)
            else:
                ray.init(num_cpus=jobs or os.cpu_count(), include_dashboard=False, **quiet)
    remote = ray.remote(max_retries=0)(_called)
    gone = ray.exceptions
    deaths = (gone.WorkerCrashedError, gone.OutOfMemoryError, gone.NodeDiedError, gone.RaySystemError)

    def send(func: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = remote.remote(func).future()
        return future

    return send, int(ray.cluster_resources().get("CPU", 1)), deaths


def _dask(jobs: int | None) -> tuple[Send, int, tuple[type[BaseException], ...]]:
    distributed = available("distributed", "dask")
    client = _client(distributed, jobs)

    def send(func: Callable[[], Any]) -> Any:
        return client.submit(_called, func, pure=False)

    return send, sum(client.nthreads().values()), (distributed.KilledWorker,)


def _client(distributed: Any, jobs: int | None) -> Any:
    try:
        return distributed.get_client()
    except ValueError:  # there is none
        address = os.environ.get("DASK_SCHEDULER_ADDRESS")
        if address:
            return distributed.Client(address)
        from dask import config

        # a task that takes its worker along is known at once, and said by the pool
        with config.set({"distributed.scheduler.allowed-failures": 0}):
            return distributed.Client(
                n_workers=jobs or os.cpu_count(),
                threads_per_worker=1,
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
            )


def _called(func: Callable[[], Any]) -> Any:
    """The results of a batch, or the error that ended it: Ray would wrap it in pages of its own."""
    try:
        return func()
    except TwinferError as error:
        return error
