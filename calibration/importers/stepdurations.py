"""How long each step of a run took, where nothing else of the steps is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sim.errors import ProfileError

__all__ = ["StepDurations", "read_step_durations"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class StepDurations:
    """The steps of one run in their order, in seconds: whole steps, and what of each the scheduler took."""

    seconds: Floats
    scheduling: Floats

    @property
    def host(self) -> float:
        """Seconds a step that the engine spent scheduling, the median: what a step takes at least beyond its kernels where scheduling
        is not done ahead."""
        return float(np.median(self.scheduling))

    def quantiles(self, at: Mapping[str, float]) -> dict[str, float]:
        """Quantiles of the step time by name, the first step left out: it follows a pause."""
        return {name: float(np.quantile(self.seconds[1:], q)) for name, q in at.items()}


def read_step_durations(path: str | Path) -> dict[str, StepDurations]:
    """Runs by name of a parquet file with the columns ``run``, ``step``, ``dt_ms`` and ``sched_us``, such as
    ``iteration_timestamps.parquet`` of FerranAgulloLopez/GPULLMAdapterOptimization.

    What a step held was not recorded, so nothing of it can be fitted. A run at a known constant batch says what a step of that batch
    takes, all in all; the scheduler's share says what of it is not the GPU's. Neither says how a step's time depends on tokens,
    requests and contexts, nor what else the host did.

    :raises ProfileError: unreadable, a column missing, a run of fewer than two steps.
    """
    import pandas as pd
    import pyarrow as pa

    path = Path(path)
    wanted = ["run", "step", "dt_ms", "sched_us"]
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise ProfileError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None
    missing = [name for name in wanted if name not in table.columns]
    if missing:
        raise ProfileError(f"{path}: no column {', '.join(missing)} (has: {', '.join(map(str, table.columns))})")
    found = {}
    for run, rows in table.sort_values(["run", "step"]).groupby("run", observed=True):
        if len(rows) < 2:
            raise ProfileError(f"{path}: run {run}: has fewer than two steps")
        found[str(run)] = StepDurations(rows["dt_ms"].to_numpy(float) * 1e-3, rows["sched_us"].to_numpy(float) * 1e-6)
    return found
