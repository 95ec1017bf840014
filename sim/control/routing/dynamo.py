"""NVIDIA Dynamo's KV router: the cost of each worker, and the choice among costs.

Source: ai-dynamo/dynamo lib/kv-router/src/scheduling/selector.rs (0.4 to 1.0): cost = overlap_score_weight · potential prefill blocks +
potential decode blocks; the same since mid 2026, with credits for what is cached where: :func:`worker_logit`;
lib/llm/src/kv_router/scheduler.rs (before 0.3): the logit 2·overlap - usage - waiting.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sim.control.routing.draws import seeded
from sim.control.routing.prefixes import SentPrefixes

if TYPE_CHECKING:
    from sim.control.router import FleetView

__all__ = [
    "DynamoKv",
    "legacy_logits",
    "potential_loads",
    "select_worker",
    "softmax_probabilities",
    "softmax_sample",
    "worker_costs",
    "worker_logit",
]


def potential_loads(
    isl_tokens: int,
    overlaps: Sequence[int],
    active_blocks: Sequence[int],
    active_tokens: Sequence[int],
    block_size: int = 16,
    shared_blocks: Sequence[int] | None = None,
) -> tuple[list[int], list[int]]:
    """What each worker would hold with the request: prefill tokens and decode blocks.

    ``overlaps``: blocks of the prompt each worker has cached; ``active_tokens``: prompt tokens it was sent and has not prefilled;
    ``active_blocks``: blocks of requests it serves; ``shared_blocks``: how many of the prompt's blocks are among those (None: 0).
    """
    blocks = isl_tokens // block_size  # only whole blocks have a hash
    shared = shared_blocks if shared_blocks is not None else [0] * len(overlaps)
    prefill = [
        active + max(isl_tokens - overlap * block_size, 0)
        for active, overlap in zip(active_tokens, overlaps, strict=True)
    ]
    decode = [active + max(blocks - common, 0) for active, common in zip(active_blocks, shared, strict=True)]
    return prefill, decode


def worker_costs(
    isl_tokens: int,
    prefill_tokens: Sequence[int | None],
    decode_blocks: Sequence[int | None],
    block_size: int = 16,
    overlap_score_weight: float = 1.0,
) -> list[float]:
    """overlap_score_weight · prefill_tokens/block_size + decode_blocks, by worker; the least is the best.

    A worker that nothing is known of (None) has the whole prompt to prefill, and as many decode blocks as it has whole blocks to
    prefill. ValueError for an empty prompt.
    """
    if isl_tokens <= 0:
        raise ValueError(f"isl_tokens must be positive, not {isl_tokens}")
    costs = []
    for tokens, blocks in zip(prefill_tokens, decode_blocks, strict=True):
        prefill = (isl_tokens if tokens is None else tokens) / block_size
        decode = math.floor(prefill) if blocks is None else blocks
        costs.append(overlap_score_weight * prefill + decode)
    return costs


def worker_logit(
    isl_tokens: int,
    *,
    device_overlap_blocks: float = 0.0,
    cached_tokens: int = 0,
    active_prefill_tokens: int | None = 0,
    decode_blocks: int = 0,
    active_requests: int = 0,
    host_overlap_blocks: int = 0,
    disk_overlap_blocks: int = 0,
    shared_beyond_blocks: int = 0,
    min_active_prefill_tokens: int = 0,
    block_size: int = 16,
    overlap_score_credit: float = 1.0,
    overlap_score_credit_decay: float = 0.0,
    prefill_load_scale: float = 1.0,
    host_cache_hit_weight: float = 0.75,
    disk_cache_hit_weight: float = 0.25,
    shared_cache_multiplier: float = 0.0,
    decode_active_request_weight: float = 0.0,
    track_prefill_tokens: bool = True,
    decode_worker: bool = False,
) -> float:
    """The cost of one worker since mid 2026: prefill_load_scale · max(0, prefill blocks - credit) + decode blocks + weighted requests.

    Prefill is what the worker has yet to prefill (``active_prefill_tokens``; None: no load is known of it) and the whole prompt; the
    credit is ``overlap_score_credit`` · ``device_overlap_blocks``, and what lies on host, disk and (beyond the device's) in a shared
    cache at their weights. ``overlap_score_credit_decay`` d divides the first credit by 1 + d · (prefill tokens above
    ``min_active_prefill_tokens``, the least of all workers, over the prompt's, in blocks). ``cached_tokens`` count where they exceed the
    prompt. ``decode_blocks``: those of the requests it serves and of this one. Without ``track_prefill_tokens`` there is no prefill; a
    ``decode_worker`` has its credit taken from its decode blocks then. The least is the best.
    """
    if not track_prefill_tokens:
        prefill = 0
    elif active_prefill_tokens is None:
        prefill = isl_tokens
    else:
        prefill = active_prefill_tokens + max(isl_tokens, cached_tokens)
    decay = 1.0
    if track_prefill_tokens and overlap_score_credit_decay > 0.0:
        excess = max((active_prefill_tokens or 0) - min_active_prefill_tokens, 0) / block_size
        decay = 1.0 / (1.0 + overlap_score_credit_decay * excess / -(-isl_tokens // block_size))
    credit = (
        overlap_score_credit * decay * device_overlap_blocks
        + host_cache_hit_weight * host_overlap_blocks
        + disk_cache_hit_weight * disk_overlap_blocks
        + shared_cache_multiplier * shared_beyond_blocks
    )
    requests = decode_active_request_weight * active_requests
    if decode_worker and not track_prefill_tokens and overlap_score_credit > 0.0:
        return max(decode_blocks - credit, 0.0) + requests
    return prefill_load_scale * max(prefill / block_size - credit, 0.0) + decode_blocks + requests


def legacy_logits(
    isl_tokens: int,
    overlaps: Sequence[int],
    kv_active_blocks: Sequence[int],
    kv_total_blocks: Sequence[int],
    num_requests_waiting: Sequence[int],
    block_size: int = 16,
) -> list[float]:
    """Before 0.3: 2·overlap share of the prompt - KV usage - waiting over the most waiting; the greatest is the best."""
    most = max(num_requests_waiting, default=0)
    return [
        2.0 * overlap * block_size / isl_tokens - active / total - (waiting / most if most else 0.0)
        for overlap, active, total, waiting in zip(
            overlaps, kv_active_blocks, kv_total_blocks, num_requests_waiting, strict=True
        )
    ]


def softmax_probabilities(costs: Sequence[float], temperature: float) -> list[float]:
    """Chances proportional to exp(-(cost/range)/temperature); all equal when costs are. 0: all to the least, ties evenly."""
    if not costs:
        raise ValueError("there are no costs to choose from")
    if temperature < 0.0:
        raise ValueError(f"temperature must be 0 or more, not {temperature}")
    low, high = min(costs), max(costs)
    if temperature == 0.0:
        ties = costs.count(low) if isinstance(costs, list) else list(costs).count(low)
        return [1.0 / ties if cost == low else 0.0 for cost in costs]
    if low == high:
        return [1.0 / len(costs)] * len(costs)
    scaled = [-(cost / (high - low)) / temperature for cost in costs]
    most = max(scaled)
    weights = [math.exp(value - most) for value in scaled]
    total = sum(weights)
    return [weight / total for weight in weights]


def softmax_sample(costs: Sequence[float], temperature: float, sample: float = 0.0) -> list[int]:
    """The worker at ``sample`` (0 to 1) of the cumulated chances; at temperature 0 all workers of the least cost."""
    chances = softmax_probabilities(costs, temperature)
    if temperature == 0.0:
        return [i for i, chance in enumerate(chances) if chance > 0.0]
    cumulated = 0.0
    for i, chance in enumerate(chances):
        cumulated += chance
        if sample <= cumulated:
            return [i]
    return [len(costs) - 1]


def select_worker(
    costs: Sequence[float],
    generator: np.random.Generator,
    router_temperature: float = 0.0,
    tree_sizes: Sequence[int] | None = None,
) -> int:
    """The worker of the least cost, or one drawn at a temperature; ties go to the smallest tree, if they differ, else at random."""
    sample = float(generator.random()) if router_temperature > 0.0 else 0.0
    candidates = softmax_sample(costs, router_temperature, sample)
    if len(candidates) == 1:
        return candidates[0]
    if tree_sizes is not None and len({tree_sizes[i] for i in candidates}) > 1:
        return min(candidates, key=lambda i: tree_sizes[i])
    return candidates[int(generator.integers(len(candidates)))]


class DynamoKv:
    """Dynamo's KV router: prompts not cached and not yet prefilled, plus blocks held, in blocks.

    Of each replica it knows the tokens of requests sent and not ended (its decode blocks, declared outputs among them), and how many
    requests wait in its engine: those count as not yet prefilled, at the mean prompt seen so far. What is cached follows the KV
    events of the real one as far as it can: the tokens of each session sent to a replica, up to the KV blocks the replica has
    (``lru_capacity_blocks`` where that is unknown).
    """

    __slots__ = (
        "_generator", "_prefixes", "_prompts", "_requests", "block_size", "lru_capacity_blocks", "overlap_score_weight",
        "router_temperature",
    )  # fmt: skip

    def __init__(
        self,
        overlap_score_weight: float = 1.0,
        router_temperature: float = 0.0,
        block_size: int = 16,
        lru_capacity_blocks: int = 31250,
        generator: np.random.Generator | None = None,
    ) -> None:
        if overlap_score_weight < 0.0:
            raise ValueError(f"overlap_score_weight must be 0 or more, not {overlap_score_weight}")
        if router_temperature < 0.0:
            raise ValueError(f"router_temperature must be 0 or more, not {router_temperature}")
        if block_size <= 0:
            raise ValueError(f"block_size must be positive, not {block_size}")
        if lru_capacity_blocks <= 0:
            raise ValueError(f"lru_capacity_blocks must be positive, not {lru_capacity_blocks}")
        self.overlap_score_weight = overlap_score_weight
        self.router_temperature = router_temperature
        self.block_size = block_size
        self.lru_capacity_blocks = lru_capacity_blocks
        self._generator = seeded(generator)
        self._prefixes: dict[int, SentPrefixes] = {}
        self._prompts = 0
        self._requests = 0

    def choose(self, session: int, tokens: int, fleet: FleetView) -> int:
        """The replica of the least cost."""
        ids, size = fleet.ids, self.block_size
        if self._prefixes.keys() != set(ids):
            self._prefixes = {index: self._prefixes.get(index) or SentPrefixes() for index in ids}
        prompt = max(fleet.prompt_tokens or tokens, 1)
        self._prompts += prompt
        self._requests += 1
        mean = self._prompts / self._requests
        looks = [fleet.look(i) for i in range(len(ids))]
        overlaps = [min(self._prefixes[index].length(session), prompt // size) for index in ids]
        unprefilled = [round(look.waiting * mean) for look in looks]
        held = [-(-count // size) for count in fleet.tokens]
        prefill, decode = potential_loads(prompt, overlaps, held, unprefilled, size)
        costs = worker_costs(prompt, prefill, decode, size, self.overlap_score_weight)
        trees = [self._prefixes[index].total for index in ids]
        chosen = select_worker(costs, self._generator, self.router_temperature, trees)
        prefixes = self._prefixes[ids[chosen]]
        prefixes.add(session, max(tokens, prompt) // size)
        prefixes.trim(looks[chosen].kv_blocks or self.lru_capacity_blocks)
        return chosen
