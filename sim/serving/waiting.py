"""The requests that wait to be admitted: first come, first served, or by priority."""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappush

from sim.serving.step import Request

__all__ = ["Waiting"]


class Waiting:
    """A scheduler's queue: ``arrived`` when ``fcfs``, else ``ranked``; the other one stays empty.

    By priority the order is (priority, arrival, id), the lowest first.
    """

    __slots__ = ("arrived", "fcfs", "ranked")

    def __init__(self, fcfs: bool) -> None:
        self.fcfs = fcfs
        self.arrived: deque[Request] = deque()
        self.ranked: list[tuple[int, float, int, Request]] = []  # a heap

    def ids(self) -> list[int]:
        """Ids of the requests, the next one first."""
        if self.fcfs:
            return [request.id for request in self.arrived]
        return [entry[2] for entry in sorted(self.ranked, key=lambda entry: entry[:3])]

    def count(self) -> int:
        """How many requests wait."""
        return len(self.arrived) if self.fcfs else len(self.ranked)

    def find(self, id: int) -> Request | None:
        """Request ``id``, if it waits."""
        for request in self.arrived:
            if request.id == id:
                return request
        for entry in self.ranked:
            if entry[2] == id:
                return entry[3]
        return None

    def head(self) -> Request | None:
        """The next one."""
        if self.arrived:
            return self.arrived[0]
        return self.ranked[0][3] if self.ranked else None

    def add(self, request: Request) -> None:
        """Queue one that arrived just now."""
        if self.fcfs:
            self.arrived.append(request)
        else:
            heappush(self.ranked, (request.priority, request.arrival, request.id, request))

    def put_back(self, request: Request) -> None:
        """Queue one that was preempted: at the head, or where its priority puts it."""
        if self.fcfs:
            self.arrived.appendleft(request)
        else:
            heappush(self.ranked, (request.priority, request.arrival, request.id, request))

    def remove(self, request: Request) -> None:
        """One that waits leaves. ValueError when it does not wait."""
        if self.fcfs:
            self.arrived.remove(request)
        else:
            self.ranked.remove((request.priority, request.arrival, request.id, request))
            heapify(self.ranked)
