"""Which machine or replica stands at which place: the lowest free slot is whose who comes next. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil

__all__ = ["Slots", "many"]


class Slots:
    """Slots from 0; who is gone leaves his to the next who comes."""

    __slots__ = ("_of", "_who")

    def __init__(self) -> None:
        self._of: dict[int, int] = {}  # slot by who
        self._who: dict[int, int] = {}  # who by slot

    def update(self, present: Iterable[int]) -> None:
        """These are there now; those that come are numbered in this order."""
        here = dict.fromkeys(present)
        for gone in [who for who in self._of if who not in here]:
            del self._who[self._of.pop(gone)]
        slot = 0
        for who in here:
            if who not in self._of:
                while slot in self._who:
                    slot += 1
                self._of[who] = slot
                self._who[slot] = who

    def at(self, slot: int) -> int | None:
        """Who stands there; None: nobody."""
        return self._who.get(slot)


def many(standing: int, count: int | None, share: float | None) -> int:
    """How many of those ``standing`` are hit: ``count``, or a ``share`` of them rounded up, or all when neither is said."""
    if share is not None:
        return min(standing, ceil(round(share * standing, 9)))
    return standing if count is None else min(standing, count)
