"""A profile compiled into the step table the simulation reads, for one setting of the engine.

Rules, all of them physical: nothing is negative, nothing falls when work grows, times between measured points are linear in the
work, times past the last point go on as the last octave did. Token and decode batches of a profile taken with CUDA graphs
are padded to the engine's capture sizes, as vLLM pads them.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from sim.errors import ProfileError
from sim.kernel.clock import on_grid as instant
from sim.perf.attention import chunk_grid, decode_table, mixed_table, past_grid, prefill_table
from sim.perf.monotone import Array, isotonic, line, on_grid
from sim.perf.steptable import StepTable
from sim.profiles.schema import Curves, Profile

__all__ = ["capture_sizes", "step_table"]

MICRO: Final = 1e-6


def capture_sizes(max_num_seqs: int, max_num_batched_tokens: int) -> list[int]:
    """Batch sizes vLLM captures CUDA graphs for by default: 1, 2, 4, then every 8 to 256, every 16 to 512, and no more than
    twice ``max_num_seqs`` (vllm/config: ``_set_cudagraph_sizes``)."""
    top = min(2 * max_num_seqs, 512, max_num_batched_tokens)
    sizes = [1, 2, 4, *range(8, min(top + 1, 256), 8), *range(256, top + 1, 16)]
    return [size for size in sizes if size <= top]


def step_table(
    profile: Profile, max_num_seqs: int, max_num_batched_tokens: int, host_overhead: float | None = None
) -> StepTable:
    """The step times of ``profile`` under that token budget and batch limit.

    ``host_overhead`` seconds a step replaces the profile's own. :raises ProfileError: limits below 1, or a negative overhead.
    """
    if max_num_seqs < 1 or max_num_batched_tokens < 1:
        raise ProfileError(
            f"{profile.name}: max_num_seqs and max_num_batched_tokens must be at least 1, not "
            f"{max_num_seqs} and {max_num_batched_tokens}"
        )
    step = profile.steps
    host = step.host.us * MICRO if host_overhead is None else host_overhead
    if not 0.0 <= host < 3600.0:
        raise ProfileError(f"{profile.name}: host overhead must be between 0 and an hour a step, not {host} s")
    host = instant(host)
    tokens = np.arange(max(max_num_batched_tokens, max_num_seqs) + 1, dtype=np.float64)
    if step.host.cuda_graphs:
        tokens = _padded(tokens, capture_sizes(max_num_seqs, max_num_batched_tokens))
    gemm = on_grid(_curves(step.tokens, tokens))
    sample = on_grid(_curves(step.sequences, np.arange(max_num_seqs + 1, dtype=np.float64)))

    sequences = np.arange(1, max_num_seqs + 1, dtype=np.float64)
    contexts, decode = decode_table(step.decode, sequences)
    knots, base, slope = _pieces(sequences, contexts, decode)
    fixed = (gemm[1 : max_num_seqs + 1] + sample[1:] + host)[:, None]

    chunks = chunk_grid(step, max_num_batched_tokens)
    pasts = past_grid(step)
    prefill = prefill_table(step, chunks, pasts)
    mixed = mixed_table(step, chunks, pasts, prefill)
    spread_decode = np.zeros(max_num_seqs + 1)
    spread_mixed = np.zeros(max_num_seqs + 1)
    if step.spread is not None:
        at = np.asarray(step.spread.sequences, dtype=np.float64)
        every = np.arange(2, max_num_seqs + 1)
        spread_decode[2:] = np.interp(every, at, step.spread.decode_us) * MICRO
        spread_mixed[2:] = np.interp(every, at, step.spread.mixed_us) * MICRO
    return StepTable(
        knots=[[], *knots.tolist()],
        base=[[], *(base + fixed).tolist()],
        slope=[[], *slope.tolist()],
        attention_base=[[], *base.tolist()],
        attention_slope=[[], *slope.tolist()],
        gemm=gemm[: max_num_batched_tokens + 1].tolist(),
        sample=sample.tolist(),
        host=host,
        chunk_grid=chunks.tolist(),
        past_grid=pasts.tolist(),
        prefill=on_grid(prefill).tolist(),
        context_grid=[] if mixed is None else mixed.contexts.tolist(),
        mixed_n_grid=[] if mixed is None else mixed.sequences.tolist(),
        mixed=None if mixed is None else mixed.seconds,
        spread_decode=spread_decode.tolist(),
        spread_mixed=spread_mixed.tolist(),
        measured_tokens=min(curve.at[-1] for curve in step.tokens.parts.values() if curve.source != "estimated"),
        measured_sequences=step.decode.sequences[-1],
    )


def _padded(tokens: Array, sizes: list[int]) -> Array:
    """Each token count raised to the graph it runs in; those above the largest graph run as they are."""
    grid = np.asarray(sizes, dtype=np.float64)
    index = np.minimum(np.searchsorted(grid, tokens, side="left"), len(grid) - 1)
    return np.where((tokens >= 1.0) & (tokens <= grid[-1]), grid[index], tokens)


def _curves(curves: Curves, x: Array) -> Array:
    """Seconds of all parts together at ``x``; nothing at 0. The sum is made to rise on the union of the parts' grids."""
    union = np.unique(np.concatenate([curve.at for curve in curves.parts.values()])).astype(np.float64)
    total = np.zeros(len(union))
    for curve in curves.parts.values():
        total += line(union, np.asarray(curve.at, dtype=np.float64), np.asarray(curve.us))
    return np.where(x < 1.0, 0.0, line(x, union, isotonic(total)) * MICRO)


def _pieces(sequences: Array, contexts: Array, decode: Array) -> tuple[Array, Array, Array]:
    """Knots (context sums), bases and slopes of the piecewise affine decode attention, exact on the time grid.

    The bases follow from the first one and the slopes, so neighbouring pieces meet exactly at whole context sums and the
    curve never falls at a knot; what rounding a slope to the grid leaves over at its end, the next one makes up for. Before
    the first knot the curve is flat, past the last it keeps the last slope.
    """
    knots = sequences[:, None] * contexts[None, :]
    slope = np.zeros((len(sequences), len(contexts) + 1))
    base = np.empty_like(slope)
    base[:, 0] = on_grid(decode[:, 0])
    for piece in range(1, len(contexts)):
        reached = base[:, piece - 1] + slope[:, piece - 1] * knots[:, piece - 1]
        rise = (decode[:, piece] - reached) / (knots[:, piece] - knots[:, piece - 1])
        slope[:, piece] = np.maximum(on_grid(rise), 0.0)
        base[:, piece] = reached - slope[:, piece] * knots[:, piece - 1]
    slope[:, -1], base[:, -1] = slope[:, -2], base[:, -2]
    return knots, base, slope
