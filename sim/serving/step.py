"""One engine step, and the requests it is made of, as a scheduler keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim.serving.scheduler import Scheduler

__all__ = ["Request", "Step"]


class Request:
    """One request inside a scheduler. ``tokens`` is prompt plus outputs so far, what it must have computed to go on."""

    __slots__ = (
        "arrival",
        "computed",
        "decoding",
        "finish_at",
        "granted",
        "id",
        "number",
        "origin",
        "output",
        "outputs",
        "priority",
        "prompt",
        "tokens",
    )

    def __init__(self, id: int, prompt: int, output: int, priority: int, arrival: float) -> None:
        self.id = id
        self.prompt = prompt
        self.output = output
        self.priority = priority
        self.arrival = arrival
        self.tokens = prompt
        self.computed = 0
        self.outputs = 0
        self.granted = 0  # tokens this step gives it; for decodes only set when the step was formed request by request
        self.decoding = False
        self.origin = 0
        self.finish_at = 0
        self.number = 0


class Step:
    """One engine step, valid until the next ``schedule()``.

    ``decodes`` n, ``context_sum`` C (their tokens in the KV cache before the step), ``spread`` n·Σc² - C², ``prefill_tokens`` Q,
    ``prefill_work`` Σ q(2p + q); ``admitted`` and ``preempted`` ids;
    ``horizon``: how often the step may be repeated with nothing changing (0 once committed). ``spread`` and ``scheduled`` are
    worked out when asked for: read them before ``commit()``. ``marked``: there is more to it than decodes that all advance.
    """

    __slots__ = (
        "_scheduler",
        "admitted",
        "chunks",
        "context_sum",
        "decodes",
        "horizon",
        "marked",
        "members",
        "preempted",
        "prefill_tokens",
        "prefill_work",
        "stalled",
    )

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.chunks: list[Request] = []
        self.members: list[Request] = []
        self.stalled: list[Request] = []
        self.admitted: list[int] = []
        self.preempted: list[int] = []
        self.decodes = 0
        self.context_sum = 0
        self.prefill_tokens = 0
        self.prefill_work = 0
        self.horizon = 0
        self.marked = False

    def clear(self) -> None:
        """Forget what only some steps have."""
        self.marked = False
        self.chunks = []
        self.members = []
        self.stalled = []
        self.admitted = []
        self.preempted = []
        self.prefill_tokens = 0
        self.prefill_work = 0

    @property
    def sequences(self) -> int:
        """Requests in the step."""
        return self.decodes + len(self.chunks)

    @property
    def tokens(self) -> int:
        """Tokens in the step."""
        return self.decodes + self.prefill_tokens

    @property
    def spread(self) -> int:
        """n·Σc² - C² over the decodes' contexts c. Shifting every c by the clock does not change it."""
        origins, squares = self._scheduler.origin_sums()
        for request in self.stalled:
            origins -= request.origin
            squares -= request.origin * request.origin
        return self.decodes * squares - origins * origins

    @property
    def scheduled(self) -> dict[int, int]:
        """Tokens given to each request id, in scheduling order."""
        stalled = {request.id for request in self.stalled}
        grants: dict[int, int] = {}
        for request in self._scheduler.requests():
            if request.decoding:
                if request.id not in stalled:
                    grants[request.id] = 1
            elif request.granted:
                grants[request.id] = request.granted
        return grants
