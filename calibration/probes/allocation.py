"""How many bytes of the device's memory something takes, as torch's own allocator counts them."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calibration.device import Device

__all__ = ["allocated"]


def allocated(device: Device, run: Callable[[], Any]) -> tuple[int, int, Any]:
    """(bytes at the peak of ``run``, bytes that what it returned still holds, what it returned), beyond what was held before.

    On a GPU from the caching allocator's own counters. A CPU has none: every allocation and release that torch's profiler saw
    is added up, which counts exactly what tensors ask for, where the process's resident memory would depend on malloc's habits.
    """
    return _on_gpu(device, run) if device.kind == "cuda" else _on_cpu(run)


def _on_gpu(device: Device, run: Callable[[], Any]) -> tuple[int, int, Any]:
    import torch

    here = torch.device(device.torch)
    torch.cuda.synchronize(here)
    torch.cuda.reset_peak_memory_stats(here)
    before = torch.cuda.memory_allocated(here)
    kept = run()
    torch.cuda.synchronize(here)
    return torch.cuda.max_memory_allocated(here) - before, torch.cuda.memory_allocated(here) - before, kept


def _on_cpu(run: Callable[[], Any]) -> tuple[int, int, Any]:
    from torch.profiler import ProfilerActivity, profile

    seen = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
    with _quiet():
        seen.start()
    try:
        kept = run()
    finally:
        with _quiet():
            seen.stop()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        seen.export_chrome_trace(str(trace))
        events = json.loads(trace.read_bytes())["traceEvents"]
    changes = [event for event in events if event["name"] == "[memory]" and event["args"]["Device Type"] == 0]
    now = peak = 0
    for event in sorted(changes, key=lambda event: event["args"]["Ev Idx"]):
        now += event["args"]["Bytes"]
        peak = max(peak, now)
    return peak, now, kept


@contextmanager
def _quiet() -> Iterator[None]:
    """The profiler's library writes of its own doings to stderr, past Python."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
