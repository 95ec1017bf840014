"""SGLang's router (sgl-router, now the model gateway): ``cache_aware`` and ``power_of_two``.

Source: sgl-project/sglang sgl-router/src/policies/{cache_aware,power_of_two,mod}.rs. Ties of load go to the first worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sim.control.parameters import Seconds
from sim.control.routing.prefixes import SentPrefixes
from sim.control.routing.radix import RadixTree

if TYPE_CHECKING:
    from sim.control.router import FleetView

__all__ = ["CLI", "LIBRARY", "CacheAware", "CacheAwareConfig", "SglangCacheAware", "is_imbalanced", "power_of_two"]


@dataclass(frozen=True)
class CacheAwareConfig:
    """Thresholds of ``cache_aware``. The defaults are the library's (``CacheAwareConfig::default()``); :data:`CLI` has the launcher's.

    ``below_threshold``: where a prompt goes that matches too little: to the ``smallest_tree``, or (since late 2025) the ``min_load``.
    ``eviction_interval_secs`` 0: never evict. ``max_tree_size``: characters per worker.
    """

    cache_threshold: float = 0.5
    balance_abs_threshold: int = 32
    balance_rel_threshold: float = 1.1
    eviction_interval_secs: Seconds = 30.0
    max_tree_size: int = 10_000
    below_threshold: Literal["smallest_tree", "min_load"] = "smallest_tree"

    def __post_init__(self) -> None:
        if not 0.0 <= self.cache_threshold <= 1.0:
            raise ValueError(f"cache_threshold must be within 0 to 1, not {self.cache_threshold}")
        if self.balance_abs_threshold < 0:
            raise ValueError(f"balance_abs_threshold must be 0 or more, not {self.balance_abs_threshold}")
        if self.balance_rel_threshold < 1.0:
            raise ValueError(f"balance_rel_threshold must be 1 or more, not {self.balance_rel_threshold}")
        if self.eviction_interval_secs < 0.0:
            raise ValueError(f"eviction_interval_secs must be 0 or more, not {self.eviction_interval_secs}")
        if self.max_tree_size <= 0:
            raise ValueError(f"max_tree_size must be positive, not {self.max_tree_size}")
        if self.below_threshold not in ("smallest_tree", "min_load"):
            raise ValueError(f"below_threshold must be smallest_tree or min_load, not {self.below_threshold!r}")


LIBRARY = CacheAwareConfig()
"""Defaults of the Rust library (releases before mid 2025: a ``balance_rel_threshold`` of 1.0001)."""
CLI = CacheAwareConfig(0.3, 64, 1.5, 120.0, 2**26)
"""Defaults of the command line, which is how it is deployed."""


def is_imbalanced(loads: Sequence[int], balance_abs_threshold: int, balance_rel_threshold: float) -> bool:
    """Whether max - min is over the absolute threshold and max over the relative one times min."""
    most, least = max(loads, default=0), min(loads, default=0)
    return most - least > balance_abs_threshold and most > least * balance_rel_threshold


def _least(loads: Sequence[int], among: Sequence[int]) -> int:
    return min(among, key=lambda i: loads[i])


class CacheAware:
    """The ``cache_aware`` policy: texts and loads in, the position of a worker out; remembers the texts by worker."""

    __slots__ = ("_evicted", "config", "tree")

    def __init__(self, workers: Sequence[str] = (), config: CacheAwareConfig = LIBRARY) -> None:
        self.config = config
        self.tree = RadixTree()
        self._evicted = 0.0
        for worker in workers:
            self.tree.insert("", worker)

    def add_worker(self, worker: str, now: float = 0.0) -> None:
        """A worker has come: it has an empty tree."""
        self.tree.insert("", worker, now)

    def remove_worker(self, worker: str) -> None:
        """A worker has gone."""
        self.tree.remove_tenant(worker)

    def select(
        self,
        workers: Sequence[str],
        loads: Sequence[int],
        text: str,
        now: float = 0.0,
        healthy: Sequence[bool] | None = None,
    ) -> int | None:
        """The worker for ``text``, by ``loads`` (requests in flight); None when none is healthy.

        Unhealthy workers count in the test of balance, as there. When the worker that matches is not there or not healthy,
        the first healthy one gets the request, and the tree is not told.
        """
        interval = self.config.eviction_interval_secs
        if interval > 0 and now - self._evicted >= interval:
            self.tree.evict_tenant_by_size(self.config.max_tree_size)
            self._evicted = now - (now - self._evicted) % interval
        usable = [i for i in range(len(workers)) if healthy is None or healthy[i]]
        if not usable:
            return None
        if is_imbalanced(loads, self.config.balance_abs_threshold, self.config.balance_rel_threshold):
            chosen = _least(loads, usable)
            self.tree.insert(text, workers[chosen], now)
            return chosen
        matched, worker = self.tree.prefix_match(text, now)
        rate = len(matched) / len(text) if text else 0.0
        if rate <= self.config.cache_threshold:
            small = self.config.below_threshold == "smallest_tree"
            worker = self.tree.smallest_tenant() if small else workers[_least(loads, usable)]
        if worker not in workers:
            self.tree.remove_tenant(worker)
            return usable[0]
        chosen = list(workers).index(worker)
        if chosen not in usable:
            return usable[0]
        self.tree.insert(text, worker, now)
        return chosen


def power_of_two(loads: Sequence[int], pair: tuple[int, int]) -> int:
    """``power_of_two``: of two different workers drawn, the less loaded, the first of equals."""
    first, second = pair
    return first if loads[first] <= loads[second] else second


class SglangCacheAware:
    """The ``cache_aware`` policy as a router: what each session's prompts were is kept by session, in place of their text.

    Parameters are those of the command line, with its defaults; ``chars_per_token`` turns prompts into characters, which
    ``max_tree_size`` is counted in. Load is requests sent and not yet ended.
    """

    __slots__ = ("_evicted", "_prefixes", "chars_per_token", "config")

    def __init__(
        self,
        cache_threshold: float = 0.3,
        balance_abs_threshold: int = 64,
        balance_rel_threshold: float = 1.5,
        eviction_interval_secs: Seconds = 120.0,
        max_tree_size: int = 2**26,
        below_threshold: Literal["smallest_tree", "min_load"] = "smallest_tree",
        chars_per_token: float = 4.0,
    ) -> None:
        if chars_per_token <= 0.0:
            raise ValueError(f"chars_per_token must be positive, not {chars_per_token}")
        self.config = CacheAwareConfig(
            cache_threshold,
            balance_abs_threshold,
            balance_rel_threshold,
            eviction_interval_secs,
            max_tree_size,
            below_threshold,
        )
        self.chars_per_token = chars_per_token
        self._prefixes: dict[int, SentPrefixes] = {}
        self._evicted = 0.0

    def _evict(self, fleet: FleetView) -> None:
        interval = self.config.eviction_interval_secs
        if interval > 0 and fleet.now - self._evicted >= interval:
            for prefixes in self._prefixes.values():
                prefixes.trim(self.config.max_tree_size)
            self._evicted = fleet.now - (fleet.now - self._evicted) % interval

    def choose(self, session: int, tokens: int, fleet: FleetView) -> int:
        """The replica with the session's prefix when loads are balanced, the least loaded when not."""
        ids, loads, config = fleet.ids, fleet.outstanding, self.config
        if self._prefixes.keys() != set(ids):
            self._prefixes = {index: self._prefixes.get(index) or SentPrefixes() for index in ids}
        self._evict(fleet)
        size = max(round((fleet.prompt_tokens or tokens) * self.chars_per_token), 1)
        everyone = range(len(ids))
        if is_imbalanced(loads, config.balance_abs_threshold, config.balance_rel_threshold):
            chosen = _least(loads, everyone)
        else:
            sent = [self._prefixes[index] for index in ids]
            best = max(everyone, key=lambda i: sent[i].length(session))
            matched = min(sent[best].length(session), size)
            sent[best].touch(session)
            if matched / size > config.cache_threshold:
                chosen = best
            elif config.below_threshold == "smallest_tree":
                chosen = min(everyone, key=lambda i: sent[i].total)
            else:
                chosen = _least(loads, everyone)
        self._prefixes[ids[chosen]].add(session, size)
        return chosen
