"""Controlled loads on vLLM, a cell each: known prompts sent together, the iterations they made, and what the client saw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from calibration.importers.files import read_columns
from calibration.importers.iterations import IterationLog
from calibration.importers.outside import Outside
from calibration.importers.reconstruction import Reconstruction, reconstruct
from calibration.importers.tables import find
from calibration.runs import RequestLog
from calibration.samples import StepSample
from sim.errors import ProfileError

__all__ = ["cells_outside", "read_cells"]

_CELL: Final = {
    "run": ("run",),
    "cell": ("cell",),
    "batch": ("B",),
    "prompt": ("T_prompt",),
    "output": ("max_tokens",),
    "wall": ("wall_s",),
    "ttft": ("ttft_mean_s",),
}
_ITERATION: Final = {
    "run": ("run",),
    "cell": ("cell",),
    "number": ("iter_seq",),
    "prompts": ("ctx_requests",),
    "prompt_tokens": ("ctx_tokens",),
    "decodes": ("gen_requests",),
    "decode_tokens": ("gen_tokens",),
    "seconds": ("elapsed_ms", "elapsed_s"),
}


def read_cells(folder: str | Path, runs: Sequence[int] = (2, 3)) -> list[StepSample]:
    """Every iteration of the cells of ``runs``, with its composition.

    ``micro_cells.csv`` has a cell a row: ``B`` prompts of ``T_prompt`` tokens are sent together and answered with ``max_tokens`` each;
    where there are ``extra_tokens``, a prompt of so many follows while the others decode, answered with one token.
    ``micro_iterations.csv`` has their iterations in order. Either may be packed (``.csv.gz``).

    :raises ProfileError: a file or column missing, or iterations that cannot be those of their cell: which cell.
    """
    return [sample for _, _, found in _cells(Path(folder), runs) for sample in found.known()]


def cells_outside(folder: str | Path, runs: Sequence[int] = (2, 3)) -> Outside:
    """What the cells say of the time outside of iterations, one observation a cell.

    A request's, from lone prompts: TTFT less the first iteration, where that took the whole prompt. A gap, from cells that decode:
    wall time less all iterations and what a request takes, by the number of gaps.
    """
    cells = [cell for cell in _cells(Path(folder), runs) if not cell[0][2]]
    requests = [
        ttft - found.log.seconds[0]
        for (batch, prompt, _), (ttft, _), found in cells
        if batch == 1 and found.samples[0] is not None and found.samples[0].prefill_tokens == prompt
    ]
    typical = float(np.median(requests)) if requests else 0.0
    gaps, beside = [], []
    for _, (_, wall), found in cells:
        log = found.log
        if log.decodes.sum() > 0:
            gaps.append((wall - typical - log.seconds.sum()) / (len(log) - 1))
            beside.append(float((log.prompts + log.decodes)[:-1].mean()))
    return Outside(np.array(requests), np.array(gaps), np.array(beside))


def _cells(
    folder: Path, runs: Sequence[int]
) -> Iterator[tuple[tuple[int, int, int], tuple[float, float], Reconstruction]]:
    """Batch, prompt and extra tokens of each cell, its TTFT and wall time, and its iterations."""
    paths = [find(folder, f"micro_{name}.csv", f"micro_{name}.csv.gz") for name in ("cells", "iterations")]
    if None in paths:
        raise ProfileError(f"{folder}: has no micro_cells.csv and micro_iterations.csv")
    cells_path, iterations_path = (path for path in paths if path is not None)
    cells = read_columns(cells_path, _CELL, {"extra": ("extra_tokens",)}, {*_CELL, "extra"} - {"wall", "ttft"})
    rows = read_columns(iterations_path, _ITERATION, whole=set(_ITERATION) - {"seconds"})
    chosen = np.flatnonzero(np.isin(cells["run"], runs))
    if not len(chosen):
        known = ", ".join(f"{run:g}" for run in np.unique(cells["run"]))
        raise ProfileError(f"{cells_path}: has no cells of run {' or '.join(map(str, runs))} (has: {known})")
    for at in chosen:
        run, cell = cells["run"][at], cells["cell"][at]
        mine = np.flatnonzero((rows["run"] == run) & (rows["cell"] == cell))
        place = f"{iterations_path}: run {run:g}, cell {cell:g}"
        if not len(mine):
            raise ProfileError(f"{place}: has no iterations")
        counts = [rows[name][mine].astype(np.int64) for name in list(_ITERATION)[2:7]]
        log = IterationLog.of(counts, rows["seconds"][mine], source=place)
        batch, prompt, output = (int(cells[name][at]) for name in ("batch", "prompt", "output"))
        extra = int(np.nan_to_num(cells["extra"][at])) if "extra" in cells else 0
        requests = [(prompt, output)] * batch + [(extra, 1)] * bool(extra)
        ttft, wall = float(cells["ttft"][at]), float(cells["wall"][at])
        found = reconstruct(log, _sent_together(requests, ttft, wall, place))
        if (found.done < 0).any() or found.busy[-1]:
            raise ProfileError(
                f"{place}: its {len(log)} iterations are not those of {batch} prompts of {prompt} tokens"
            )
        yield (batch, prompt, extra), (ttft, wall), found


def _sent_together(requests: Sequence[tuple[int, int]], ttft: float, wall: float, source: str) -> RequestLog:
    prompt, output = np.array(requests, dtype=np.int64).T
    count = len(requests)
    return RequestLog(
        np.zeros(count), prompt, output, np.full(count, ttft), np.full(count, max(ttft, wall)), source=source
    )
