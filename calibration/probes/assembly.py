"""From what was measured of an engine to the step times of a profile, with the errors at points that were kept aside."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from calibration.importers.tables import rounded
from calibration.probes.compute import BATCHES, Found
from calibration.probes.design import Point
from calibration.probes.engine import SEQUENCES, TOKENS, Batch
from calibration.probes.room import Limits
from sim.perf.compile import step_table
from sim.perf.monotone import Array
from sim.perf.operations import reductions
from sim.perf.steptable import StepTable
from sim.profiles.schema import (
    ContextGrid,
    Curve,
    Curves,
    HeldOut,
    Host,
    MixedAttention,
    MixedBlock,
    Profile,
    PromptGrid,
    Step,
)

if TYPE_CHECKING:
    from calibration.importers.collectives import Collectives
    from sim.catalog import Architecture

__all__ = ["assembled", "held_out", "with_collectives"]

KEPT = "points measured and never fitted"
Part = TypeVar("Part", Curves, ContextGrid, PromptGrid)


def assembled(found: Found, limits: Limits, *, graphs: bool, target: float) -> tuple[Step, list[str]]:
    """The step times, and what there is to say of them. ``graphs``: decodes run, and were timed, as CUDA graphs.

    Chunk and decodes are taken to cost what they cost apart, unless that misses what they cost together by more than ``target``.
    """
    notes: list[str] = []
    step = Step(
        tokens=_curves(found, "tokens", TOKENS),
        sequences=_curves(found, "sequences", SEQUENCES),
        prefill=_prompts(found.surveys["prefill"].points),
        decode=_contexts(found.surveys["decode"].points),
        host=Host(us=0.0, source="measured", cuda_graphs=graphs),
    )
    step = _with_mixed(step, found, limits, target, notes)
    table = _table(step, limits)
    predicted: dict[str, Callable[[Batch], float]] = {
        "tokens": lambda batch: table.gemm[batch.tokens],
        "sequences": lambda batch: table.sample[batch.sequences],
        "decode": lambda batch: _attention(table, batch),
        "prefill": lambda batch: _attention(table, batch),
    }
    step = step.model_copy(
        update={part: _judged(getattr(step, part), found, part, seconds) for part, seconds in predicted.items()}
    )
    return _with_host(step, found, limits, notes), notes


def with_collectives(step: Step, link: Collectives, shape: Architecture, size: int) -> Step:
    """``step`` with what the GPUs of a tensor-parallel group tell each other; ``size`` bytes an activation."""

    def joined(curves: Curves, name: str, times: int, width: int, seconds: Callable[[Array], Array]) -> Curves:
        at = next(iter(curves.parts.values())).at
        us = times * np.asarray(seconds(np.asarray(at, dtype=float) * width * size)) * 1e6
        curve = Curve(at=at, us=tuple(rounded(float(value)) for value in us), source=link.source)
        return curves.model_copy(update={"parts": {**curves.parts, name: curve}})

    return step.model_copy(
        update={
            "tokens": joined(step.tokens, "all_reduce", reductions(shape), shape.hidden, link.all_reduce),
            "sequences": joined(step.sequences, "all_gather", 1, shape.vocab, link.all_gather),
        }
    )


def _curves(found: Found, part: str, names: Iterable[str]) -> Curves:
    sections = {point[0]: found.sections[BATCHES[part](point)] for point in sorted(found.surveys[part].points)}
    sizes = tuple(sections)
    present = [name for name in names if name in sections[sizes[0]]]
    return Curves(
        parts={name: Curve(at=sizes, us=tuple(rounded(one[name]) for one in sections.values())) for name in present}
    )


def _rows(
    points: Mapping[Point, float],
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[tuple[float | None, ...], ...]]:
    rows, columns = (tuple(sorted({point[axis] for point in points})) for axis in (0, 1))
    cells = tuple(
        tuple(rounded(points[row, column]) if (row, column) in points else None for column in columns) for row in rows
    )
    return rows, columns, cells


def _prompts(points: Mapping[Point, float]) -> PromptGrid:
    first = min(past for _, past in points)
    usable = {p: value for p, value in points.items() if (p[0], first) in points}
    chunks, pasts, us = _rows(usable)
    return PromptGrid(chunks=chunks, pasts=pasts, us=us)


def _contexts(points: Mapping[Point, float]) -> ContextGrid:
    counts = {n: sum(point[0] == n for point in points) for n, _ in points}
    sequences, contexts, us = _rows({p: value for p, value in points.items() if counts[p[0]] > 1})
    return ContextGrid(sequences=sequences, contexts=contexts, us=us)


def _table(step: Step, limits: Limits) -> StepTable:
    profile = Profile.model_construct(name="calibration", step=step)
    return step_table(profile, limits.sequences, max(limits.tokens, limits.sequences))


def _attention(table: StepTable, batch: Batch) -> float:
    """Seconds of attention alone."""
    n, context = batch.decodes, batch.decodes * batch.context
    if not batch.chunk:
        piece = bisect_left(table.knots[n], context)
        return table.attention_base[n][piece] + table.attention_slope[n][piece] * context
    work = batch.chunk * (2 * batch.past + batch.chunk)
    return table.mixed_step(batch.chunk, work, n, context, 0, 0) - table.gemm[batch.tokens] - table.host


def _seconds(table: StepTable, batch: Batch) -> float:
    """Seconds of a whole step."""
    n, context = batch.decodes, batch.decodes * batch.context
    if not batch.chunk:
        return table.decode_step(n, context, 0)
    return table.mixed_step(batch.chunk, batch.chunk * (2 * batch.past + batch.chunk), n, context, 0, batch.sequences)


def _errors(found: Mapping[Batch, float], predict: Callable[[Batch], float]) -> list[float]:
    return [predict(batch) / (us * 1e-6) - 1.0 for batch, us in found.items()]


def held_out(errors: Sequence[float], method: str = KEPT) -> HeldOut | None:
    """The size and sign of relative errors; None without any."""
    if not errors:
        return None
    sizes = np.abs(errors)
    return HeldOut(
        method=method,
        points=len(errors),
        median=round(float(np.median(sizes)), 4),
        p90=round(float(np.quantile(sizes, 0.9)), 4),
        p95=round(float(np.quantile(sizes, 0.95)), 4),
        bias=round(float(np.mean(errors)), 4),
    )


def _judged(judged: Part, found: Found, part: str, seconds: Callable[[Batch], float]) -> Part:
    """The part with its error at the points that were kept aside."""
    checks = {BATCHES[part](point): us for point, us in found.surveys[part].checks.items()}
    return judged.model_copy(update={"held_out": held_out(_errors(checks, seconds))})


def _with_mixed(step: Step, found: Found, limits: Limits, target: float, notes: list[str]) -> Step:
    """``step`` with attention of chunk and decodes together, where adding the two up is not good enough."""
    if not found.mixed:
        notes.append("attention of a chunk and of decodes in one step was not measured: the two are added")
        return step
    added = _table(step, limits)
    errors = _errors(found.mixed, lambda batch: _attention(added, batch))
    median = float(np.median(np.abs(errors)))
    said = (
        f"a chunk and decodes in one step: the sum of their attention misses by {median:.1%} (median of {len(errors)})"
    )
    block = _block(found.mixed)
    if median <= target or block is None:
        notes.append(f"{said}, and is used")
        return step
    notes.append(f"{said}; what was measured of both together is used")
    return step.model_copy(update={"mixed": MixedAttention(blocks=(block,))})


def _block(mixed: Mapping[Batch, float]) -> MixedBlock | None:
    """The measured steps as one grid; None if it has no room to interpolate in, or a row that was not measured at all."""
    axes = [
        tuple(sorted({getattr(batch, name) for batch in mixed})) for name in ("chunk", "past", "decodes", "context")
    ]
    rows = {(batch.chunk, batch.past, batch.decodes) for batch in mixed}
    if any(len(axis) < 2 for axis in axes) or len(rows) < len(axes[0]) * len(axes[1]) * len(axes[2]):
        return None
    us = tuple(rounded(mixed[cell]) if (cell := Batch(*numbers)) in mixed else None for numbers in product(*axes))
    return MixedBlock(chunks=axes[0], pasts=axes[1], sequences=axes[2], contexts=axes[3], us=us)


def _with_host(step: Step, found: Found, limits: Limits, notes: list[str]) -> Step:
    """``step`` with the time a whole step takes beside its parts, and with the error of whole steps that had no part in it.

    The host's share is the one that makes the sum of relative errors of the whole steps it is taken from least: their median
    remainder, weighted by one over the step.
    """
    if not found.whole:
        notes.append("what the host adds to a step was not measured")
        return step.model_copy(update={"host": step.host.model_copy(update={"source": "assumed"})})
    bare = _table(step, limits)
    us = max(_remainder(found.whole, bare), 0.0)
    words = "what whole steps take beyond the sum of their parts"
    if found.eager:
        eager = max(_remainder(found.eager, bare), 0.0)
        words += f"; without CUDA graphs {eager:.0f} µs a decode step"
    host = step.host.model_copy(update={"us": rounded(us), "note": words})
    step = step.model_copy(update={"host": host})
    table = _table(step, limits)
    errors = _errors(found.held, lambda batch: _seconds(table, batch))
    return step.model_copy(update={"held_out": held_out(errors, "whole steps of which nothing was fitted")})


def _remainder(whole: Mapping[Batch, float], bare: StepTable) -> float:
    """Microseconds: the median of what the steps take beyond ``bare``, each weighted by one over its own time."""
    pairs = sorted((us - _seconds(bare, batch) * 1e6, 1.0 / us) for batch, us in whole.items())
    half, running = sum(weight for _, weight in pairs) / 2.0, 0.0
    for remainder, weight in pairs:
        running += weight
        if running >= half:
            return remainder
    return pairs[-1][0]
