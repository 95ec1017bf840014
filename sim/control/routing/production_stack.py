"""vLLM production-stack's router: round robin, by session, by prefix, by KV cache, by KV cache and load.

Source: vllm-project/production-stack src/vllm_router/routers/routing_logic.py and prefix/hashtrie.py; the ring is that of the package
it uses, ultrabug/uhashring. Endpoints are named by URL; ``qps`` maps a URL to its rate, and lacks those never sent anything.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import md5
from typing import TYPE_CHECKING, Literal

from sim.control.routing.hashing import xxhash64

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "HashTrie",
    "RoundRobin",
    "UHashRing",
    "least_inflight",
    "load_aware_score",
    "lowest_qps",
    "relative_loads",
    "route_kv_aware",
    "route_load_aware",
    "route_prefix_aware",
    "route_session",
]


def lowest_qps(endpoints: Sequence[str], qps: Mapping[str, float]) -> str:
    """The first endpoint that no rate is known of, else the one with the lowest, the first of equals."""
    if not endpoints:
        raise ValueError("there are no endpoints to choose from")
    for url in endpoints:
        if url not in qps:
            return url
    return min(endpoints, key=lambda url: qps[url])


def least_inflight(endpoints: Sequence[str], inflight: Mapping[str, int] | None) -> list[str] | None:
    """Endpoints within one of the fewest requests running and queued; None when one has not been scraped."""
    if inflight is None or any(url not in inflight for url in endpoints):
        return None
    fewest = min(inflight[url] for url in endpoints)
    return [url for url in endpoints if inflight[url] <= fewest + 1]


class RoundRobin:
    """Each endpoint in turn, in the order of their URLs; the count goes on when endpoints come or go."""

    __slots__ = ("_requests",)

    def __init__(self) -> None:
        self._requests = 0

    def choose(self, endpoints: Sequence[str]) -> str:
        """The next endpoint."""
        chosen = sorted(endpoints)[self._requests % len(endpoints)]
        self._requests += 1
        return chosen


class UHashRing:
    """uhashring's default ring: MD5, 160 points a node, keyed ``node-i``; a key belongs to the first point after it."""

    __slots__ = ("_nodes", "_points", "vnodes")

    def __init__(self, nodes: Collection[str] = (), vnodes: int = 160) -> None:
        self.vnodes = vnodes
        ring = {self._hash(f"{node}-{i}"): node for node in nodes for i in range(vnodes)}
        self._points = sorted(ring)
        self._nodes = [ring[point] for point in self._points]

    @staticmethod
    def _hash(key: str) -> int:
        return int.from_bytes(md5(key.encode(), usedforsecurity=False).digest(), "big")

    def get_node(self, key: str) -> str | None:
        """The node of ``key``; None without nodes."""
        if not self._points:
            return None
        return self._nodes[bisect_right(self._points, self._hash(key)) % len(self._nodes)]


def route_session(
    endpoints: Sequence[str], session_id: str | None, qps: Mapping[str, float], ring: UHashRing | None = None
) -> str:
    """``session``: the ring's node for the session; without a session the lowest rate. ``ring`` of the endpoints, if at hand."""
    if session_id is None:
        return lowest_qps(endpoints, qps)
    node = (ring if ring is not None else UHashRing(endpoints)).get_node(session_id)
    if node is None:
        raise ValueError("there are no endpoints to choose from")
    return node


@dataclass(slots=True)
class _TrieNode:
    children: dict[int, _TrieNode] = field(default_factory=dict)
    endpoints: set[str] = field(default_factory=set)


class HashTrie:
    """Prompts in chunks of ``chunk_size`` characters (the last one shorter), with the endpoints each was sent to; nothing is evicted."""

    __slots__ = ("_root", "chunk_size")

    def __init__(self, chunk_size: int = 128) -> None:
        if chunk_size <= 0:
            raise ValueError(f"chunk_size must be positive, not {chunk_size}")
        self.chunk_size = chunk_size
        self._root = _TrieNode()

    def _chunks(self, request: str) -> list[int]:
        size = self.chunk_size
        return [xxhash64(request[i : i + size].encode()) for i in range(0, len(request), size)]

    def insert(self, request: str, endpoint: str) -> None:
        """``request`` was sent to ``endpoint``."""
        node = self._root
        node.endpoints.add(endpoint)
        for chunk in self._chunks(request):
            node = node.children.setdefault(chunk, _TrieNode())
            node.endpoints.add(endpoint)

    def longest_prefix_match(self, request: str, available: Collection[str]) -> tuple[int, set[str]]:
        """Characters matched (whole chunks) and which of the ``available`` endpoints have them; all, of nothing matched."""
        node, matched, selected = self._root, 0, set(available)
        for chunk in self._chunks(request):
            child = node.children.get(chunk)
            if child is None or not child.endpoints & selected:
                break
            node, selected = child, child.endpoints & selected
            matched += self.chunk_size
        return matched, selected


