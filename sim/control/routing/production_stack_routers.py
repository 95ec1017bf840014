"""vLLM production-stack's session and prefix routers, over a simulated fleet."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np

from sim.control.parameters import Seconds
from sim.control.routing.draws import seeded
from sim.control.routing.production_stack import UHashRing, least_inflight, lowest_qps, route_session

if TYPE_CHECKING:
    from sim.control.router import FleetView

__all__ = ["ProductionStackPrefix", "ProductionStackSession"]

_SLOTS = 60  # of a window: requests are counted by sixtieths of it


class _Rates:
    """Requests sent to each replica over the last ``window`` seconds, per second."""

    __slots__ = ("_counts", "window")

    def __init__(self, window: float) -> None:
        self.window = window
        self._counts: dict[str, tuple[int, list[int]]] = {}  # last slot, counts

    def _advanced(self, name: str, now: float) -> tuple[int, list[int]]:
        slot = int(now / self.window * _SLOTS)
        last, counts = self._counts.get(name, (slot, [0] * _SLOTS))
        for passed in range(last + 1, min(slot, last + _SLOTS) + 1):
            counts[passed % _SLOTS] = 0
        return slot, counts

    def sent(self, name: str, now: float) -> None:
        slot, counts = self._advanced(name, now)
        counts[slot % _SLOTS] += 1
        self._counts[name] = (slot, counts)

    def per_second(self, names: list[str], now: float) -> dict[str, float]:
        """By name; only of those that were ever sent anything."""
        return {name: sum(self._advanced(name, now)[1]) / self.window for name in names if name in self._counts}

    def keep_only(self, names: list[str]) -> None:
        self._counts = {name: self._counts[name] for name in names if name in self._counts}


def _names(fleet: FleetView) -> list[str]:
    return [f"http://replica-{index}" for index in fleet.ids]


class ProductionStackSession:
    """``session``: a hash ring of replicas for sessions; requests without one go where the rate of requests is lowest.

    ``request_stats_window`` is what rates are taken over.
    """

    __slots__ = ("_built", "_names", "_rates", "_ring", "request_stats_window")

    def __init__(self, request_stats_window: Seconds = 60.0) -> None:
        if request_stats_window <= 0.0:
            raise ValueError(f"request_stats_window must be positive, not {request_stats_window}")
        self.request_stats_window = request_stats_window
        self._rates = _Rates(request_stats_window)
        self._names: list[str] = []
        self._ring = UHashRing()
        self._built: tuple[int, int] = (-1, -1)

    def choose(self, session: int, tokens: int, fleet: FleetView) -> int:
        """The session's replica on the ring."""
        if self._built != (fleet.version, len(fleet.ids)):
            self._names = _names(fleet)
            self._ring = UHashRing(self._names)
            self._rates.keep_only(self._names)
            self._built = (fleet.version, len(fleet.ids))
        key = None if session < 0 else str(session)
        qps = self._rates.per_second(self._names, fleet.now) if key is None else {}
        chosen = route_session(self._names, key, qps, self._ring)
        self._rates.sent(chosen, fleet.now)
        return self._names.index(chosen)


class ProductionStackPrefix:
    """``prefixaware``: any of the replicas that were sent the longest prefix of the session, any at all for a new one.

    ``prefix_min_match_length`` in characters, of which a token has ``chars_per_token``: under it, replicas within one of the fewest
    requests running and waiting, as scraped each ``engine_stats_interval``. The real trie is never emptied; this one remembers
    the ``max_sessions`` that were used last.
    """

    __slots__ = (
        "_generator", "_inflight", "_scraped", "_sent", "chars_per_token", "chunk_size",
        "engine_stats_interval", "max_sessions", "prefix_min_match_length",
    )  # fmt: skip

    def __init__(
        self,
        prefix_min_match_length: int = 0,
        chunk_size: int = 128,
        chars_per_token: float = 4.0,
        engine_stats_interval: Seconds = 30.0,
        max_sessions: int = 100_000,
        generator: np.random.Generator | None = None,
    ) -> None:
        if prefix_min_match_length < 0:
            raise ValueError(f"prefix_min_match_length must be 0 or more, not {prefix_min_match_length}")
        if chunk_size <= 0:
            raise ValueError(f"chunk_size must be positive, not {chunk_size}")
        if chars_per_token <= 0.0:
            raise ValueError(f"chars_per_token must be positive, not {chars_per_token}")
        if engine_stats_interval < 0.0:
            raise ValueError(f"engine_stats_interval must be 0 or more, not {engine_stats_interval}")
        if max_sessions <= 0:
            raise ValueError(f"max_sessions must be positive, not {max_sessions}")
        self.prefix_min_match_length = prefix_min_match_length
        self.chunk_size = chunk_size
        self.chars_per_token = chars_per_token
        self.engine_stats_interval = engine_stats_interval
        self.max_sessions = max_sessions
        self._generator = seeded(generator)
        self._sent: OrderedDict[int, dict[int, int]] = OrderedDict()  # session to chunks by replica
        self._inflight: dict[str, int] = {}
        self._scraped = float("-inf")

    def _least_loaded(self, fleet: FleetView) -> list[int]:
        names = _names(fleet)
        if fleet.now - self._scraped >= self.engine_stats_interval:
            looks = [fleet.look(i) for i in range(len(names))]
            self._inflight = {name: look.running + look.waiting for name, look in zip(names, looks, strict=True)}
            self._scraped = fleet.now
        idle = least_inflight(names, self._inflight)
        if idle is None:  # a replica not scraped yet: the real one takes the lowest rate, and a new one has none
            return [names.index(lowest_qps(names, self._inflight))]
        return [i for i, name in enumerate(names) if name in idle]

    def choose(self, session: int, tokens: int, fleet: FleetView) -> int:
        """A replica with the longest prefix of the session."""
        ids = fleet.ids
        chars = round((fleet.prompt_tokens or tokens) * self.chars_per_token)
        chunks = chars // self.chunk_size
        known = self._sent.get(session, {}) if session >= 0 else {}
        matched = [min(known.get(index, 0), chunks) for index in ids]
        longest = max(matched)
        if longest * self.chunk_size < self.prefix_min_match_length:
            candidates = self._least_loaded(fleet)
        else:
            candidates = [i for i, count in enumerate(matched) if count == longest]
        chosen = candidates[int(self._generator.integers(len(candidates)))]
        if session >= 0:
            sent = self._sent.setdefault(session, {})
            sent[ids[chosen]] = max(sent.get(ids[chosen], 0), chunks)
            self._sent.move_to_end(session)
            if len(self._sent) > self.max_sessions:
                self._sent.popitem(last=False)
        return chosen
