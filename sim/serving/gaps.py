"""Gaps between two tokens of a request that are longer than a step: it was preempted, or stalled, in between."""

from __future__ import annotations

from sim.serving.ledger import Ledger
from sim.serving.scheduler import Scheduler
from sim.serving.step import Request

__all__ = ["Gaps"]


class Gaps:
    """The gaps of one replica's requests. ``opened``: when each that is cut off had its last token; ``preempted``: when each
    that has had no token since was preempted first.
    """

    __slots__ = ("_ledger", "opened", "preempted")

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.opened: dict[int, float] = {}
        self.preempted: dict[int, float] = {}

    def preempt(self, row: int, now: float, outputs: int) -> None:
        """Request ``row``, which has ``outputs`` tokens, is preempted at ``now``, when a step ended."""
        self.preempted.setdefault(row, now)
        if outputs:
            self.opened.setdefault(row, now)  # its last token came with that step, unless it stalled since

    def count_lost(self, row: int, now: float) -> None:
        """Request ``row`` has a token again, or leaves: what it lost if it was preempted goes to the ledger."""
        if row in self.preempted:
            self._ledger.lost[row] += now - self.preempted.pop(row)

    def close(self, scheduler: Scheduler, start: float, now: float) -> int:
        """Count the latency of tokens that ended a gap with the step from ``start`` to ``now``. How many of its decodes those were."""
        ledger = self._ledger
        stalled = {request.id for request in scheduler.step.stalled}
        emitted: dict[int, Request] = {request.id: request for request in scheduler.emitted}
        decodes = 0
        for row in list(self.opened):
            if row in emitted:
                ledger.itl.add(now - self.opened.pop(row), 1)
            elif row not in stalled:
                request = scheduler.running_requests.get(row)
                ended = ledger.end[row] == ledger.end[row]
                if ended or (request is not None and request.decoding):
                    ledger.itl.add(now - self.opened.pop(row), 1)
                    ledger.itl.total -= now - start  # which is in decode_seconds
                    decodes += 1
        return decodes
