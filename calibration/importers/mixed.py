"""Prefill and decode attention in one kernel, and decodes of unequal context, from LLMServingSim's attention and skew tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from calibration.importers import heldout
from calibration.importers.tables import read, rounded
from sim.perf.monotone import Array, line
from sim.profiles.schema import HeldOut, MixedAttention, MixedBlock, Spread

__all__ = ["mixed_blocks", "spread"]

AXES = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode")
SKEW = ("n", "nb", "pc", "kp", "kvs", "kv_big", "kv_mean", "t_mean_us", "t_skew_us")


def mixed_blocks(attention: pd.DataFrame, layers: int) -> MixedAttention | None:
    """The mixed rows as a few full grids, the one that spans the others first; None if there are too few to interpolate."""
    rows = attention[(attention["prefill_chunk"] > 0) & (attention["n_decode"] > 0) & (attention["kv_decode"] > 0)]
    if rows.empty:
        return None
    points = rows.groupby(list(AXES))["time_us"].mean()
    signatures: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for chunk, group in rows.groupby("prefill_chunk"):
        by_past = {
            int(past): (tuple(sorted(set(inner["n_decode"]))), tuple(sorted(set(inner["kv_decode"]))))
            for past, inner in group.groupby("kv_prefill")
        }
        for shape in sorted(set(by_past.values())):
            pasts = tuple(past for past, other in by_past.items() if other == shape)
            # a past measured on the union of two grids belongs to both
            wider = tuple(
                past
                for past, other in by_past.items()
                if all(set(a) <= set(b) for a, b in zip(shape, other, strict=True))
            )
            key = (wider if len(pasts) > 1 else pasts, *(tuple(int(x) for x in axis) for axis in shape))
            signatures.setdefault(key, []).append(int(chunk))
    blocks = [
        _block(points, tuple(sorted(chunks)), pasts, sequences, contexts, layers)
        for (pasts, sequences, contexts), chunks in signatures.items()
        if len(chunks) > 1 and len(pasts) > 1 and len(sequences) > 1 and len(contexts) > 1
    ]
    if not blocks:
        return None
    blocks.sort(key=lambda block: (block.contexts[0], block.pasts[0], -block.chunks[-1], -len(block.us)))
    if len(blocks[0].chunks) < 2:
        return None
    return MixedAttention(blocks=tuple(blocks), held_out=_mixed_error(points))


def _block(
    points: pd.Series,
    chunks: tuple[int, ...],
    pasts: tuple[int, ...],
    sequences: tuple[int, ...],
    contexts: tuple[int, ...],
    layers: int,
) -> MixedBlock:
    index = pd.MultiIndex.from_product([chunks, pasts, sequences, contexts], names=AXES)
    us = points.reindex(index).to_numpy(float) * layers
    cells = tuple(None if np.isnan(value) else rounded(float(value), 4) for value in us)
    return MixedBlock(chunks=chunks, pasts=pasts, sequences=sequences, contexts=contexts, us=cells)


def _mixed_error(points: pd.Series) -> HeldOut | None:
    wide = points.unstack("kv_decode")
    errors = heldout.columns(wide.columns.to_numpy(float), wide.to_numpy(float))
    return heldout.summary("each decode context from its neighbours", errors)


def spread(path: Path, attention: pd.DataFrame, layers: int, notes: list[str]) -> Spread | None:
    """Extra time by standard deviation between contexts, one coefficient for each number of decodes.

    The sweep times n decodes of which some are long and the rest short, against as many of equal context. Its own baseline is
    brought to the attention table's first: what is used is the difference relative to it. Fitted by least squares on relative
    differences through the origin; the error left out is of the whole kernel, coefficients from the other half of the rows.
    """
    table = read(path, SKEW, positive=("n", "t_mean_us", "t_skew_us"))
    share = table["nb"] / table["n"]
    deviation = np.sqrt(share * (1.0 - share)) * (table["kv_big"] - table["kvs"])
    table = table.assign(deviation=deviation)[(deviation > 0.0) & (table["n"] > 1)]
    if table.empty:
        return None
    scale = _scale(table, attention)
    if not 0.8 < scale < 1.25:
        notes.append(
            f"{path.name}: its times are {scale:.2f} times those of the attention table, and were divided by that"
        )
    sequences = sorted({int(n) for n in table["n"]})
    decode = [_coefficient(table[(table["n"] == n) & (table["pc"] == 0)]) for n in sequences]
    mixed = [_coefficient(table[(table["n"] == n) & (table["pc"] > 0)]) for n in sequences]
    for i in range(1, len(sequences)):
        if not ((table["n"] == sequences[i]) & (table["pc"] > 0)).any():
            mixed[i] = mixed[i - 1]  # batches too large to be timed with a chunk
    factor = layers / scale
    half = np.arange(len(table)) % 2 == 0
    errors = np.concatenate([_errors(table[half], table[~half]), _errors(table[~half], table[half])])
    return Spread(
        sequences=tuple(sequences),
        decode_us=tuple(rounded(max(value, 0.0) * factor) for value in decode),
        mixed_us=tuple(rounded(max(value, 0.0) * factor) for value in mixed),
        held_out=heldout.summary("kernel time of half the rows, coefficients from the other half", errors),
    )


def _coefficient(rows: pd.DataFrame) -> float:
    """µs a token of deviation: least squares of relative excess on relative deviation, through the origin; 0 without rows."""
    if rows.empty:
        return 0.0
    x = rows["deviation"].to_numpy(float) / rows["t_mean_us"].to_numpy(float)
    y = rows["t_skew_us"].to_numpy(float) / rows["t_mean_us"].to_numpy(float) - 1.0
    return float(np.dot(x, y) / np.dot(x, x))


def _errors(fit: pd.DataFrame, test: pd.DataFrame) -> Array:
    out = []
    for (n, alone), rows in test.groupby([test["n"], test["pc"] == 0]):
        known = fit[(fit["n"] == n) & ((fit["pc"] == 0) == alone)]
        predicted = rows["t_mean_us"] + max(_coefficient(known), 0.0) * rows["deviation"]
        out.append((predicted / rows["t_skew_us"] - 1.0).to_numpy(float))
    return np.concatenate(out) if out else np.empty(0)


def _scale(table: pd.DataFrame, attention: pd.DataFrame) -> float:
    """Ratio of the sweep's equal-context times to the attention table's, the median over its rows without prefill."""
    alone = attention[(attention["prefill_chunk"] == 0) & (attention["n_decode"] > 0)]
    wide = alone.pivot_table(index="n_decode", columns="kv_decode", values="time_us", aggfunc="mean")
    grid = wide.columns.to_numpy(float)
    ratios = []
    for n, rows in table[table["pc"] == 0].groupby("n"):
        if n in wide.index:
            values = wide.loc[n].to_numpy(float)
            known = ~np.isnan(values)
            at = line(rows["kv_mean"].to_numpy(float), grid[known], values[known])
            ratios.append(rows["t_mean_us"].to_numpy(float) / at)
    return float(np.median(np.concatenate(ratios))) if ratios else 1.0
