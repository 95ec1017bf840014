"""Step times predicted with a GPU or a model left out of the fit, against the shipped profile that was measured on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sim import catalog, profiles
from sim.perf.compile import step_table
from sim.perf.efficiency import Efficiency
from sim.perf.roofline import fitted, predict, steps
from sim.perf.steptable import StepTable
from sim.profiles.schema import Curves, Profile, Step

__all__ = ["PARTS", "STEPS", "Ratios", "predicted", "ratios"]

PARTS: Final = ("tokens", "sequences", "prefill", "decode")
STEPS: Final = ("decode step", "prefill step", "mixed step")
BATCHES: Final = (1, 16, 64, 256)
CONTEXTS: Final = (512, 2048, 8192)
PROMPTS: Final = (512, 1024, 2048, 4096, 8192)
CHUNKS: Final = (256, 512, 1024)  # beside the decodes of a mixed step

Ratios = dict[str, list[float]]
"""Predicted over measured, by part of a step and for whole steps."""


def predicted(model: str, gpu: str, tp: int, dtype: str, kv_dtype: str, without: str) -> Profile:
    """As a scenario would have it predicted, but from a fit that has not seen ``without``."""
    shape, card = catalog.model(model), catalog.gpu(gpu)
    step = steps(shape, card, tp, dtype, kv_dtype, Efficiency(**fitted().without[without]))
    return predict(shape, card, tp, dtype, kv_dtype).model_copy(update={"step": step})


def ratios(name: str, e: Efficiency) -> Ratios:
    """For decode steps of :data:`BATCHES` × :data:`CONTEXTS`, prefill steps of :data:`PROMPTS`, and mixed ones where a chunk and decodes
    were measured in one kernel, as far as shipped profile ``name`` goes; without host overhead."""
    measured = profiles.load(name)
    step = steps(
        catalog.model(measured.model),
        catalog.gpu(measured.gpu),
        measured.tensor_parallel,
        measured.dtype,
        measured.kv_dtype,
        e,
    )
    known = measured.steps
    guessed = {
        name
        for curves in (known.tokens, known.sequences)
        for name, curve in curves.parts.items()
        if curve.source == "estimated"
    }
    tables = [
        step_table(
            measured.model_copy(update={"step": _without(one, guessed)}),
            max(BATCHES) + 1,
            max(PROMPTS),
            host_overhead=0.0,
        )
        for one in (step, known)
    ]
    found: Ratios = {part: [] for part in (*PARTS, *STEPS)}
    decodes, prompts = list(_decodes(measured)), list(_prompts(measured))
    batches = dict.fromkeys(batch for batch, _ in decodes)
    for tokens in (*batches, *prompts):
        found["tokens"].append(_ratio([table.gemm[tokens] for table in tables]))
    for batch in batches:
        found["sequences"].append(_ratio([table.sample[batch] for table in tables]))
    for batch, context in decodes:
        whole = [table.decode_step(batch, batch * context, 0) for table in tables]
        rest = [table.gemm[batch] + table.sample[batch] for table in tables]
        found["decode step"].append(_ratio(whole))
        found["decode"].append(_ratio([a - b for a, b in zip(whole, rest, strict=True)]))
    for prompt in prompts:
        whole = [_prefill_step(table, prompt) for table in tables]
        rest = [table.gemm[prompt] + table.sample[1] for table in tables]
        found["prefill step"].append(_ratio(whole))
        found["prefill"].append(_ratio([a - b for a, b in zip(whole, rest, strict=True)]))
    if known.mixed is not None:
        for chunk in CHUNKS:
            for batch, context in decodes:
                mixed = [
                    table.mixed_step(chunk, chunk * chunk, batch, batch * context, 0, batch + 1) for table in tables
                ]
                found["mixed step"].append(_ratio(mixed))
    return found


def _without(step: Step, names: set[str]) -> Step:
    kept = {
        field: Curves(parts={name: curve for name, curve in getattr(step, field).parts.items() if name not in names})
        for field in ("tokens", "sequences")
    }
    return step.model_copy(update=kept)


def _ratio(pair: list[float]) -> float:
    return pair[0] / pair[1]


def _prefill_step(table: StepTable, prompt: int) -> float:
    return table.mixed_step(prompt, prompt * prompt, 0, 0, 0, 1)


def _decodes(profile: Profile) -> Iterator[tuple[int, int]]:
    """Batches and contexts that were measured; tables of contexts one short of a power of two count as reaching it."""
    grid = profile.steps.decode
    rows = dict(zip(grid.sequences, grid.us, strict=True))
    for batch in BATCHES:
        if batch in rows:
            longest = max(c for c, value in zip(grid.contexts, rows[batch], strict=True) if value is not None)
            yield from ((batch, context) for context in CONTEXTS if context <= longest + 1)


def _prompts(profile: Profile) -> Iterator[int]:
    step = profile.steps
    longest = min(step.prefill.chunks[-1], *(curve.at[-1] for curve in step.tokens.parts.values()))
    yield from (prompt for prompt in PROMPTS if prompt <= longest)
