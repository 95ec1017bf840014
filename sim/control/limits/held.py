"""What a policy keeps of each attempt in flight."""

from __future__ import annotations

from typing import Generic, TypeVar

__all__ = ["Held"]

T = TypeVar("T")


class Held(Generic[T]):
    """A value by row of the attempt. Attempts of one row at the same time (hedges) are told apart by their order alone."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: dict[int, list[T]] = {}

    def put(self, row: int, value: T) -> None:
        """Keep a value until it is taken."""
        self._values.setdefault(row, []).append(value)

    def first(self, row: int) -> T:
        """Take the oldest of a row: an attempt has ended."""
        return self._take(row, 0)

    def last(self, row: int) -> T:
        """Take the newest of a row: the attempt just let in does not go on."""
        return self._take(row, -1)

    def _take(self, row: int, place: int) -> T:
        values = self._values.get(row)
        if values is None:
            raise ValueError(f"no attempt of row {row} is in flight")
        value = values.pop(place)
        if not values:
            del self._values[row]
        return value
