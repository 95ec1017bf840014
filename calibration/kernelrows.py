"""Measured kernels as rows of one table a kind: what the efficiencies of the roofline are fitted to.

From aiconfigurator's tables of three GPUs, and from the RTX PRO 6000's shipped profile, whose points are measured layers. Every row has
``gpu``, a catalog name, and ``seconds`` of one kernel; the other columns are the arguments of :mod:`sim.perf.efficiency`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from calibration.importers.composition import GEMM_DTYPES, newest, table_path
from calibration.importers.tables import read
from sim import catalog, profiles
from sim.errors import ProfileError
from sim.perf import operations

if TYPE_CHECKING:
    from sim.catalog import Architecture
    from sim.profiles.schema import Curves

__all__ = ["collective", "decode", "experts", "gemm", "of_model", "prefill"]

FOLDERS: Final = {"a100-sxm": "a100_sxm", "h100-sxm": "h100_sxm", "h200-sxm": "h200_sxm"}
LAYERS: Final = "rtx-pro-6000/llama-3.1-8b/tp1"
LEAST: Final = 1024  # rows and columns of a matrix below which no layer of a served model lies
ROWS: Final = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 160, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096, 8192)
NEAREST: Final = 100  # cached tokens below which the start of the kernel is all that is seen
SHORTEST: Final = 64  # tokens of a prompt, likewise
TABLED: Final = 128  # head_dim of the rows that all GPUs have
SMALLEST, LARGEST = 2048, 2**29  # bytes of a reduction: a token of a small model; 32768 tokens of a large one
DEGREES: Final = (1, 2, 4, 8)


def _folders(data: Path) -> Iterator[tuple[str, Path]]:
    for gpu, name in FOLDERS.items():
        folder = data / "kernels" / name
        if not folder.is_dir():
            raise ProfileError(f"{folder}: no such folder")
        yield gpu, folder


def gemm(data: Path) -> pd.DataFrame:
    """Matrix products: ``dtype`` (bf16 or fp8), ``m``, ``n``, ``k``."""
    parts = []
    for gpu, folder in _folders(data):
        path = table_path(newest(folder), "gemm_perf")
        table = read(path, ("m", "n", "k", "latency"), ("gemm_dtype",), positive=("m", "n", "k", "latency"))
        table = table[(table["n"] >= LEAST) & (table["k"] >= LEAST) & table["m"].isin(ROWS)]
        for dtype in ("bf16", "fp8"):
            own = table[table["gemm_dtype"] == GEMM_DTYPES[dtype][0]]
            mean = own.groupby(["m", "n", "k"])["latency"].mean().reset_index()
            parts.append(mean.assign(gpu=gpu, dtype=dtype, seconds=mean["latency"] * 1e-3))
    return pd.concat([*parts, _layer_products()], ignore_index=True)


def _layer_products() -> pd.DataFrame:
    profile = profiles.load(LAYERS)
    shape = catalog.model(profile.model)
    step = profile.steps
    found = {
        **operations.products(shape, profile.tensor_parallel),
        "lm_head": operations.head(shape, profile.tensor_parallel),
    }
    rows = [
        (profile.gpu, "bf16", m, one.columns, one.depth, us * 1e-6 / one.times)
        for name, one in found.items()
        for m, us in _points(step.sequences if name == "lm_head" else step.tokens, name)
    ]
    return pd.DataFrame(rows, columns=["gpu", "dtype", "m", "n", "k", "seconds"])


def _points(curves: Curves, name: str) -> Iterator[tuple[int, float]]:
    curve = curves.parts[name]
    yield from zip(curve.at, curve.us, strict=True)


def experts(data: Path) -> pd.DataFrame:
    """Mixtures of experts, all experts on one GPU: ``tokens``, ``hidden``, ``width`` of an expert here, ``chosen`` of ``count``.

    Widths that no kernel was tuned for (below 128, and not a multiple of it) are left out: they take up to three times as long.
    """
    parts = []
    numbers = (
        "num_tokens",
        "hidden_size",
        "inter_size",
        "topk",
        "num_experts",
        "moe_tp_size",
        "moe_ep_size",
        "latency",
    )
    for gpu, folder in _folders(data):
        where = newest(folder)
        if not any(where.glob("moe_perf.*")):
            continue
        table = read(table_path(where, "moe_perf"), numbers, ("moe_dtype", "distribution"), positive=("latency",))
        width = table["inter_size"] / table["moe_tp_size"]
        # tokens that choose experts as unevenly as real ones do; see calibration.importers.kernels
        table = table.assign(width=width, gpu=gpu, seconds=table["latency"] * 1e-3)[
            (table["moe_dtype"] == "bfloat16")
            & (table["moe_ep_size"] == 1)
            & (table["distribution"] == "power_law_1.01")
            & (width % 128 == 0)
        ]
        names = {"num_tokens": "tokens", "hidden_size": "hidden", "topk": "chosen", "num_experts": "count"}
        parts.append(table.rename(columns=names)[["gpu", *names.values(), "width", "seconds"]])
    return pd.concat(parts, ignore_index=True)


def _attention(data: Path, name: str, key: str) -> pd.DataFrame:
    """Full attention in 16 bits at the heads of grouped-query models, mean of repeats."""
    parts = []
    numbers = ("batch_size", key, "num_heads", "num_key_value_heads", "head_dim", "latency")
    for gpu, folder in _folders(data):
        table = read(table_path(newest(folder), name), numbers, ("kv_cache_dtype",), positive=("batch_size", "latency"))
        if "window_size" in table.columns:
            table = table[table["window_size"] == 0]
        table = table[
            (table["kv_cache_dtype"] == "bfloat16")
            & (table["head_dim"] == TABLED)
            & (table["num_heads"] > table["num_key_value_heads"])
        ]
        mean = table.groupby(list(numbers[:-1]))["latency"].mean().reset_index()
        mean = mean.rename(columns={"num_heads": "heads", "num_key_value_heads": "kv_heads"})
        parts.append(mean.assign(gpu=gpu, seconds=mean["latency"] * 1e-3))
    return pd.concat(parts, ignore_index=True)


def _layer_attention(points: list[tuple[int, int, float]], names: tuple[str, str]) -> pd.DataFrame:
    profile = profiles.load(LAYERS)
    shape = catalog.model(profile.model)
    table = pd.DataFrame(points, columns=[*names, "us"])
    return table.assign(
        gpu=profile.gpu,
        seconds=table["us"] * 1e-6 / shape.layers,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
    )


def decode(data: Path) -> pd.DataFrame:
    """Decode attention: ``sequences``, ``context``, ``heads``, ``kv_heads``, ``head_dim``."""
    table = _attention(data, "generation_attention_perf", "step")
    table = table.rename(columns={"batch_size": "sequences", "step": "context"})
    grid = profiles.load(LAYERS).steps.decode
    layers = [
        (n, context, us)
        for n, row in zip(grid.sequences, grid.us, strict=True)
        for context, us in zip(grid.contexts, row, strict=True)
        if us is not None
    ]
    rows = pd.concat([table, _layer_attention(layers, ("sequences", "context"))], ignore_index=True)
    return rows[(rows["context"] >= NEAREST) & (rows["sequences"] <= 1024)]


def prefill(data: Path) -> pd.DataFrame:
    """Prefill attention of one prompt or chunk: ``chunk``, ``past``, ``heads``, ``kv_heads``, ``head_dim``."""
    table = _attention(data, "context_attention_perf", "isl")
    table = table[table["batch_size"] == 1].rename(columns={"isl": "chunk"}).assign(past=0)
    grid = profiles.load(LAYERS).steps.prefill
    layers = [
        (chunk, past, us)
        for chunk, row in zip(grid.chunks, grid.us, strict=True)
        for past, us in zip(grid.pasts, row, strict=True)
        if us is not None
    ]
    rows = pd.concat([table, _layer_attention(layers, ("chunk", "past"))], ignore_index=True)
    return rows[rows["chunk"] >= SHORTEST]


def collective(data: Path, operation: str) -> pd.DataFrame:
    """``all_reduce`` (vLLM's own, under CUDA graphs) or ``all_gather`` (NCCL's): ``size`` in bytes, ``gpus``."""
    parts = []
    for gpu, folder in _folders(data):
        if operation == "all_reduce":
            path = table_path(newest(folder), "custom_allreduce_perf")
            table = read(path, ("num_gpus", "message_size", "latency"), ("backend",), positive=("latency",))
            table = table[table["backend"].str.contains("graph")]
        else:
            found = sorted(folder.glob("nccl*.parquet"))
            path = found[-1] if found else folder / "nccl.parquet"
            table = read(
                path, ("num_gpus", "message_size", "latency"), ("op_name", "nccl_dtype"), positive=("latency",)
            )
            table = table[(table["op_name"] == operation) & (table["nccl_dtype"] == "half")]
        mean = table.groupby(["num_gpus", "message_size"])["latency"].mean().reset_index()
        size = mean["message_size"] * 2.0  # counted in 2-byte elements
        parts.append(mean.assign(gpu=gpu, gpus=mean["num_gpus"], size=size, seconds=mean["latency"] * 1e-3))
    rows = pd.concat(parts, ignore_index=True)
    return rows[rows["size"].between(SMALLEST, LARGEST)]


def of_model(kind: str, rows: pd.DataFrame, shape: Architecture) -> pd.Series:
    """Which rows a profile of that model is composed of, at any tensor parallelism: products between whose sizes its own lie,
    attention at its heads, and every layer measured in the model itself."""
    degrees = [tp for tp in DEGREES if shape.heads % tp == 0]
    found = pd.Series(False, index=rows.index)
    if kind.startswith("gemm"):
        n, k = (np.unique(rows.loc[rows["gpu"] != _layers_gpu(), axis].to_numpy(float)) for axis in ("n", "k"))
        for tp in degrees:
            for one in (*operations.products(shape, tp).values(), operations.head(shape, tp)):
                found |= rows["n"].isin(_around(n, one.columns)) & rows["k"].isin(_around(k, one.depth))
    elif kind in ("decode", "prefill"):
        for tp in degrees:
            heads, kv = operations.query_heads(shape, tp), operations.kv_heads(shape, tp)
            found |= (rows["heads"] == heads) & (rows["kv_heads"] == kv)
    if profiles.load(LAYERS).model == shape.name:
        found |= rows["gpu"] == _layers_gpu()
    return found


def _layers_gpu() -> str:
    return profiles.load(LAYERS).gpu


def _around(grid: np.ndarray, value: float) -> list[float]:
    """The measured sizes on both sides of ``value``."""
    right = int(np.clip(np.searchsorted(grid, value), 1, len(grid) - 1))
    return [float(grid[right - 1]), float(grid[right])]
