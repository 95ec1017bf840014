"""Attention of a model's heads from aiconfigurator's context and generation tables."""

from __future__ import annotations

import numpy as np
import pandas as pd

from calibration.importers import heldout
from calibration.importers.composition import GEMM_DTYPES, Kernels, table_path
from calibration.importers.outliers import cleaned, despiked
from calibration.importers.tables import read, rounded
from sim.errors import ProfileError
from sim.perf.monotone import line
from sim.profiles.schema import ContextGrid, PromptGrid

__all__ = ["decode", "prefill"]


def _attention(kernels: Kernels, name: str, key: str, sharing: str) -> pd.Series:
    """Seconds of one layer by (batch_size, ``key``) at the model's heads on one GPU.

    Query heads that were not measured are interpolated between those that were, at the same KV heads; KV heads that were not
    measured take the next larger number, scaled by their share of it where ``sharing`` says the time goes with them.
    """
    path = table_path(kernels.folder, name)
    numbers = ("batch_size", key, "num_heads", "num_key_value_heads", "head_dim", "latency")
    table = read(path, numbers, ("kv_cache_dtype",), positive=("batch_size", "latency"))
    if "window_size" in table.columns:
        table = table[pd.to_numeric(table["window_size"], errors="coerce").fillna(0) == 0]
    names = GEMM_DTYPES[kernels.kv_dtype]
    if "attn_dtype" in table.columns and table["attn_dtype"].isin(names).any():
        table = table[table["attn_dtype"].isin(names)]
    for column, keep in (("kv_cache_dtype", names), ("head_dim", (kernels.shape.head_dim,))):
        found = sorted({str(int(x)) if column == "head_dim" else str(x) for x in table[column]})
        table = table[table[column].isin(keep)]
        if table.empty:
            raise ProfileError(f"{path}: column {column}: no rows of {keep[0]} (has: {', '.join(found)})")
    measured = sorted({int(x) for x in table["num_key_value_heads"] if x >= kernels.kv_heads})
    if not measured:
        raise ProfileError(f"{path}: column num_key_value_heads: none as large as {kernels.kv_heads}")
    factor = 1.0
    if measured[0] != kernels.kv_heads:
        factor = kernels.kv_heads / measured[0] if sharing == "kv" else 1.0
        kernels.notes.append(f"{name}: {kernels.kv_heads} KV heads taken from rows of {measured[0]}")
    table = table[table["num_key_value_heads"] == measured[0]]
    wide = table.pivot_table(index=["batch_size", key], columns="num_heads", values="latency", aggfunc="mean") * 1e-3
    heads = wide.columns.to_numpy(float)
    kernels.counts.append(len(wide))
    if kernels.heads in heads:
        return wide[float(kernels.heads)].dropna() * factor
    if kernels.heads < heads[0] or len(heads) < 2:
        kernels.notes.append(f"{name}: {kernels.heads} query heads taken from rows of {int(heads[0])}")
        return wide[heads[0]].dropna() * factor
    kernels.notes.append(f"{name}: {kernels.heads} query heads interpolated between measured ones")
    known = wide.dropna()
    values = line(np.asarray([float(kernels.heads)]), heads, known.to_numpy(float))[:, 0]
    return pd.Series(values * factor, index=known.index)


def prefill(kernels: Kernels) -> PromptGrid:
    """Whole prompts, one at a time, all layers. :raises ProfileError: no table, or no rows of this shape."""
    series = _attention(kernels, "context_attention_perf", "isl", "heads")
    batch = series.index.get_level_values(0).min()
    whole = series.loc[batch] * kernels.shape.layers
    lengths, seconds = despiked(whole.index.to_numpy(float), whole.to_numpy(float), "prefill attention", kernels.notes)
    if len(lengths) < 2:
        raise ProfileError(
            f"{table_path(kernels.folder, 'context_attention_perf')}: column isl: at least two lengths are needed"
        )
    errors = heldout.along(lengths, seconds, lambda x: x**2)
    return PromptGrid(
        chunks=tuple(int(x) for x in lengths),
        pasts=(0,),
        us=tuple((rounded(float(value) * 1e6),) for value in seconds / batch),
        held_out=heldout.summary("each prompt length from its neighbours", errors),
    )


def decode(kernels: Kernels) -> ContextGrid:
    """Decodes by batch and context, all layers. :raises ProfileError: no table, or no rows of this shape."""
    series = _attention(kernels, "generation_attention_perf", "step", "kv")
    wide = series.unstack() * kernels.shape.layers
    contexts = wide.columns.to_numpy(
        float
    )  # ``step`` tokens are in the cache, the one generated attends to itself besides
    sequences = wide.index.to_numpy(float)
    values = cleaned(
        wide.to_numpy(float), ("batch", "context"), (sequences, contexts), "decode attention", kernels.notes
    )
    enough = (~np.isnan(values)).sum(axis=1) >= 2
    if not enough.any():
        raise ProfileError(
            f"{table_path(kernels.folder, 'generation_attention_perf')}: column step: at least two contexts are needed"
        )
    sequences, values = sequences[enough], values[enough]
    return ContextGrid(
        sequences=tuple(int(n) for n in sequences),
        contexts=tuple(int(c) for c in contexts),
        us=tuple(tuple(None if np.isnan(x) else rounded(float(x) * 1e6) for x in row) for row in values),
        held_out=heldout.summary("each context from its neighbours", heldout.columns(contexts, values)),
    )
