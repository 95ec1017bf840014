"""Which of several deployments gets a request that all of them can serve: pools of unlike GPUs.

Not one system's rules but the usual ones: cheapest with overflow, fastest by what is outstanding, by weight, by length of prompt.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

__all__ = ["ByLength", "CheapestFirst", "LeastLatency", "PoolRouter", "PoolView", "Weighted"]


@dataclass(slots=True)
class PoolView:
    """One pool at the moment of the choice.

    ``ready`` replicas; ``outstanding``: requests sent to them and not ended; ``queued``: requests that wait for a replica; ``seats``:
    requests the ready ones run at a time (max_num_seqs each); ``tokens``: prompt and declared output tokens of what is outstanding
    and queued; ``usd_per_hour`` of one replica; ``seconds_per_token``: how long one replica takes for each token outstanding on it.
    """

    name: str
    ready: int
    outstanding: int = 0
    queued: int = 0
    seats: int = 0
    tokens: int = 0
    usd_per_hour: float = 0.0
    seconds_per_token: float = 0.0

    @property
    def load(self) -> float:
        """Requests in it over its seats; infinite without seats."""
        return (self.outstanding + self.queued) / self.seats if self.ready > 0 and self.seats > 0 else math.inf

    @property
    def usd_per_token(self) -> float:
        """What a token costs when replicas are kept busy."""
        return self.usd_per_hour * self.seconds_per_token / 3600.0

    def completion(self, tokens: int) -> float:
        """Seconds until a request of ``tokens`` ends, behind its replica's share of what is there; infinite without replicas."""
        if self.ready <= 0:
            return math.inf
        return (self.tokens / self.ready + tokens) * self.seconds_per_token


@runtime_checkable
class PoolRouter(Protocol):
    """Chooses a pool."""

    def choose(self, prompt_tokens: int, output_tokens: int, pools: Sequence[PoolView], now: float) -> int:
        """The position of the pool for a request, at ``now`` seconds."""
        ...


def _least(values: Sequence[float]) -> int:
    if not values:
        raise ValueError("there are no pools to choose from")
    return min(range(len(values)), key=lambda i: values[i])


class CheapestFirst:
    """The cheapest pool by token whose load is under ``load_share``; when all are at it, the least loaded. First of equals."""

    __slots__ = ("load_share",)

    def __init__(self, load_share: float = 0.8) -> None:
        if load_share <= 0.0:
            raise ValueError(f"load_share must be positive, not {load_share}")
        self.load_share = load_share

    def choose(self, prompt_tokens: int, output_tokens: int, pools: Sequence[PoolView], now: float) -> int:
        """The position of the pool."""
        loads = [pool.load for pool in pools]
        prices = [
            pool.usd_per_token if load < self.load_share else math.inf for pool, load in zip(pools, loads, strict=True)
        ]
        cheapest = _least(prices)
        return cheapest if prices[cheapest] < math.inf else _least(loads)


class LeastLatency:
    """The pool where the request is expected to end first, by tokens outstanding a replica and pace. First of equals."""

    __slots__ = ()

    def choose(self, prompt_tokens: int, output_tokens: int, pools: Sequence[PoolView], now: float) -> int:
        """The position of the pool."""
        return _least([pool.completion(prompt_tokens + output_tokens) for pool in pools])


class Weighted:
    """Pools in turn by weight, spread evenly (smooth weighted round robin): ``weights`` by name, or their ``capacity``.

    Capacity is ready replicas over seconds a token. A pool without ready replicas has no weight, unless none has any.
    """

    __slots__ = ("_credit", "by", "weights")

    def __init__(
        self, weights: Mapping[str, float] | None = None, by: Literal["weights", "capacity"] = "weights"
    ) -> None:
        if by not in ("weights", "capacity"):
            raise ValueError(f"by must be weights or capacity, not {by!r}")
        self.weights = dict(weights or {})
        if by == "weights" and not any(weight > 0 for weight in self.weights.values()):
            raise ValueError("weights must name at least one pool with a positive weight")
        for name, weight in self.weights.items():
            if weight < 0:
                raise ValueError(f"the weight of pool {name} must be 0 or more, not {weight}")
        self.by = by
        self._credit: dict[str, float] = {}

    def _weight(self, pool: PoolView) -> float:
        if self.by == "weights":
            return self.weights.get(pool.name, 0.0)
        if pool.seconds_per_token <= 0.0:
            raise ValueError(f"pool {pool.name}: its capacity needs a positive seconds_per_token")
        return max(pool.ready, 1) / pool.seconds_per_token

    def choose(self, prompt_tokens: int, output_tokens: int, pools: Sequence[PoolView], now: float) -> int:
        """The position of the pool."""
        usable = [i for i, pool in enumerate(pools) if pool.ready > 0] or list(range(len(pools)))
        weights = {i: self._weight(pools[i]) for i in usable}
        if not any(weights.values()):
            weights = dict.fromkeys(usable, 1.0)
        self._credit = {pool.name: self._credit.get(pool.name, 0.0) for pool in pools}
        for i, weight in weights.items():
            self._credit[pools[i].name] += weight
        order = [-self._credit[pools[i].name] if weights.get(i) else math.inf for i in range(len(pools))]
        chosen = _least(order)
        self._credit[pools[chosen].name] -= sum(weights.values())
        return chosen


class ByLength:
    """Prompts of more than ``threshold`` tokens go to ``pool``, while it has ready replicas; the rest to the others, by ``otherwise``.

    When ``pool`` is the only one, or has none ready, ``otherwise`` chooses among all.
    """

    __slots__ = ("otherwise", "pool", "threshold")

    def __init__(self, threshold: int, pool: str, otherwise: PoolRouter | None = None) -> None:
        if threshold < 0:
            raise ValueError(f"threshold must be 0 or more, not {threshold}")
        self.threshold = threshold
        self.pool = pool
        self.otherwise: PoolRouter = otherwise if otherwise is not None else LeastLatency()

    def choose(self, prompt_tokens: int, output_tokens: int, pools: Sequence[PoolView], now: float) -> int:
        """The position of the pool."""
        names = [pool.name for pool in pools]
        if self.pool not in names:
            raise ValueError(f"there is no pool {self.pool!r}; there are {', '.join(names)}")
        long = names.index(self.pool)
        if prompt_tokens > self.threshold:
            if pools[long].ready > 0:
                return long
            rest = list(range(len(pools)))
        else:
            rest = [i for i in range(len(pools)) if i != long and pools[i].ready > 0] or list(range(len(pools)))
        return rest[self.otherwise.choose(prompt_tokens, output_tokens, [pools[i] for i in rest], now)]
