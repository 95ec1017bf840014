"""How fast bytes cross between host and device, and between devices."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from calibration.campaign import Campaign, Record
from calibration.probes.child import fresh
from calibration.probes.storage import at_once

if TYPE_CHECKING:
    from calibration.device import Device

__all__ = ["MESSAGES", "all_reduce", "copied", "measure_links"]

Way = Literal["pinned", "pageable", "to_host"]
"""To the device from page-locked or from ordinary memory, or from the device to page-locked memory."""

MESSAGES: Final = (2**13, 2**17, 2**20, 2**24, 2**28)
"""Bytes that are all-reduced: from the hidden state of one token to that of a full prompt."""
_COPY: Final = 2**28
_TIMES: Final = 20


def copied(device: Device, size: int, way: Way, together: int = 1) -> Record:
    """Copy ``size`` bytes between host and device, ``together`` such copies at once, a stream each: bytes in all and seconds.

    On a CPU, where host and device are one memory, a plain copy.
    """
    import torch

    locked = device.kind == "cuda" and way != "pageable"
    pairs = []
    for _ in range(together):
        host = torch.zeros(size, dtype=torch.uint8, pin_memory=locked)
        there = torch.zeros(size, dtype=torch.uint8, device=device.torch)
        pairs.append((host, there) if way == "to_host" else (there, host))
    jobs = [_copying(device, target, source) for target, source in pairs]
    for job in jobs:
        job()
    return {"bytes": size * together, "seconds": at_once(jobs), "together": together}


def _copying(device: Device, target: Any, source: Any) -> Callable[[], object]:
    if device.kind == "cpu":
        return lambda: target.copy_(source)
    import torch

    stream = torch.cuda.Stream(torch.device(device.torch))

    def copy() -> None:
        with torch.cuda.stream(stream):
            target.copy_(source, non_blocking=True)
        stream.synchronize()

    return copy


def measure_links(campaign: Campaign, device: Device) -> dict[str, float]:
    """Bytes/s from the device to the host ('to host'), between pairs of GPUs ('copy 0>1') and of an all-reduce over the first n GPUs by
    size of the message ('all-reduce 2 8192', message over time). Empty on a CPU."""
    if device.kind == "cpu":
        return {}
    import torch

    def rate(key: str, probe: Callable[[], Record]) -> float:
        record = campaign.measure(key, probe)
        return float(record["bytes"] / record["seconds"])

    found = {"to host": rate("links/to_host", lambda: copied(device, _COPY, "to_host"))}
    count = torch.cuda.device_count()
    for other in range(1, count):
        for a, b in ((0, other), (other, 0)):
            found[f"copy {a}>{b}"] = rate(f"links/copy/{a}-{b}", partial(_between, a, b))
    for ranks in (n for n in (2, 4, 8) if n <= count):
        record = campaign.measure(f"links/all_reduce/{ranks}", partial(all_reduce, ranks))
        for size, seconds in zip(record["bytes"], record["seconds"], strict=True):
            found[f"all-reduce {ranks} {size}"] = size / seconds
    return found


def all_reduce(ranks: int, backend: str = "nccl", messages: tuple[int, ...] = MESSAGES) -> Record:
    """Seconds of a bf16 all-reduce by size of the message, over ``ranks`` devices, a process each: the slowest rank's mean of several."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(ranks) as pool:
        place = f"file://{Path(folder) / 'store'}"
        jobs = [pool.submit(fresh, _rank, backend, place, rank, ranks, messages) for rank in range(ranks)]
        times = [job.result() for job in jobs]
    return {"bytes": list(messages), "seconds": [max(column) for column in zip(*times, strict=True)]}


def _rank(backend: str, place: str, rank: int, ranks: int, messages: tuple[int, ...]) -> list[float]:
    import time

    import torch
    import torch.distributed as dist

    cuda = backend == "nccl"
    if cuda:
        torch.cuda.set_device(rank)
    patience = timedelta(seconds=60)  # for a rank that failed
    dist.init_process_group(backend, init_method=place, rank=rank, world_size=ranks, timeout=patience)
    try:
        seconds = []
        for size in messages:
            tensor = torch.zeros(size // 2, dtype=torch.bfloat16, device="cuda" if cuda else "cpu")
            for times in (3, _TIMES):  # the first are warm-up
                dist.barrier()
                start = time.perf_counter()
                for _ in range(times):
                    dist.all_reduce(tensor)
                if cuda:
                    torch.cuda.synchronize()
                mean = (time.perf_counter() - start) / times
            seconds.append(mean)
        return seconds
    finally:
        dist.destroy_process_group()


def _between(a: int, b: int) -> Record:
    import time

    import torch

    source = torch.zeros(_COPY, dtype=torch.uint8, device=f"cuda:{a}")
    target = torch.zeros(_COPY, dtype=torch.uint8, device=f"cuda:{b}")
    target.copy_(source)
    for device in (a, b):
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    for _ in range(_TIMES):
        target.copy_(source, non_blocking=True)
    for device in (a, b):
        torch.cuda.synchronize(device)
    return {"bytes": _COPY * _TIMES, "seconds": time.perf_counter() - start}
