"""The slow, obvious replica: vLLM's V1 scheduler token by token, and a SimPy process with an event a step.

This is the oracle of :mod:`sim.serving.scheduler` and shares no line with it. It was written from vLLM's own
``vllm/v1/core/sched/scheduler.py`` and ``vllm/v1/core/kv_cache_manager.py``, keeps a list of block numbers for each request, and
prefers the plain statement to the quick one everywhere. ``run: {mode: reference}`` selects it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from math import isnan
from typing import Final

import simpy

from sim.errors import SimulationError
from sim.perf.steptable import StepTable
from sim.serving.ledger import OK, Ledger
from sim.serving.settings import EngineSettings

__all__ = ["STEP_END", "Replica", "Request", "Scheduler", "Step", "at"]

# SimPy handles events of equal time by priority, lowest first: the arrivals (1: of the table, 2: re-issued) come before
# the step ends, and those are in the order of the replicas. 0 is SimPy's own URGENT.
STEP_END: Final = 3


@dataclass
class Request:
    """One request inside the scheduler: what it asked for, and how far it has come."""

    id: int
    prompt_tokens: int
    output_tokens: int
    priority: int
    arrival: float
    outputs: int = 0
    computed: int = 0
    recomputing: bool = False  # preempted, and not yet back to where it was
    blocks: list[int] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """Tokens that exist so far: the prompt and what has been generated."""
        return self.prompt_tokens + self.outputs

    @property
    def missing(self) -> int:
        """Tokens that exist but are not in the KV cache."""
        return self.tokens - self.computed


@dataclass
class Step:
    """What one engine iteration runs.

    ``scheduled`` maps a request to its tokens, in scheduling order. Decodes are requests that run their newest output token
    alone: there are ``decodes`` (n) of them, with ``context_sum`` (C) tokens in the cache before the step and ``spread``
    (V = n Σc² - C²). All others are prefill chunks of q tokens after p cached ones, the recomputation of a preempted
    request to its last token included: ``prefill_tokens`` (Q = Σ q) and ``prefill_work`` (W = Σ q (2p + q)).
    ``scheduled`` is empty when a step only preempted. ``blocks_held`` is what all requests hold once the step is formed.
    """

    scheduled: dict[int, int]
    preempted: list[int]
    admitted: list[int]
    tokens: int
    sequences: int
    decodes: int
    context_sum: int
    spread: int
    prefill_tokens: int
    prefill_work: int
    blocks_held: int


class Scheduler:
    """vLLM's V1 scheduler with full attention, without prefix caching, speculation, LoRA or encoders.

    ``add`` requests, then ``schedule`` a step and ``commit`` it, again and again. No clock and no model of time is needed.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self._requests: dict[int, Request] = {}
        self._waiting: list[Request] = []
        self._running: list[Request] = []
        self._leaving: list[Request] = []  # finished, but the step after is formed as if they were still there
        self._free = deque(range(1, settings.kv_blocks))  # block 0 is reserved
        self._step: Step | None = None

    @property
    def running(self) -> list[int]:
        """Ids of the running requests, in vLLM's order (the order of admission)."""
        return [request.id for request in self._running]

    @property
    def waiting(self) -> list[int]:
        """Ids of the waiting requests, next one first."""
        return [request.id for request in self._queue()]

    @property
    def free_blocks(self) -> int:
        """Blocks that nobody holds, the reserved one not counted."""
        return len(self._free)

    def num_computed(self, id: int) -> int:
        """Tokens of the request in the KV cache."""
        return self._requests[id].computed

    def num_outputs(self, id: int) -> int:
        """Tokens generated so far."""
        return self._requests[id].outputs

    def blocks(self, id: int) -> int:
        """Blocks the request holds."""
        return len(self._requests[id].blocks)

    def add(self, id: int, prompt_tokens: int, output_tokens: int, priority: int = 0, arrival: float = 0.0) -> None:
        """Put a request at the end of the queue. A lower ``priority`` is more important; FCFS ignores it."""
        request = Request(id, prompt_tokens, output_tokens, priority, arrival)
        self._requests[id] = request
        self._waiting.append(request)

    def remove(self, id: int) -> None:
        """Request ``id`` leaves before its end, or without waiting for the next step after it; nothing if it is not here."""
        for requests in (self._waiting, self._running, self._leaving):
            for request in list(requests):
                if request.id == id:
                    requests.remove(request)
                    self._free.extend(request.blocks)
                    self._requests.pop(id, None)

    def schedule(self) -> Step | None:
        """Form the next step, or None when there is nothing that can run.

        With ``async_scheduling`` those who finished in the step before still hold their places and blocks meanwhile, and give
        them back after it: None then need not be the last word, what they gave back may let somebody run.
        """
        step = self._form()
        for request in self._leaving:
            self._free.extend(request.blocks)
        self._leaving = []
        self._step = step
        return step

    def _form(self) -> Step | None:
        settings = self.settings
        seats = settings.max_num_seqs - len(self._leaving)
        budget = settings.max_num_batched_tokens
        # the cap protects other requests: it is void when there are none (vLLM pull request 57951)
        alone = len(self._running) + len(self._leaving) + len(self._waiting) == 1
        threshold = 0 if alone else settings.long_prefill_token_threshold
        given: dict[int, int] = {}
        preempted: list[int] = []
        admitted: list[int] = []

        index = 0
        while index < len(self._running) and budget > 0:
            request = self._running[index]
            tokens = request.missing
            if 0 < threshold < tokens:
                tokens = threshold
            tokens = min(tokens, budget)
            fits = self._grow(request, tokens)
            while not fits:
                victim = self._victim()
                if victim.id in given:
                    budget += given.pop(victim.id)
                    index -= 1
                self._preempt(victim)
                preempted.append(victim.id)
                if victim is request:
                    break
                fits = self._grow(request, tokens)
            if not fits:
                break
            given[request.id] = tokens
            budget -= tokens
            index += 1

        if not preempted:
            while self._waiting and budget > 0 and len(self._running) < seats:
                request = self._queue()[0]
                tokens = request.missing
                if 0 < threshold < tokens:
                    tokens = threshold
                if not settings.enable_chunked_prefill and tokens > budget:
                    break
                tokens = min(tokens, budget)
                # the watermark is not held up by an empty engine, or the request would never start
                spare = int(settings.watermark * settings.kv_blocks) if self._running or self._leaving else 0
                if settings.reserve_full_isl and self._blocks_for(request.tokens) + spare > len(self._free):
                    break
                if not self._grow(request, tokens, spare):
                    break
                self._waiting.remove(request)
                self._running.append(request)
                admitted.append(request.id)
                given[request.id] = tokens
                budget -= tokens

        if not given and not preempted:
            return None
        return self._describe(given, preempted, admitted)

    def commit(self) -> list[int]:
        """The step ran: write its tokens to the cache, generate, and let go who is done. Returns who finished, in order."""
        assert self._step is not None, "commit() without schedule()"
        finished = []
        for id, tokens in self._step.scheduled.items():
            request = self._requests[id]
            request.computed += tokens
            if request.missing == 0:
                request.recomputing = False
                request.outputs += 1  # the new token is not in the cache yet
                if request.outputs == request.output_tokens:
                    finished.append(id)
        for id in finished:
            request = self._requests.pop(id)
            self._running.remove(request)
            if self.settings.async_scheduling:
                self._leaving.append(request)
            else:
                self._free.extend(request.blocks)
        self._step = None
        return finished

    def _queue(self) -> list[Request]:
        if self.settings.policy == "priority":
            return sorted(self._waiting, key=lambda request: (request.priority, request.arrival, request.id))
        return self._waiting

    def _victim(self) -> Request:
        if self.settings.policy == "priority":
            # vLLM's arrival times never tie; where ours do, the order of the queue decides, or two equals could preempt
            # each other for ever
            return max(self._running, key=lambda request: (request.priority, request.arrival, request.id))
        return self._running[-1]

    def _preempt(self, request: Request) -> None:
        self._running.remove(request)
        self._free.extend(request.blocks)
        request.blocks = []
        request.computed = 0
        request.recomputing = True
        self._waiting.insert(0, request)

    def _blocks_for(self, tokens: int) -> int:
        blocks, rest = divmod(tokens, self.settings.block_size)
        return blocks + 1 if rest else blocks

    def _grow(self, request: Request, tokens: int, spare: int = 0) -> bool:
        """Give the request blocks for ``tokens`` more tokens, if ``spare`` blocks are left after that."""
        wanted = self._blocks_for(request.computed + tokens) - len(request.blocks)
        if wanted + spare > len(self._free):
            return False
        for _ in range(wanted):
            request.blocks.append(self._free.popleft())
        return True

    def _describe(self, given: dict[int, int], preempted: list[int], admitted: list[int]) -> Step:
        contexts = []
        chunks = []
        for id, tokens in given.items():
            request = self._requests[id]
            if request.outputs > 0 and not request.recomputing:
                contexts.append(request.computed)
            else:
                chunks.append((tokens, request.computed))
        return Step(
            scheduled=given,
            preempted=preempted,
            admitted=admitted,
            tokens=sum(given.values()),
            sequences=len(given),
            decodes=len(contexts),
            context_sum=sum(contexts),
            spread=len(contexts) * sum(context**2 for context in contexts) - sum(contexts) ** 2,
            prefill_tokens=sum(chunk for chunk, _ in chunks),
            prefill_work=sum(chunk * (2 * past + chunk) for chunk, past in chunks),
            blocks_held=self.settings.kv_blocks - 1 - len(self._free),
        )


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
