"""The slow, obvious replica: a SimPy process with an event a step, which runs a scheduler token by token.

This is the oracle of :mod:`sim.serving.replica` and :mod:`sim.serving.scheduler` and shares no line with them; its scheduler is
:mod:`sim.serving.reference_scheduler`. ``run: {mode: reference}`` selects it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from math import isnan
from typing import Final

import simpy

from sim.errors import SimulationError
from sim.perf.steptable import StepTable
from sim.serving.ledger import OK, Ledger
from sim.serving.reference_scheduler import Request, Scheduler, Step
from sim.serving.settings import EngineSettings

__all__ = ["STEP_END", "Replica", "Request", "Scheduler", "Step", "at"]

# SimPy handles events of equal time by priority, lowest first: the arrivals (1: of the table, 2: re-issued) come before
# the step ends, and those are in the order of the replicas. 0 is SimPy's own URGENT.
STEP_END: Final = 3


def at(env: simpy.Environment, delay: float, priority: int) -> simpy.Event:
    """A timeout with a priority among the events of its time (SimPy's own always has the same)."""
    event = env.event()
    event._ok = True
    event._value = None
    env.schedule(event, priority=simpy.events.EventPriority(priority), delay=delay)
    return event


class Replica:
    """One replica as a SimPy process: an event a step, a token a sequence.

    ``index`` is its global number, ``ended`` is called with the row of each request that finishes.
    """

    def __init__(
        self,
        env: simpy.Environment,
        index: int,
        settings: EngineSettings,
        step: StepTable,
        ledger: Ledger,
        ended: Callable[[int], None],
    ) -> None:
        self.scheduler = Scheduler(settings)
        self._env = env
        self._index = index
        self._table = step
        self._ledger = ledger
        self._ended = ended
        self._last_token: dict[int, float] = {}
        self._async = settings.async_scheduling
        self._inbox: list[tuple[int, int, int, int, float]] = []
        self._aborted: set[int] = set()  # still here, but nobody takes their tokens
        self._unseen: set[int] = set()  # of these, those whose abort the step formed next is too early for
        self._preempted_at: dict[int, float] = {}  # requests that have had no token since
        self._step: Step | None = None  # the one in progress
        self._begun = 0.0
        self.dead = False
        self._woken_at = -1.0
        self._wake: simpy.Event | None = env.event()
        env.process(self._run(self._wake))

    def submit(self, row: int, prompt_tokens: int, output_tokens: int, priority: int, late: bool = False) -> None:
        """A request arrives; an idle replica starts a step before anything else happens.

        With asynchronous scheduling the step after the one in progress has been formed already, so the request has to wait
        for the one after that. Those who come at the very moment at which an idle replica starts (and not ``late``, after
        the step ends of that moment) are in time for its second step. SimulationError when the replica is dead.
        """
        if self.dead:
            raise SimulationError(f"request {row} was sent to replica {self._index}, which is dead")
        request = (row, prompt_tokens, output_tokens, priority, self._env.now)
        if self._wake is not None:
            self.scheduler.add(*request)
            wake, self._wake = self._wake, None
            wake._ok = True
            wake._value = None
            self._env.schedule(wake, priority=simpy.events.URGENT)
            self._woken_at = self._env.now
        elif self._next_is_formed(late):
            self._inbox.append(request)
        else:
            self.scheduler.add(*request)

    def _next_is_formed(self, late: bool) -> bool:
        return self._async and (late or self._woken_at != self._env.now)

    def abort(self, row: int, late: bool = True) -> None:
        """Request ``row`` leaves before its end, as vLLM's engine lets it; a row that is not here changes nothing.

        The engine sees aborts when the step in progress ends, before it looks at that step's output: nobody gets the tokens of
        an aborted request from now on. One that waits is gone, one that runs leaves then; but if the next step has been formed
        already, only after that one, which it is part of when it was running or is admitted there.
        """
        if row not in self.requests():
            return
        self._count_lost(row)
        self._last_token.pop(row, None)
        if any(request[0] == row for request in self._inbox):
            self._inbox = [request for request in self._inbox if request[0] != row]
        elif self._next_is_formed(late):
            self._aborted.add(row)
            self._unseen.add(row)
        elif row in self.scheduler.waiting:
            self.scheduler.remove(row)
        else:
            self._aborted.add(row)

    def kill(self) -> list[int]:
        """The replica dies. The rows that were in it, ascending, but for the aborted.

        The step in progress is lost: the time it has taken is counted, its tokens are not.
        """
        rows = self.requests()
        for row in rows:
            self._count_lost(row)
        if self._step is not None:
            seconds = self._env.now - self._begun
            self._ledger.busy[self._index] += seconds
            self._ledger.sequence_seconds[self._index] += self._step.sequences * seconds
        self.scheduler = Scheduler(self.scheduler.settings)
        self._inbox = []
        self._aborted = set()
        self._step = None
        self.dead = True
        return rows

    def retable(self, table: StepTable) -> None:
        """Steps that begin from now on take the times of ``table``."""
        self._table = table

    def requests(self) -> list[int]:
        """The rows in it, ascending, but for the aborted."""
        rows = self.scheduler.running + self.scheduler.waiting + [request[0] for request in self._inbox]
        return sorted(row for row in rows if row not in self._aborted)

    def progress(self) -> dict[int, tuple[int, float]]:
        """Of the ``requests()`` that have output tokens: how many, and when the last of them came."""
        return {
            row: (self.scheduler.num_outputs(row), self._last_token[row])
            for row in self.requests()
            if row in self._last_token
        }

    @property
    def held(self) -> int:
        """How many ``requests()`` are."""
        return len(self.requests())

    @property
    def idle(self) -> bool:
        """Whether it has nothing to do."""
        return self._wake is not None or self.dead

    @property
    def busy_now(self) -> float:
        """Seconds spent in steps so far, the step in progress counted as far as it has come."""
        going = 0.0 if self._step is None else self._env.now - self._begun
        return self._ledger.busy[self._index] + going

    def snapshot(self) -> tuple[int, int, int]:
        """Requests running and waiting, and KV blocks in use, between a step's start and its end."""
        if self.idle:
            return 0, 0, 0
        scheduler = self.scheduler
        used = scheduler.settings.kv_blocks - 1 - scheduler.free_blocks
        waiting = len([row for row in scheduler.waiting if row not in self._aborted])
        return len(scheduler.running), waiting + len(self._inbox), used

    def _see_aborts(self, step: Step | None) -> None:
        """``step`` has been formed; who was aborted before that, too late for it, leaves now, or when it ends if it runs them."""
        for row in sorted(self._unseen):
            if step is None or not step.scheduled or row not in self.scheduler.running:
                self.scheduler.remove(row)
                self._aborted.discard(row)
        self._unseen = set()

    def _count_lost(self, row: int) -> None:
        if row in self._preempted_at:
            self._ledger.lost[row] += self._env.now - self._preempted_at.pop(row)

    def _open_inbox(self) -> None:
        for request in self._inbox:
            self.scheduler.add(*request)
        self._inbox.clear()

    def price(self, step: Step) -> float:
        """Seconds the step takes."""
        n, context, spread = step.decodes, step.context_sum, step.spread
        if step.prefill_tokens == 0:
            return self._table.decode_step(n, context, spread)
        return self._table.mixed_step(step.prefill_tokens, step.prefill_work, n, context, spread, step.sequences)

    def _run(self, first: simpy.Event) -> Generator[simpy.Event, None, None]:
        ledger, index = self._ledger, self._index
        yield first
        while True:
            step = self.scheduler.schedule()
            if step is not None:
                self._note_preempted(step)
            self._see_aborts(step)
            self._open_inbox()
            if step is None and self._async:
                step = self.scheduler.schedule()  # what was held back is there now
                if step is not None:
                    self._note_preempted(step)
            if step is None:
                self._wake = self._env.event()
                yield self._wake
                continue
            if not step.scheduled:
                continue  # it only preempted: no time passes
            for row in step.admitted:
                if isnan(ledger.scheduled[row]) and row not in self._aborted:
                    ledger.scheduled[row] = self._env.now
            ledger.peak_running[index] = max(ledger.peak_running[index], len(self.scheduler.running))
            ledger.peak_blocks[index] = max(ledger.peak_blocks[index], step.blocks_held)
            seconds = self.price(step)
            self._step = step
            self._begun = self._env.now
            yield at(self._env, seconds, STEP_END + index)
            if self.dead:
                return
            self._step = None
            self._commit(step, seconds)

    def _note_preempted(self, step: Step) -> None:
        for row in step.preempted:
            self._ledger.preemptions[row] += 1
            if row not in self._aborted:
                self._preempted_at.setdefault(row, self._env.now)

    def _commit(self, step: Step, seconds: float) -> None:
        ledger, index, now = self._ledger, self._index, self._env.now
        ledger.steps[index] += 1
        ledger.busy[index] += seconds
        ledger.sequence_seconds[index] += step.sequences * seconds
        ledger.prefill_tokens[index] += step.prefill_tokens
        ledger.decode_tokens[index] += step.decodes
        ledger.end_time = now
        before = {row: self.scheduler.num_outputs(row) for row in step.scheduled}
        finished = self.scheduler.commit()
        for row in step.scheduled:
            if (row in finished or self.scheduler.num_outputs(row) > before[row]) and row not in self._aborted:
                self._token(row, now)
        gone = self._aborted - self._unseen
        for row in gone:
            self.scheduler.remove(row)
        reported = [row for row in finished if row not in self._aborted]
        self._aborted = self._aborted - gone - set(finished)
        self._unseen -= set(finished)
        for row in reported:
            del self._last_token[row]
            ledger.end[row] = now
            ledger.outcome[row] = OK
            self._ended(row)

    def _token(self, row: int, now: float) -> None:
        if row in self._last_token:
            self._ledger.itl.add(now - self._last_token[row], 1)
        else:
            self._ledger.first_token[row] = now
        self._last_token[row] = now
        self._count_lost(row)
