"""The slow, obvious scheduler: vLLM's V1 scheduler token by token, and no clock.

It was written from vLLM's own ``vllm/v1/core/sched/scheduler.py`` and ``vllm/v1/core/kv_cache_manager.py``, keeps a list of
block numbers for each request, and prefers the plain statement to the quick one everywhere. :mod:`sim.serving.reference` runs it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from sim.serving.settings import EngineSettings

__all__ = ["Request", "Scheduler", "Step"]


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
