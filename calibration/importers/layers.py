"""Profiles from the per-layer timings of LLMServingSim's vLLM profiler.

A folder holds ``dense.csv`` (layer, tokens), ``per_sequence.csv`` (lm_head and sampler by sequences), ``attention.csv`` (prefill
chunk over its past, decodes, and both in one kernel), for mixtures of experts ``moe.csv`` (tokens, activated experts), optionally
``skew.csv`` and ``meta.yaml``; each table plain or gzipped; µs of one layer on one GPU of the tensor-parallel group, which is given by
the folder itself or by its ``tpN`` subfolder. Collectives are not in these tables: they are added from the catalog's links.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from calibration.importers import heldout
from calibration.importers.collectives import Collectives, assumed_link
from calibration.importers.mixed import mixed_blocks, spread
from calibration.importers.naming import check_same, dtype_name, profile_name
from calibration.importers.outliers import cleaned
from calibration.importers.tables import find, read, read_yaml, rounded
from sim import catalog
from sim.errors import ProfileError
from sim.hardware.memory import footprint
from sim.perf.monotone import Array
from sim.perf.operations import check_split
from sim.profiles.schema import (
    SCHEMA_VERSION,
    ContextGrid,
    Curve,
    Curves,
    Host,
    Profile,
    PromptGrid,
    Provenance,
    Step,
)

if TYPE_CHECKING:
    from sim.catalog import Architecture, Gpu

__all__ = ["import_layers"]

ONCE: Final = {"embedding", "final_layernorm"}  # per step; every other layer runs once in each transformer layer,
TWICE: Final = {"layernorm"}  # except the norm, before attention and before the MLP
MLP: Final = {"gate_up_proj", "act_fn", "down_proj"}
NEEDED: Final = ("layernorm", "qkv_proj", "o_proj")
SEQUENCES: Final = ("lm_head", "sampler")
ATTENTION: Final = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode", "time_us")


def import_layers(
    folder: str | Path, model: str, gpu: str, tp: int, dtype: str | None = None, command: str = ""
) -> Profile:
    """The profile of ``model`` (catalog name or config.json) on ``gpu`` (catalog name) with ``tp`` GPUs.

    :raises ProfileError: a missing file or column, malformed numbers, or tables of another model, GPU or parallelism.
    :raises CatalogError: unknown model or GPU.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ProfileError(f"{folder}: no such folder")
    shape, card = catalog.model(model), catalog.gpu(gpu)
    check_split(shape, tp)
    place = root / f"tp{tp}" if (root / f"tp{tp}").is_dir() else root
    if place is root and any(root.glob("tp[0-9]*/")) and find(root, "dense.csv", "dense.csv.gz") is None:
        given = ", ".join(sorted(path.name for path in root.glob("tp[0-9]*")))
        raise ProfileError(f"{root}: no tables for tp{tp} (has: {given})")
    meta_path = find(place, "meta.yaml") or find(root, "meta.yaml")
    meta: Mapping[str, Any] = read_yaml(meta_path) if meta_path else {}
    if meta_path:
        check_same(meta_path, meta, shape, model, card, tp)
    dtype = dtype_name(dtype, meta.get("variant"), meta_path)
    quantised_cache = "kvfp8" in str(meta.get("variant", ""))
    kv_dtype = "fp8" if quantised_cache else dtype if dtype in ("bf16", "fp16") else "bf16"
    notes: list[str] = []

    tokens, points = _tokens(place, shape, card, tp, notes)
    sequences, more = _sequences(place, shape, card, tp)
    attention = read(_path(place, "attention"), ATTENTION, positive=("time_us",))
    if "layer" in attention.columns and set(attention["layer"]) - {"attention"}:
        others = ", ".join(sorted(set(attention["layer"].astype(str)) - {"attention"}))
        raise ProfileError(
            f"{_path(place, 'attention')}: layer {others}: only dense attention ('attention') can be imported"
        )
    if "decode_q_len" in attention.columns:
        attention = attention[attention["decode_q_len"] == 1]
    prefill, decode = _prefill(place, attention, shape.layers, notes), _decode(place, attention, shape.layers, notes)
    mixed = mixed_blocks(attention, shape.layers)
    skew_path = find(place, "skew.csv", "skew.csv.gz")
    unequal = spread(skew_path, attention, shape.layers, notes) if skew_path else None
    if mixed is None:
        notes.append("no mixed measurements: attention of chunk and decodes is added")
    if unequal is None:
        notes.append("no skew measurements: decodes of unequal context cost as much as equal ones")
    versions = {key.removesuffix("_version"): str(meta[key]) for key in ("vllm_version", "cuda_version") if key in meta}
    if "profiler_version" in meta:
        versions["profiler"] = str(meta["profiler_version"])
    engine = f"vllm {versions['vllm']}" if "vllm" in versions else "vllm"
    return Profile(
        version=SCHEMA_VERSION,
        name=profile_name(gpu, model, shape, tp, dtype),
        model=shape.name,
        gpu=gpu,
        engine=engine,
        tensor_parallel=tp,
        dtype=dtype,
        kv_dtype=kv_dtype,
        provenance=Provenance(
            source="casys-kaist/LLMServingSim layer profile",
            licence="MIT",
            command=command,
            measured_at=str(meta["profiled_at"]) if "profiled_at" in meta else None,
            host=str(meta["gpu"]) if "gpu" in meta else None,
            versions=versions,
            points=points + more + len(attention),
            notes=tuple(notes),
        ),
        step=Step(
            tokens=tokens,
            sequences=sequences,
            prefill=prefill,
            decode=decode,
            mixed=mixed,
            spread=unequal,
            host=Host(note="kernels were timed one by one; what the host adds between steps was not measured"),
        ),
        memory=footprint(shape, tp, dtype, kv_dtype),
    )


