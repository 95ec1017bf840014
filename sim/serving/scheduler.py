"""vLLM V1's scheduler as a state machine: no clock, no SimPy, no perf model.

``schedule()`` forms the next engine step, ``commit()`` carries it out. What it does follows vllm/v1/core/sched/scheduler.py:
running requests first in their order, then waiting ones while budget and seats last; a chunk is what is missing, cut to
the budget; the whole prompt must fit at admission; growth that finds no block preempts the last (or least important) running
request, which is recomputed from its first token later; nothing is admitted in a step that preempted.

A decode step costs O(1) whatever the batch. Decoding requests are not touched one by one: ``_clock`` counts committed steps, a
decode keeps ``origin`` = context - clock, which never changes, and the sums of origins and their squares, a heap of
finish clocks and a ring of counters by ``origin mod block_size`` (who needs a new block when) are all that a step reads. A
step may say it can be repeated ``horizon`` times with nothing changing; ``commit(m)`` then carries out m of them at once.
"""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush

from sim.serving.settings import EngineSettings
from sim.serving.step import Request, Step

__all__ = ["Scheduler"]


class Scheduler:
    """The scheduler of one replica; see the module. Requests end by their output length, which the scheduler never looks at
    before it is reached.

    With ``async_scheduling`` the engine forms step k + 1 while step k runs, before it knows what k will have finished: requests
    that finish with step k keep their seat and blocks until step k + 1 has been formed. (That arrivals during step k are not
    in time for k + 1 either is for the caller to see to, by adding them after it.)
    """

    __slots__ = (
        "_block",
        "_budget",
        "_chunked",
        "_clock",
        "_fcfs",
        "_finishing",
        "_full_prompt",
        "_heap",
        "_held_blocks",
        "_held_seats",
        "_holds",
        "_numbers",
        "_origins",
        "_origins_squared",
        "_partials",
        "_ring",
        "_seats",
        "_threshold",
        "_watermark",
        "emitted",
        "free_blocks",
        "least_free",
        "most_running",
        "n",
        "running_requests",
        "settings",
        "step",
        "usable_blocks",
        "waiting_requests",
    )

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self._budget = settings.max_num_batched_tokens
        self._seats = settings.max_num_seqs
        self._block = settings.block_size
        self._chunked = settings.enable_chunked_prefill
        self._threshold = settings.long_prefill_token_threshold
        self._fcfs = settings.policy == "fcfs"
        self._full_prompt = settings.reserve_full_isl
        self._holds = settings.async_scheduling
        self._held_seats = 0  # of requests that finished with the step before, until the next one has been formed
        self._held_blocks = 0
        self.usable_blocks = settings.kv_blocks - 1
        self._watermark = int(settings.watermark * settings.kv_blocks)
        self.free_blocks = self.usable_blocks
        self.least_free = self.usable_blocks  # as it was whenever blocks were about to be given back
        self.most_running = 0
        self.waiting_requests: deque[Request] = deque()  # first come, first served
        self._heap: list[tuple[int, float, int, Request]] = []  # by priority
        self.running_requests: dict[int, Request] = {}  # in the order of admission
        self._partials: list[Request] = []  # running, prompt not yet computed
        self._numbers = 0
        # the decodes
        self.n = 0
        self._clock = 0
        self._origins = 0
        self._origins_squared = 0
        self._ring = [0] * settings.block_size
        self._finishing: list[tuple[int, int, Request]] = []  # heap of (finish clock, admission number, request)
        self.step = Step(self)
        self.emitted: list[Request] = []  # whose prompt (or recomputation) the last commit completed

    # what a caller may look at

    def requests(self) -> list[Request]:
        """The running requests, in order."""
        return list(self.running_requests.values())

    @property
    def running(self) -> list[int]:
        """Ids of the running requests, in order."""
        return list(self.running_requests)

    @property
    def waiting(self) -> list[int]:
        """Ids of the waiting requests, the next one first."""
        if self._fcfs:
            return [request.id for request in self.waiting_requests]
        return [entry[2] for entry in sorted(self._heap, key=lambda entry: entry[:3])]

    def num_waiting(self) -> int:
        """How many requests wait."""
        return len(self.waiting_requests) if self._fcfs else len(self._heap)

    def origin_sums(self) -> tuple[int, int]:
        """Sum and sum of squares of the decodes' origins."""
        return self._origins, self._origins_squared

    @property
    def peak_blocks(self) -> int:
        """The most KV blocks that were in use at once."""
        return self.usable_blocks - min(self.least_free, self.free_blocks)

    def _requests(self) -> int:
        """How many requests the engine holds, those not yet let go included."""
        return len(self.running_requests) + self._held_seats + self.num_waiting()

    def find(self, id: int) -> Request | None:
        """Request ``id``, running or waiting."""
        found = self.running_requests.get(id)
        if found is not None:
            return found
        for request in self.waiting_requests:
            if request.id == id:
                return request
        for entry in self._heap:
            if entry[2] == id:
                return entry[3]
        return None

    def _find(self, id: int) -> Request:
        found = self.find(id)
        if found is None:
            raise KeyError(id)
        return found

    def num_computed(self, id: int) -> int:
        """Tokens of request ``id`` in the KV cache. KeyError when it is neither running nor waiting."""
        request = self._find(id)
        return request.origin + self._clock if request.decoding else request.computed

    def num_outputs(self, id: int) -> int:
        """Output tokens request ``id`` has. KeyError when it is neither running nor waiting."""
        request = self._find(id)
        return request.output - (request.finish_at - self._clock) if request.decoding else request.outputs

    def blocks(self, id: int) -> int:
        """KV blocks request ``id`` holds, those of a scheduled step included. KeyError when it is neither running nor waiting."""
        request = self._find(id)
        tokens = self.num_computed(id) + request.granted
        if request.decoding and not request.granted and self.step.horizon and request not in self.step.stalled:
            tokens += 1
        return -(-tokens // self._block)

    def blocks_after(self, steps: int) -> int:
        """KV blocks that will be in use when ``steps`` of the scheduled step's repeats have been carried out."""
        return self.usable_blocks - self.free_blocks + (self._growth(steps) if steps > 1 else 0)

    # the life of a request

    def add(self, id: int, prompt_tokens: int, output_tokens: int, priority: int = 0, arrival: float = 0.0) -> None:
        """Queue request ``id``: ``prompt_tokens`` >= 1, ``output_tokens`` >= 1; a lower ``priority`` is more important."""
        request = Request(id, prompt_tokens, output_tokens, priority, arrival)
        if self._fcfs:
            self.waiting_requests.append(request)
        else:
            heappush(self._heap, (priority, arrival, id, request))

    def may_admit_newest(self, id: int, prompt_tokens: int) -> bool:
        """Whether request ``id``, just added, may be admitted at the end of the step in progress, one of decodes alone.

        May say yes to one that will not be (blocks that growth takes meanwhile are not counted), never no to one that will.
        """
        if len(self.waiting_requests) != 1 if self._fcfs else self._heap[0][2] != id:
            return False
        return self._may_admit(prompt_tokens)

    def may_admit_next(self) -> bool:
        """The same of the next in the queue, after one has left it."""
        if self.num_waiting() == 0:
            return False
        return self._may_admit(self.waiting_requests[0].tokens if self._fcfs else self._heap[0][3].tokens)

    def _may_admit(self, tokens: int) -> bool:
        budget = self._budget - self.n
        if budget <= 0 or len(self.running_requests) >= self._seats:
            return False
        fit = tokens
        if not self._full_prompt:
            fit = min(fit, budget)
            if 0 < self._threshold < fit:
                fit = self._threshold
        return -(-fit // self._block) + self._watermark <= self.free_blocks

    def schedule(self) -> Step | None:
        """Form the next step, or None when no request runs or waits. Blocks of the step are taken here."""
        step = self.step
        if step.marked:
            step.clear()
            self.emitted = []
        n = self.n
        clock = self._clock
        free = self.free_blocks - self._ring[-clock % self._block]
        budget = self._budget - n
        if free < 0 or budget < 0:
            return self._schedule_in_order()
        if self._partials:
            grant = self._grant_to_partial(budget, free)
            if grant < 0:
                return self._schedule_in_order()
            budget -= grant
        else:
            self.free_blocks = free
        waits = bool(self.waiting_requests or self._heap)
        if waits and budget > 0:
            self._admit(budget, step)
        held = self._held_seats
        if held:
            self._release()
        step.decodes = n
        step.context_sum = self._origins + n * clock
        if step.marked:
            step.horizon = 1
            return step
        if n == 0:
            return None
        if held and waits:
            step.horizon = 1  # who waits may have the seats and blocks let go just now
            return step
        repeats = self._finishing[0][0] - clock
        if self.free_blocks < n * ((repeats - 1) // self._block + 1):
            repeats = self._repeats_that_fit(repeats)
        step.horizon = repeats
        return step

    def commit(self, repeats: int = 1) -> list[int]:
        """Carry out the step ``repeats`` times (at most its ``horizon``). Ids that finished at the end of it, in running order."""
        step = self.step
        step.horizon = 0  # nothing is scheduled until the next schedule()
        if repeats > 1:
            self.free_blocks -= self._growth(repeats)
        clock = self._clock + repeats
        self._clock = clock
        finished = self._commit_marked(step) if step.marked else []
        finishing = self._finishing
        if finishing and finishing[0][0] == clock:
            in_order = not finished
            while finishing and finishing[0][0] == clock:
                finished.append(heappop(finishing)[2])
            if not in_order:
                finished.sort(key=_number)
        if not finished:
            return []
        ids: list[int] = []
        for request in finished:
            ids.append(request.id)
            del self.running_requests[request.id]
            context = request.computed
            if request.decoding:
                context = request.origin + clock
                self._leave(request.origin)
            self._held_blocks += -(-context // self._block)
        self._held_seats += len(ids)
        if not self._holds:
            self._release()
        if self.n == 0:
            self._clock = 0  # start anew, so that origins stay small
        return ids

    # requests that leave before their end

    def remove(self, request: Request) -> None:
        """A request that waits or runs leaves the engine, not while a step with it is scheduled. What it held is free at once."""
        if request.id not in self.running_requests:
            if self._fcfs:
                self.waiting_requests.remove(request)
            else:
                self._heap.remove((request.priority, request.arrival, request.id, request))
                heapify(self._heap)
            return
        del self.running_requests[request.id]
        have = request.computed
        if request.decoding:
            have = request.origin + self._clock
            self._leave(request.origin)
            self._reschedule_finishes()
            if self.n == 0:
                self._clock = 0
        else:
            self._partials.remove(request)
        self._give_back(have)

    def remove_finished(self, request: Request) -> None:
        """A request that finished with the step just committed does not hold seat and blocks until the next has been formed."""
        if self._holds:
            have = request.prompt + request.output - 1  # the last token is never written to the cache
            self._held_blocks -= -(-have // self._block)
            self._held_seats -= 1
            self._give_back(have)

    def schedule_without_admission(self) -> Step | None:
        """Form the next step as if nobody waited."""
        waiting, heap = self.waiting_requests, self._heap
        self.waiting_requests, self._heap = deque(), []
        step = self.schedule()
        self.waiting_requests, self._heap = waiting, heap
        return step

    def _give_back(self, tokens: int) -> None:
        if self.free_blocks < self.least_free:
            self.least_free = self.free_blocks
        self.free_blocks += -(-tokens // self._block)

    # the parts

    def _commit_marked(self, step: Step) -> list[Request]:
        """Give each chunk its tokens. Who has its whole prompt has a token more, and decodes from now on or is finished."""
        if step.stalled:
            self._hold_back(step.stalled)
        finished: list[Request] = []
        emitted: list[Request] = []
        clock = self._clock
        for request in step.chunks:
            granted = request.granted
            computed = request.computed + granted
            request.granted = 0
            request.computed = computed
            if computed < request.tokens:
                if computed == granted:
                    self._partials.append(request)
                continue
            if computed > granted:
                self._partials.remove(request)
            emitted.append(request)
            request.outputs += 1
            left = request.output - request.outputs
            if left == 0:
                finished.append(request)
                continue
            request.decoding = True
            request.finish_at = clock + left
            heappush(self._finishing, (clock + left, request.number, request))
            self._join(request, computed - clock)
        for request in step.members:
            request.granted = 0
        self.emitted = emitted
        return finished

    def _join(self, request: Request, origin: int) -> None:
        request.origin = origin
        self.n += 1
        self._origins += origin
        self._origins_squared += origin * origin
        self._ring[origin % self._block] += 1

    def _leave(self, origin: int) -> None:
        self.n -= 1
        self._origins -= origin
        self._origins_squared -= origin * origin
        self._ring[origin % self._block] -= 1

    def _growth(self, repeats: int) -> int:
        """Blocks that repeats 2 to ``repeats`` take; those of the first were taken by ``schedule()``."""
        block = self._block
        high = -self._clock % block  # a new block at the first repeat; one less at each repeat after it
        low = -(self._clock + repeats - 1) % block
        cycles = (repeats - 1) // block
        if low <= high:
            return cycles * self.n + sum(self._ring[low:high])
        return (cycles + 1) * self.n - sum(self._ring[high:low])

    def _repeats_that_fit(self, repeats: int) -> int:
        """The most repeats, up to ``repeats``, whose growth the free blocks allow."""
        block = self._block
        ring = self._ring
        cycles = self.free_blocks // self.n
        left = self.free_blocks - cycles * self.n
        fit = 1 + cycles * block
        while fit < repeats:
            left -= ring[-(self._clock + fit) % block]
            if left < 0:
                return fit
            fit += 1
        return repeats

    def _grant_to_partial(self, budget: int, free: int) -> int:
        """Tokens for the one unfinished prompt, or -1 when order matters: there are several, or blocks or budget run out.

        Without a threshold it is the last in running, so the decodes before it take one token each, and it takes from the rest.
        """
        step = self.step
        request = self._partials[0]
        have = request.computed
        grant = request.tokens - have
        if 0 < self._threshold < grant and self._requests() > 1:
            grant = self._threshold
        if grant > budget:
            if next(reversed(self.running_requests.values())) is not request:
                return -1
            grant = budget
        free -= -(-(have + grant) // self._block) + (-have // self._block)
        if free < 0 or len(self._partials) > 1:
            return -1
        self.free_blocks = free
        step.marked = True
        if grant > 0:
            request.granted = grant
            step.chunks.append(request)
            step.prefill_tokens = grant
            step.prefill_work = grant * (2 * have + grant)
        return grant

    def _admit(self, budget: int, step: Step) -> None:
        """Admit from waiting while seats, budget and blocks last; the head that does not fit stops it."""
        running = self.running_requests
        waiting = self.waiting_requests
        heap = self._heap
        block = self._block
        threshold = self._threshold
        free = self.free_blocks
        seats = self._seats - self._held_seats
        while budget > 0 and len(running) < seats:
            if waiting:
                request = waiting[0]
            elif heap:
                request = heap[0][3]
            else:
                break
            grant = tokens = request.tokens
            if 0 < threshold < grant and self._requests() > 1:
                grant = threshold
            if grant > budget:
                if not self._chunked:
                    break
                grant = budget
            need = -(-grant // block)
            fit = -(-tokens // block) if self._full_prompt else need
            if running or self._held_seats:
                fit += self._watermark
            if fit > free:
                break
            if self._fcfs:
                waiting.popleft()
            else:
                heappop(heap)
            self._numbers += 1
            request.number = self._numbers
            request.granted = grant
            running[request.id] = request
            free -= need
            budget -= grant
            step.chunks.append(request)
            step.prefill_tokens += grant
            step.prefill_work += grant * grant
            step.admitted.append(request.id)
            step.marked = True
        self.free_blocks = free
        if len(running) > self.most_running:
            self.most_running = len(running)

    def _schedule_in_order(self) -> Step:
        """The step formed request by request, for when order matters: blocks run out, or several prompts are unfinished."""
        step = self.step
        block = self._block
        clock = self._clock
        budget = self._budget
        self.least_free = min(self.least_free, self.free_blocks)
        members: list[Request] = []
        preempted: list[int] = []
        for request in self.requests():
            if budget <= 0:
                break
            if request.id not in self.running_requests:
                continue  # preempted for one before it
            have = request.origin + clock if request.decoding else request.computed
            grant = 1 if request.decoding else request.tokens - have
            if 0 < self._threshold < grant and self._requests() > 1:
                grant = self._threshold
            grant = min(grant, budget)
            need = -(-(have + grant) // block) + (-have // block)
            victim: Request | None = None
            while need > self.free_blocks:
                victim = self._victim()
                if victim.granted:  # only a less important one can come before: what it was given goes back
                    budget += victim.granted
                    members.remove(victim)
                self._preempt(victim)
                preempted.append(victim.id)
                if victim is request:
                    break
            if victim is request:
                break
            self.free_blocks -= need
            request.granted = grant
            members.append(request)
            budget -= grant
        step.clear()
        step.marked = True
        step.members = members
        step.preempted = preempted
        step.chunks = [request for request in members if not request.decoding]
        step.prefill_tokens = sum(request.granted for request in step.chunks)
        step.prefill_work = sum(r.granted * (2 * r.computed + r.granted) for r in step.chunks)
        if not preempted and budget > 0:
            self._admit(budget, step)
        contexts = [request.origin + clock for request in members if request.decoding]
        step.decodes = len(contexts)
        step.context_sum = sum(contexts)
        step.horizon = 1
        if len(contexts) < self.n:
            step.stalled = [r for r in self.requests() if r.decoding and not r.granted]
        self._release()
        return step

    def _release(self) -> None:
        """Let go of what finished."""
        if self.free_blocks < self.least_free:
            self.least_free = self.free_blocks
        self.free_blocks += self._held_blocks
        self._held_blocks = 0
        self._held_seats = 0

    def _victim(self) -> Request:
        """FCFS: the last in running. Priority: the least important, the latest of those."""
        if self._fcfs:
            return next(reversed(self.running_requests.values()))
        return max(self.running_requests.values(), key=_least_important)

    def _preempt(self, request: Request) -> None:
        """Free all its blocks and put it at the head of the queue; its tokens so far will be computed anew."""
        if request.decoding:
            have = request.origin + self._clock
            request.outputs = request.output - (request.finish_at - self._clock)
            request.tokens = request.prompt + request.outputs
            request.decoding = False
            self._leave(request.origin)
            self._reschedule_finishes()
        else:
            have = request.computed
            self._partials.remove(request)
        self.free_blocks += -(-(have + request.granted) // self._block)
        request.computed = 0
        request.granted = 0
        del self.running_requests[request.id]
        if self._fcfs:
            self.waiting_requests.appendleft(request)
        else:
            heappush(self._heap, (request.priority, request.arrival, request.id, request))

    def _hold_back(self, stalled: list[Request]) -> None:
        """Decodes the step gave nothing: the clock went on without them, so their origin and finish move with it."""
        for request in stalled:
            self._leave(request.origin)
            self._join(request, request.origin - 1)
            request.finish_at += 1
        self._reschedule_finishes()

    def _reschedule_finishes(self) -> None:
        """Make the heap of finishes anew."""
        self._finishing = [(r.finish_at, r.number, r) for r in self.running_requests.values() if r.decoding]
        heapify(self._finishing)


def _number(request: Request) -> int:
    return request.number


def _least_important(request: Request) -> tuple[int, float, int]:
    return request.priority, request.arrival, request.id
