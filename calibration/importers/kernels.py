"""Profiles composed from aiconfigurator's kernel tables: GEMM, attention, all-reduce and mixture-of-experts, in ms, by shape.

A folder holds the tables of one GPU and engine version (``gemm_perf``, ``context_attention_perf``, ``generation_attention_perf``,
``custom_allreduce_perf``, ``moe_perf``; parquet, or CSV under whatever name), possibly in a subfolder named by the version, with a
``nccl*`` table beside them or one folder up. The model's shape decides which kernels a step runs and how often.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import pandas as pd

from calibration.importers import heldout
from calibration.importers.collectives import Collectives, assumed_link, measured_link
from calibration.importers.gemm import Gemm
from calibration.importers.memory import memory
from calibration.importers.naming import check_card, check_split, dtype_name, profile_name
from calibration.importers.tables import find, read, rounded
from sim import catalog
from sim.catalog.dtypes import DTYPE_BYTES
from sim.errors import ProfileError
from sim.perf.monotone import Array, line
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

__all__ = ["import_kernels"]

GEMM_DTYPES: Final = {"bf16": ("bfloat16", "float16"), "fp16": ("float16", "bfloat16"), "fp8": ("fp8", "fp8_block")}
# Small kernels that no table has, as the layer timings of the RTX PRO 6000 show them: a norm, the rotary embedding and the
# activation take 2.4 to 2.7 µs with next to no work, and more work goes at the memory's speed.
SMALL: Final = 2.5e-6
SAMPLER: Final = 25e-6  # the same card's sampler for one sequence; for many, 1.6 passes over float32 logits
PASSES: Final = 1.6
EFFICIENCY: Final = 0.8  # of the catalog's memory bandwidth


@dataclass(frozen=True)
class _Kernels:
    """The tables found, the model they are put together for, and what was assumed on the way."""

    folder: Path
    shape: Architecture
    card: Gpu
    tp: int
    dtype: str
    kv_dtype: str
    notes: list[str]
    counts: list[int]

    @property
    def heads(self) -> int:
        return self.shape.heads // self.tp

    @property
    def kv_heads(self) -> int:
        return max(self.shape.kv_heads // self.tp, 1)


def import_kernels(
    folder: str | Path, model: str, gpu: str, tp: int, dtype: str | None = None, command: str = ""
) -> Profile:
    """The profile of ``model`` (catalog name or config.json) on ``tp`` GPUs ``gpu`` (catalog name), composed from kernels.

    :raises ProfileError: a missing table or column, malformed numbers, tables of another GPU, or no rows of this shape.
    :raises CatalogError: unknown model or GPU.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ProfileError(f"{folder}: no such folder")
    shape, card = catalog.model(model), catalog.gpu(gpu)
    check_split(shape, tp)
    if shape.is_mla:
        raise ProfileError(
            f"{shape.name}: latent attention (MLA) cannot be composed from context and generation attention tables"
        )
    place = _folder(root)
    dtype = dtype_name(dtype, None, None)
    if dtype not in GEMM_DTYPES:
        raise ProfileError(f"dtype {dtype!r} cannot be composed from kernel tables (can: {', '.join(GEMM_DTYPES)})")
    kernels = _Kernels(place, shape, card, tp, dtype, "bf16", [], [])
    gemm_path = _table(place, "gemm_perf")
    gemm_rows = read(gemm_path, ("m", "n", "k", "latency"), ("gemm_dtype",), positive=("m", "n", "k", "latency"))
    device = str(gemm_rows["device"].iloc[0]) if "device" in gemm_rows.columns else None
    if device:
        check_card(gemm_path, "column device", device, gpu)
    version = str(gemm_rows["version"].iloc[0]) if "version" in gemm_rows.columns else None
    link = _link(kernels, root)
    tokens = _tokens(kernels, gemm_path, gemm_rows, link)
    sequences = _sequences(kernels, gemm_path, gemm_rows, link)
    prefill, decode = _prefill(kernels), _decode(kernels)
    kernels.notes.extend(
        (
            "norms, rotary embedding, activation and sampler are estimated from memory traffic",
            "a chunk of q tokens after p costs what a prompt of p+q costs more than one of p, and the start of a kernel",
            "no mixed measurements: attention of chunk and decodes is added",
            "no skew measurements: decodes of unequal context cost as much as equal ones",
        )
    )
    return Profile(
        version=SCHEMA_VERSION,
        name=profile_name(gpu, model, shape, tp, dtype),
        model=shape.name,
        gpu=gpu,
        engine=f"vllm {version}" if version else "vllm",
        tensor_parallel=tp,
        dtype=dtype,
        kv_dtype=kernels.kv_dtype,
        provenance=Provenance(
            source="ai-dynamo/aiconfigurator kernel tables",
            licence="Apache-2.0",
            command=command,
            host=device,
            versions={"vllm": version} if version else {},
            points=sum(kernels.counts),
            notes=tuple(kernels.notes),
        ),
        step=Step(
            tokens=tokens,
            sequences=sequences,
            prefill=prefill,
            decode=decode,
            host=Host(note="kernels were timed one by one; what the host adds between steps was not measured"),
        ),
        memory=memory(shape, tp, dtype, kernels.kv_dtype),
    )


