"""The decoding requests of a scheduler, of which each takes one token a step: kept as sums, not one by one.

A decode step costs O(1) whatever the batch. ``clock`` counts committed steps; a decode keeps ``origin`` = context - clock, which
never changes. The sums of the origins and of their squares, a heap of finish clocks and a ring of counters by ``origin mod
block_size`` (who needs a new KV block when) are all that a step reads.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappush

from sim.serving.step import Request

__all__ = ["Decodes"]


class Decodes:
    """``n`` requests that decode; see the module. ``finishing`` is a heap of (finish clock, admission number, request)."""

    __slots__ = ("_block", "clock", "finishing", "n", "origins", "origins_squared", "ring")

    def __init__(self, block_size: int) -> None:
        self._block = block_size
        self.n = 0
        self.clock = 0
        self.origins = 0
        self.origins_squared = 0
        self.ring = [0] * block_size
        self.finishing: list[tuple[int, int, Request]] = []

    def context(self, request: Request) -> int:
        """Tokens of a request, decoding or not, in the KV cache."""
        return request.origin + self.clock if request.decoding else request.computed

    def outputs(self, request: Request) -> int:
        """Output tokens a request, decoding or not, has."""
        return request.output - (request.finish_at - self.clock) if request.decoding else request.outputs

    def start(self, request: Request, context: int, left: int) -> None:
        """``request`` decodes from now on, ``context`` tokens in the cache and ``left`` outputs to go."""
        clock = self.clock
        origin = context - clock
        request.decoding = True
        request.origin = origin
        request.finish_at = clock + left
        heappush(self.finishing, (clock + left, request.number, request))
        self.n += 1
        self.origins += origin
        self.origins_squared += origin * origin
        self.ring[origin % self._block] += 1

    def leave(self, origin: int) -> None:
        """One with this origin is no longer among them. Its entry in ``finishing`` is for the caller to see to."""
        self.n -= 1
        self.origins -= origin
        self.origins_squared -= origin * origin
        self.ring[origin % self._block] -= 1

    def hold_back(self, stalled: list[Request], running: Iterable[Request]) -> None:
        """Those a step gave nothing: the clock went on without them, so their origin and finish move with it."""
        for request in stalled:
            origin = request.origin
            self.origins -= 1
            self.origins_squared -= 2 * origin - 1
            self.ring[origin % self._block] -= 1
            self.ring[(origin - 1) % self._block] += 1
            request.origin = origin - 1
            request.finish_at += 1
        self.reschedule(running)

    def reschedule(self, running: Iterable[Request]) -> None:
        """Make the heap of finishes anew from all running requests."""
        self.finishing = [(r.finish_at, r.number, r) for r in running if r.decoding]
        heapify(self.finishing)

    def growth(self, repeats: int) -> int:
        """Blocks that repeats 2 to ``repeats`` of the next step take, those of the first not counted."""
        block = self._block
        high = -self.clock % block  # a new block at the first repeat; one less at each repeat after it
        low = -(self.clock + repeats - 1) % block
        cycles = (repeats - 1) // block
        if low <= high:
            return cycles * self.n + sum(self.ring[low:high])
        return (cycles + 1) * self.n - sum(self.ring[high:low])

    def repeats_that_fit(self, repeats: int, free_blocks: int) -> int:
        """The most repeats, up to ``repeats``, whose growth ``free_blocks`` allow."""
        block = self._block
        ring = self.ring
        cycles = free_blocks // self.n
        left = free_blocks - cycles * self.n
        fit = 1 + cycles * block
        while fit < repeats:
            left -= ring[-(self.clock + fit) % block]
            if left < 0:
                return fit
            fit += 1
        return repeats
