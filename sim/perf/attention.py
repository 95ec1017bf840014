"""The attention of a step, from measured grids to the grids a step table holds.

The work of a chunk of q tokens over p cached ones is W = q (2p + q); between measured chunks times are linear in W, which a table
linear in q then has to follow, so chunk grids are made dense enough for that (ratio 1.25: within 1.3 % of a parabola).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from sim.perf.monotone import Array, envelope, isotonic, isotonic_table, line
from sim.profiles.schema import ContextGrid, MixedBlock, Step

__all__ = ["Mixed", "chunk_grid", "decode_table", "mixed_table", "past_grid", "prefill_table"]

MICRO: Final = 1e-6
DENSE: Final = 1.25  # largest ratio between neighbouring chunk sizes
NEAR: Final = 1.08  # measured chunks closer than this are one grid point
FARTHEST: Final = 131072  # tokens of past a grid without measured pasts spans


@dataclass(frozen=True)
class Mixed:
    """Attention seconds ``[sequences, chunks, pasts, contexts]`` of a chunk together with decodes."""

    sequences: Array
    contexts: Array
    seconds: Array


def _rows(table: Sequence[Sequence[float | None]]) -> Array:
    return np.array([[np.nan if value is None else value for value in row] for row in table], dtype=np.float64)


def _filled(grid: Array, row: Array, at: Array) -> Array:
    known = ~np.isnan(row)
    return line(at, grid[known], row[known])


def decode_table(decode: ContextGrid, sequences: Array) -> tuple[Array, Array]:
    """Contexts of the grid and attention seconds ``[len(sequences), len(contexts)]`` of decodes of equal context.

    One octave is added past the measured contexts, carrying the slope of the last measured one.
    """
    grid = np.asarray(decode.contexts, dtype=np.float64)
    contexts = np.append(grid, 2.0 * grid[-1])
    table = isotonic_table(_decode_rows(decode, contexts))
    return contexts, line(sequences, np.asarray(decode.sequences, np.float64), table.T).T * MICRO


def _decode_rows(decode: ContextGrid, contexts: Array) -> Array:
    """Measured rows at ``contexts``. Contexts too long to be measured in a large batch grow as in the next smaller one, by
    tokens read: its own last octave may still lie where the kernel's fixed costs hide the reading."""
    grid = np.asarray(decode.contexts, dtype=np.float64)
    rows: list[Array] = []
    for i, row in enumerate(_rows(decode.us)):
        values = _filled(grid, row, contexts)
        last = grid[~np.isnan(row)][-1]
        if i and last < grid[-1]:
            growth = rows[-1] - np.interp(last, contexts, rows[-1])
            more = np.interp(last, contexts, values) + growth * decode.sequences[i] / decode.sequences[i - 1]
            values = np.where(contexts > last, np.maximum(values, more), values)
        rows.append(values)
    return np.stack(rows)


def chunk_grid(step: Step, max_num_batched_tokens: int) -> Array:
    """Chunk sizes of the compiled tables: the measured ones, thinned and made dense, up to the token budget."""
    measured = [float(chunk) for chunk in step.prefill.chunks if chunk <= max_num_batched_tokens]
    ends = [*measured, float(max(max_num_batched_tokens, 2))]
    grid = [min(ends[0], ends[-1] / 2.0)]
    for end in ends:
        if end < NEAR * grid[-1] and end != ends[-1]:
            continue
        parts = int(np.ceil(np.log(end / grid[-1]) / np.log(DENSE))) if end > 32.0 and end > grid[-1] else 1
        start = grid[-1]
        grid += [round(start * (end / start) ** (part / parts)) for part in range(1, parts)]
        grid.append(end)
    return np.unique(np.asarray(grid))


def _thinned(grid: Array, ratio: float) -> Array:
    kept = [grid[-1]]
    for value in grid[-2::-1]:
        if kept[-1] >= ratio * value:
            kept.append(value)
    return np.asarray(kept[::-1])


def past_grid(step: Step) -> Array:
    """Cached tokens of the compiled tables; the cost is linear in them, so octaves suffice."""
    pasts = np.asarray(step.prefill.pasts, dtype=np.float64)
    positive = pasts[pasts > 0.0]
    if len(positive):
        return np.concatenate([[0.0], _thinned(positive, 1.9)])
    return np.concatenate([[0.0], 2.0 ** np.arange(6, int(np.log2(FARTHEST)) + 1)])


def _between_chunks(chunks: Array, pasts: Array, measured: Array, table: Array) -> Array:
    """``table[len(measured), len(pasts), ...]`` at ``chunks``: linear in the work q (2p + q) at each past."""
    out = np.empty((len(chunks), *table.shape[1:]))
    for j, past in enumerate(pasts):
        work = measured * (2.0 * past + measured)
        column = np.moveaxis(table[:, j], 0, -1)
        out[:, j] = np.moveaxis(line(chunks * (2.0 * past + chunks), work, column), -1, 0)
    return out


