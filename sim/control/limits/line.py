"""The gateway's waiting line: in order of arrival, by priority, or fair between tenants."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from heapq import heappop, heappush
from typing import Any, Literal, Protocol, runtime_checkable

from sim.control.limits.vtc import VirtualTokenCounter

__all__ = ["FifoLine", "Line", "PriorityLine", "line"]


@runtime_checkable
class Line(Protocol):
    """Items wait, each of a tenant; :meth:`pop` says who is next. An item is hashable and in the line once at most."""

    def push(self, tenant: str, item: Hashable, *, priority: int = 0, prompt_tokens: int = 0) -> None:
        """Join the line. ValueError when the item is in it already."""
        ...

    def pop(self) -> Any:
        """Take the next item out. IndexError when nobody waits."""
        ...

    def remove(self, item: Hashable) -> bool:
        """Take an item out that has given up; False when it is not in the line."""
        ...

    def charge(self, tenant: str, output_tokens: int) -> None:
        """The tenant was served ``output_tokens``; only the fair line takes note."""
        ...

    def __len__(self) -> int: ...


class FifoLine:
    """First come, first served."""

    __slots__ = ("_items",)

    def __init__(self) -> None:
        self._items: OrderedDict[Hashable, None] = OrderedDict()

    def push(self, tenant: str, item: Hashable, *, priority: int = 0, prompt_tokens: int = 0) -> None:
        """See :class:`Line`."""
        if item in self._items:
            raise ValueError(f"{item!r} is in the line already")
        self._items[item] = None

    def pop(self) -> Any:
        """See :class:`Line`."""
        if not self._items:
            raise IndexError("nobody waits")
        return self._items.popitem(last=False)[0]

    def remove(self, item: Hashable) -> bool:
        """See :class:`Line`."""
        if item not in self._items:
            return False
        del self._items[item]
        return True

    def charge(self, tenant: str, output_tokens: int) -> None:
        """See :class:`Line`."""

    def __len__(self) -> int:
        return len(self._items)


class PriorityLine:
    """Strictly by priority, lower numbers first as in vLLM; first come, first served within one."""

    __slots__ = ("_arrived", "_heap", "_items")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Hashable]] = []
        self._items: dict[Hashable, int] = {}  # arrival number of those that still wait
        self._arrived = 0

    def push(self, tenant: str, item: Hashable, *, priority: int = 0, prompt_tokens: int = 0) -> None:
        """See :class:`Line`."""
        if item in self._items:
            raise ValueError(f"{item!r} is in the line already")
        self._arrived += 1
        self._items[item] = self._arrived
        heappush(self._heap, (priority, self._arrived, item))

    def pop(self) -> Any:
        """See :class:`Line`."""
        while self._heap:
            _, number, item = heappop(self._heap)
            if self._items.get(item) == number:
                del self._items[item]
                return item
        raise IndexError("nobody waits")

    def remove(self, item: Hashable) -> bool:
        """See :class:`Line`."""
        gone = self._items.pop(item, None) is not None
        if len(self._heap) > 2 * len(self._items) + 16:  # mostly those who gave up
            self._heap = sorted(entry for entry in self._heap if self._items.get(entry[2]) == entry[1])
        return gone

    def charge(self, tenant: str, output_tokens: int) -> None:
        """See :class:`Line`."""

    def __len__(self) -> int:
        return len(self._items)


def line(order: Literal["fifo", "priority", "fair"] = "fifo", **parameters: Any) -> Line:
    """A line of that order; ``parameters`` are those of the fair one, :class:`VirtualTokenCounter`."""
    if order == "fair":
        return VirtualTokenCounter(**parameters)
    if order not in ("fifo", "priority"):
        raise ValueError(f"order is {order!r}; fifo, priority and fair are allowed")
    if parameters:
        raise ValueError(f"order {order} takes no {next(iter(parameters))}; only fair does")
    return FifoLine() if order == "fifo" else PriorityLine()
