"""The requests that an engine holds, followed along its log: bookkeeping driven by what the log counts, not a scheduler."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from calibration.importers.grants import OVERTAKING, Grants, Request, leads_to, ways
from calibration.samples import StepSample

__all__ = ["Books", "Departure", "Line"]

Ints = npt.NDArray[np.int64]
Line = tuple[int, int, int, int, float]
"""Prompts, their tokens, decodes, their tokens, seconds."""


@dataclass(frozen=True)
class Departure:
    """The iteration (its index) from which on the log is not what the requests say, and why."""

    line: int
    why: str


class _Departed(Exception):  # noqa: N818
    """The counts of an iteration cannot be those of these requests."""


class Books:
    """The state of ``requests`` ((prompt, output) tokens, in the order in which they enter) from iteration ``first`` of ``lines`` on.

    After :meth:`follow`, ``line`` is the iteration it ended before; ``samples``, ``busy`` (whether requests were left at its end) and
    ``departures`` are by index in ``lines``; ``done`` and ``last`` hold for each request the iteration that completed its prompt and
    the one that made its last token, or -1.
    """

    def __init__(self, lines: Sequence[Line], requests: Sequence[tuple[int, int]], first: int = 0) -> None:
        self.lines = lines
        self.requests = requests
        self.first = first
        self.line = first
        self.samples: dict[int, StepSample | None] = {}
        self.busy: dict[int, bool] = {}
        self.done: Ints = np.full(len(requests), -1, dtype=np.int64)
        self.last: Ints = self.done.copy()
        self.departures: list[Departure] = []
        self._surplus = [0, 0]  # prompt and decode tokens of the log beyond those of the requests
        self._before, self._doubt = (
            [0, 0],
            "",
        )  # as it was before a preemption that is in doubt, and what else it may be
        self._open(0, 0)

    def _open(self, served: int, computed: int) -> None:
        """Nothing decodes; the first ``served`` requests are served, and the next has ``computed`` tokens of its prompt."""
        self.waiting: deque[Request] = deque()  # the next ones; those behind them are not made yet
        self._next = served
        self.prefilling: list[Request] = []
        if computed:
            self._call(1)
            self.prefilling.append(self.waiting.popleft())
            self.prefilling[0].computed = computed
        self.recomputing: list[Request] = []
        self.preempted: deque[Request] = deque()
        self.decoding: dict[int, Request] = {}  # in the order of admission
        self.clock = 0
        self.origins = 0
        self.ends: dict[int, list[Request]] = {}
        self.ended: list[int] = []  # contexts of those that ended with the iteration before
        self.doubtful: int | None = None  # the iteration of a preemption that is not yet borne out
        self.guessed: int | None = None  # the first, since nothing decoded, that was not the plain course

    @property
    def finished(self) -> bool:
        """Whether all requests are served."""
        return self._next == len(self.requests) and not (self._running or self.waiting)

    @property
    def _running(self) -> bool:
        return bool(self.decoding or self.prefilling or self.recomputing or self.preempted)

    def _call(self, count: int) -> None:
        """Have that many requests waiting, or all there are."""
        while len(self.waiting) < count and self._next < len(self.requests):
            self.waiting.append(Request(self._next, *self.requests[self._next]))
            self._next += 1

    def follow(self, *, resume: bool) -> None:
        """Go along the log to its end, to that of the requests, or, without ``resume``, to the first departure."""
        while self.line < len(self.lines) and not self.finished:
            try:
                self._enter(self.line)
                self.line += 1
            except _Departed as departure:
                since, why = self.line, str(departure)
                if self.doubtful is not None:
                    since, why, self._surplus = self.doubtful, self._doubt, self._before
                since = min(since, self.line if self.guessed is None else self.guessed)
                self.samples |= dict.fromkeys(range(since, self.line + 1))
                self.departures.append(Departure(since, why))
                if not resume:
                    self.line = since
                    return
                self._resume()

    def _resume(self) -> None:
        """Go on behind the next iteration after which nothing decoded, and the tokens so far are those of the first m requests."""
        prompts = np.cumsum([0, *(prompt for prompt, _ in self.requests)])
        outputs = np.cumsum([0, *(output - 1 for _, output in self.requests)])
        counts = np.array([line[:4] for line in self.lines[self.first :]], dtype=np.int64)
        entered = np.cumsum(counts[:, 1]) - self._surplus[0]
        decoded = np.cumsum(counts[:, 3]) - self._surplus[1]
        still = np.append(counts[1:, 2], 0) == 0
        served = np.minimum(  # requests of one output token do not decode: they are served when they have entered
            np.searchsorted(outputs, decoded, side="right") - 1, np.searchsorted(prompts, entered, side="right") - 1
        )
        fits = still & (served >= 0) & (outputs[served] == decoded)
        fits &= entered < np.append(prompts[1:], prompts[-1] + 1)[served]
        fits[: self.line - self.first] = False
        end = int(np.argmax(fits)) if fits.any() else len(fits) - 1
        self.samples |= dict.fromkeys(range(self.line, self.first + end + 1))
        self.busy |= dict.fromkeys(range(self.line, self.first + end + 1), True)
        self.line = self.first + end + 1
        if fits.any():
            self._open(int(served[end]), int(entered[end] - prompts[served[end]]))
            self.busy[self.line - 1] = bool(self.prefilling)

    def _enter(self, i: int) -> None:
        """One iteration of the log. :raises _Departed: its counts cannot be."""
        prompts, prompt_tokens, decodes, decode_tokens, seconds = self.lines[i]
        self._preempt(i, prompts, decodes)
        n = len(self.decoding)
        resumed, late = decodes - n, 0
        if resumed and not (self.preempted or self.recomputing):
            if resumed > len(self.ended) or decode_tokens != decodes:
                raise _Departed(self._disagreement(decodes))
            resumed, late = 0, resumed
        again = decode_tokens - n - late
        left = n - len(self.ends.get(self.clock + 1, ()))
        entered, back = self._granted(i, (prompts, prompt_tokens), (resumed, again), left)
        if prompts > len(self.prefilling) and resumed < len(self.preempted) + len(self.recomputing):
            raise _Departed("new requests enter before those that were preempted")
        context = self.origins + n * self.clock
        exact = late in (0, len(self.ended))
        if exact and late:
            context += sum(self.ended)
        grants = [*entered, *back]
        hits = [cached for _, _, cached in grants]
        self.samples[i] = None
        if exact and (not any(hits) or len(grants) == 1):
            self.samples[i] = StepSample(
                prefill_tokens=sum(tokens for _, tokens, _ in grants),
                prefill_work=sum(q * (2 * (one.computed + cached) + q) for one, q, cached in grants),
                prompts=len(grants),
                decodes=n + late,
                context=context,
                seconds=seconds,
                whole=False,
            )
        self._surplus[0] -= sum(cached for _, _, cached in entered)
        self._surplus[1] += late + sum(q for _, q, _ in back)
        self._advance()
        self._take(i, back, self.recomputing)
        self._take(i, entered, self.prefilling)
        self.busy[i] = self._running
        if not self.busy[i]:
            self.guessed = None

    def _preempt(self, i: int, prompts: int, decodes: int) -> None:
        """Those that are missing from the iteration have lost their blocks, the last admitted first; they will come again first."""
        lost = len(self.decoding) - decodes
        if lost <= 0 and (prompts or not self.prefilling) and (lost < 0 or not self.recomputing):
            return
        if prompts:  # nothing enters in such an iteration
            raise _Departed(self._disagreement(decodes))
        if self.doubtful is None:
            self.doubtful = i
            self._before = list(self._surplus)
            self._doubt = self._disagreement(decodes)
        if self.guessed is None:
            self.guessed = i
        for request in reversed(self.prefilling):
            self._surplus[0] += request.computed
            request.computed = 0
            request.chunks.clear()
            self.waiting.appendleft(request)
        self.prefilling.clear()
        for request in reversed(self.recomputing):
            request.computed = 0
            self.preempted.appendleft(request)
        self.recomputing.clear()
        for _ in range(max(lost, 0)):
            _, request = self.decoding.popitem()
            self.ends[request.prompt + request.output - 1 - request.origin].remove(request)
            self.origins -= request.origin
            request.outputs = request.origin + self.clock - request.prompt + 1
            request.computed = 0
            self.preempted.appendleft(request)

    def _granted(self, i: int, new: tuple[int, int], again: tuple[int, int], left: int) -> tuple[Grants, Grants]:
        """Who had the iteration's prompt tokens: the likeliest that agrees with how many generate in the next one."""
        following = self.lines[i + 1] if i + 1 < len(self.lines) else None
        if again[0] < len(self.recomputing) + len(self.preempted):
            following = None  # more may come back in the next one
        self._call(new[0] + OVERTAKING)
        first: tuple[Grants, Grants] | None = None
        entered = ways(self.prefilling, self.waiting, *new)
        for (plain, one), (as_plain, other) in product(entered, ways(self.recomputing, self.preempted, *again)):
            agrees = following is None or leads_to(following, left, (*one, *other))
            if agrees or first is None:
                first = one, other
                if not (plain and as_plain) and self.guessed is None:
                    self.guessed = i
            if agrees:
                break
        if first is None:
            tokens, requests = new[1] + again[1], new[0] + again[0]
            raise _Departed(f"{requests} prompts have {tokens} tokens, which are not those of the next requests")
        return first

    def _disagreement(self, decodes: int) -> str:
        return f"{decodes} requests generate, and the requests given say {len(self.decoding)}"

    def _advance(self) -> None:
        """Every decode has a token more; those with all of theirs leave."""
        self.clock += 1
        leaving = self.ends.pop(self.clock, [])
        self.ended = [request.origin + self.clock for request in leaving]
        for request in leaving:
            self.last[request.id] = self.line
            del self.decoding[request.id]
            self.origins -= request.origin

    def _take(self, i: int, grants: Grants, unfinished: list[Request]) -> None:
        """Book the chunks: whoever has its whole prompt has a token more, and decodes from now on or has ended."""
        for request, tokens, cached in grants:
            if request in unfinished:
                unfinished.remove(request)
            elif request in self.preempted:
                self.preempted.remove(request)
                if not self.preempted:
                    self.doubtful = None
            else:
                self.waiting.remove(request)
            if cached and request.chunks:
                for line in request.chunks:  # they came after the cached tokens, which was not known then
                    self.samples[line] = None
            request.computed += tokens + cached
            if request.missing:
                request.chunks.append(i)
                unfinished.append(request)
                continue
            if not request.outputs:
                self.done[request.id] = i
            request.outputs += 1
            if request.outputs == request.output:
                self.last[request.id] = i
                self.ended.append(request.computed)
                continue
            request.chunks.clear()
            request.origin = request.computed - self.clock
            self.origins += request.origin
            self.decoding[request.id] = request
            self.ends.setdefault(self.clock + request.output - request.outputs, []).append(request)
