"""What a replica does before it serves, beside loading weights: each phase timed in processes of their own, as it happens once in each."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from calibration.campaign import Record
from calibration.probes.child import fresh
from sim.errors import ProfileError

if TYPE_CHECKING:
    from calibration.device import Device
    from calibration.probes.subject import MakeSubject, Subject

__all__ = ["GRAPH_SIZES", "compiled", "process", "started"]

GRAPH_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Tokens of the CUDA graphs that are captured. vLLM captures more of them, a step of 8 apart from 8 on."""

_PROCESS: Final = """
import time, torch
print(time.monotonic())
if {device!r} != "cpu":
    torch.zeros(1, device={device!r}).item()
    print(time.monotonic())
"""


def process(device: Device) -> Record:
    """Seconds from the fork of a Python process to its having imported torch, and from there to its having a context on the GPU."""
    start = time.monotonic()  # the machine's clock: the child reads the same
    command = [sys.executable, "-c", _PROCESS.format(device=device.torch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ProfileError(f"a new Python process could not get ready on {device.torch}: {said[-1]}")
    ready = [float(line) for line in done.stdout.split()]
    times = [b - a for a, b in zip([start, *ready], ready, strict=False)]
    return {"seconds": sum(times), "process": times[0], "context": times[1] if len(times) > 1 else None}


def started(device: Device, build: Callable[[], Any], make: MakeSubject, tokens: int) -> Record:
    """In a new process: seconds to ``build`` the module tree without weights, what the first step of ``tokens`` takes beyond later ones,
    and, on a GPU, seconds to capture CUDA graphs of the layers that ``make`` makes, scaled to all layers."""
    return fresh(_start, device, build, make, tokens)


def compiled(make: MakeSubject, tokens: int) -> Record:
    """In a new process with an empty compile cache: what the first step after torch.compile takes beyond a later one; ``why`` not, if it
    cannot be compiled."""
    with tempfile.TemporaryDirectory() as cache:
        places = {"TORCHINDUCTOR_CACHE_DIR": cache, "TRITON_CACHE_DIR": cache}
        return fresh(_compile, make, tokens, environment=places)


def _start(device: Device, build: Callable[[], Any], make: MakeSubject, tokens: int) -> Record:
    import torch

    torch.zeros(1, device=device.torch)
    built = _seconds(device, build)
    subject = make()
    first, *later = (_seconds(device, lambda: (subject.step(tokens), subject.head(1))) for _ in range(4))
    graphs, why = _captured(device, subject) if device.kind == "cuda" else (None, None)
    return {
        "seconds": built + first + sum(later) + (graphs or 0.0),
        "build": built,
        "warm_up": max(first - median(later), 0.0),
        "graph_capture": graphs,
        "why": why,
    }


def _captured(device: Device, subject: Subject) -> tuple[float | None, str | None]:
    import torch

    def capture() -> None:
        # Not torch.cuda.graph, which collects garbage and empties the allocator's cache each time; engines do that once.
        graph = torch.cuda.CUDAGraph()
        graph.capture_begin()
        subject.step(size)
        graph.capture_end()

    total = 0.0
    stream = torch.cuda.Stream(torch.device(device.torch))
    try:
        with torch.cuda.stream(stream):
            for size in GRAPH_SIZES:
                subject.step(size)  # kernels are loaded, workspaces are there: that is warm-up, not capture
                total += _seconds(device, capture) * subject.depth
    except RuntimeError as error:
        return None, _line(error)
    return total, None


def _compile(make: MakeSubject, tokens: int) -> Record:
    import torch

    subject = make()
    times = []
    try:
        step = torch.compile(subject.step, dynamic=True)
        for _ in range(3):
            start = time.perf_counter()
            step(tokens)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    except Exception as error:  # noqa: BLE001 - whatever the compiler does not manage is reported, not fatal
        return {"seconds": 0.0, "compile": None, "why": _line(error)}
    return {"seconds": sum(times), "compile": times[0] - min(times), "why": None}


def _seconds(device: Device, run: Callable[[], object]) -> float:
    device.synchronize()
    start = time.perf_counter()
    run()
    device.synchronize()
    return time.perf_counter() - start


def _line(error: Exception) -> str:
    """The error in a line; torch's compilers put the cause on the second one."""
    first, *more = [text.strip() for text in str(error).splitlines() if text.strip()] or [""]
    cause = f" {more[0]}" if more and first.endswith(":") else ""
    return f"{type(error).__name__}: {first}{cause}"