def _path(folder: Path, table: str) -> Path:
    path = find(folder, f"{table}.csv", f"{table}.csv.gz")
    if path is None:
        other = next(folder.glob("gemm_perf.*"), None) or next(folder.glob("*/gemm_perf.*"), None)
        hint = "; these are kernel tables: twinfer calibrate import kernels" if other is not None else ""
        raise ProfileError(f"{folder / (table + '.csv')}: no such file (nor {table}.csv.gz){hint}")
    return path


def _layers(path: Path, by: str) -> dict[str, tuple[Array, Array]]:
    table = read(path, (by, "time_us"), ("layer",), positive=(by, "time_us"))
    curves = {}
    for name, rows in table.groupby("layer"):
        mean = rows.groupby(by)["time_us"].mean()
        curves[str(name)] = (mean.index.to_numpy(float), mean.to_numpy(float))
    return curves


def _curve(at: Array, us: Array, source: Any = "measured") -> Curve:
    return Curve(at=tuple(int(x) for x in at), us=tuple(rounded(float(y)) for y in us), source=source)


def _tokens(folder: Path, shape: Architecture, card: Gpu, tp: int, notes: list[str]) -> tuple[Curves, int]:
    path = _path(folder, "dense")
    layers = _layers(path, "tokens")
    dense_layers = shape.layers - shape.moe_layers
    needed = [*NEEDED, *(("gate_up_proj", "down_proj") if dense_layers else ())]
    absent = [name for name in needed if name not in layers]
    if absent:
        raise ProfileError(f"{path}: column layer: no rows of {', '.join(absent)} (has: {', '.join(sorted(layers))})")
    parts: dict[str, Curve] = {}
    errors = []
    for name, (at, us) in layers.items():
        times = (
            1 if name in ONCE else 2 * shape.layers if name in TWICE else dense_layers if name in MLP else shape.layers
        )
        if times:
            parts[name] = _curve(at, us * times)
            errors.append(heldout.along(at, us))
    known = {*ONCE, *TWICE, *MLP, *NEEDED, "rotary_emb", "qk_norm"}
    odd = sorted(set(layers) - known)
    if odd:
        notes.append(f"counted once a layer: {', '.join(odd)}")
    points = sum(len(at) for at, _ in layers.values())
    if shape.is_moe:
        curve, count, moe_errors = _experts(folder, shape, parts["qkv_proj"], notes)
        parts["moe"] = curve
        points += count
        errors.append(moe_errors)
    if tp > 1:
        link = assumed_link(card, tp)
        at = np.asarray(parts["qkv_proj"].at, dtype=float)
        seconds = _reduces(shape) * link.all_reduce(at * shape.hidden * 2.0)
        parts["all_reduce"] = _curve(at, seconds * 1e6, "assumed")
        notes.append(link.note)
    total = _total(parts)
    errors_total = heldout.along(*total)
    return Curves(
        parts=parts, held_out=heldout.summary("each point from its neighbours, all kernels together", errors_total)
    ), points


def _total(parts: Mapping[str, Curve]) -> tuple[Array, Array]:
    measured = [curve for curve in parts.values() if curve.source == "measured"]
    shared = sorted(set.intersection(*(set(curve.at) for curve in measured)))
    at = np.asarray(shared, dtype=float)
    return at, np.sum([np.interp(at, curve.at, curve.us) for curve in measured], axis=0)


def _reduces(shape: Architecture) -> int:
    """All-reduces a step: after attention and after the MLP of each layer, and after the sharded embedding."""
    return 2 * shape.layers + 1


