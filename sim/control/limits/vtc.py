"""Fair queueing between tenants by the tokens they were served: the Virtual Token Counter.

Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024, arXiv 2401.00588), Algorithm 2; and its code,
Ying1123/VTC-artifact, slora/server/router/vtc_req_queue.py (14c19b7), with the linear cost.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Any, Literal

__all__ = ["VirtualTokenCounter"]


class VirtualTokenCounter:
    """A queue for each tenant and a counter of what it was served: :meth:`pop` takes from the smallest counter that has somebody waiting.

    A request costs ``input_price`` a prompt token when it is taken, and ``output_price`` an output token when those are charged, divided
    by the tenant's weight (1 without one). A tenant that comes back to an empty queue does not keep credit: its counter is lifted to
    the smallest of those who wait. If nobody does, to that of the tenant that left the queue last (``lift="paper"``; the artifact
    leaves it alone, ``lift="artifact"``). Among equals the tenant that came first of all is next.

    ``lift="llm-d"`` is llm-d-router's ``vtc-fairness-policy``: only a tenant without a counter is lifted, when the next is taken, and
    equals go by name. It knows no output: ``expected_output_tokens`` are charged with the prompt (there 128, at prices 1 and 3).
    """

    __slots__ = (
        "_last", "_owner", "_rank", "_waiting", "counters", "expected_output_tokens", "input_price", "lift", "output_price",
        "weights",
    )  # fmt: skip

    def __init__(
        self,
        *,
        input_price: float = 1.0,
        output_price: float = 2.0,
        weights: Mapping[str, float] | None = None,
        lift: Literal["paper", "artifact", "llm-d"] = "paper",
        expected_output_tokens: int = 0,
    ) -> None:
        if input_price < 0.0 or output_price < 0.0:
            raise ValueError(f"prices are {input_price:g} and {output_price:g}; 0 or more is allowed")
        for tenant, weight in (weights or {}).items():
            if weight <= 0.0:
                raise ValueError(f"the weight of {tenant!r} is {weight:g}; above 0 is allowed")
        if lift not in ("paper", "artifact", "llm-d"):
            raise ValueError(f"lift is {lift!r}; paper, artifact and llm-d are allowed")
        if expected_output_tokens < 0:
            raise ValueError(f"expected_output_tokens is {expected_output_tokens}; 0 or more is allowed")
        self.input_price = input_price
        self.output_price = output_price
        self.weights = dict(weights or {})
        self.lift = lift
        self.expected_output_tokens = expected_output_tokens
        self.counters: dict[str, float] = {}
        self._rank: dict[str, int] = {}
        self._waiting: dict[str, OrderedDict[Hashable, int]] = {}  # prompt tokens by item, of tenants that have any
        self._owner: dict[Hashable, str] = {}
        self._last: str | None = None  # the tenant whose queue became empty last

    def push(self, tenant: str, item: Hashable, *, priority: int = 0, prompt_tokens: int = 0) -> None:
        """Join the queue of ``tenant``. ValueError when the item waits already."""
        if item in self._owner:
            raise ValueError(f"{item!r} is in the line already")
        self._rank.setdefault(tenant, len(self._rank))
        if tenant not in self._waiting and self.lift == "llm-d":
            self._waiting[tenant] = OrderedDict()
        elif tenant not in self._waiting:
            counter = self.counters.get(tenant, 0.0)
            if self._waiting:
                counter = max(counter, min(self.counters[other] for other in self._waiting))
            elif self.lift == "paper" and self._last is not None:
                counter = max(counter, self.counters[self._last])
            self.counters[tenant] = counter
            self._waiting[tenant] = OrderedDict()
        self._waiting[tenant][item] = prompt_tokens
        self._owner[item] = tenant

    def pop(self) -> Any:
        """Take the next item, and charge its prompt. IndexError when nobody waits."""
        if not self._waiting:
            raise IndexError("nobody waits")
        if self.lift == "llm-d":
            least = min((self.counters[name] for name in self._waiting if name in self.counters), default=0.0)
            for name in self._waiting:
                self.counters.setdefault(name, least)
            tenant = min(self._waiting, key=lambda name: (self.counters[name], name))
        else:
            tenant = min(self._waiting, key=lambda name: (self.counters[name], self._rank[name]))
        item, prompt_tokens = next(iter(self._waiting[tenant].items()))
        self._leave(tenant, item)
        cost = prompt_tokens * self.input_price + self.expected_output_tokens * self.output_price
        self.counters[tenant] += cost / self.weights.get(tenant, 1.0)
        return item

    def remove(self, item: Hashable) -> bool:
        """Take an item out that has given up, free of charge; False when it does not wait."""
        tenant = self._owner.get(item)
        if tenant is None:
            return False
        self._leave(tenant, item)
        return True

    def charge(self, tenant: str, output_tokens: int) -> None:
        """``tenant`` was served ``output_tokens``."""
        cost = output_tokens * self.output_price / self.weights.get(tenant, 1.0)
        self._rank.setdefault(tenant, len(self._rank))
        self.counters[tenant] = self.counters.get(tenant, 0.0) + cost

    def _leave(self, tenant: str, item: Hashable) -> None:
        waiting = self._waiting[tenant]
        del waiting[item]
        del self._owner[item]
        if not waiting:
            del self._waiting[tenant]
            self._last = tenant

    def __len__(self) -> int:
        return len(self._owner)
