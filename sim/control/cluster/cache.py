"""What a node keeps of what it once read, up to so many bytes: the least recently used goes first."""

from __future__ import annotations

__all__ = ["Cache"]


class Cache:
    """Things by name, each of so many bytes. ``held`` bytes are taken by others (sleeping engines) and not for the cache to use."""

    __slots__ = ("_sizes", "capacity", "held")

    def __init__(self, capacity: float) -> None:
        self.capacity = capacity
        self.held = 0.0
        self._sizes: dict[str, float] = {}  # least recently used first

    def __contains__(self, name: str) -> bool:
        return name in self._sizes

    @property
    def used(self) -> float:
        """Bytes of all that is cached."""
        return sum(self._sizes.values())

    def use(self, name: str) -> None:
        """``name`` was read. KeyError if it is not here."""
        self._sizes[name] = self._sizes.pop(name)

    def add(self, name: str, size: float) -> bool:
        """Keep it, others making room; False (and nothing changes) when it does not fit at all."""
        if size <= 0.0 or size > self.capacity - self.held:
            return False
        self._sizes.pop(name, None)
        self._sizes[name] = size
        self._shrink()
        return True

    def hold(self, size: float) -> bool:
        """Take ``size`` bytes from the cache; False when there are not so many."""
        if self.held + size > self.capacity:
            return False
        self.held += size
        self._shrink()
        return True

    def clear(self) -> None:
        """Forget everything."""
        self._sizes.clear()

    def _shrink(self) -> None:
        while self.used > self.capacity - self.held:
            del self._sizes[next(iter(self._sizes))]
