"""A step formed request by request, for when order matters: KV blocks or budget run out, or several prompts are unfinished."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.serving.step import Request, Step

if TYPE_CHECKING:
    from sim.serving.scheduler import Scheduler

__all__ = ["schedule_in_order"]


def schedule_in_order(scheduler: Scheduler) -> Step:
    """The next step of ``scheduler``, which has taken nothing for it so far. Preempts when blocks run out."""
    step = scheduler.step
    decodes = scheduler.decodes
    block = scheduler.settings.block_size
    threshold = scheduler.settings.long_prefill_token_threshold
    clock = decodes.clock
    budget = scheduler.settings.max_num_batched_tokens
    scheduler.least_free = min(scheduler.least_free, scheduler.free_blocks)
    members: list[Request] = []
    preempted: list[int] = []
    for request in scheduler.requests():
        if budget <= 0:
            break
        if request.id not in scheduler.running_requests:
            continue  # preempted for one before it
        have = decodes.context(request)
        grant = 1 if request.decoding else request.tokens - have
        if 0 < threshold < grant and scheduler.num_requests() > 1:
            grant = threshold
        grant = min(grant, budget)
        need = -(-(have + grant) // block) + (-have // block)
        victim: Request | None = None
        while need > scheduler.free_blocks:
            victim = _victim(scheduler)
            if victim.granted:  # only a less important one can come before: what it was given goes back
                budget += victim.granted
                members.remove(victim)
            _preempt(scheduler, victim)
            preempted.append(victim.id)
            if victim is request:
                break
        if victim is request:
            break
        scheduler.free_blocks -= need
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
        scheduler.admit(budget)
    contexts = [request.origin + clock for request in members if request.decoding]
    step.decodes = len(contexts)
    step.context_sum = sum(contexts)
    step.horizon = 1
    if len(contexts) < decodes.n:
        step.stalled = [r for r in scheduler.requests() if r.decoding and not r.granted]
    scheduler.release()
    return step


def _victim(scheduler: Scheduler) -> Request:
    """FCFS: the last in running. Priority: the least important, the latest of those."""
    running = scheduler.running_requests.values()
    if scheduler.queue.fcfs:
        return next(reversed(running))
    return max(running, key=_importance)


def _importance(request: Request) -> tuple[int, float, int]:
    return request.priority, request.arrival, request.id


def _preempt(scheduler: Scheduler, request: Request) -> None:
    """Free all its blocks and put it at the head of the queue; its tokens so far will be computed anew."""
    decodes = scheduler.decodes
    have = decodes.context(request)
    del scheduler.running_requests[request.id]
    if request.decoding:
        request.outputs = decodes.outputs(request)
        request.tokens = request.prompt + request.outputs
        request.decoding = False
        decodes.leave(request.origin)
        decodes.reschedule(scheduler.running_requests.values())
    else:
        scheduler.partials.remove(request)
    scheduler.free_blocks += -(-(have + request.granted) // scheduler.settings.block_size)
    request.computed = 0
    request.granted = 0
    scheduler.queue.put_back(request)
