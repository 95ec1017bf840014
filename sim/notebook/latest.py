"""Work done in the background, of which only the last request counts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Latest", "Superseded"]

Request = TypeVar("Request")
Answer = TypeVar("Answer")

Stale = Callable[[], bool]
"""Whether something newer has been asked for; work that looks can stop early, by raising :class:`Superseded`."""


class Superseded(Exception):  # noqa: N818 - not an error: something newer was asked for
    """Raised by work that stops because its answer is no longer wanted."""


class Latest(Generic[Request, Answer]):
    """Answers requests with ``work(request, stale)`` in a thread, which ends when there is nothing left to answer.

    A request is begun once ``settle`` seconds have passed without another. ``deliver(request, answer)`` is called in the thread,
    and only for a request that is still the last when its answer is there.
    """

    def __init__(
        self, work: Callable[[Request, Stale], Answer], deliver: Callable[[Request, Answer], None], settle: float = 0.15
    ) -> None:
        self._work, self._deliver, self._settle = work, deliver, settle
        self._lock = threading.Lock()
        self._asked = 0
        self._waiting: list[Request] = []  # none or one
        self._thread: threading.Thread | None = None

    def ask(self, request: Request) -> None:
        """Answer this, and nothing that was asked before."""
        with self._lock:
            self._asked += 1
            self._waiting = [request]
            if self._thread is None:
                self._thread = threading.Thread(target=self._answer, name="twinfer-what-if", daemon=True)
                self._thread.start()

    def drop(self) -> None:
        """Answer nothing of what was asked so far."""
        with self._lock:
            self._asked += 1
            self._waiting = []

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is left to answer; False if it took longer than ``timeout`` seconds."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout)
        return self._thread is None

    def _answer(self) -> None:
        while (taken := self._taken()) is not None:
            number, request = taken
            try:
                answer = self._work(request, lambda number=number: number != self._asked)  # type: ignore[misc]
            except Superseded:
                continue
            with self._lock:
                current = number == self._asked
            if current:
                self._deliver(request, answer)

    def _taken(self) -> tuple[int, Request] | None:
        """The request to answer next, when it has settled; None, and the thread's end, if there is none."""
        seen = -1
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return None
                if seen == self._asked:
                    return self._asked, self._waiting.pop()
                seen = self._asked
            time.sleep(self._settle)
