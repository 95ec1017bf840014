"""Iteration logs of a known truth: a scheduler serves requests, and writes what vLLM would log, and what each step really held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calibration.importers.iterations import IterationLog
from calibration.runs import RequestLog
from sim.serving.scheduler import Scheduler
from sim.serving.settings import EngineSettings

__all__ = ["Truth", "run_of", "serve"]


@dataclass(frozen=True)
class Truth:
    """A log and, by iteration, prefill tokens, prefill work, prompts, decodes and context; and how many requests were preempted."""

    log: IterationLog
    steps: list[tuple[int, int, int, int, int]]
    preemptions: int


def run_of(requests: Sequence[tuple[int, int]]) -> RequestLog:
    """Requests of (prompt, output) tokens, a millisecond apart; all served in a second."""
    count = len(requests)
    table = np.array(requests, dtype=np.int64).reshape(-1, 2)
    return RequestLog(
        np.arange(count) * 1e-3, table[:, 0], table[:, 1], np.full(count, 0.5), np.full(count, 1.0), source="requests"
    )


def log_of(lines: Sequence[tuple[int, int, int, int]]) -> IterationLog:
    """A log of (prompts, their tokens, decodes, their tokens), 10 ms an iteration and 2 ms between them."""
    table = np.array(lines, dtype=np.int64).reshape(-1, 4)
    number = np.arange(len(table))
    return IterationLog.of([number, *table.T], np.full(len(table), 0.010), (number + 1) * 0.012, source="log")


def serve(settings: EngineSettings, requests: Sequence[tuple[int, int, int]]) -> Truth:
    """``requests``: (step before which it arrives, prompt, output), by arrival."""
    scheduler = Scheduler(settings)
    pending = list(enumerate(requests))
    lines: list[tuple[int, int, int, int]] = []
    steps: list[tuple[int, int, int, int, int]] = []
    preemptions = number = 0
    while True:
        while pending and pending[0][1][0] <= number:
            id, (_, prompt, output) = pending.pop(0)
            scheduler.add(id, prompt, output)
        step = scheduler.schedule() or scheduler.schedule()  # the second for what asynchronous scheduling held back
        if step is None:
            if not pending:
                return Truth(log_of(lines), steps, preemptions)
            number = pending[0][1][0]
            continue
        preemptions += len(step.preempted)
        fresh = [chunk.granted for chunk in step.chunks if not chunk.outputs]
        again = [chunk.granted for chunk in step.chunks if chunk.outputs]
        if step.tokens:  # vLLM logs no empty iterations
            lines.append((len(fresh), sum(fresh), step.decodes + len(again), step.decodes + sum(again)))
            prefill = (step.prefill_tokens, step.prefill_work, len(step.chunks))
            steps.append((*prefill, step.decodes, step.context_sum))
        scheduler.commit()
        number += 1
