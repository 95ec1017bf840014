"""The collectives of tensor parallelism: measured tables of them, or what the roofline predicts of the catalog's links."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from calibration.importers.outliers import despiked
from calibration.importers.tables import read
from sim.perf import efficiency as times
from sim.perf.efficiency import Efficiency, Rates
from sim.perf.monotone import Array, isotonic, line
from sim.perf.roofline import fitted

if TYPE_CHECKING:
    from sim.catalog import Gpu

__all__ = ["Collectives", "assumed_link", "measured_link"]


@dataclass(frozen=True)
class Collectives:
    """Seconds of a collective over one tensor-parallel group, by bytes of the whole tensor (as it is after the operation)."""

    all_reduce: Callable[[Array], Array]
    all_gather: Callable[[Array], Array]
    source: Literal["measured", "assumed"]
    note: str


def assumed_link(card: Gpu, tp: int) -> Collectives:
    """Those the roofline predicts over the link of ``card``: NVLink where it has one, else PCIe."""
    rates, e = Rates.of(card), Efficiency(**fitted().efficiency)
    start = float(times.all_reduce(e, rates, 0.0, tp)) * 1e6
    over = (
        f"over NVLink of {card.nvlink_bandwidth / 1e9:.0f} GB/s one way, as near to it as other GPUs come"
        if card.nvlink_bandwidth
        else f"over PCIe of {card.pcie_bandwidth / 1e9:.0f} GB/s one way, as NCCL is between two rtx-pro-6000"
    )
    return Collectives(
        all_reduce=lambda size: times.all_reduce(e, rates, size, tp),
        all_gather=lambda size: times.all_gather(e, rates, size, tp),
        source="assumed",
        note=f"collectives were not measured: predicted {over}, {start:.1f} µs each",
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
