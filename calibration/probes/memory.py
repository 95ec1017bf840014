"""What a replica keeps on its device: context, weights, activations, KV cache, and what its allocator needs beside; in a new process,
where nothing else has been allocated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from math import ceil
from typing import TYPE_CHECKING, Any, Final

from calibration import nvml
from calibration.campaign import Campaign, Record
from calibration.probes.allocation import allocated
from calibration.probes.boundary import find_boundary, process_bytes, said
from calibration.probes.child import fresh
from sim.profiles.parts import Source
from sim.profiles.schema import Memory

if TYPE_CHECKING:
    from calibration.device import Device
    from calibration.probes.subject import MakeSubject, Subject
    from sim.catalog import Architecture

__all__ = ["BUDGETS", "ROWS", "covering", "growth", "measure_memory"]

BUDGETS: Final = {"cpu": (64, 256, 512, 1024), "cuda": (512, 1024, 2048, 4096, 8192)}
ROWS: Final = {"cpu": (4, 16, 64), "cuda": (16, 64, 256)}
_CACHED: Final = 4096  # tokens of the cache that is allocated to be weighed


def measure_memory(
    campaign: Campaign,
    *,
    device: Device,
    build: Callable[[], Any],
    make: MakeSubject,
    itemsize: int,
    shape: Architecture | None = None,
    tp: int = 1,
    budgets: Sequence[int] = (),
    rows: Sequence[int] = (),
) -> tuple[Memory, list[str]]:
    """The memory part of a profile, and notes for its provenance.

    ``build`` makes the module tree of the whole model without weights, ``make`` the layers that are measured; both run in other
    processes. ``budgets`` are the scheduled tokens and ``rows`` the sequences by which activations are measured. ``shape`` is a decoder's,
    None for a model that keeps no cache.

    :raises ProfileError: even the smallest budget does not fit, or the driver failed.
    """
    budgets, rows = sorted(budgets or BUDGETS[device.kind]), sorted(rows or ROWS[device.kind])
    campaign.expect(1 if shape is None else 2)
    cache = None if shape is None else (max(shape.kv_heads // tp, 1), shape.head_dim)
    task = partial(fresh, _parts, device, build, make, budgets, rows, cache, itemsize)
    found = campaign.measure("memory/parts", task)
    per_token, per_row, constant = growth(found["tokens"], found["token_peaks"], found["rows"], found["row_peaks"])
    composed: Source = "composed" if found["depth"] > 1.0 else "measured"
    memory = Memory(
        # What the allocator holds of the layers that are here, for as many parameters as the whole model has.
        weights_bytes=round(found["whole"] * found["weights"] / found["parameters"]),
        context_bytes=found["context"] + constant,
        activation_bytes_per_token=per_token,
        logits_bytes_per_sequence=per_row,
        kv_bytes_per_token=0 if shape is None else round(shape.layers * found["cache"] / found["cache_tokens"]),
        allocator_bytes=found["allocator"],
        source={
            "weights_bytes": composed,
            "context_bytes": "measured",
            "activation_bytes_per_token": "measured",
            "logits_bytes_per_sequence": "measured",
            "kv_bytes_per_token": composed,
            "allocator_bytes": "assumed" if device.kind == "cpu" else "measured",
        },
    )
    notes = _said(device, found)
    if shape is not None:
        budget, most = found["tokens"][-1], found["rows"][-1]
        task = partial(fresh, find_boundary, device, make, memory, constant, budget, most)
        notes.append(said(campaign.measure("memory/boundary", task)))
    return memory, notes


def growth(
    tokens: Sequence[int], token_peaks: Sequence[int], rows: Sequence[int], row_peaks: Sequence[int]
) -> tuple[int, int, int]:
    """(bytes a token, bytes a sequence, bytes that do not grow) such that the larger of the first two, and the third, hold every peak.

    The third is for a step that draws from the largest number of rows or has the largest number of tokens, as the one with which an
    engine finds its peak: what its logits take, or its layers, may hide it.
    """
    per_token, per_row = ceil(covering(tokens, token_peaks)[0]), ceil(covering(rows, row_peaks)[0])
    missing = [peak - max(per_token * size, per_row * rows[-1]) for size, peak in zip(tokens, token_peaks, strict=True)]
    missing += [peak - max(per_row * size, per_token * tokens[-1]) for size, peak in zip(rows, row_peaks, strict=True)]
    return per_token, per_row, max(0, *missing)


def covering(sizes: Sequence[int], peaks: Sequence[int]) -> tuple[float, float]:
    """Slope and constant, neither negative, of the lowest line that no peak lies above (lowest by their sum): (bytes each, bytes).

    Memory that is too small by one byte is an engine that fails, so a line through the middle will not do.
    """
    points = list(zip(sizes, peaks, strict=True))
    lines = [(0.0, float(max(peaks))), (max(peak / size for size, peak in points), 0.0)]
    for (x0, y0), (x1, y1) in combinations(points, 2):
        slope = (y1 - y0) / (x1 - x0)
        lines.append((slope, y0 - slope * x0))
    fits = [
        (round(sum(slope * x + constant for x in sizes)), constant, slope)
        for slope, constant in lines
        if slope >= 0.0 and constant >= 0.0 and all(slope * x + constant >= y * (1.0 - 1e-9) for x, y in points)
    ]
    _, constant, slope = min(fits)
    return slope, constant


def _parts(
    device: Device,
    build: Callable[[], Any],
    make: MakeSubject,
    budgets: Sequence[int],
    rows: Sequence[int],
    cache: tuple[int, int] | None,
    itemsize: int,
) -> Record:
    card = device.card
    idle = card.used_bytes() if card else 0  # before this process has a context
    import torch

    torch.zeros(1, device=device.torch)
    device.synchronize()
    # On a CPU the context is what Python and torch keep resident.
    at_start = card.used_bytes() - idle - torch.cuda.memory_reserved(device.torch) if card else process_bytes()[0]
    _, weights, subject = allocated(device, make)
    token_peaks = [_peak(device, subject.step, size) for size in (budgets[-1], *budgets)][1:]  # the first loads kernels
    row_peaks = [_peak(device, subject.head, size) for size in (rows[-1], *rows)][1:]
    found: Record = {
        "whole": sum(value.numel() for value in build().state_dict().values()) * itemsize,
        "parameters": sum(value.nbytes for value in subject.module.state_dict().values()),
        "depth": subject.depth,
        "weights": weights,
        "tokens": list(budgets),
        "token_peaks": token_peaks,
        "rows": list(rows),
        "row_peaks": row_peaks,
        "context_at_start": at_start,
        "context": at_start,
        "allocator": 0,
    }
    if cache is not None:
        dtype = next(iter(subject.module.parameters())).dtype
        layer = partial(torch.empty, (2, _CACHED, *cache), dtype=dtype, device=device.torch)
        found |= {"cache": allocated(device, layer)[1], "cache_tokens": _CACHED}
    return found | (_driver(card, device, subject, idle, weights, budgets[-1], rows[-1]) if card else {})


def _peak(device: Device, run: Callable[[int], Any], size: int) -> int:
    return allocated(device, lambda: run(size))[0]


def _driver(
    card: nvml.Card, device: Device, subject: Subject, idle: int, weights: int, tokens: int, rows: int
) -> Record:
    """What the caching allocator took from the driver for one full step, and what the driver gave beside."""
    import torch

    torch.cuda.empty_cache()
    workspaces = torch.cuda.memory_allocated(device.torch) - weights  # cuBLAS keeps some in torch's allocator
    torch.cuda.reset_peak_memory_stats(device.torch)
    subject.step(tokens)
    subject.head(rows)
    device.synchronize()
    stats = torch.cuda.memory_stats(device.torch)
    peak, reserved = stats["allocated_bytes.all.peak"], stats["reserved_bytes.all.peak"]
    outside = card.used_bytes() - idle - torch.cuda.memory_reserved(device.torch)
    return {
        "context": outside + workspaces,
        "allocator": reserved - peak,
        "fragments": stats["inactive_split_bytes.all.current"],
        "reserved": stats["reserved_bytes.all.current"],
        "driver": outside + stats["reserved_bytes.all.current"],
        "processes": card.processes(),
    }


def _said(device: Device, found: Record) -> list[str]:
    """What a reader of the numbers should know of them."""
    if device.kind == "cpu":
        words = (
            "memory on a CPU: context is what Python and torch keep resident, activations are what tensors asked for"
        )
        return [f"{words}; malloc's own overhead is not measured"]
    beside = _mib(found["driver"] - found["reserved"])
    words = f"NVML counts {_mib(found['driver'])}, torch's allocator {_mib(found['reserved'])} of it"
    words += f" ({_mib(found['fragments'])} in fragments): the rest, {beside}, is CUDA's context and kernels"
    notes = [f"{words}, {_mib(found['context_at_start'])} of it from the start"]
    if (others := (found["processes"] or 0) - 2) > 0:  # this process and the one that it measured in
        notes.append(f"{others} other processes were on the GPU: what they took meanwhile is counted as context")
    return notes


def _mib(size: float) -> str:
    return f"{size / 2**20:,.0f} MiB"