def _table(folder: Path, name: str) -> Path:
    path = find(folder, f"{name}.parquet", f"{name}.txt", f"{name}.csv", f"{name}.csv.gz")
    if path is None:
        raise ProfileError(f"{folder / (name + '.parquet')}: no such file")
    return path


def _folder(root: Path) -> Path:
    """``root``, or its newest subfolder that holds the GEMM table."""

    def has(folder: Path) -> bool:
        return any(folder.glob("gemm_perf.*"))

    if has(root):
        return root
    inside = [path for path in sorted(root.glob("*/")) if has(path)] or [
        path for path in sorted(root.glob("*/*/")) if has(path)
    ]
    if not inside:
        return root
    return max(inside, key=lambda path: [int(part) for part in re.findall(r"\d+", path.name)])


def _link(kernels: _Kernels, root: Path) -> Collectives | None:
    """The group's collectives: vLLM's own all-reduce under CUDA graphs where it was measured, else NCCL, else the catalog's link."""
    if kernels.tp == 1:
        return None
    places = list(dict.fromkeys((kernels.folder, kernels.folder.parent, root)))
    nccl = next((path for place in places for path in sorted(place.glob("nccl*.*")) if path.is_file()), None)
    custom = find(
        kernels.folder, *(f"custom_allreduce_perf.{ending}" for ending in ("parquet", "txt", "csv", "csv.gz"))
    )
    link = measured_link(
        custom, nccl, kernels.tp, kernels.counts, kernels.notes, assumed_link(kernels.card, kernels.tp)
    )
    kernels.notes.append(link.note)
    return link


def _gemm(kernels: _Kernels, path: Path, rows: pd.DataFrame, dtype: str) -> Gemm:
    found = sorted({str(name) for name in rows["gemm_dtype"]})
    name = next((name for name in GEMM_DTYPES[dtype] if name in found), None)
    if name is None:
        raise ProfileError(
            f"{path}: column gemm_dtype: no rows of {' or '.join(GEMM_DTYPES[dtype])} (has: {', '.join(found)})"
        )
    if dtype == "fp8" and not kernels.card.fp8_flops:
        raise ProfileError(f"{kernels.card.name} has no fp8 arithmetic")
    own = rows[rows["gemm_dtype"] == name]
    flops = kernels.card.fp8_flops if dtype == "fp8" else kernels.card.bf16_flops
    return Gemm(path, own, DTYPE_BYTES[dtype], float(flops or 0.0), kernels.card.memory_bandwidth)


def _curve(at: Array, seconds: Array, source: Literal["composed", "estimated", "measured", "assumed"]) -> Curve:
    return Curve(at=tuple(int(x) for x in at), us=tuple(rounded(float(y) * 1e6) for y in seconds), source=source)