def route_prefix_aware(
    endpoints: Sequence[str],
    prompt: str,
    trie: HashTrie,
    generator: np.random.Generator,
    prefix_min_match_length: int = 0,
    qps: Mapping[str, float] | None = None,
    inflight: Mapping[str, int] | None = None,
) -> str:
    """``prefixaware``: any of the endpoints with the longest prefix; the trie learns the choice.

    Since 2026 a match shorter than ``prefix_min_match_length`` does not count: then any of the endpoints within one of the fewest
    requests in flight, or, when ``inflight`` lacks one, the lowest rate.
    """
    matched, selected = trie.longest_prefix_match(prompt, endpoints)
    if matched < prefix_min_match_length:
        idle = least_inflight(endpoints, inflight)
        chosen = _any(idle, generator) if idle is not None else lowest_qps(endpoints, qps or {})
    else:
        chosen = _any([url for url in endpoints if url in selected], generator)
    trie.insert(prompt, chosen)
    return chosen


def _any(urls: Sequence[str], generator: np.random.Generator) -> str:
    return urls[int(generator.integers(len(urls)))]


def route_kv_aware(
    endpoints: Sequence[str],
    prompt_tokens: int,
    matched: Mapping[str, int],
    session_id: str | None,
    qps: Mapping[str, float],
    kv_aware_threshold: int = 2000,
    holder: Literal["longest", "first"] = "longest",
) -> str:
    """``kvaware``: one of ``matched``, the tokens of the prompt that each has cached, in the order the cache's controller answers.

    Of the endpoints that are there the one with the most (since mid 2026; the first of equals), or the first of ``matched``, there or
    not (``holder="first"``, before). Nobody has it, or that one has less than all but ``kv_aware_threshold`` tokens: as ``session``.
    """
    if holder == "first":
        chosen = next(iter(matched), None)
    else:
        chosen = max((url for url in matched if url in endpoints), key=lambda url: matched[url], default=None)
    if chosen is None or matched[chosen] < max(prompt_tokens - kv_aware_threshold, 0):
        return route_session(endpoints, session_id, qps)
    return chosen


def relative_loads(endpoints: Sequence[str], inflight: Mapping[str, int]) -> dict[str, float]:
    """(load - mean)/max(1, mean) of each endpoint; who is not in ``inflight`` (requests in prefill and decode) has none."""
    loads = {url: inflight.get(url, 0) for url in endpoints}
    mean = sum(loads.values()) / len(loads) if loads else 0.0
    return {url: (load - mean) / max(1.0, mean) for url, load in loads.items()}


def load_aware_score(matched_tokens: int, prompt_tokens: int, relative_load: float, beta: float = 1.0) -> float:
    """The share of the prompt that is cached, 1 at most, less ``beta`` · ``relative_load``."""
    return min(matched_tokens, prompt_tokens) / max(prompt_tokens, 1) - beta * relative_load


def route_load_aware(
    endpoints: Sequence[str],
    prompt_tokens: int,
    matched: Mapping[str, int],
    inflight: Mapping[str, int],
    beta: float = 1.0,
) -> str | None:
    """``loadaware`` (since mid 2026): the best :func:`load_aware_score` of all endpoints, the first by URL of equals.

    None without endpoints. The router asks it only where somebody has some of the prompt cached; else it routes as ``session``.
    """
    relative = relative_loads(endpoints, inflight)

    def score(url: str) -> float:
        return load_aware_score(matched.get(url, 0), prompt_tokens, relative[url], beta)

    return max(sorted(endpoints), key=score, default=None)
