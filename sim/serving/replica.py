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
from sim.serving.scheduler import Request, Scheduler, Step
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
        "busy",
        "decode_tokens",
        "end",
        "epoch",
        "index",
        "ledger",
        "prefill_tokens",
        "scheduler",
        "sequence_seconds",
        "steps",
        "table",
    )

    def __init__(self, index: int, settings: EngineSettings, table: StepTable, ledger: Ledger) -> None:
        self.index = index
        self.scheduler = Scheduler(settings)
        self.table = table
        self.ledger = ledger
        self.end = _NEVER
        self.epoch = 0
        self.busy = 0.0
        self.steps = 0
        self.sequence_seconds = 0.0
        self.prefill_tokens = 0
        self.decode_tokens = 0
        self._start = 0.0
        self._first = 0.0  # seconds of the first step of the span in progress
        self._growth = 0.0  # by which each further one is longer
        self._repeats = 0
        self._gaps: dict[int, float] = {}  # requests cut off between two tokens: when they had the last one

    def arrive(
        self, row: int, prompt_tokens: int, output_tokens: int, priority: int, now: float, late: bool = False
    ) -> bool:
        """Queue request ``row`` at ``now``. True when ``end`` changed: a step began, or the span was cut for it.

        A step that ends at ``now`` sees it, unless it is ``late``: then the step after that one is the first that can.
        """
        scheduler = self.scheduler
        scheduler.add(row, prompt_tokens, output_tokens, priority, now)
        if self.end == _NEVER:
            self.begin(now)
            return self.end != _NEVER
        if self._repeats > 1 and scheduler.may_admit_newest(row, prompt_tokens):
            return self._cut(now, late)
        return False

    def complete(self, now: float) -> list[int]:
        """The step or span in progress ends at ``now``. Rows that finished; call ``begin`` once they have been told off."""
        scheduler = self.scheduler
        step = scheduler.step
        repeats = self._repeats
        n = step.decodes
        duration = now - self._start
        self.busy += duration
        self.steps += repeats
        self.decode_tokens += n * repeats
        ledger = self.ledger
        if step.chunks:
            self.prefill_tokens += step.prefill_tokens
            self.sequence_seconds += (n + len(step.chunks)) * duration
            finished = scheduler.commit()
            for request in scheduler.emitted:
                if request.outputs == 1:
                    ledger.first_token[request.id] = now
        else:
            self.sequence_seconds += n * duration
            finished = scheduler.commit(repeats)
        if finished:
            end = ledger.end
            outcome = ledger.outcome
            for row in finished:
                end[row] = now
                outcome[row] = OK
        if self._gaps:
            n -= self._close_gaps(now)
        if repeats == 1:
            ledger.itl.add(duration, n)
        else:
            ledger.itl.add_span(self._first, self._growth, repeats, n)
        return finished

    def begin(self, now: float) -> None:
        """Start the next step at ``now``, or fall idle."""
        scheduler = self.scheduler
        step = scheduler.schedule()
        self.epoch += 1
        if step is None:
            self.end = _NEVER
            return
        if step.preempted:
            step = self._note_preempted(step, now)
            if step is None:
                self.end = _NEVER
                return
        table = self.table
        n = step.decodes
        context = step.context_sum
        self._start = now
        if step.stalled:
            for request in step.stalled:
                self._gaps.setdefault(request.id, now)
        if step.chunks:
            if step.admitted:
                scheduled = self.ledger.scheduled
                for row in step.admitted:
                    if scheduled[row] != scheduled[row]:  # NaN: a preempted request keeps its first time
                        scheduled[row] = now
            self._repeats = 1
            self.end = now + table.mixed_step(
                step.prefill_tokens, step.prefill_work, n, context, step.spread, n + len(step.chunks)
            )
            return
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

    def stop(self, now: float) -> float:
        """Nothing is simulated past ``now``: carry out what a span has done by then. When its last step ended, or 0 for none.

        Only a span that ends later is touched, so no request finishes here.
        """
        if self.end == _NEVER or self._repeats == 1:
            return 0.0
        steps = self._steps_by(now)
        if self._lasting(steps) > now - self._start:
            steps -= 1
        if steps == 0:
            return 0.0
        self._repeats = steps
        ended = self._start + self._lasting(steps)
        self.complete(ended)
        self.begin(ended)
        return ended

    def _lasting(self, steps: int) -> float:
        """Seconds of the first ``steps`` steps of the span."""
        return steps * self._first + self._growth * (steps * (steps - 1) // 2)

    def _cut(self, now: float, late: bool) -> bool:
        """End the span with the step that is in progress at ``now``. True when that is sooner than it would have ended."""
        repeats = self._steps_by(now)
        if late and self._start + self._lasting(repeats) == now:
            repeats += 1
        if repeats >= self._repeats:
            return False
        self._repeats = repeats
        self.end = self._start + self._lasting(repeats)
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
        while self._lasting(steps) < elapsed:
            steps += 1
        while steps > 1 and self._lasting(steps - 1) >= elapsed:
            steps -= 1
        return steps

    def _note_preempted(self, step: Step, now: float) -> Step | None:
        """Write down who was preempted. Where that was everyone there is nothing to run, and the next step is formed at once."""
        following: Step | None = step
        while following is not None and following.preempted:
            for row in following.preempted:
                self.ledger.preemptions[row] += 1
                if self.scheduler.num_outputs(row):
                    self._gaps.setdefault(
                        row, now
                    )  # its last token came with the step that ended now, unless it stalled since
            if following.tokens:
                break
            following = self.scheduler.schedule()
        return following

    def _close_gaps(self, now: float) -> int:
        """Count the latency of tokens that ended a gap. How many of the step's decodes those were."""
        scheduler = self.scheduler
        stalled = {request.id for request in scheduler.step.stalled}
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

    def busy_at(self, now: float) -> float:
        """Seconds spent in steps up to ``now``, the step in progress counted as far as it has come."""
        return self.busy if self.end == _NEVER else self.busy + (now - self._start)