def _tokens(kernels: _Kernels, path: Path, rows: pd.DataFrame, link: Collectives | None) -> Curves:
    shape, tp = kernels.shape, kernels.tp
    gemm = _gemm(kernels, path, rows, kernels.dtype)
    at = gemm.sizes
    width = shape.head_dim * (kernels.heads + 2 * kernels.kv_heads)
    dense = shape.layers - shape.moe_layers
    products = {
        "qkv_proj": (width, shape.hidden, shape.layers),
        "o_proj": (shape.hidden, shape.head_dim * kernels.heads, shape.layers),
        "gate_up_proj": ((2 if shape.gated_ffn else 1) * shape.ffn / tp, shape.hidden, dense),
        "down_proj": (shape.hidden, shape.ffn / tp, dense),
    }
    if shape.is_moe and shape.shared_ffn:
        shared = shape.shared_ffn / tp
        products["shared_gate_up_proj"] = (2 * shared, shape.hidden, shape.moe_layers)
        products["shared_down_proj"] = (shape.hidden, shared, shape.moe_layers)
    parts = {
        name: _curve(at, gemm.seconds(n, k) * times, "composed")
        for name, (n, k, times) in products.items()
        if times and n and k
    }
    kernels.counts.append(4 * len(parts) * len(at))
    errors = [gemm.left_out(n, k) for n, k, times in products.values() if times and n and k]
    if shape.is_moe:
        router = _gemm(kernels, path, rows, "bf16")
        parts["router"] = _curve(
            router.sizes, router.seconds(shape.experts, shape.hidden) * shape.moe_layers, "composed"
        )
        parts["moe"] = _experts(kernels)
    parts["elementwise"] = _curve(at, _elementwise(kernels, at), "estimated")
    if link is not None:
        reduces = (
            2 * shape.layers + 1
        )  # after attention and after the MLP of each layer, and after the sharded embedding
        parts["all_reduce"] = _curve(at, reduces * link.all_reduce(at * shape.hidden * 2.0), link.source)
    return Curves(
        parts=parts,
        held_out=heldout.summary("GEMM shapes around the model's, each from its neighbours", np.concatenate(errors)),
    )


def _elementwise(kernels: _Kernels, tokens: Array) -> Array:
    """Seconds of what moves activations but multiplies no matrices: two fused norms, rotary embedding and activation a layer.

    The kernels of experts and attention bring their own activation and cache write.
    """
    shape = kernels.shape
    dense = shape.layers - shape.moe_layers
    heads = shape.head_dim * (kernels.heads + kernels.kv_heads)
    turns = (
        2.0 if shape.qk_norm else 1.0
    )  # what touches queries and keys: rotary embedding, and their norm if they have one
    moved = (
        2.0 * shape.layers * (2.0 * 4.0 * shape.hidden + turns * 2.0 * heads)
        + 2.0 * dense * 3.0 * shape.ffn / kernels.tp
    )
    once = 2.0 * 2.0 * 2.0 * shape.hidden  # embedding rows and the final norm
    launches = shape.layers * (2.0 + turns) + dense + 2.0
    return launches * SMALL + tokens * (moved + once) / (EFFICIENCY * kernels.card.memory_bandwidth)


def _experts(kernels: _Kernels) -> Curve:
    shape = kernels.shape
    path = _table(kernels.folder, "moe_perf")
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
    table = read(path, numbers, ("moe_dtype",), positive=("num_tokens", "latency"))
    wanted = {
        "hidden_size": shape.hidden,
        "inter_size": shape.moe_ffn,
        "topk": shape.experts_per_token,
        "num_experts": shape.experts,
        "moe_ep_size": 1,
        "moe_tp_size": kernels.tp,
    }
    for column, value in wanted.items():
        found = sorted({int(x) for x in table[column]})
        table = table[table[column] == value]
        if table.empty:
            shown = ", ".join(map(str, found))
            raise ProfileError(
                f"{path}: column {column}: no rows of {value} for {shape.name} tp{kernels.tp} (has: {shown})"
            )
    names = {str(name) for name in table["moe_dtype"]}
    dtype = next((name for name in GEMM_DTYPES[kernels.dtype] if name in names), None)
    if dtype is None:
        raise ProfileError(
            f"{path}: column moe_dtype: no rows of {kernels.dtype} for {shape.name} (has: {', '.join(sorted(names))})"
        )
    table = table[table["moe_dtype"] == dtype]
    if "distribution" in table.columns:
        spread = sorted({str(name) for name in table["distribution"]})
        chosen = next(name for name in ("power_law_1.01", *spread) if name in spread)
        table = table[table["distribution"] == chosen]
        kernels.notes.append(f"experts: tokens spread over them as in the rows of {chosen}")
    mean = table.groupby("num_tokens")["latency"].mean() * 1e-3
    kernels.counts.append(len(mean))
    return _curve(mean.index.to_numpy(float), mean.to_numpy(float) * shape.moe_layers, "composed")


