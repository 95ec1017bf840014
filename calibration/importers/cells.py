"""Controlled loads on vLLM, a cell each: known prompts sent together, the iterations they made, and what the client saw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from calibration.importers.files import read_columns
from calibration.importers.iterations import IterationLog
from calibration.importers.outside import Outside
from calibration.importers.reconstruction import Reconstruction, reconstruct
from calibration.importers.tables import find
from calibration.runs import RequestLog
from calibration.samples import Prompted, StepSample
from sim.errors import ProfileError

__all__ = ["cell_times", "cells_outside", "read_cells"]

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
    """What the cells of a single prompt say of the time outside of iterations, one observation a cell.

    A request's: TTFT less the first iteration, where that took the whole prompt. A gap: wall time less TTFT and the iterations after
    the first, by their number.
    """
    requests, gaps = [], []
    for (batch, prompt, extra), (ttft, wall), found in _cells(Path(folder), runs):
        first = found.samples[0]
        if batch != 1 or extra or first is None or first.prefill_tokens != prompt:
            continue
        seconds = found.log.seconds
        requests.append(ttft - seconds[0])
        if len(seconds) > 1:
            gaps.append((wall - ttft - seconds[1:].sum()) / (len(seconds) - 1))
    return Outside(np.array(requests), np.array(gaps))


def cell_times(folder: str | Path, runs: Sequence[int] = (2, 3)) -> list[Prompted]:
    """How long each cell took as its client saw it: until all were answered, and, for prompts sent alone, until the first token.

    That is its iterations with what lies between them, and once what a request spends outside of them.
    """
    found = []
    for (batch, _, extra), (ttft, wall), cell in _cells(Path(folder), runs):
        steps = [replace(sample, whole=True) for sample in cell.samples if sample is not None]
        if len(steps) < len(cell.samples):
            continue
        found.append(Prompted(tuple(steps), wall))
        first = next(number for number, step in enumerate(steps, 1) if step.decodes or number == len(steps))
        if batch == 1 and not extra and steps[first - 1].decodes:
            found.append(Prompted(tuple(steps[: first - 1]), ttft))
    return found


def _cells(
    folder: Path, runs: Sequence[int]
) -> Iterator[tuple[tuple[int, int, int], tuple[float, float], Reconstruction]]:
    """Batch, prompt and extra tokens of each cell, its TTFT and wall time, and its iterations."""
    paths = [find(folder, f"micro_{name}.csv", f"micro_{name}.csv.gz") for name in ("cells", "iterations")]
    if None in paths:
        raise ProfileError(f"{folder}: has no micro_cells.csv and micro_iterations.csv")
    cells_path, iterations_path = (path for path in paths if path is not None)
    cells = read_columns(cells_path, _CELL, {"extra": ("extra_tokens",)})
    rows = read_columns(iterations_path, _ITERATION)
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
