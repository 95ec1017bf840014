"""Profiles of hardware and models that nobody has measured: what a step runs, priced by the roofline of the GPU.

Counts and sizes come from the model's shape (:mod:`sim.perf.operations`), peaks from the catalog, and how near kernels come to them
from fits to measured kernels (:mod:`sim.perf.efficiency`). ``sim/profiles/roofline.json`` holds what was fitted, the same
fit with each GPU and each model left out, and how far off each was then; that error goes with every profile predicted here.
"""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from sim.catalog.dtypes import dtype_bytes
from sim.errors import ProfileError
from sim.hardware.memory import footprint
from sim.perf import efficiency as times
from sim.perf import operations
from sim.perf.efficiency import Efficiency, Rates
from sim.perf.monotone import Array
from sim.profiles.doubt import Doubt
from sim.profiles.parts import HeldOut, Part
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

__all__ = ["DTYPES", "Fit", "LeftOut", "caution", "fitted", "predict", "steps"]

FITTED: Final = Path(__file__).parents[1] / "profiles" / "roofline.json"
ARCHITECTURE: Final = (
    "h100-sxm and h200-sxm"  # the one of which two GPUs were measured: left out, none of its kind is in the fit
)
DTYPES: Final = ("bf16", "fp16", "fp8")
"""Formats of weights and of the KV cache that were fitted."""

# Where step times are computed: within a tile of rows and at both of its ends, coarser where the ends no longer show
TOKENS: Final = (
    *(1, 2, 4, 8, 16, 32, 64, 128),
    *(size for end in range(256, 1025, 128) for size in (end - 127, end)),
    *range(1152, 2049, 128),
    *(2560, 3072, 3584, 4096, 6144, 8192, 12288, 16384, 32768),
)
SEQUENCES: Final = (1, 2, 4, 8, 16, 32, 64, 128, *range(256, 1025, 128))
CHUNKS: Final = (16, 32, 64, 128, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 32768)
PASTS: Final = (0, *(2**power for power in range(6, 18)))
BATCHES: Final = tuple(2**power for power in range(11))
CONTEXTS: Final = tuple(2**power for power in range(4, 18))


class LeftOut(HeldOut):
    """Errors of ``part`` where ``what`` (a GPU, a model, or all of them in turn) was left out of the fit."""

    part: str
    what: str


class Fit(Part):
    """``roofline.json``: the fit to all GPUs, those without one GPU or one model (by name), and the errors of the latter.

    ``rows`` counts the measured kernels by GPU. ``doubt`` is of the parts of a step; a mixture's experts add the variance
    ``experts`` to that of its ``tokens``.
    """

    source: str
    licence: str
    command: str
    rows: dict[str, int]
    efficiency: dict[str, float]
    without: dict[str, dict[str, float]]
    errors: tuple[LeftOut, ...]
    doubt: Doubt
    experts: float

    def of(self, part: str, what: str = "each GPU") -> LeftOut:
        """The errors of ``part`` with ``what`` left out."""
        return next(error for error in self.errors if (error.part, error.what) == (part, what))


@cache
def fitted() -> Fit:
    """What is shipped."""
    return Fit.model_validate(json.loads(FITTED.read_bytes()))


def predict(
    model: Architecture,
    gpu: Gpu,
    tensor_parallel: int = 1,
    dtype: str = "bf16",
    kv_dtype: str = "bf16",
) -> Profile:
    """The profile of ``model`` on ``tensor_parallel`` GPUs, predicted. ``dtype`` is that of the weights, ``kv_dtype`` of the KV cache.

    :raises ProfileError: a model, GPU or format for which there is nothing to predict from; one line.
    """
    fit = fitted()
    step = steps(model, gpu, tensor_parallel, dtype, kv_dtype, Efficiency(**fit.efficiency))
    parts = ("tokens", "sequences", "prefill", "decode")
    errors = {part: getattr(step, part).model_copy(update={"held_out": _held_out(fit, part)}) for part in parts}
    suffix = ("" if dtype == "bf16" else f"-{dtype}") + ("-kv-fp8" if kv_dtype == "fp8" else "")
    return Profile(
        version=SCHEMA_VERSION,
        name=f"roofline/{gpu.name}/{model.name}/tp{tensor_parallel}{suffix}",
        model=model.name,
        gpu=gpu.name,
        engine="vllm",
        tensor_parallel=tensor_parallel,
        dtype=dtype,
        kv_dtype=kv_dtype,
        provenance=Provenance(
            source=f"predicted by roofline from {fit.source}",
            licence=fit.licence,
            command=f"twinfer calibrate predict --model {model.name} --gpu {gpu.name} --tp {tensor_parallel}"
            + (f" --dtype {dtype}" if dtype != "bf16" else "")
            + (f" --kv-dtype {kv_dtype}" if kv_dtype != "bf16" else ""),
            points=0,
            notes=(_band(fit), *_notes(model, gpu, tensor_parallel, dtype, fit)),
        ),
        step=step.model_copy(update=errors),
        memory=footprint(model, tensor_parallel, dtype, kv_dtype),
        doubt=_doubt(model, fit),
    )


