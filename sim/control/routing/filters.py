"""Filters of the Gateway API inference extension before 1.0, and the decision tree that was its default scheduler.

Source: kubernetes-sigs/gateway-api-inference-extension pkg/epp/scheduling/filter.go, scheduler.go, config/config.go (v0.1 to v0.4).
Filters take endpoints and give those that pass, in their order; an empty answer is a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from sim.control.routing.endpoints import Endpoint

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "DecisionTree",
    "default_filter",
    "least_kv_cache",
    "least_queue",
    "lora_affinity",
    "low_latency",
    "low_lora_cost",
    "low_queue",
    "sheddable_capacity",
]

Filter = Callable[[Sequence[Endpoint]], list[Endpoint]]


def least_queue(endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    """Those in the first of as many equal ranges of waiting requests as there are endpoints (in whole requests)."""
    if not endpoints:
        return []
    low, high = min(e.waiting for e in endpoints), max(e.waiting for e in endpoints)
    return [e for e in endpoints if e.waiting <= low + (high - low) // len(endpoints)]


def least_kv_cache(endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    """Those in the first of as many equal ranges of KV cache usage as there are endpoints."""
    if not endpoints:
        return []
    low, high = min(e.kv_usage for e in endpoints), max(e.kv_usage for e in endpoints)
    return [e for e in endpoints if e.kv_usage <= low + (high - low) / len(endpoints)]


def low_queue(endpoints: Sequence[Endpoint], threshold: int = 128) -> list[Endpoint]:
    """Those with fewer than ``threshold`` requests waiting."""
    return [e for e in endpoints if e.waiting < threshold]


def low_lora_cost(endpoints: Sequence[Endpoint], target_model: str) -> list[Endpoint]:
    """Those that have the adapter loaded, or room to load it (of loaded adapters only, as v0.1 counted)."""
    return [e for e in endpoints if target_model in e.active_models or len(e.active_models) < e.max_active_models]


def lora_affinity(
    endpoints: Sequence[Endpoint], target_model: str, generator: np.random.Generator, threshold: float = 0.999
) -> list[Endpoint]:
    """Those that have the adapter or are loading it, with a chance of ``threshold``; else those with room for it.

    Whichever group is not empty, if one is.
    """
    near = [e for e in endpoints if target_model in e.active_models or target_model in e.waiting_models]
    room = [e for e in endpoints if e not in near and e.adapters < e.max_active_models]
    if near and room:
        return near if generator.random() < threshold else room
    return near or room


def sheddable_capacity(
    endpoints: Sequence[Endpoint], queue_threshold: int = 5, kv_cache_threshold: float = 0.8
) -> list[Endpoint]:
    """Those at or under both thresholds: who may take a request that could be dropped. Nobody: it is dropped."""
    return [e for e in endpoints if e.waiting <= queue_threshold and e.kv_usage <= kv_cache_threshold]


@dataclass(frozen=True)
class DecisionTree:
    """Runs ``current``; goes on to ``on_success`` with what passed, or to ``on_failure`` with all, where there is one."""

    current: Filter
    on_success: DecisionTree | None = None
    on_failure: DecisionTree | None = None

    def run(self, endpoints: Sequence[Endpoint]) -> list[Endpoint]:
        """What is left at the end; nothing when the last filter failed."""
        passed = self.current(endpoints)
        if passed:
            return self.on_success.run(passed) if self.on_success is not None else passed
        return self.on_failure.run(endpoints) if self.on_failure is not None else passed


def _trees(
    target_model: str, generator: np.random.Generator, queueing_threshold_lora: int, lora_affinity_threshold: float
) -> tuple[DecisionTree, DecisionTree]:
    """The tree for critical requests, and its branch for long queues."""
    adapter = partial(lora_affinity, target_model=target_model, generator=generator, threshold=lora_affinity_threshold)
    cache = DecisionTree(least_kv_cache)
    queue_cache = DecisionTree(least_queue, cache, cache)
    adapter_cache = DecisionTree(adapter, cache, cache)
    busy = DecisionTree(least_queue, adapter_cache, adapter_cache)
    short = DecisionTree(adapter, queue_cache, queue_cache)
    return DecisionTree(partial(low_queue, threshold=queueing_threshold_lora), short, busy), busy


def low_latency(
    target_model: str,
    generator: np.random.Generator,
    queueing_threshold_lora: int = 128,
    lora_affinity_threshold: float = 0.999,
) -> DecisionTree:
    """The tree for critical requests: short queues by adapter, queue, KV cache; long ones by queue, adapter, KV cache."""
    return _trees(target_model, generator, queueing_threshold_lora, lora_affinity_threshold)[0]


def default_filter(
    endpoints: Sequence[Endpoint],
    target_model: str,
    generator: np.random.Generator,
    *,
    critical: bool = True,
    queue_threshold_critical: int = 5,
    kv_cache_threshold: float = 0.8,
    queueing_threshold_lora: int = 128,
    lora_affinity_threshold: float = 0.999,
) -> list[Endpoint]:
    """The default scheduler's candidates, of which one is picked at random; none: a sheddable request is dropped.

    A request that may be shed goes only to endpoints with capacity, and among them by queue, adapter, KV cache.
    """
    critical_tree, busy = _trees(target_model, generator, queueing_threshold_lora, lora_affinity_threshold)
    if critical:
        return critical_tree.run(endpoints)
    return busy.run(sheddable_capacity(endpoints, queue_threshold_critical, kv_cache_threshold))
