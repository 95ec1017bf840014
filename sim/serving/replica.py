"""One replica: forms a step, has it priced, carries it out, and writes down what happened. It knows no clock but the times it is told.

Whoever drives it keeps the calendar: ``arrive`` and ``begin`` set ``end``, when the step or span in progress will end. An entry
of the calendar whose time is no longer ``end`` was superseded.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from sim.errors import SimulationError
from sim.perf.steptable import StepTable
from sim.serving.gaps import Gaps
from sim.serving.leaving import Leaving
from sim.serving.ledger import OK, Ledger
from sim.serving.scheduler import Scheduler
from sim.serving.settings import EngineSettings
from sim.serving.span import lasting, steps_by
from sim.serving.step import Step

__all__ = ["Replica"]

_NEVER: Final = float("inf")


class Replica:
    """A scheduler with its step times. ``index`` is its place in the fleet; ``end`` is inf while it is idle.

    ``arrive``, ``abort``, ``kill`` and ``retable`` come from outside, at any time but between ``complete`` and ``begin``; they are
    ``late`` when the steps that end at that moment have ended.
    """

    __slots__ = (
        "_ahead",
        "_closed",
        "_disturbed",
        "_first",
        "_gaps",
        "_growth",
        "_idle_seconds",
        "_inbox",
        "_leaving",
        "_repeats",
        "_start",
        "dead",
        "decode_seconds",
        "decode_tokens",
        "end",
        "index",
        "ledger",
        "prefill_seconds",
        "prefill_tokens",
        "scheduler",
        "steps",
        "table",
    )

    def __init__(self, index: int, settings: EngineSettings, table: StepTable, ledger: Ledger) -> None:
        self.index = index
        self.scheduler = Scheduler(settings)
        self.table = table
        self.ledger = ledger
        self.end = _NEVER
        self.steps = 0
        self.prefill_tokens = 0
        self.decode_tokens = 0
        self.prefill_seconds = 0.0  # a chunk's share is the whole time of its step
        self.decode_seconds = 0.0  # likewise: the sum of these tokens' latencies, but for what gaps add
        self._idle_seconds = 0.0
        self._start = 0.0  # of the step in progress; while idle, the end of the last one
        self._first = 0.0  # seconds of the first step of the span in progress
        self._growth = 0.0  # by which each further one is longer
        self._repeats = 0
        self._ahead = 1 if settings.async_scheduling else 0  # steps formed before the one in progress has ended
        self._inbox: list[tuple[int, int, int, int, float]] = []  # arrived too late for the step that is formed next
        self._gaps = Gaps(ledger)
        self._leaving = Leaving()
        self._closed = False  # the step after the span was formed already, as one more of it
        self._disturbed = False  # somebody is leaving, or it was
        self.dead = False

    def arrive(
        self, row: int, prompt_tokens: int, output_tokens: int, priority: int, now: float, late: bool = False
    ) -> bool:
        """Queue request ``row`` at ``now``. True when ``end`` changed: a step began, or the span was cut for it.

        A step that ends at ``now`` sees it, unless it is ``late``: then the step after that one is the first that can.
        SimulationError when the replica is dead.
        """
        scheduler = self.scheduler
        if self.end == _NEVER:
            if self.dead:
                raise SimulationError(f"request {row} was sent to replica {self.index}, which is dead")
            self._idle_seconds += now - self._start
            scheduler.add(row, prompt_tokens, output_tokens, priority, now)
            self.begin(now)
            return self.end != _NEVER
        # The step that must end before it is seen: the one in progress at ``now``; the next, when that is formed already.
        step = self._in_progress(now, late) + self._ahead
        if step > self._repeats:
            self._inbox.append((row, prompt_tokens, output_tokens, priority, now))
            return False
        scheduler.add(row, prompt_tokens, output_tokens, priority, now)
        return 0 < step < self._repeats and scheduler.may_admit_newest(row, prompt_tokens) and self._cut(step)

    def complete(self, now: float) -> list[int]:
        """The step or span in progress ends at ``now``. Rows that finished; then call ``begin``."""
        scheduler = self.scheduler
        step = scheduler.step
        repeats = self._repeats
        n = step.decodes
        duration = now - self._start
        self.steps += repeats
        self.decode_tokens += n * repeats
        self.decode_seconds += n * duration
        ledger = self.ledger
        if self._disturbed:
            finished = self._leaving.commit(scheduler, repeats, self._first, self._growth, ledger.itl)
        else:
            finished = scheduler.commit(repeats)
        gaps = self._gaps
        if step.chunks:
            self.prefill_tokens += step.prefill_tokens
            self.prefill_seconds += len(step.chunks) * duration
            for request in scheduler.emitted:
                if request.outputs == 1:
                    ledger.first_token[request.id] = now
            if gaps.preempted:
                for request in scheduler.emitted:
                    gaps.count_lost(request.id, now)
        for row in finished:
            ledger.end[row] = now
            ledger.outcome[row] = OK
        if gaps.opened:
            n -= gaps.close(scheduler, self._start, now)
        if n:
            ledger.itl.count_span(self._first, self._growth, repeats, n)
        return finished

    def begin(self, now: float) -> None:
        """Start the next step at ``now``, or fall idle."""
        self._start = now
        if self._disturbed:
            step = self._schedule_disturbed(now)
        else:
            step = self.scheduler.schedule()
            if step is None or step.preempted:
                step = self._settle(step, now)
        sought = self._take_in() if self._inbox else False
        if step is None:
            self.end = _NEVER
            return
        if step.marked and self._begin_marked(step, now):
            return
        table = self.table
        n = step.decodes
        context = step.context_sum
        repeats = step.horizon
        knots, base, slopes, spread = table.lines[n]
        piece = bisect_left(knots, context)
        if piece == len(knots):
            table.outside += 1
        elif knots[piece] < context + (repeats - 1) * n:
            repeats = (knots[piece] - context) // n + 1
        if sought or self._gaps.opened:
            repeats = 1  # who has just got in may join the next step; or someone's token closes a gap in this one
        slope = slopes[piece]
        first = base[piece] + slope * context
        if spread:
            first += table.decode_spread(n, step.spread)
        growth = slope * n
        self._repeats = repeats
        self._first = first
        self._growth = growth
        self.end = now + (repeats * first + growth * (repeats * (repeats - 1) // 2))

    def _take_in(self) -> bool:
        """Queue what arrived too late for the step formed just now. Whether any of it may be admitted to the next."""
        scheduler = self.scheduler
        sought = False
        for row, prompt, output, priority, arrival in self._inbox:
            scheduler.add(row, prompt, output, priority, arrival)
            sought = sought or scheduler.may_admit_newest(row, prompt)
        self._inbox.clear()
        return sought

    def _begin_marked(self, step: Step, now: float) -> bool:
        """Note who is admitted or held back by a step that has such. Whether it has prompts, and so was begun."""
        for request in step.stalled:
            if request.id not in self._leaving.rows:
                self._gaps.opened.setdefault(request.id, now)
        chunks = len(step.chunks)
        if not chunks:
            return False
        scheduled = self.ledger.scheduled
        for row in step.admitted:
            if scheduled[row] != scheduled[row]:  # NaN: a preempted request keeps its first time
                scheduled[row] = now
        n = step.decodes
        table = self.table
        spread = step.spread if n and table.spread_mixed[n] else 0
        self._repeats = 1
        self._first = table.mixed_step(step.prefill_tokens, step.prefill_work, n, step.context_sum, spread, n + chunks)
        self._growth = 0.0
        self.end = now + self._first
        return True

    def stop(self, now: float) -> float:
        """Nothing is simulated past ``now``: carry out what a span has done by then. When its last step ended, or 0 for none.

        Only a span that ends later is touched, so no request finishes here.
        """
        if self.end == _NEVER or self._repeats == 1:
            return 0.0
        steps = steps_by(now - self._start, self._first, self._growth)
        if lasting(steps, self._first, self._growth) > now - self._start:
            steps -= 1
        if steps == 0:
            return 0.0
        self._carry_out(steps)
        self.end = _NEVER
        return self._start

    def abort(self, row: int, now: float, late: bool = True) -> bool:
        """Request ``row`` leaves before its end, as vLLM's engine lets it. True when ``end`` changed: the span was cut for it.

        The engine sees it when the step in progress ends. A request that waits is gone then; one that runs has taken part in
        that step, and in the next when that was formed already (asynchronous scheduling), even if it was admitted only there;
        seat and blocks are free when the step after that is formed. Its tokens are computed, but nobody gets those that come
        after ``now``: no first token or latency is written down for it any more, nor is it among those that ``complete``
        returns. A row that is not here, or aborted already, changes nothing.
        """
        if self.end == _NEVER or row in self._leaving.rows:
            return False
        for place in range(len(self._inbox)):
            if self._inbox[place][0] == row:
                del self._inbox[place]
                return False
        scheduler = self.scheduler
        request = scheduler.find(row)
        if request is None:
            return False
        self._gaps.count_lost(row, now)
        self._gaps.opened.pop(row, None)
        step = self._in_progress(now, late)
        last = step + self._ahead  # the last that may have been formed with it
        if row not in scheduler.running_requests and last <= self._repeats:
            scheduler.remove(request)
            return scheduler.may_admit_next() and self._cut(last)
        self._leaving.rows[row] = (max(step, 1), last)
        self._disturbed = True
        return self._cut(last)

    def kill(self, now: float, late: bool = True) -> list[int]:
        """The replica dies at ``now``. The rows that were in it, ascending, but for the aborted.

        The step in progress is lost: the time it has taken is counted, its tokens are not. It never runs again.
        """
        rows = self.requests()
        for row in rows:
            self._gaps.count_lost(row, now)
        if self.end != _NEVER:
            sequences = self.scheduler.step.sequences
            steps = min(self._in_progress(now, late), self._repeats) - 1
            if steps > 0:
                self._carry_out(steps)
            self.prefill_seconds += sequences * (now - self._start)
            self._start = now
            self.end = _NEVER
        scheduler = self.scheduler
        self.scheduler = Scheduler(scheduler.settings)
        self.scheduler.most_running = scheduler.most_running
        self.scheduler.least_free = min(scheduler.least_free, scheduler.free_blocks)
        self._inbox.clear()
        self._leaving.rows.clear()
        self._gaps.opened.clear()
        self._disturbed = False
        self.dead = True
        return rows

    def retable(self, table: StepTable, now: float, late: bool = True) -> bool:
        """Steps that begin after ``now`` take the times of ``table``. True when ``end`` changed: the span was cut."""
        self.table = table
        if self.end == _NEVER:
            return False
        if not self._cut(max(self._in_progress(now, late), 1)):
            return False
        if self._ahead:
            self._closed = True
            self._disturbed = True
        return True

    def requests(self) -> list[int]:
        """The rows in it, ascending, but for the aborted."""
        scheduler = self.scheduler
        rows = scheduler.running + scheduler.waiting + [entry[0] for entry in self._inbox]
        return sorted(row for row in rows if row not in self._leaving.rows)

    def progress(self, now: float, late: bool = True) -> dict[int, tuple[int, float]]:
        """Of the ``requests()`` that have output tokens by ``now``: how many, and when the last of them came."""
        scheduler = self.scheduler
        done = 0 if self.end == _NEVER else max(min(self._in_progress(now, late), self._repeats) - 1, 0)
        last = self._start + lasting(done, self._first, self._growth)
        stalled = {request.id for request in scheduler.step.stalled} if done else set()
        found: dict[int, tuple[int, float]] = {}
        for row in [*scheduler.running, *scheduler.waiting]:
            tokens = scheduler.num_outputs(row)
            if row in self._leaving.rows:
                continue
            request = scheduler.running_requests.get(row)
            if done and request is not None and request.decoding and row not in stalled:
                found[row] = (tokens + done, last)
            elif tokens:
                found[row] = (tokens, self._gaps.opened.get(row, self._start))
        return found

    @property
    def held(self) -> int:
        """How many ``requests()`` are."""
        scheduler = self.scheduler
        return len(scheduler.running_requests) + scheduler.num_waiting() + len(self._inbox) - len(self._leaving.rows)

    def _cut(self, step: int) -> bool:
        """End the span after ``step``. False when it has no later one, or ``step`` is none of it."""
        if not 0 < step < self._repeats:
            return False
        self._repeats = step
        self.end = self._start + lasting(step, self._first, self._growth)
        return True

    def _carry_out(self, steps: int) -> None:
        """The first ``steps`` of a longer span are done, the one after them has been begun, and no more will be known of it."""
        scheduler = self.scheduler
        scheduler.least_free = min(scheduler.least_free, scheduler.usable_blocks - scheduler.blocks_after(steps + 1))
        self._repeats = steps
        ended = self._start + lasting(steps, self._first, self._growth)
        self.complete(ended)
        self._start = ended

    def _schedule_disturbed(self, now: float) -> Step | None:
        """Form the next step when requests have been aborted, or when what is next was settled before the span was cut."""
        scheduler = self.scheduler
        step = scheduler.schedule_without_admission() if self._closed else scheduler.schedule()
        if step is None or step.preempted:
            step = self._settle(step, now)
        if step is not None:
            step.admitted = [row for row in step.admitted if row not in self._leaving.rows]
            if self._closed or self._leaving.rows:
                step.horizon = 1  # somebody leaves, or who waits may be admitted next
        self._leaving.let_go(scheduler, step)
        self._closed = False
        self._disturbed = bool(self._leaving.rows)
        return step

    def _in_progress(self, now: float, late: bool) -> int:
        """Which step of the span is in progress at ``now``, from 1; one that ends at ``now`` is, unless it is ``late`` by then.

        0 for an arrival at the moment the span began, when nothing else ended: the second of two that meet an idle engine.
        """
        if now == self._start:
            return 1 if late else 0
        if self._repeats == 1:
            return 1
        steps = steps_by(now - self._start, self._first, self._growth)
        return steps + 1 if late and self._start + lasting(steps, self._first, self._growth) == now else steps

    def _settle(self, step: Step | None, now: float) -> Step | None:
        """Write down who was preempted. While nothing is left to run, take in what has arrived and form another step at once."""
        scheduler = self.scheduler
        again = self._ahead > 0  # with nothing to run, what had finished has been let go of only now
        while step is None or step.preempted:
            if step is not None:
                for row in step.preempted:
                    self.ledger.preemptions[row] += 1
                    if row not in self._leaving.rows:
                        self._gaps.preempt(row, now, scheduler.num_outputs(row))
                if step.tokens:
                    return step
            elif again:
                again = False
            else:
                return None
            self._leaving.let_go(scheduler, None)
            self._take_in()
            step = scheduler.schedule()
        return step

    def snapshot(self, now: float, late: bool = True) -> tuple[int, int, int]:
        """Requests running, requests waiting and KV blocks in use at ``now``, between this step's start and its end.

        An aborted request counts as long as it runs.
        """
        scheduler = self.scheduler
        waiting = scheduler.num_waiting() + len(self._inbox)
        for row in self._leaving.rows:
            if row not in scheduler.running_requests:
                waiting -= 1
        if self.end == _NEVER:
            return 0, waiting, 0
        steps = max(1, min(self._in_progress(now, late), self._repeats))
        return len(scheduler.running_requests), waiting, scheduler.blocks_after(steps)

    def busy_at(self, now: float) -> float:
        """Seconds spent in steps up to ``now``, the step in progress counted as far as it has come."""
        return (self._start if self.end == _NEVER else now) - self._idle_seconds

    @property
    def busy(self) -> float:
        """Seconds of the steps carried out."""
        return self._start - self._idle_seconds
