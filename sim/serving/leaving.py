"""Requests that were aborted while a step with them was in progress: they take part in it, and leave after it."""

from __future__ import annotations

from sim.serving.ledger import ItlHistogram
from sim.serving.scheduler import Scheduler
from sim.serving.step import Request, Step

__all__ = ["Leaving"]


class Leaving:
    """Those of one replica. ``rows``: from which step of the span in progress on nobody takes a request's tokens, and which
    is the last with it; both from 1, and beyond the span when they belong to the next one.
    """

    __slots__ = ("rows",)

    def __init__(self) -> None:
        self.rows: dict[int, tuple[int, int]] = {}

    def commit(self, scheduler: Scheduler, repeats: int, first: float, growth: float, itl: ItlHistogram) -> list[int]:
        """Carry out the span: these take part, nobody gets their tokens, and those whose last it was leave.

        ``first`` and ``growth`` are the seconds of its steps; ``itl`` will be given all its decodes. Rows that finished.
        """
        stalled = scheduler.step.stalled
        leaving: list[Request] = []
        for row, (since, last) in self.rows.items():
            request = scheduler.running_requests.get(row)
            if request is None:
                continue
            if request.decoding and request not in stalled:
                for step in range(since, repeats + 1):
                    itl.add(first + (step - 1) * growth, -1)
            if last <= repeats:
                leaving.append(request)
        finished = scheduler.commit(repeats)
        scheduler.emitted = [request for request in scheduler.emitted if request.id not in self.rows]
        for request in leaving:
            if request.id in finished:
                scheduler.remove_finished(request)
            else:
                scheduler.remove(request)
        gone = {request.id for request in leaving}.union(finished)
        reported = [row for row in finished if row not in self.rows]
        self.rows = {
            row: (max(since - repeats, 1), last - repeats)
            for row, (since, last) in self.rows.items()
            if row not in gone
        }
        return reported

    def let_go(self, scheduler: Scheduler, step: Step | None) -> None:
        """Now that ``step`` has been formed the engine sees who was aborted. Who is not running in it leaves."""
        for row in list(self.rows):
            if step is not None and row in scheduler.running_requests:
                continue
            request = scheduler.find(row)
            if request is not None:
                scheduler.remove(request)
            del self.rows[row]