def steps(model: Architecture, gpu: Gpu, tp: int, dtype: str, kv_dtype: str, e: Efficiency) -> Step:
    """The step times that follow from ``e``. :raises ProfileError: as :func:`predict`."""
    _check(model, gpu, tp, dtype, kv_dtype)
    rates = Rates.of(gpu)
    return Step(
        tokens=_tokens(model, tp, rates, e, narrow=dtype == "fp8"),
        sequences=_sequences(model, tp, rates, e),
        prefill=_prefill(model, tp, kv_dtype, rates, e),
        decode=_decode(model, tp, kv_dtype, rates, e),
        host=Host(note="not predicted"),
    )


def caution(profile: Profile) -> str | None:
    """What to say wherever ``profile`` is used: None if its step times were measured, else how far off they may be."""
    if profile.step is None or all(curve.source != "predicted" for curve in profile.step.tokens.parts.values()):
        return None
    band = next(iter(profile.provenance.notes), "how far off they may be is not known")
    return f"step times are predicted, not measured: {band}"


def _check(model: Architecture, gpu: Gpu, tp: int, dtype: str, kv_dtype: str) -> None:
    operations.check_split(model, tp)
    if model.is_mla:
        raise ProfileError(
            f"{model.name} cannot be predicted: no kernels of latent attention (MLA) were measured to fit"
        )
    for name in (dtype, kv_dtype):
        if name not in DTYPES:
            raise ProfileError(
                f"dtype {name!r} cannot be predicted: no kernels of it were fitted (can: {', '.join(DTYPES)})"
            )
    if dtype == "fp8" and not gpu.fp8_flops:
        raise ProfileError(f"{gpu.name} has no fp8 arithmetic: dtype fp8 cannot be predicted on it")


def _band(fit: Fit) -> str:
    """How far off whole steps were; ``ARCHITECTURE`` is what a GPU of a new generation has to expect."""

    def said(step: str, what: str) -> str:
        error = fit.of(f"{step} step", what)
        return f"{error.median:.0%} ({error.p90:.0%})"

    near = ", ".join(f"{step} {said(step, 'each GPU')}" for step in ("decode", "prefill", "mixed"))
    far = ", ".join(f"{step} {said(step, ARCHITECTURE)}" for step in ("decode", "prefill"))
    return f"median error (90th percentile) of steps on GPUs left out of the fit: {near}; on a whole architecture left out: {far}"


def _notes(model: Architecture, gpu: Gpu, tp: int, dtype: str, fit: Fit) -> list[str]:
    mixed = fit.of("mixed step").bias or 0.0
    notes = [
        f"efficiencies: {len(fit.efficiency)} numbers fitted to {sum(fit.rows.values()):,} kernels of {', '.join(fit.rows)}",
        "norms, rotary embedding, activation and sampler are estimated from memory traffic",
        "prefill over cached tokens was fitted on the rtx-pro-6000 alone",
        f"attention of chunk and decodes is added: on the rtx-pro-6000 mixed steps then come out {-mixed:.0%} too short",
        "decodes of unequal context cost as much as equal ones",
        "the host's time between steps is not predicted",
    ]
    if dtype == "fp8":
        notes.append("8-bit products were fitted on h100-sxm and h200-sxm")
    if model.is_moe:
        notes.append("experts were fitted on the h100-sxm alone")
    if tp > 1 and not gpu.nvlink_bandwidth:
        notes.append("collectives over PCIe as NCCL reaches between two rtx-pro-6000")
    if "NVIDIA" not in gpu.title:
        notes.append(f"{gpu.title}: every GPU of the fit is NVIDIA's")
    return notes