def _sequences(kernels: _Kernels, path: Path, rows: pd.DataFrame, link: Collectives | None) -> Curves:
    shape = kernels.shape
    gemm = _gemm(kernels, path, rows, "bf16")  # quantised checkpoints keep the LM head as it is
    at = gemm.sizes[gemm.sizes <= 4096]
    head = gemm.seconds(shape.vocab / kernels.tp, shape.hidden)[: len(at)]
    sampler = SAMPLER + PASSES * 4.0 * at * shape.vocab / (EFFICIENCY * kernels.card.memory_bandwidth)
    parts = {"lm_head": _curve(at, head, "composed"), "sampler": _curve(at, sampler, "estimated")}
    if link is not None:
        parts["all_gather"] = _curve(at, link.all_gather(at * shape.vocab * 2.0), link.source)
    kernels.counts.append(len(at))
    errors = gemm.left_out(shape.vocab / kernels.tp, shape.hidden)
    return Curves(
        parts=parts, held_out=heldout.summary("GEMM shapes around the LM head's, each from its neighbours", errors)
    )


def _attention(kernels: _Kernels, name: str, key: str, sharing: str) -> pd.Series:
    """Seconds of one layer by (batch_size, ``key``) at the model's heads on one GPU.

    Query heads that were not measured are interpolated between those that were, at the same KV heads; KV heads that were not
    measured take the next larger number, scaled by their share of it where ``sharing`` says the time goes with them.
    """
    path = _table(kernels.folder, name)
    numbers = ("batch_size", key, "num_heads", "num_key_value_heads", "head_dim", "latency")
    table = read(path, numbers, ("kv_cache_dtype",), positive=("batch_size", "latency"))
    if "window_size" in table.columns:
        table = table[pd.to_numeric(table["window_size"], errors="coerce").fillna(0) == 0]
    names = GEMM_DTYPES[kernels.kv_dtype]
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


def _prefill(kernels: _Kernels) -> PromptGrid:
    series = _attention(kernels, "context_attention_perf", "isl", "heads")
    batch = series.index.get_level_values(0).min()
    whole = series.loc[batch] * kernels.shape.layers
    lengths, seconds = whole.index.to_numpy(float), whole.to_numpy(float)
    if len(lengths) < 2:
        raise ProfileError(
            f"{_table(kernels.folder, 'context_attention_perf')}: column isl: at least two lengths are needed"
        )
    errors = heldout.along(lengths, seconds, lambda x: x**2)
    return PromptGrid(
        chunks=tuple(int(x) for x in lengths),
        pasts=(0,),
        us=tuple((rounded(float(value) * 1e6),) for value in seconds / batch),
        held_out=heldout.summary("each prompt length from its neighbours", errors),
    )


def _decode(kernels: _Kernels) -> ContextGrid:
    series = _attention(kernels, "generation_attention_perf", "step", "kv")
    wide = series.unstack() * kernels.shape.layers
    wide = wide[wide.notna().sum(axis=1) >= 2]
    if wide.empty:
        raise ProfileError(
            f"{_table(kernels.folder, 'generation_attention_perf')}: column step: at least two contexts are needed"
        )
    contexts = wide.columns.to_numpy(
        float
    )  # ``step`` tokens are in the cache, the one generated attends to itself besides
    values = wide.to_numpy(float)
    return ContextGrid(
        sequences=tuple(int(n) for n in wide.index),
        contexts=tuple(int(c) for c in contexts),
        us=tuple(tuple(None if np.isnan(x) else rounded(float(x) * 1e6) for x in row) for row in values),
        held_out=heldout.summary("each context from its neighbours", heldout.columns(contexts, values)),
    )
