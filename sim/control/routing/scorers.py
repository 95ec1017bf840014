"""Scorers of the Gateway API inference extension (EPP) and of the llm-d scheduler: endpoints in, a score of 0 to 1 each out.

Source: kubernetes-sigs/gateway-api-inference-extension pkg/epp/scheduling/framework/plugins/scorer, llm-d/llm-d-inference-scheduler
pkg/epp/framework/plugins/scheduling/scorer (since 2026 llm-d/llm-d-router). Scores are lists by position of the endpoints given; no
endpoints, no scores. An endpoint never scraped (``updated`` None) has no score of its metrics, as in llm-d-router: 0 here, and it does
not count for the least and the most; before, its zeros counted.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from sim.control.routing.endpoints import Endpoint

__all__ = [
    "NoHitLru",
    "active_request_scores",
    "context_length_filter",
    "context_length_scores",
    "kv_cache_utilization_scores",
    "load_aware_scores",
    "lora_affinity_scores",
    "prefix_cache_scores",
    "queue_scores",
    "running_requests_size_scores",
    "session_affinity_scores",
    "token_load_scores",
    "weighted_sum",
]


def _relative(values: Sequence[int | None]) -> list[float]:
    """1 for the least, 0 for the most, linear between; 1 for all when they are equal. 0 for None."""
    known = [value for value in values if value is not None]
    if not known:
        return [0.0] * len(values)
    least, most = min(known), max(known)
    width = most - least
    return [0.0 if value is None else 1.0 if width == 0 else (most - value) / width for value in values]


def queue_scores(endpoints: Sequence[Endpoint]) -> list[float]:
    """``queue-scorer``: waiting requests, relative to the least and the most of them."""
    return _relative([None if endpoint.updated is None else endpoint.waiting for endpoint in endpoints])


def running_requests_size_scores(endpoints: Sequence[Endpoint]) -> list[float]:
    """``running-requests-size-scorer``: as the queue scorer, of running requests."""
    return _relative([None if endpoint.updated is None else endpoint.running for endpoint in endpoints])


def kv_cache_utilization_scores(endpoints: Sequence[Endpoint]) -> list[float]:
    """``kv-cache-utilization-scorer``: the share of the KV cache that is free."""
    return [0.0 if endpoint.updated is None else 1.0 - endpoint.kv_usage for endpoint in endpoints]


def load_aware_scores(endpoints: Sequence[Endpoint], threshold: int = 128) -> list[float]:
    """``load-aware-scorer`` of llm-d: 0.5 with nothing waiting, down to 0 at ``threshold`` waiting (not positive: 128)."""
    limit = threshold if threshold > 0 else 128
    return [0.5 * (1.0 - min(endpoint.waiting, limit) / limit) for endpoint in endpoints]


def active_request_scores(
    endpoints: Sequence[Endpoint], idle_threshold: int = 0, max_busy_score: float = 1.0, most: int | None = None
) -> list[float]:
    """``active-request-scorer`` of llm-d: (most - active)/most times ``max_busy_score``; 1 at or under ``idle_threshold``.

    ``most`` is the largest count: of those given (None), as in llm-d-router, before of all endpoints that the gateway tracks, filtered
    ones too. A negative ``idle_threshold``, or a ``max_busy_score`` outside 0 to 1, means its default, as there. For some releases a
    plugin configured without ``max_busy_score`` ran with 0.0 (every busy endpoint scored 0): its factory took absent for zero.
    """
    idle = max(idle_threshold, 0)
    scale = max_busy_score if 0.0 <= max_busy_score <= 1.0 else 1.0
    if most is None:
        most = max((endpoint.active for endpoint in endpoints), default=0)
    return [
        1.0 if endpoint.active <= idle else (most - endpoint.active) / most * scale  #
        for endpoint in endpoints
    ]


def lora_affinity_scores(endpoints: Sequence[Endpoint], target_model: str) -> list[float]:
    """``lora-affinity-scorer``: 1 the adapter is active, 0.8 there is room to load it, 0.6 it waits to be loaded, else 0."""

    def score(endpoint: Endpoint) -> float:
        if target_model in endpoint.active_models:
            return 1.0
        if endpoint.adapters < endpoint.max_active_models:
            return 0.8
        return 0.6 if target_model in endpoint.waiting_models else 0.0

    return [score(endpoint) for endpoint in endpoints]


def session_affinity_scores(endpoints: Sequence[Endpoint], previous: str | None) -> list[float]:
    """``session-affinity-scorer`` of llm-d: 1 for the endpoint named ``previous`` (of the session's last response), 0 for others.

    ``previous`` is None where the request carries no session token, or one that cannot be read.
    """
    return [1.0 if endpoint.name == previous else 0.0 for endpoint in endpoints]


def prefix_cache_scores(
    endpoints: Sequence[Endpoint],
    matched: Mapping[str, int],
    total: int,
    match_length_weight: float = 0.0,
    match_length_scale_tokens: int = 8192,
    block_size: int = 16,
) -> list[float]:
    """``prefix-cache-scorer``: the share of the prompt's ``total`` blocks that each endpoint (by name) is thought to hold; 0 of 0.

    Since 2026 ``match_length_weight`` of the score may go to the length matched: min(1, blocks · ``block_size`` (tokens) over
    ``match_length_scale_tokens``) squared. ValueError where a parameter is out of range.
    """
    if not 0.0 <= match_length_weight <= 1.0:
        raise ValueError(f"match_length_weight must be within 0 to 1, not {match_length_weight}")
    if match_length_scale_tokens <= 0:
        raise ValueError(f"match_length_scale_tokens must be positive, not {match_length_scale_tokens}")
    if total == 0:
        return [0.0] * len(endpoints)
    blocks = [matched.get(endpoint.name, 0) for endpoint in endpoints]
    lengths = [min(1.0, count * block_size / match_length_scale_tokens) ** 2 for count in blocks]
    return [
        match_length_weight * length + (1.0 - match_length_weight) * count / total
        for count, length in zip(blocks, lengths, strict=True)
    ]


def token_load_scores(
    endpoints: Sequence[Endpoint], request_tokens: int | Sequence[int] = 0, queue_threshold_tokens: int = 4194304
) -> list[float]:
    """``token-load-scorer`` of llm-d: 1 with no tokens in flight, down to 0 at ``queue_threshold_tokens`` (not positive: its default).

    Counted are ``active_tokens`` and ``request_tokens``, what the request would add: to all alike, or by endpoint.
    """
    limit = queue_threshold_tokens if queue_threshold_tokens > 0 else 4194304
    added = [request_tokens] * len(endpoints) if isinstance(request_tokens, int) else request_tokens
    return [
        1.0 - min(max(endpoint.active_tokens + tokens, 0), limit) / limit
        for endpoint, tokens in zip(endpoints, added, strict=True)
    ]


class NoHitLru:
    """``no-hit-lru-scorer`` of llm-d: prompts that no one caches go to who got such a prompt longest ago.

    Call :meth:`scores`, then :meth:`sent` with the endpoint chosen. A request that anyone caches is scored 0.5 everywhere and
    does not count as a use.
    """

    __slots__ = ("_cold", "_used", "lru_size")

    def __init__(self, lru_size: int = 1024) -> None:
        self.lru_size = lru_size if lru_size > 0 else 1024
        self._used: OrderedDict[str, None] = OrderedDict()  # oldest first
        self._cold = False

    def scores(self, endpoints: Sequence[Endpoint], matched: Mapping[str, int]) -> list[float]:
        """``matched``: blocks of the prompt cached, by endpoint name."""
        self._cold = not any(matched.get(endpoint.name, 0) > 0 for endpoint in endpoints)
        if not self._cold:
            return [0.5] * len(endpoints)
        if len(endpoints) <= 1:
            return [1.0] * len(endpoints)
        age = {name: rank for rank, name in enumerate(self._used)}
        fresh = [endpoint.name for endpoint in endpoints if endpoint.name not in age]
        first = {name: rank for rank, name in enumerate(fresh)}
        last = len(endpoints) - 1
        ranks = [first[e.name] if e.name in first else len(fresh) + age[e.name] for e in endpoints]
        return [max(1.0 - rank / last, 0.0) for rank in ranks]

    def sent(self, name: str) -> None:
        """The request scored last went to ``name``."""
        if not self._cold:
            return
        self._used[name] = None
        self._used.move_to_end(name)
        if len(self._used) > self.lru_size:
            self._used.popitem(last=False)


def _context_range(label: str) -> tuple[int, int] | None:
    bounds = label.split("-")
    try:
        low, high = (int(bound) for bound in bounds)
    except ValueError:
        return None
    return (low, high) if low <= high else None


def context_length_scores(endpoints: Sequence[Endpoint], context_length: int) -> list[float]:
    """``context-length-aware`` of llm-d: how well ``context_length`` tokens fit each endpoint's ``min-max`` label.

    Within: 0.3 + 0.7·(0.7/(1 + width/10000) + 0.3·(max - length)/width), 1 for a width of 0. Outside: 0.3/(1 + distance/1000).
    No label: 0.5; a label that cannot be read: 0.
    """

    def score(label: str | None) -> float:
        if label is None:
            return 0.5
        bounds = _context_range(label)
        if bounds is None:
            return 0.0
        low, high = bounds
        if not low <= context_length <= high:
            distance = context_length - high if context_length > high else low - context_length
            return 0.3 / (1.0 + distance / 1000.0)
        width = high - low
        if width == 0:
            return 1.0
        raw = 0.7 / (1.0 + width / 10000.0) + 0.3 * (high - context_length) / width
        return 0.3 + raw * 0.7

    return [score(endpoint.context_range) for endpoint in endpoints]


def context_length_filter(endpoints: Sequence[Endpoint], context_length: int) -> list[int]:
    """``context-length-aware`` with ``enableFiltering``: positions of endpoints whose label holds ``context_length``, or without one."""
    kept = []
    for i, endpoint in enumerate(endpoints):
        bounds = (0, context_length) if endpoint.context_range is None else _context_range(endpoint.context_range)
        if bounds is not None and bounds[0] <= context_length <= bounds[1]:
            kept.append(i)
    return kept


def weighted_sum(scored: Sequence[tuple[float, Sequence[float]]], size: int) -> list[float]:
    """The sum of (weight, scores), of ``size`` endpoints, each score held within 0 to 1 first, as the scheduler profile does."""
    totals = [0.0] * size
    for weight, scores in scored:
        if len(scores) != size:
            raise ValueError(f"a scorer gave {len(scores)} scores for {size} endpoints")
        for i, score in enumerate(scores):
            bounded = 0.0 if score < 0.0 or math.isnan(score) else min(score, 1.0)
            totals[i] += bounded * weight
    return totals
