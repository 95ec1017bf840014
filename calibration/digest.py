"""What is in a profile, in a few numbers: its parts, where they come from, how good they are, and what else was measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from statistics import median
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sim.profiles.parts import HeldOut, Samples
    from sim.profiles.schema import Curves, Profile, Step
    from sim.profiles.startup import Load, Transfer

__all__ = ["PARTS", "PHASES", "digest"]

PARTS: Final = {
    "tokens": "GEMMs and all else by tokens",
    "sequences": "LM head, sampler",
    "prefill": "prefill attention",
    "decode": "decode attention",
    "mixed": "both attentions together",
    "spread": "unequal contexts",
    "step": "whole steps",
    "batch": "batches",
}
"""What the parts of a profile that have a held-out error are called."""

PHASES: Final = {
    "node": "machine from the cloud",
    "image_pull": "image pull",
    "image_extract": "image unpacked",
    "process": "process and imports",
    "context": "driver context",
    "build": "modules built",
    "weights": "weights",
    "deserialise": "tensors from bytes",
    "compile": "compile",
    "graph_capture": "CUDA graphs",
    "warm_up": "warm-up, memory profiling",
    "engine": "engine, after the weights",
    "ready": "until the first answer",
}
"""The phases of a start in words, in their usual order."""


def digest(profile: Profile) -> dict[str, Any]:
    """Everything that ``twinfer calibrate show`` says, as plain data: seconds, bytes, watts, relative errors."""
    about = profile.provenance
    return {
        "name": profile.name,
        "model": profile.model,
        "gpu": profile.gpu,
        "engine": profile.engine,
        "tensor_parallel": profile.tensor_parallel,
        "dtype": profile.dtype,
        "kv_dtype": profile.kv_dtype,
        "points": about.points,
        "source": about.source,
        "licence": about.licence,
        "measured_at": about.measured_at,
        "host": about.host,
        "versions": dict(about.versions),
        "command": about.command,
        "parts": list(_parts(profile)),
        "outside_steps": None if profile.step is None else _outside(profile.step),
        "served": profile.served.model_dump(exclude_none=True) if profile.served else None,
        "memory": profile.memory.model_dump(mode="json"),
        "load": _load(profile.load) if profile.load else None,
        "power": profile.power.model_dump(mode="json") if profile.power else None,
        "hardware": profile.hardware.model_dump(mode="json", exclude_none=True) if profile.hardware else None,
        "doubt": _doubt(profile),
        "notes": [*about.notes, *(profile.load.notes if profile.load else ())],
    }


def _parts(profile: Profile) -> Iterator[dict[str, Any]]:
    if profile.step is not None:
        step = profile.step
        yield _part("tokens", *_of_curves(step.tokens, "tokens"), step.tokens.held_out)
        yield _part("sequences", *_of_curves(step.sequences, "sequences"), step.sequences.held_out)
        grid = step.prefill
        span = f"chunks {_span(grid.chunks)}, past {_span(grid.pasts)}"
        yield _part("prefill", _cells(grid.us), span, (), grid.held_out)
        span = f"{_span(step.decode.sequences)} of {_span(step.decode.contexts)} tokens"
        yield _part("decode", _cells(step.decode.us), span, (), step.decode.held_out)
        if step.mixed is not None:
            first = step.mixed.blocks[0]
            span = f"chunks {_span(first.chunks)}, {_span(first.sequences)} decodes of {_span(first.contexts)}"
            yield _part("mixed", _cells(block.us for block in step.mixed.blocks), span, (), step.mixed.held_out)
        if step.spread is not None:
            span = f"{_span(step.spread.sequences)} decodes"
            yield _part("spread", 2 * len(step.spread.sequences), span, (), step.spread.held_out)
        if step.held_out is not None:
            yield _part("step", step.held_out.points, "kept aside", (), step.held_out)
    if profile.batch is not None:
        batch = profile.batch
        span = f"{_span(batch.at)} of {batch.input}"
        yield _part("batch", len(batch.at), span, (batch.source,), batch.held_out)


def _part(name: str, points: int, covers: str, sources: Iterable[str], held_out: HeldOut | None) -> dict[str, Any]:
    return {
        "part": name,
        "points": points,
        "covers": covers,
        "sources": sorted(set(sources)),
        "held_out": held_out.model_dump(mode="json") if held_out else None,
    }


def _of_curves(curves: Curves, what: str) -> tuple[int, str, list[str]]:
    every = [point for curve in curves.parts.values() for point in curve.at]
    span = f"{_span((min(every), max(every)))} {what}"
    return len(every), span, [curve.source for curve in curves.parts.values()]


def _cells(rows: Iterable[Iterable[float | None]]) -> int:
    return sum(value is not None for row in rows for value in row)


def _span(grid: Any) -> str:
    return f"{grid[0]:,}" if len(grid) == 1 else f"{grid[0]:,}–{grid[-1]:,}"


def _outside(step: Step) -> dict[str, Any]:
    """Time that no kernel accounts for, by step and by request."""
    host = step.host
    return {
        "step_s": host.us * 1e-6,
        "step_source": host.source,
        "request_s": host.request_us * 1e-6,
        "request_source": host.request_source,
        "cuda_graphs": host.cuda_graphs,
    }


def _load(load: Load) -> dict[str, Any]:
    return {
        "bytes": load.bytes,
        "files": load.files,
        "phases": {name: _summary(load.phases[name]) for name in PHASES if name in load.phases},
        "read": {tier: _rate(transfer) for tier, transfer in load.read.items()},
        "to_device": {route: _rate(transfer) for route, transfer in load.to_device.items()},
        "device_to_device": dict(load.device_to_device),
    }


def _summary(samples: Samples) -> dict[str, Any]:
    values = samples.values
    return {
        "median": median(values),
        "low": values[0],
        "high": values[-1],
        "repeats": len(values),
        "source": samples.source,
        "note": samples.note,
    }


def _rate(transfer: Transfer) -> dict[str, Any]:
    return _summary(transfer.bytes_per_second) | {"together": dict(transfer.together)}


def _doubt(profile: Profile) -> dict[str, Any] | None:
    """One standard deviation of each factor, relative."""
    if profile.doubt is None:
        return None
    spread = {part: profile.doubt.covariance[i][i] ** 0.5 for i, part in enumerate(profile.doubt.parts)}
    return {"method": profile.doubt.method, "deviation": spread}