def _experts(folder: Path, shape: Architecture, like: Curve, notes: list[str]) -> tuple[Curve, int, Array]:
    """The expert layers at the number of distinct experts that T tokens are expected to reach under even routing."""
    path = _path(folder, "moe")
    table = read(path, ("tokens", "activated_experts", "time_us"), positive=("tokens", "activated_experts", "time_us"))
    if "ep" in table.columns:
        table = table[table["ep"] == 1]
        if table.empty:
            raise ProfileError(f"{path}: column ep: no rows of ep 1 (only tensor-parallel experts can be imported)")
    grid = table.groupby(["tokens", "activated_experts"])["time_us"].mean()
    sizes = np.asarray(sorted(set(grid.index.get_level_values(0))), dtype=float)
    at = np.unique(np.concatenate([np.asarray(like.at, dtype=float), sizes]))
    at = at[at <= sizes[-1]]
    active = shape.experts * (1.0 - (1.0 - shape.experts_per_token / shape.experts) ** at)
    rows = np.stack([_extended(grid.loc[size], active) for size in sizes])
    us = np.array([np.interp(x, sizes, rows[:, i]) for i, x in enumerate(at)])
    notes.append(
        f"experts: even routing, {shape.experts_per_token} of {shape.experts}, so T tokens reach E(1-(1-k/E)^T) of them"
    )
    errors = [
        heldout.along(row.index.to_numpy(float), row.to_numpy(float)) for row in (grid.loc[size] for size in sizes)
    ]
    return _curve(at, us * shape.moe_layers, "composed"), len(table), np.concatenate(errors)


def _extended(row: pd.Series, active: Array) -> Array:
    """Time at ``active`` experts from measurements at some; linear, also past both ends, never below the smallest measured."""
    x, y = row.index.to_numpy(float), row.to_numpy(float)
    if len(x) == 1:
        return np.full(len(active), y[0])
    inside = np.interp(active, x, y)
    slope = max((y[-1] - y[-2]) / (x[-1] - x[-2]), 0.0)
    return np.asarray(np.maximum(inside + slope * np.maximum(active - x[-1], 0.0), y.min()))


def _sequences(folder: Path, shape: Architecture, card: Gpu, tp: int) -> tuple[Curves, int]:
    path = _path(folder, "per_sequence")
    layers = _layers(path, "sequences")
    absent = [name for name in SEQUENCES if name not in layers]
    if absent:
        raise ProfileError(f"{path}: column layer: no rows of {', '.join(absent)} (has: {', '.join(sorted(layers))})")
    parts = {name: _curve(at, us) for name, (at, us) in layers.items()}
    if tp > 1:
        at = np.asarray(parts["lm_head"].at, dtype=float)
        link: Collectives = assumed_link(card, tp)
        parts["all_gather"] = _curve(at, link.all_gather(at * shape.vocab * 2.0) * 1e6, "assumed")
    errors = heldout.along(*_total(parts))
    held = heldout.summary("each point from its neighbours, all kernels together", errors)
    return Curves(parts=parts, held_out=held), sum(len(at) for at, _ in layers.values())


def _pivot(table: pd.DataFrame, rows: str, columns: str, layers: int) -> tuple[Array, Array, Array]:
    wide = table.pivot_table(index=rows, columns=columns, values="time_us", aggfunc="mean") * layers
    return wide.index.to_numpy(float), wide.columns.to_numpy(float), wide.to_numpy(float)


def _cells(values: Array) -> tuple[tuple[float | None, ...], ...]:
    return tuple(tuple(None if np.isnan(cell) else rounded(float(cell)) for cell in row) for row in values)


def _prefill(folder: Path, table: pd.DataFrame, layers: int, notes: list[str]) -> PromptGrid:
    alone = table[(table["n_decode"] == 0) & (table["prefill_chunk"] > 0)]
    if alone.empty or not (alone["kv_prefill"] == 0).any():
        raise ProfileError(
            f"{_path(folder, 'attention')}: no rows of prefill alone without past (n_decode 0, kv_prefill 0)"
        )
    chunks, pasts, values = _pivot(alone, "prefill_chunk", "kv_prefill", layers)
    values = cleaned(values, ("chunk", "past"), (chunks, pasts), "prefill attention", notes)
    keep = ~np.isnan(values[:, 0])
    chunks, values = chunks[keep], values[keep]
    errors = heldout.columns(pasts, values)
    return PromptGrid(
        chunks=tuple(int(x) for x in chunks),
        pasts=tuple(int(x) for x in pasts),
        us=_cells(values),
        held_out=heldout.summary("each past from its neighbours", errors),
    )


def _decode(folder: Path, table: pd.DataFrame, layers: int, notes: list[str]) -> ContextGrid:
    alone = table[(table["prefill_chunk"] == 0) & (table["n_decode"] > 0) & (table["kv_decode"] > 0)]
    if alone.empty:
        raise ProfileError(f"{_path(folder, 'attention')}: no rows of decode alone (prefill_chunk 0)")
    sequences, contexts, values = _pivot(alone, "n_decode", "kv_decode", layers)
    values = cleaned(values, ("batch", "context"), (sequences, contexts), "decode attention", notes)
    keep = (~np.isnan(values)).sum(axis=1) >= 2
    if not keep.any():
        raise ProfileError(f"{_path(folder, 'attention')}: column kv_decode: decode needs two contexts or more")
    sequences, values = sequences[keep], values[keep]
    return ContextGrid(
        sequences=tuple(int(x) for x in sequences),
        contexts=tuple(int(x) for x in contexts),
        us=_cells(values),
        held_out=heldout.summary("each context from its neighbours", heldout.columns(contexts, values)),
    )