def prefill_table(step: Step, chunks: Array, pasts: Array) -> Array:
    """Attention seconds ``[len(chunks), len(pasts)]`` of one chunk alone."""
    prefill = step.prefill
    measured = np.asarray(prefill.chunks, dtype=np.float64)
    grid = np.asarray(prefill.pasts, dtype=np.float64)
    if len(grid) == 1:
        table = _prompt_differences(step, chunks, pasts)
    else:
        rows = np.stack([_filled(grid, row, pasts) for row in _rows(prefill.us)])
        table = _between_chunks(chunks, pasts, measured, rows)
    return envelope(envelope(table, 1), 0) * MICRO


def _prompt_differences(step: Step, chunks: Array, pasts: Array) -> Array:
    """F(p + q) − F(p) + F₀ of the whole-prompt curve F, linear in s² between its points, F₀ being what a kernel takes with next
    to no work; and at least one decode over the same cache, which is the time to read it."""
    prefill = step.prefill
    lengths = np.asarray(prefill.chunks, dtype=np.float64)
    whole = isotonic(_rows(prefill.us)[:, 0])
    ends = chunks[:, None] + pasts[None, :]
    from_start = line(ends.ravel() ** 2, lengths**2, whole).reshape(ends.shape)
    cached = np.where(pasts > 0.0, line(pasts**2, lengths**2, whole) - whole[0], 0.0)
    contexts, decode = decode_table(step.decode, np.ones(1))
    reading = line(ends.ravel(), contexts, decode[0] / MICRO).reshape(ends.shape)
    table = np.maximum(from_start - cached[None, :], np.where(pasts > 0.0, reading, 0.0))
    return np.maximum.accumulate(table, axis=1)  # whole prompts stay as measured


def mixed_table(step: Step, chunks: Array, pasts: Array, prefill: Array) -> Mixed | None:
    """The measured attention of chunk and decodes together, on the compiled grids; None where it was not measured.

    Chunks larger than measured add what the lone chunk adds. Never less than the lone chunk, nor than the decodes alone.
    """
    if step.mixed is None:
        return None
    first = step.mixed.blocks[0]
    sequences = np.asarray(first.sequences, dtype=np.float64)
    contexts = _thinned(np.asarray(first.contexts, dtype=np.float64), 1.9)
    spans = np.asarray(first.chunks, dtype=np.float64)
    widest = _block(first, sequences, pasts, contexts)
    rows = {chunk: widest[i] for i, chunk in enumerate(spans)}
    for block in step.mixed.blocks[1:]:
        extra = np.asarray(block.chunks, dtype=np.float64)
        inner = np.clip(contexts, block.contexts[0], block.contexts[-1])
        shape = _block(first, sequences, pasts, contexts) - _block(first, sequences, pasts, inner)
        values = _block(block, sequences, pasts, contexts) + _between_chunks(extra, pasts, spans, shape)
        for i, chunk in enumerate(extra):
            rows.setdefault(chunk, values[i])
    measured = np.asarray(sorted(rows))
    table = np.stack([rows[chunk] for chunk in measured])  # [chunks, pasts, sequences, contexts]
    inside = np.minimum(chunks, measured[-1])
    seconds = _between_chunks(inside, pasts, measured, table) * MICRO
    edge = _edge(chunks, measured[-1], prefill)
    seconds += np.maximum(prefill - edge, 0.0)[:, :, None, None]
    own, alone = decode_table(step.decode, sequences)
    decode = line(contexts, own, alone)
    seconds = np.maximum(np.maximum(seconds, prefill[:, :, None, None]), decode[None, None])
    for axis in range(4):
        seconds = envelope(seconds, axis)
    return Mixed(sequences, contexts, np.ascontiguousarray(np.transpose(seconds, (2, 0, 1, 3))))


def _edge(chunks: Array, last: float, prefill: Array) -> Array:
    """The lone-chunk table with chunks past ``last`` held at ``last``."""
    held = np.moveaxis(line(np.minimum(chunks, last), chunks, np.moveaxis(prefill, 0, -1)), -1, 0)
    return np.where((chunks > last)[:, None], held, prefill)


def _block(block: MixedBlock, sequences: Array, pasts: Array, contexts: Array) -> Array:
    """A block on ``[its chunks, pasts, sequences, contexts]``, holes filled along the context axis."""
    shape = (len(block.chunks), len(block.pasts), len(block.sequences), len(block.contexts))
    values = np.array([np.nan if value is None else value for value in block.us], dtype=np.float64).reshape(shape)
    grid = np.asarray(block.contexts, dtype=np.float64)
    if np.isnan(values).any():
        flat = values.reshape(-1, shape[3])
        flat = np.stack([_filled(grid, row, grid) if np.isfinite(row).any() else row for row in flat])
        values = flat.reshape(shape)
    values = line(contexts, grid, values)
    values = np.moveaxis(line(sequences, np.asarray(block.sequences, np.float64), np.moveaxis(values, 2, -1)), -1, 2)
    return np.moveaxis(line(pasts, np.asarray(block.pasts, np.float64), np.moveaxis(values, 1, -1)), -1, 1)