def _doubt(model: Architecture, fit: Fit) -> Doubt:
    if not model.is_moe:
        return fit.doubt
    covariance = [list(row) for row in fit.doubt.covariance]
    at = fit.doubt.parts.index("tokens")
    covariance[at][at] += fit.experts
    return fit.doubt.model_copy(
        update={
            "covariance": tuple(tuple(row) for row in covariance),
            "method": f"{fit.doubt.method}; experts: shapes left out",
        }
    )


def _curve(at: tuple[int, ...], seconds: Array) -> Curve:
    return Curve(at=at, us=tuple(_micros(value) for value in seconds), source="predicted")


def _micros(seconds: float) -> float:
    return float(f"{seconds * 1e6:.5g}")


def _held_out(fit: Fit, part: str) -> HeldOut:
    found = fit.of(part)
    return HeldOut(**{name: getattr(found, name) for name in HeldOut.model_fields})


def _tokens(model: Architecture, tp: int, rates: Rates, e: Efficiency, *, narrow: bool) -> Curves:
    at = np.asarray(TOKENS, dtype=np.float64)
    seconds = {
        name: one.times * times.gemm(e, rates, at, one.columns, one.depth, narrow=narrow)
        for name, one in operations.products(model, tp).items()
    }
    if model.is_moe:
        seconds["router"] = model.moe_layers * times.gemm(e, rates, at, model.experts, model.hidden)
        seconds["moe"] = model.moe_layers * times.experts(
            e, rates, at, model.hidden, model.moe_ffn / tp, model.experts_per_token, model.experts, narrow=narrow
        )
    seconds["elementwise"] = operations.elementwise(model, tp, float(rates.memory), at)
    if tp > 1:
        each = times.all_reduce(e, rates, 2.0 * model.hidden * at, tp)
        seconds["all_reduce"] = operations.reductions(model) * each
    return Curves(parts={name: _curve(TOKENS, value) for name, value in seconds.items()})


def _sequences(model: Architecture, tp: int, rates: Rates, e: Efficiency) -> Curves:
    at = np.asarray(SEQUENCES, dtype=np.float64)
    head = operations.head(model, tp)
    seconds = {
        "lm_head": times.gemm(e, rates, at, head.columns, head.depth),  # quantised checkpoints keep it in 16 bits
        "sampler": operations.sampler(model, float(rates.memory), at),
    }
    if tp > 1:
        seconds["all_gather"] = times.all_gather(e, rates, 2.0 * model.vocab * at, tp)
    return Curves(parts={name: _curve(SEQUENCES, value) for name, value in seconds.items()})


def _windows(model: Architecture) -> list[tuple[int, float]]:
    """How many layers see how many tokens back."""
    kinds = [(model.layers - model.sliding_layers, math.inf), (model.sliding_layers, float(model.sliding_window))]
    return [(layers, window) for layers, window in kinds if layers]


def _prefill(model: Architecture, tp: int, kv_dtype: str, rates: Rates, e: Efficiency) -> PromptGrid:
    chunk = np.asarray(CHUNKS, dtype=np.float64)[:, None]
    past = np.asarray(PASTS, dtype=np.float64)[None, :]
    heads, kv = operations.query_heads(model, tp), operations.kv_heads(model, tp)
    size = dtype_bytes(kv_dtype)
    seconds = sum(
        layers * times.prefill(e, rates, chunk, past, heads, kv, model.head_dim, cache_bytes=size, window=window)
        for layers, window in _windows(model)
    )
    us = tuple(tuple(_micros(value) for value in row) for row in np.asarray(seconds))
    return PromptGrid(chunks=CHUNKS, pasts=PASTS, us=us)


def _decode(model: Architecture, tp: int, kv_dtype: str, rates: Rates, e: Efficiency) -> ContextGrid:
    sequences = np.asarray(BATCHES, dtype=np.float64)[:, None]
    context = np.asarray(CONTEXTS, dtype=np.float64)[None, :]
    heads, kv = operations.query_heads(model, tp), operations.kv_heads(model, tp)
    size = dtype_bytes(kv_dtype)
    seconds = sum(
        layers * times.decode(e, rates, sequences, context, heads, kv, model.head_dim, cache_bytes=size, window=window)
        for layers, window in _windows(model)
    )
    us = tuple(tuple(_micros(value) for value in row) for row in np.asarray(seconds))
    return ContextGrid(sequences=BATCHES, contexts=CONTEXTS, us=us)
