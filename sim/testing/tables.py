"""Small synthetic step tables and request tables: shaped like the real ones, made from a seed, quick to build."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np

from sim.kernel.clock import on_grid
from sim.perf.steptable import StepTable
from sim.workload.table import RequestTable

__all__ = ["constant_step_table", "request_table", "step_table"]


def constant_step_table(seconds: float, max_num_seqs: int, max_num_batched_tokens: int) -> StepTable:
    """A step always takes ``seconds`` (put on the time grid), whatever is in it: a replica becomes a queue with servers."""
    step = on_grid(seconds)
    rows = max_num_seqs + 1
    return StepTable(
        knots=[[] for _ in range(rows)],
        base=[[], *([step] for _ in range(rows - 1))],
        slope=[[], *([0.0] for _ in range(rows - 1))],
        attention_base=[[], *([0.0] for _ in range(rows - 1))],
        attention_slope=[[], *([0.0] for _ in range(rows - 1))],
        gemm=[step] * (max_num_batched_tokens + 1),
        sample=[0.0] * rows,
        host=0.0,
        chunk_grid=[1.0, 2.0],
        past_grid=[0.0, 1.0],
        prefill=[[0.0, 0.0], [0.0, 0.0]],
        context_grid=[0.0, 1.0],
        mixed_n_grid=[1.0, 2.0],
        mixed=None,
        spread_decode=[0.0] * rows,
        spread_mixed=[0.0] * rows,
        measured_tokens=max_num_batched_tokens,
        measured_sequences=max_num_seqs,
    )


def step_table(
    max_num_seqs: int,
    max_num_batched_tokens: int,
    seed: int = 0,
    *,
    context: int = 64,
    mixed: bool = True,
    spread: bool = True,
) -> StepTable:
    """A table with everything a measured one has: bent decode lines, spread, prefill attention, mixed attention.

    ``context`` is the length (tokens) around which a sequence's decode line bends; ``mixed`` False adds prefill and decode
    attention instead of reading them together; ``spread`` False makes unequal contexts cost nothing.
    """
    random = Random(seed)
    rows = max_num_seqs + 1
    knots: list[list[float]] = [[]]
    base: list[list[float]] = [[]]
    slope: list[list[float]] = [[]]
    attention_base: list[list[float]] = [[]]
    attention_slope: list[list[float]] = [[]]
    for n in range(1, rows):
        bends = sorted({float(n * random.randint(1, context)) for _ in range(random.randint(0, 3))})
        knots.append(bends)
        offset = on_grid(1e-3 + 1e-4 * n)
        lines = [
            (on_grid(random.uniform(0.0, 5e-4)), on_grid(random.uniform(0.0, 2e-5))) for _ in range(len(bends) + 1)
        ]
        attention_base.append([start for start, _ in lines])
        attention_slope.append([rise for _, rise in lines])
        base.append([offset + start for start, _ in lines])
        slope.append([rise for _, rise in lines])
    chunk_grid = [1.0, 8.0, 32.0]
    past_grid = [0.0, 16.0, 64.0]
    context_grid = [1.0, 32.0, 128.0]
    mixed_n_grid = [1.0, 3.0, 6.0]
    prefill = [[1e-5 * chunk * (1.0 + past / 16.0) for past in past_grid] for chunk in chunk_grid]
    together = np.array(
        [
            [
                [
                    [1e-5 * (chunk * (1.0 + past / 16.0) + n * length / 7.0) for length in context_grid]
                    for past in past_grid
                ]
                for chunk in chunk_grid
            ]
            for n in mixed_n_grid
        ]
    )
    unequal = random.uniform(1e-6, 1e-5) if spread else 0.0
    return StepTable(
        knots=knots,
        base=base,
        slope=slope,
        attention_base=attention_base,
        attention_slope=attention_slope,
        gemm=[on_grid(8e-4 + 1e-5 * tokens) for tokens in range(max_num_batched_tokens + 1)],
        sample=[on_grid(2e-5 * sequences) for sequences in range(rows)],
        host=on_grid(2e-4),
        chunk_grid=chunk_grid,
        past_grid=past_grid,
        prefill=prefill,
        context_grid=context_grid,
        mixed_n_grid=mixed_n_grid,
        mixed=together if mixed else None,
        spread_decode=[unequal] * rows,
        spread_mixed=[2.0 * unequal] * rows,
        measured_tokens=max(1, max_num_batched_tokens // 2),
        measured_sequences=max(1, max_num_seqs // 2),
    )


def request_table(
    arrival: Sequence[float],
    prompt_tokens: Sequence[int],
    output_tokens: Sequence[int],
    *,
    workload: Sequence[int] | None = None,
    priority: Sequence[int] | None = None,
    session: Sequence[int] | None = None,
) -> RequestTable:
    """A request table from plain lists. Arrivals (seconds; NaN for closed-loop rows, which come last) must ascend."""
    rows = len(arrival)
    workloads = [0] * rows if workload is None else list(workload)
    return RequestTable(
        arrival=np.array(arrival, dtype=np.float64),
        workload=np.array(workloads, dtype=np.int16),
        prompt_tokens=np.array(prompt_tokens, dtype=np.int64),
        output_tokens=np.array(output_tokens, dtype=np.int64),
        priority=np.array([0] * rows if priority is None else priority, dtype=np.int64),
        session=np.array([-1] * rows if session is None else session, dtype=np.int64),
        workload_names=[f"workload-{i}" for i in range(max(workloads, default=0) + 1)],
    )
