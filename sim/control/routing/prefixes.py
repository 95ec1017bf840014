"""What a router remembers of prompts in a simulation: instead of texts, how much of each session each replica was sent.

A session's prompts are prefixes of one another, and no others have anything in common; so a tree of texts, or a table of block
hashes, holds no more than this does. Requests without a session take up room and are never found again.
"""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["SentPrefixes"]


class SentPrefixes:
    """The prefixes sent to one replica, in the unit of whoever asks (tokens, characters, blocks), least recently used first.

    Neighbouring requests without a session are one entry, so that memory grows with sessions, not with requests.
    """

    __slots__ = ("_entries", "_loose", "total")

    def __init__(self) -> None:
        self._entries: OrderedDict[int, int] = OrderedDict()  # session (below -1: none) to size
        self._loose = -1
        self.total = 0

    def length(self, session: int) -> int:
        """How much of the session was sent here; 0 for none."""
        return self._entries.get(session, 0) if session >= 0 else 0

    def touch(self, session: int) -> None:
        """The session was looked up, which counts as a use."""
        if session >= 0 and session in self._entries:
            self._entries.move_to_end(session)

    def add(self, session: int, size: int) -> None:
        """A prompt of ``size`` was sent; of a session, the longest one counts."""
        if size <= 0:
            return
        if session < 0:
            session = self._loose
            if next(reversed(self._entries), 0) != session:
                session = self._loose = self._loose - 1
            size += self._entries.get(session, 0)
        before = self._entries.get(session, 0)
        self._entries[session] = max(before, size)
        self._entries.move_to_end(session)
        self.total += max(size - before, 0)

    def trim(self, capacity: int) -> None:
        """Forget what was used longest ago until at most ``capacity`` is left: whole sessions, as much of the rest as needed."""
        while self.total > capacity:
            session, size = next(iter(self._entries.items()))
            excess = self.total - capacity
            if session < 0 and size > excess:
                self._entries[session] = size - excess
                self.total -= excess
            else:
                del self._entries[session]
                self.total -= size
