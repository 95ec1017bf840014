"""How near kernels come to what the hardware could do: a few numbers, shared by all GPUs, and the times that follow from them.

Each kernel takes a start, and then the time its arithmetic takes at a share of the peak or its memory traffic at a share of the
bandwidth, whichever is longer. The shares are fitted on measured kernels (``calibration.roofline``); a GPU enters with the peaks its
maker states, never with a number of its own. So a GPU nobody has measured can be predicted, and one that was can be left out of
the fit, to see how far off that is.

All functions take numbers or arrays and return seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from sim.errors import ProfileError
from sim.perf.monotone import Array

if TYPE_CHECKING:
    from sim.catalog import Gpu

__all__ = ["Efficiency", "Rates", "all_gather", "all_reduce", "decode", "experts", "gemm", "prefill"]

MICRO: Final = 1e-6
TILE: Final = 128  # rows and columns of a product that one multiprocessor works on at a time; queries, in attention
CUSTOM: Final = (
    8 * 2**20
)  # bytes up to which vLLM reduces with a kernel of its own instead of NCCL (custom_all_reduce.py)
# NCCL 2.29 between two RTX PRO 6000 on PCIe 5 x16 (casys-kaist/LLMServingSim, profiler/perf/RTXPRO6000/hardware.yaml):
# all-reduce 12.7 µs at 4 KB, 41 µs at 1 MB, 587 µs at 21 MB: 12.5 µs and 36.5 GB/s, 0.57 of the link's 64 GB/s one way;
# all-gather 10.5 µs and 21 MB from each in 683 µs, 0.49 of it. Latency grows with the depth of the tree.
PCIE_START: Final = 12.5e-6
PCIE_REDUCE: Final = 0.57
PCIE_GATHER: Final = 0.49

Numbers = Array | float


@dataclass(frozen=True, slots=True)
class Efficiency:
    """What is fitted: ``*_start`` and other times in microseconds, all else shares of a peak (``gemm_tile`` and ``gemm_bend`` are
    plain numbers).

    A product occupies whole tiles; ``gemm_tile`` is how many a multiprocessor, in tiles, the time of the first one is worth, and
    ``gemm_bend`` how sharply it turns from bound by memory to bound by arithmetic. ``gemm8`` is the same of 8-bit products.
    ``prefill_path`` is the share of its keys a query tile cannot do in parallel. ``decode_head`` is the time one multiprocessor takes
    for one sequence and KV head besides reading its cache. Reductions: vLLM's own, in one exchange (``reduce_once``) or two
    (``reduce_second`` more, ``reduce_twice``), and NCCL's ring (``ring``) above 8 MiB; ``gather`` is NCCL's.
    """

    gemm_start: float
    gemm_memory: float
    gemm_compute: float
    gemm_tile: float
    gemm_bend: float
    gemm8_start: float
    gemm8_memory: float
    gemm8_compute: float
    experts_start: float
    experts_memory: float
    experts_compute: float
    prefill_start: float
    prefill_compute: float
    prefill_path: float
    decode_start: float
    decode_memory: float
    decode_head: float
    reduce_start: float
    reduce_once: float
    reduce_second: float
    reduce_twice: float
    ring_start: float
    ring_share: float
    gather_start: float
    gather_step: float
    gather_share: float


@dataclass(frozen=True, slots=True)
class Rates:
    """The peaks of a GPU, or of many as arrays: FLOP/s of 16 and of 8 bits, bytes/s of memory, of the link to its peers (0: none) and of
    PCIe one way, and multiprocessors."""

    flops: Numbers
    flops8: Numbers
    memory: Numbers
    link: Numbers
    pcie: Numbers
    units: Numbers

    @classmethod
    def of(cls, gpu: Gpu) -> Rates:
        """Those of a GPU of the catalog. :raises ProfileError: one that is needed is missing."""
        needed = {name: getattr(gpu, name) for name in ("bf16_flops", "memory_bandwidth", "pcie_bandwidth", "sm_count")}
        missing = [name for name, value in needed.items() if not value or not math.isfinite(value)]
        if missing:
            raise ProfileError(f"{gpu.name} cannot be predicted: its {' and '.join(missing)} must be known")
        return cls(
            flops=gpu.bf16_flops,
            flops8=gpu.fp8_flops or 0.0,
            memory=gpu.memory_bandwidth,
            link=gpu.nvlink_bandwidth,
            pcie=gpu.pcie_bandwidth,
            units=float(gpu.sm_count or 0),
        )


def gemm(e: Efficiency, rates: Rates, m: Numbers, n: Numbers, k: Numbers, *, narrow: bool = False) -> Array:
    """A product of m × k by k × n, in 16 bits or with 8-bit operands (``narrow``). It takes as long for 1 row as for a tile of them,
    unless it reads less."""
    start, memory, compute = (
        (e.gemm8_start, e.gemm8_memory, e.gemm8_compute) if narrow else (e.gemm_start, e.gemm_memory, e.gemm_compute)
    )
    tiles = np.ceil(np.divide(m, TILE)) * np.ceil(np.divide(n, TILE))
    one = 2.0 * TILE * TILE * np.asarray(k) * rates.units / (rates.flops8 if narrow else rates.flops)
    arithmetic = one * (tiles / rates.units + e.gemm_tile) / compute
    moved = (1.0 if narrow else 2.0) * (np.multiply(m, k) + np.multiply(n, k)) + 2.0 * np.multiply(m, n)
    reading = moved / rates.memory / memory
    # of the longer one, so that neither power underflows
    longer = np.maximum(arithmetic, reading)
    bent = ((arithmetic / longer) ** e.gemm_bend + (reading / longer) ** e.gemm_bend) ** (1.0 / e.gemm_bend)
    return np.asarray(start * MICRO + longer * bent)


def experts(
    e: Efficiency,
    rates: Rates,
    tokens: Numbers,
    hidden: Numbers,
    width: Numbers,
    chosen: Numbers,
    count: Numbers,
    *,
    narrow: bool = False,
) -> Array:
    """The routed experts of one layer: each of ``tokens`` visits ``chosen`` of ``count`` gated blocks of that ``width`` on this GPU.

    The blocks visited by at least one token are read: count (1 − (1 − chosen / count)^tokens) of them if tokens choose alike.
    """
    visited = np.multiply(count, 1.0 - (1.0 - np.divide(chosen, count)) ** tokens)
    weights = 3.0 * np.multiply(hidden, width)
    pairs = np.multiply(tokens, chosen)
    moved = visited * weights * (1.0 if narrow else 2.0) + 2.0 * pairs * (
        2.0 * np.asarray(hidden) + 3.0 * np.asarray(width)
    )
    arithmetic = 2.0 * pairs * weights / (rates.flops8 if narrow else rates.flops)
    return np.asarray(
        e.experts_start * MICRO + moved / rates.memory / e.experts_memory + arithmetic / e.experts_compute
    )


def prefill(
    e: Efficiency,
    rates: Rates,
    chunk: Numbers,
    past: Numbers,
    heads: Numbers,
    kv_heads: Numbers,
    head_dim: Numbers,
    *,
    cache_bytes: float = 2.0,
    window: float = math.inf,
) -> Array:
    """Attention of one layer: a chunk after ``past`` cached tokens, of which each query sees the last ``window``.

    The arithmetic of all heads over the whole GPU, and that of one tile of queries, which goes through all of its keys in turn. Never
    less than reading the cache once.
    """
    q, p = np.asarray(chunk, dtype=np.float64), np.asarray(past, dtype=np.float64)
    growing = np.clip(window - p, 0.0, q)  # queries that see all there is
    pairs = growing * (p + growing / 2.0) + (q - growing) * (0.0 if math.isinf(window) else window)
    keys = np.minimum(p, window) + q
    work = 4.0 * pairs * heads * head_dim / rates.flops
    path = 4.0 * TILE * keys * head_dim * rates.units / rates.flops
    reading = 2.0 * keys * kv_heads * head_dim * cache_bytes / rates.memory / e.decode_memory
    return np.asarray(e.prefill_start * MICRO + np.maximum((work + e.prefill_path * path) / e.prefill_compute, reading))


def decode(
    e: Efficiency,
    rates: Rates,
    sequences: Numbers,
    context: Numbers,
    heads: Numbers,
    kv_heads: Numbers,
    head_dim: Numbers,
    *,
    cache_bytes: float = 2.0,
    window: float = math.inf,
) -> Array:
    """Attention of one layer: ``sequences`` decodes over ``context`` cached tokens each, or over the last ``window`` of them."""
    seen = np.multiply(sequences, np.minimum(context, window))
    reading = 2.0 * seen * kv_heads * head_dim * cache_bytes / rates.memory / e.decode_memory
    arithmetic = 4.0 * seen * heads * head_dim / rates.flops
    each = e.decode_head * np.multiply(sequences, kv_heads) / rates.units
    return np.asarray((e.decode_start + each) * MICRO + np.maximum(reading, arithmetic))


def all_reduce(e: Efficiency, rates: Rates, size: Numbers, tp: Numbers) -> Array:
    """The sum over ``tp`` GPUs of a tensor of ``size`` bytes, over NVLink or its like; over PCIe where there is none."""
    size, tp = np.asarray(size, dtype=np.float64), np.asarray(tp, dtype=np.float64)
    ring = 2.0 * (tp - 1.0) / tp * size
    if not np.all(rates.link):
        return np.asarray(_pcie_start(tp) + ring / (PCIE_REDUCE * np.asarray(rates.pcie)))
    once = (tp - 1.0) * size / rates.link / e.reduce_once
    twice = e.reduce_second * MICRO + ring / rates.link / e.reduce_twice
    own = e.reduce_start * MICRO + np.minimum(once, twice)
    nccl = e.ring_start * MICRO + ring / rates.link / e.ring_share
    return np.where(size <= CUSTOM, own, np.maximum(own, nccl))


def all_gather(e: Efficiency, rates: Rates, size: Numbers, tp: Numbers) -> Array:
    """A tensor of ``size`` bytes put together from the parts that ``tp`` GPUs hold."""
    size, tp = np.asarray(size, dtype=np.float64), np.asarray(tp, dtype=np.float64)
    moved = (tp - 1.0) / tp * size
    if not np.all(rates.link):
        return np.asarray(0.8 * _pcie_start(tp) + moved / (PCIE_GATHER * np.asarray(rates.pcie)))
    return np.asarray((e.gather_start + e.gather_step * tp) * MICRO + moved / rates.link / e.gather_share)


def _pcie_start(tp: Array) -> Array:
    return PCIE_START * np.maximum(np.log2(tp), 1.0)
