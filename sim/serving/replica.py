"""One replica: forms a step, has it priced, carries it out, and writes down what happened. It knows no clock but the times it is told.

Whoever drives it keeps the calendar: ``arrive`` and ``complete`` say when the step in progress will end (``end``), and each new
end has a new ``epoch``, so that an entry of the calendar that was superseded is recognised.
"""

from __future__ import annotations

from bisect import bisect_left
from math import ceil, sqrt
from typing import Final

from sim.perf.steptable import StepTable
from sim.serving.ledger import OK, Ledger
from sim.serving.scheduler import Request, Scheduler
from sim.serving.settings import EngineSettings

__all__ = ["Replica"]

_NEVER: Final = float("inf")


class Replica:
    """A scheduler with its step times. ``index`` is its place in the fleet; ``end`` is inf while it is idle."""

    __slots__ = (
        "_first",
        "_gaps",
        "_growth",
        "_repeats",
        "_start",
        "end",
        "epoch",
        "index",
        "ledger",
        "scheduler",
        "table",
    )

    def __init__(self, index: int, settings: EngineSettings, table: StepTable, ledger: Ledger) -> None:
        self.index = index
        self.scheduler = Scheduler(settings)
        self.table = table
        self.ledger = ledger
        self.end = _NEVER
        self.epoch = 0
        self._start = 0.0
        self._first = 0.0  # seconds of the first step of the span in progress
        self._growth = 0.0  # by which each further one is longer
        self._repeats = 0
        self._gaps: dict[int, float] = {}  # requests cut off between two tokens: when they had the last one

    def arrive(self, row: int, prompt_tokens: int, output_tokens: int, priority: int, now: float) -> bool:
        """Queue request ``row`` at ``now``. True when ``end`` changed: a step began, or the span was cut for it."""
        scheduler = self.scheduler
        scheduler.add(row, prompt_tokens, output_tokens, priority, now)
        if self.end == _NEVER:
            self._begin(now)
            return self.end != _NEVER
        if self._repeats > 1 and scheduler.may_admit_newest(row, prompt_tokens):
            return self._cut(now)
        return False

    def complete(self, now: float) -> list[int]:
        """The step or span in progress ends at ``now``. Rows that finished; call ``proceed`` once they have been told off."""
        scheduler = self.scheduler
        ledger = self.ledger
        step = scheduler._step
        repeats = self._repeats
        n = step.decodes
        index = self.index
        duration = now - self._start
        ledger.busy[index] += duration
        ledger.steps[index] += repeats
        ledger.sequence_seconds[index] += step.sequences * duration
        finished = scheduler.commit(repeats)
        if self._gaps:
            n -= self._close_gaps(now)
        if repeats == 1:
            ledger.itl.add(duration, n)
        else:
            ledger.itl.add_span(self._first, self._growth, repeats, n)
        ledger.decode_tokens[index] += step.decodes * repeats
        if scheduler.emitted:
            ledger.prefill_tokens[index] += step.prefill_tokens
            first_token = ledger.first_token
            for request in scheduler.emitted:
                if request.outputs == 1:
                    first_token[request.id] = now
        elif step.prefill_tokens:
            ledger.prefill_tokens[index] += step.prefill_tokens
        if finished:
            end = ledger.end
            outcome = ledger.outcome
            for row in finished:
                end[row] = now
                outcome[row] = OK
        return finished

    def proceed(self, now: float) -> None:
        """Start the next step at ``now``, or fall idle."""
        self._begin(now)

    def _begin(self, now: float) -> None:
        scheduler = self.scheduler
        step = scheduler.schedule()
        self.epoch += 1
        while step is not None and step.preempted:
            self._note_preempted(step.preempted, now)
            if step.tokens:
                break
            step = scheduler.schedule()  # all of it was preempted: nothing to run, no time passes
        if step is None:
            self.end = _NEVER
            return
        if step.admitted:
            scheduled = self.ledger.scheduled
            for row in step.admitted:
                if scheduled[row] != scheduled[row]:  # NaN: a preempted request keeps its first time
                    scheduled[row] = now
        if step.stalled:
            for request in step.stalled:
                self._gaps.setdefault(request.id, now)
        table = self.table
        n = step.decodes
        self._start = now
        if step.chunks:
            self._repeats = 1
            self._first = table.mixed_step(
                step.prefill_tokens, step.prefill_work, n, step.context_sum, step.spread, step.sequences
            )
            self.end = now + self._first
            return
        context = step.context_sum
        knots = table.knots[n]
        piece = bisect_left(knots, context)
        repeats = step.horizon
        if piece < len(knots):
            within = (int(knots[piece]) - context) // n + 1
            if within < repeats:
                repeats = within
        else:
            table.outside += 1
        if repeats > 1 and self._gaps:
            repeats = 1  # someone's token closes a gap in the first of these steps
        slope = table.slope[n][piece]
        first = table.base[n][piece] + table.decode_spread(n, step.spread) + slope * context
        growth = slope * n
        self._repeats = repeats
        self._first = first
        self._growth = growth
        self.end = now + (repeats * first + growth * (repeats * (repeats - 1) // 2))

    def _cut(self, now: float) -> bool:
        """End the span with the step that is in progress at ``now``. True when that is sooner than it would have ended."""
        repeats = self._steps_by(now)
        if repeats >= self._repeats:
            return False
        self._repeats = repeats
        self.end = self._start + (repeats * self._first + self._growth * (repeats * (repeats - 1) // 2))
        self.epoch += 1
        return True

    def _steps_by(self, now: float) -> int:
        """The first step of the span that ends at ``now`` or later: by the quadratic, then put right for rounding."""
        elapsed = now - self._start
        first = self._first
        growth = self._growth
        linear = first - growth / 2
        steps = ceil(2 * elapsed / (linear + sqrt(linear * linear + 2 * growth * elapsed)))
        if steps < 1:
            steps = 1
        while steps * first + growth * (steps * (steps - 1) // 2) < elapsed:
            steps += 1
        while steps > 1 and (steps - 1) * first + growth * ((steps - 1) * (steps - 2) // 2) >= elapsed:
            steps -= 1
        return steps

    def _note_preempted(self, rows: list[int], now: float) -> None:
        ledger = self.ledger
        for row in rows:
            ledger.preemptions[row] += 1
            if self.scheduler.num_outputs(row):
                self._gaps.setdefault(
                    row, now
                )  # its last token came with the step that ended now, unless it stalled since

    def _close_gaps(self, now: float) -> int:
        """Count the latency of tokens that ended a gap. How many of the step's decodes those were."""
        scheduler = self.scheduler
        stalled = {request.id for request in scheduler._step.stalled}
        emitted: dict[int, Request] = {request.id: request for request in scheduler.emitted}
        decodes = 0
        for row in list(self._gaps):
            if row in emitted:
                self.ledger.itl.add(now - self._gaps.pop(row), 1)
            elif row not in stalled:
                request = scheduler.running_requests.get(row)
                ended = self.ledger.end[row] == self.ledger.end[row]
                if ended or (request is not None and request.decoding):
                    self.ledger.itl.add(now - self._gaps.pop(row), 1)
                    decodes += 1
        return decodes

    def snapshot(self, now: float) -> tuple[int, int, int]:
        """Requests running, requests waiting and KV blocks in use at ``now``, between this step's start and its end."""
        scheduler = self.scheduler
        if self.end == _NEVER:
            return 0, scheduler.num_waiting(), 0
        steps = self._steps_by(now) if self._repeats > 1 else 1
        return (
            len(scheduler.running_requests),
            scheduler.num_waiting(),
            scheduler.blocks_after(min(steps, self._repeats)),
        )
