"""Profiles composed from aiconfigurator's kernel tables: GEMM, attention, all-reduce and mixture-of-experts, in ms, by shape.

A folder holds the tables of one GPU and engine version (``gemm_perf``, ``context_attention_perf``, ``generation_attention_perf``,
``custom_allreduce_perf``, ``moe_perf``; parquet, or CSV under whatever name), possibly in a subfolder named by the version, with a
``nccl*`` table beside them or one folder up. The model's shape decides which kernels a step runs and how often.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from calibration.importers import heldout
from calibration.importers.attention import decode, prefill
from calibration.importers.collectives import Collectives, assumed_link, measured_link
from calibration.importers.composition import GEMM_DTYPES, Kernels, newest, table_path
from calibration.importers.gemm import Gemm
from calibration.importers.naming import check_card, dtype_name, profile_name
from calibration.importers.outliers import despiked
from calibration.importers.tables import find, read, rounded
from sim import catalog
from sim.catalog.dtypes import DTYPE_BYTES
from sim.errors import ProfileError
from sim.hardware.memory import footprint
from sim.perf.monotone import Array
from sim.perf.operations import check_split, elementwise, head, products, reductions, sampler
from sim.profiles.schema import (
    SCHEMA_VERSION,
    Curve,
    Curves,
    Host,
    Profile,
    Provenance,
    Step,
)

__all__ = ["import_kernels"]


def import_kernels(
    folder: str | Path,
    model: str,
    gpu: str,
    tp: int,
    dtype: str | None = None,
    command: str = "",
    kv_dtype: str = "bf16",
) -> Profile:
    """The profile of ``model`` (catalog name or config.json) on ``tp`` GPUs ``gpu`` (catalog name), composed from kernels.

    ``kv_dtype`` is that of the KV cache, 'bf16' or 'fp8', if the attention tables have it.

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
    place = newest(root)
    dtype = dtype_name(dtype, None, None)
    for name in (dtype, kv_dtype):
        if name not in GEMM_DTYPES:
            raise ProfileError(f"dtype {name!r} cannot be composed from kernel tables (can: {', '.join(GEMM_DTYPES)})")
    kernels = Kernels(place, shape, card, tp, dtype, kv_dtype, [], [])
    gemm_path = table_path(place, "gemm_perf")
    gemm_rows = read(gemm_path, ("m", "n", "k", "latency"), ("gemm_dtype",), positive=("m", "n", "k", "latency"))
    device = str(gemm_rows["device"].iloc[0]) if "device" in gemm_rows.columns else None
    if device:
        check_card(gemm_path, "column device", device, gpu)
    version = str(gemm_rows["version"].iloc[0]) if "version" in gemm_rows.columns else None
    link = _link(kernels, root)
    tokens = _tokens(kernels, gemm_path, gemm_rows, link)
    sequences = _sequences(kernels, gemm_path, gemm_rows, link)
    prompts, decodes = prefill(kernels), decode(kernels)
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
            prefill=prompts,
            decode=decodes,
            host=Host(note="kernels were timed one by one; what the host adds between steps was not measured"),
        ),
        memory=footprint(shape, tp, dtype, kernels.kv_dtype),
    )


def _link(kernels: Kernels, root: Path) -> Collectives | None:
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


def _gemm(kernels: Kernels, path: Path, rows: pd.DataFrame, dtype: str) -> Gemm:
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


def _curve(
    kernels: Kernels,
    name: str,
    at: Array,
    seconds: Array,
    source: Literal["composed", "estimated", "measured", "assumed"],
) -> Curve:
    at, seconds = despiked(at, seconds, name, kernels.notes)
    return Curve(at=tuple(int(x) for x in at), us=tuple(rounded(float(y) * 1e6) for y in seconds), source=source)


def _tokens(kernels: Kernels, path: Path, rows: pd.DataFrame, link: Collectives | None) -> Curves:
    shape, tp = kernels.shape, kernels.tp
    gemm = _gemm(kernels, path, rows, kernels.dtype)
    at = gemm.sizes
    found = products(shape, tp)
    parts = {
        name: _curve(kernels, name, at, gemm.seconds(one.columns, one.depth) * one.times, "composed")
        for name, one in found.items()
    }
    kernels.counts.append(4 * len(parts) * len(at))
    errors = [gemm.left_out(one.columns, one.depth) for one in found.values()]
    if shape.is_moe:
        router = _gemm(kernels, path, rows, "bf16")
        parts["router"] = _curve(
            kernels, "router", router.sizes, router.seconds(shape.experts, shape.hidden) * shape.moe_layers, "composed"
        )
        parts["moe"] = _experts(kernels)
    small = elementwise(shape, tp, kernels.card.memory_bandwidth, at)
    parts["elementwise"] = _curve(kernels, "elementwise", at, small, "estimated")
    if link is not None:
        parts["all_reduce"] = _curve(
            kernels, "all_reduce", at, reductions(shape) * link.all_reduce(at * shape.hidden * 2.0), link.source
        )
    return Curves(
        parts=parts,
        held_out=heldout.summary("GEMM shapes around the model's, each from its neighbours", np.concatenate(errors)),
    )


def _experts(kernels: Kernels) -> Curve:
    shape = kernels.shape
    path = table_path(kernels.folder, "moe_perf")
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
    return _curve(kernels, "moe", mean.index.to_numpy(float), mean.to_numpy(float) * shape.moe_layers, "composed")


def _sequences(kernels: Kernels, path: Path, rows: pd.DataFrame, link: Collectives | None) -> Curves:
    shape = kernels.shape
    gemm = _gemm(kernels, path, rows, "bf16")  # quantised checkpoints keep the LM head as it is
    at = gemm.sizes[gemm.sizes <= 4096]
    last = head(shape, kernels.tp)
    sampling = sampler(shape, kernels.card.memory_bandwidth, at)
    parts = {
        "lm_head": _curve(kernels, "lm_head", at, gemm.seconds(last.columns, last.depth)[: len(at)], "composed"),
        "sampler": _curve(kernels, "sampler", at, sampling, "estimated"),
    }
    if link is not None:
        parts["all_gather"] = _curve(kernels, "all_gather", at, link.all_gather(at * shape.vocab * 2.0), link.source)
    kernels.counts.append(len(at))
    errors = gemm.left_out(last.columns, last.depth)
    return Curves(
        parts=parts, held_out=heldout.summary("GEMM shapes around the LM head's, each from its neighbours", errors)
    )
