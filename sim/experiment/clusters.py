"""Ray and Dask as joblib's backend: the cluster that is there, or one on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sim.experiment.pool import available

__all__ = ["context"]


@contextmanager
def context(backend: str, jobs: int | None) -> Iterator[int]:
    """While it is open, joblib's work goes to the cluster; gives the number of workers to use."""
    with (_ray if backend == "ray" else _dask)(jobs) as workers:
        yield workers


@contextmanager
def _ray(jobs: int | None) -> Iterator[int]:
    from joblib import parallel_config

    ray = available("ray", "ray")
    if not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS")
        if address:
            ray.init(address=address, log_to_driver=False)
        else:
            ray.init(num_cpus=jobs or os.cpu_count(), include_dashboard=False, log_to_driver=False)
    available("ray.util.joblib", "ray").register_ray()
    slots = int(ray.cluster_resources().get("CPU", 1))
    with parallel_config(backend="ray"):
        yield min(jobs or slots, slots)


@contextmanager
def _dask(jobs: int | None) -> Iterator[int]:
    from joblib import parallel_config

    distributed = available("distributed", "dask")
    client = _client(distributed, jobs)
    with parallel_config(backend="dask", client=client):
        slots = sum(client.nthreads().values())
        yield min(jobs or slots, slots)


def _client(distributed: Any, jobs: int | None) -> Any:
    try:
        return distributed.get_client()
    except ValueError:  # there is none
        address = os.environ.get("DASK_SCHEDULER_ADDRESS")
        if address:
            return distributed.Client(address)
        return distributed.Client(n_workers=jobs or os.cpu_count(), threads_per_worker=1, dashboard_address=None)
