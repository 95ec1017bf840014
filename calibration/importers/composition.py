"""What the composers of a kernel profile share: the tables' folder, the model on its group of GPUs, and what they noted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from calibration.importers.tables import find
from sim.errors import ProfileError
from sim.perf.operations import kv_heads, query_heads

if TYPE_CHECKING:
    from sim.catalog import Architecture, Gpu

__all__ = ["GEMM_DTYPES", "Kernels", "newest", "table_path"]

GEMM_DTYPES: Final = {"bf16": ("bfloat16", "float16"), "fp16": ("float16", "bfloat16"), "fp8": ("fp8", "fp8_block")}


@dataclass(frozen=True)
class Kernels:
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
        return query_heads(self.shape, self.tp)

    @property
    def kv_heads(self) -> int:
        return kv_heads(self.shape, self.tp)


def table_path(folder: Path, name: str) -> Path:
    """The table of that name in whatever format. :raises ProfileError: there is none."""
    path = find(folder, f"{name}.parquet", f"{name}.txt", f"{name}.csv", f"{name}.csv.gz")
    if path is None:
        hint = "; these are layer timings: twinfer calibrate import layers" if any(folder.glob("dense.csv*")) else ""
        raise ProfileError(f"{folder / (name + '.parquet')}: no such file (nor .txt, .csv, .csv.gz){hint}")
    return path


def newest(root: Path) -> Path:
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
