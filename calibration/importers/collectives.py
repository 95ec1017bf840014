"""The collectives of tensor parallelism: measured tables of them, or the catalog's links with a stated assumption."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log2
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from calibration.importers.outliers import despiked
from calibration.importers.tables import read
from sim.perf.monotone import Array, isotonic, line

if TYPE_CHECKING:
    from sim.catalog import Gpu

__all__ = ["Collectives", "assumed_link", "measured_link"]

# PCIe: NCCL 2.29 between two RTX PRO 6000 on PCIe 5 x16 (casys-kaist/LLMServingSim, profiler/perf/RTXPRO6000/hardware.yaml):
# all-reduce 12.7 µs at 4 KB, 41 µs at 1 MB, 587 µs at 21 MB: 12.5 µs and 36.5 GB/s, 0.57 of the link's 64 GB/s one way;
# all-gather 10.5 µs and 21 MB from each in 683 µs, 0.49 of it. Latency grows with the depth of the tree.
PCIE: Final = {"latency": 12.5e-6, "reduce": 0.57, "gather": 0.49}
# NVLink: NCCL 2.29 on H100 SXM (aiconfigurator): 6.2, 9.5, 15.7 µs for 2, 4, 8 GPUs; 0.71 of 450 GB/s one way between two.
NVLINK: Final = {"latency": 3.0e-6, "each": 1.6e-6, "fraction": 0.71}


@dataclass(frozen=True)
class Collectives:
    """Seconds of a collective over one tensor-parallel group, by bytes of the whole tensor (as it is after the operation)."""

    all_reduce: Callable[[Array], Array]
    all_gather: Callable[[Array], Array]
    source: Literal["measured", "assumed"]
    note: str


def assumed_link(card: Gpu, tp: int) -> Collectives:
    """Ring collectives over the catalog's link of ``card``: NVLink where it has one, else PCIe."""
    share = (tp - 1) / tp
    if card.nvlink_bandwidth:
        one_way = card.nvlink_bandwidth
        latency = NVLINK["latency"] + NVLINK["each"] * tp
        reduce = gather = NVLINK["fraction"] * one_way
        name = f"NVLink, {NVLINK['fraction']:.0%} of {one_way / 1e9:.0f} GB/s one way"
    else:
        one_way = card.pcie_bandwidth
        latency = PCIE["latency"] * max(log2(tp), 1.0)
        reduce, gather = PCIE["reduce"] * one_way, PCIE["gather"] * one_way
        name = f"PCIe, {PCIE['reduce']:.0%} of {one_way / 1e9:.0f} GB/s one way"
    return Collectives(
        all_reduce=lambda size: latency + 2.0 * share * size / reduce,
        all_gather=lambda size: 0.8 * latency + share * size / gather,
        source="assumed",
        note=f"collectives were not measured: NCCL rings over {name}, {latency * 1e6:.1f} µs each",
    )


def measured_link(
    custom: Path | None, nccl: Path | None, tp: int, counts: list[int], notes: list[str], otherwise: Collectives
) -> Collectives:
    """Collectives from aiconfigurator's tables, whose ``message_size`` counts 2-byte elements and latency ms.

    ``custom`` is vLLM's own all-reduce: its rows under CUDA graphs are taken, for they hold the kernel alone (eager rows hold the
    Python that launches it, which a busy GPU hides). Without it, or without rows of ``tp`` GPUs, NCCL's all-reduce; without
    that ``otherwise``. All-gather is NCCL's.
    """
    reduce = _curve(custom, tp, "all_reduce", counts, notes) if custom else None
    label = "vLLM's custom all-reduce under CUDA graphs"
    if reduce is None and nccl is not None:
        reduce, label = _curve(nccl, tp, "all_reduce", counts, notes), "NCCL's all-reduce"
    gather = _curve(nccl, tp, "all_gather", counts, notes) if nccl else None
    if gather is None and reduce is not None:
        notes.append(f"all-gather was not measured: {otherwise.note}")
    if reduce is None:
        return otherwise
    return Collectives(reduce, gather or otherwise.all_gather, "measured", f"tensor parallelism: {label}")


def _curve(path: Path, tp: int, operation: str, counts: list[int], notes: list[str]) -> Callable[[Array], Array] | None:
    table = read(path, ("num_gpus", "message_size", "latency"), positive=("message_size", "latency"))
    if "op_name" in table.columns:
        table = table[table["op_name"] == operation]
    for column, keep in (("backend", "graph"), ("nccl_dtype", "half"), ("allreduce_dtype", "bfloat16")):
        if column in table.columns and table[column].astype(str).str.contains(keep).any():
            table = table[table[column].astype(str).str.contains(keep)]
    mean = table[table["num_gpus"] == tp].groupby("message_size")["latency"].mean()
    if len(mean) < 2:
        return None
    counts.append(len(mean))
    size, seconds = despiked(mean.index.to_numpy(float) * 2.0, mean.to_numpy(float) * 1e-3, operation, notes)
    seconds = isotonic(seconds)
    return lambda of: line(of, size, seconds)
