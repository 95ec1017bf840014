"""vLLM V1's scheduler as a state machine: no clock, no SimPy, no perf model.

``schedule()`` forms the next engine step, ``commit()`` carries it out. What it does follows vllm/v1/core/sched/scheduler.py:
running requests first in their order, then waiting ones while budget and seats last; a chunk is what is missing, cut to
the budget; the whole prompt must fit at admission; growth that finds no block preempts the last (or least important) running
request, which is recomputed from its first token later; nothing is admitted in a step that preempted.

Decoding requests are not touched one by one (:mod:`sim.serving.decodes`), and a step may say it can be repeated ``horizon``
times with nothing changing; ``commit(m)`` then carries out m of them at once. Where the order of the running requests matters,
the step is formed request by request (:mod:`sim.serving.inorder`).
"""

from __future__ import annotations

from heapq import heappop

from sim.serving.decodes import Decodes
from sim.serving.inorder import schedule_in_order
from sim.serving.settings import EngineSettings
from sim.serving.step import Request, Step
from sim.serving.waiting import Waiting

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
        "_full_prompt",
        "_held_blocks",
        "_held_seats",
        "_holds",
        "_numbers",
        "_seats",
        "_threshold",
        "_watermark",
        "decodes",
        "emitted",
        "free_blocks",
        "least_free",
        "most_running",
        "partials",
        "queue",
        "running_requests",
        "settings",
        "step",
        "usable_blocks",
    )

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self._budget = settings.max_num_batched_tokens
        self._seats = settings.max_num_seqs
        self._block = settings.block_size
        self._chunked = settings.enable_chunked_prefill
        self._threshold = settings.long_prefill_token_threshold
        self._full_prompt = settings.reserve_full_isl
        self._holds = settings.async_scheduling
        self._held_seats = 0  # of requests that finished with the step before, until the next one has been formed
        self._held_blocks = 0
        self.usable_blocks = settings.kv_blocks - 1
        self._watermark = int(settings.watermark * settings.kv_blocks)
        self.free_blocks = self.usable_blocks
        self.least_free = self.usable_blocks  # as it was whenever blocks were about to be given back
        self.most_running = 0
        self._numbers = 0  # admissions so far
        self.queue = Waiting(settings.policy == "fcfs")
        self.running_requests: dict[int, Request] = {}  # in the order of admission
        self.partials: list[Request] = []  # running, prompt not yet computed
        self.decodes = Decodes(settings.block_size)
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
        return self.queue.ids()

    def num_waiting(self) -> int:
        """How many requests wait."""
        return self.queue.count()

    def origin_sums(self) -> tuple[int, int]:
        """Sum and sum of squares of the decodes' origins."""
        return self.decodes.origins, self.decodes.origins_squared

    @property
    def peak_blocks(self) -> int:
        """The most KV blocks that were in use at once."""
        return self.usable_blocks - min(self.least_free, self.free_blocks)

    def num_requests(self) -> int:
        """How many requests the engine holds, those not yet let go included."""
        return len(self.running_requests) + self._held_seats + self.queue.count()

    def find(self, id: int) -> Request | None:
        """Request ``id``, running or waiting."""
        found = self.running_requests.get(id)
        return self.queue.find(id) if found is None else found

    def _find(self, id: int) -> Request:
        found = self.find(id)
        if found is None:
            raise KeyError(id)
        return found

    def num_computed(self, id: int) -> int:
        """Tokens of request ``id`` in the KV cache. KeyError when it is neither running nor waiting."""
        return self.decodes.context(self._find(id))

    def num_outputs(self, id: int) -> int:
        """Output tokens request ``id`` has. KeyError when it is neither running nor waiting."""
        return self.decodes.outputs(self._find(id))

    def blocks(self, id: int) -> int:
        """KV blocks request ``id`` holds, those of a scheduled step included. KeyError when it is neither running nor waiting."""
        request = self._find(id)
        tokens = self.decodes.context(request) + request.granted
        if request.decoding and not request.granted and self.step.horizon and request not in self.step.stalled:
            tokens += 1
        return -(-tokens // self._block)

    def blocks_after(self, steps: int) -> int:
        """KV blocks that will be in use when ``steps`` of the scheduled step's repeats have been carried out."""
        return self.usable_blocks - self.free_blocks + (self.decodes.growth(steps) if steps > 1 else 0)

    # the life of a request

    def add(self, id: int, prompt_tokens: int, output_tokens: int, priority: int = 0, arrival: float = 0.0) -> None:
        """Queue request ``id``: ``prompt_tokens`` >= 1, ``output_tokens`` >= 1; a lower ``priority`` is more important."""
        request = Request(id, prompt_tokens, output_tokens, priority, arrival)
        queue = self.queue
        if queue.fcfs:
            queue.arrived.append(request)  # written out, for speed
        else:
            queue.add(request)

    def may_admit_newest(self, id: int, prompt_tokens: int) -> bool:
        """Whether request ``id``, just added, may be admitted at the end of the step in progress, one of decodes alone.

        May say yes to one that will not be (blocks that growth takes meanwhile are not counted), never no to one that will.
        """
        queue = self.queue
        if len(queue.arrived) != 1 if queue.fcfs else queue.ranked[0][2] != id:
            return False
        return self._may_admit(prompt_tokens)

    def may_admit_next(self) -> bool:
        """The same of the next in the queue, after one has left it."""
        head = self.queue.head()
        return head is not None and self._may_admit(head.tokens)

    def _may_admit(self, tokens: int) -> bool:
        budget = self._budget - self.decodes.n
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
        decodes = self.decodes
        n = decodes.n
        clock = decodes.clock
        free = self.free_blocks - decodes.ring[-clock % self._block]
        budget = self._budget - n
        if free < 0 or budget < 0:
            return schedule_in_order(self)
        if self.partials:
            grant = self._grant_to_partial(budget, free)
            if grant < 0:
                return schedule_in_order(self)
            budget -= grant
        else:
            self.free_blocks = free
        queue = self.queue
        waits = bool(queue.arrived or queue.ranked)
        if waits and budget > 0:
            self.admit(budget)
        held = self._held_seats
        if held:
            self.release()
        step.decodes = n
        step.context_sum = decodes.origins + n * clock
        if step.marked:
            step.horizon = 1
            return step
        if n == 0:
            return None
        if held and waits:
            step.horizon = 1  # who waits may have the seats and blocks let go just now
            return step
        repeats = decodes.finishing[0][0] - clock
        if self.free_blocks < n * ((repeats - 1) // self._block + 1):
            repeats = decodes.repeats_that_fit(repeats, self.free_blocks)
        step.horizon = repeats
        return step

    def commit(self, repeats: int = 1) -> list[int]:
        """Carry out the step ``repeats`` times (at most its ``horizon``). Ids that finished at the end of it, in running order."""
        step = self.step
        step.horizon = 0  # nothing is scheduled until the next schedule()
        decodes = self.decodes
        if repeats > 1:
            self.free_blocks -= decodes.growth(repeats)
        clock = decodes.clock + repeats
        decodes.clock = clock
        finished = self._commit_marked(step) if step.marked else []
        finishing = decodes.finishing
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
                decodes.leave(request.origin)
            self._held_blocks += -(-context // self._block)
        self._held_seats += len(ids)
        if not self._holds:
            self.release()
        if decodes.n == 0:
            decodes.clock = 0  # start anew, so that origins stay small
        return ids

    # requests that leave before their end

    def remove(self, request: Request) -> None:
        """A request that waits or runs leaves the engine, not while a step with it is scheduled. What it held is free at once."""
        if request.id not in self.running_requests:
            self.queue.remove(request)
            return
        del self.running_requests[request.id]
        decodes = self.decodes
        have = decodes.context(request)
        if request.decoding:
            decodes.leave(request.origin)
            decodes.reschedule(self.running_requests.values())
            if decodes.n == 0:
                decodes.clock = 0
        else:
            self.partials.remove(request)
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
        queue = self.queue
        self.queue = Waiting(queue.fcfs)
        step = self.schedule()
        self.queue = queue
        return step

    def _give_back(self, tokens: int) -> None:
        if self.free_blocks < self.least_free:
            self.least_free = self.free_blocks
        self.free_blocks += -(-tokens // self._block)

    # the parts

    def _commit_marked(self, step: Step) -> list[Request]:
        """Give each chunk its tokens. Who has its whole prompt has a token more, and decodes from now on or is finished."""
        if step.stalled:
            self.decodes.hold_back(step.stalled, self.running_requests.values())
        finished: list[Request] = []
        emitted: list[Request] = []
        for request in step.chunks:
            granted = request.granted
            computed = request.computed + granted
            request.granted = 0
            request.computed = computed
            if computed < request.tokens:
                if computed == granted:
                    self.partials.append(request)
                continue
            if computed > granted:
                self.partials.remove(request)
            emitted.append(request)
            request.outputs += 1
            left = request.output - request.outputs
            if left == 0:
                finished.append(request)
                continue
            self.decodes.start(request, computed, left)
        for request in step.members:
            request.granted = 0
        self.emitted = emitted
        return finished

    def _grant_to_partial(self, budget: int, free: int) -> int:
        """Tokens for the one unfinished prompt, or -1 when order matters: there are several, or blocks or budget run out.

        Without a threshold it is the last in running, so the decodes before it take one token each, and it takes from the rest.
        """
        step = self.step
        request = self.partials[0]
        have = request.computed
        grant = request.tokens - have
        if 0 < self._threshold < grant and self.num_requests() > 1:
            grant = self._threshold
        if grant > budget:
            if next(reversed(self.running_requests.values())) is not request:
                return -1
            grant = budget
        free -= -(-(have + grant) // self._block) + (-have // self._block)
        if free < 0 or len(self.partials) > 1:
            return -1
        self.free_blocks = free
        step.marked = True
        if grant > 0:
            request.granted = grant
            step.chunks.append(request)
            step.prefill_tokens = grant
            step.prefill_work = grant * (2 * have + grant)
        return grant

    def admit(self, budget: int) -> None:
        """Admit from the queue to the step while seats, budget and blocks last; the head that does not fit stops it."""
        step = self.step
        running = self.running_requests
        arrived = self.queue.arrived  # the queue's own parts, for speed
        ranked = self.queue.ranked
        block = self._block
        threshold = self._threshold
        free = self.free_blocks
        seats = self._seats - self._held_seats
        while budget > 0 and len(running) < seats:
            if arrived:
                request = arrived[0]
            elif ranked:
                request = ranked[0][3]
            else:
                break
            grant = tokens = request.tokens
            if 0 < threshold < grant and self.num_requests() > 1:
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
            if arrived:
                arrived.popleft()
            else:
                heappop(ranked)
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

    def release(self) -> None:
        """Let go of what finished."""
        if self.free_blocks < self.least_free:
            self.least_free = self.free_blocks
        self.free_blocks += self._held_blocks
        self._held_blocks = 0
        self._held_seats = 0


def _number(request: Request) -> int:
    return request.number
