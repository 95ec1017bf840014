"""The Gateway API inference extension's endpoint picker (EPP, also llm-d's) over a simulated fleet."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sim.control.parameters import Seconds
from sim.control.routing import scorers as score
from sim.control.routing.draws import seeded
from sim.control.routing.endpoints import Endpoint
from sim.control.routing.filters import default_filter
from sim.control.routing.pickers import pick_max_score, pick_random, pick_weighted_random
from sim.control.routing.prefixes import SentPrefixes
from sim.control.routing.saturation import SaturationDetector

if TYPE_CHECKING:
    from sim.control.router import FleetView

__all__ = ["DEFAULT_SCORERS", "SCORERS", "Gateway"]

DEFAULT_SCORERS: Mapping[str, float] = {
    "queue-scorer": 2.0,
    "kv-cache-utilization-scorer": 2.0,
    "prefix-cache-scorer": 3.0,
}
"""Scorers and weights of the extension's own chart (1.2)."""
SCORERS = (
    *DEFAULT_SCORERS,
    "running-requests-size-scorer",
    "load-aware-scorer",
    "active-request-scorer",
    "session-affinity-scorer",
    "no-hit-lru-scorer",
)
"""What ``scorers`` may name. Adapters are not simulated, so ``lora-affinity-scorer`` is not among them."""
PICKERS = {
    "max-score-picker": pick_max_score,
    "weighted-random-picker": pick_weighted_random,
    "random-picker": pick_random,
}
_SESSIONS = 100_000  # homes remembered; in reality clients carry them


class Gateway:
    """Scorers with weights over replicas' metrics, as old as the last scrape; then a picker.

    Metrics (running, waiting, KV usage) are asked for again when they are ``scrape_interval`` old. ``endpoint_filter``: none,
    the ``utilization-detector``'s, or the ``decision-tree`` that was the default before 1.0 (with the ``random-picker``). The prefix
    index counts blocks of ``block_size_tokens``, at most ``max_prefix_blocks_to_match`` of a prompt, and remembers
    ``lru_capacity_per_server`` a replica, or with ``auto_tune`` as many as the replica has KV blocks. The remaining parameters are
    those of the scorers and filters they are named after.
    """

    __slots__ = (
        "_detector", "_endpoints", "_generator", "_homes", "_lru", "_prefixes", "auto_tune", "block_size_tokens",
        "endpoint_filter", "idle_threshold", "lru_capacity_per_server", "max_busy_score", "max_prefix_blocks_to_match",
        "picker", "scorers", "scrape_interval", "threshold",
    )  # fmt: skip

    def __init__(
        self,
        scorers: Mapping[str, Any] | None = None,
        picker: Literal["max-score-picker", "weighted-random-picker", "random-picker"] = "max-score-picker",
        scrape_interval: Seconds = 0.05,
        endpoint_filter: Literal["none", "utilization-detector", "decision-tree"] = "none",
        block_size_tokens: int = 16,
        max_prefix_blocks_to_match: int = 256,
        lru_capacity_per_server: int = 31250,
        auto_tune: bool = True,
        threshold: int = 128,
        idle_threshold: int = 0,
        max_busy_score: float = 1.0,
        queue_depth_threshold: int = 5,
        kv_cache_util_threshold: float = 0.8,
        metrics_staleness_threshold: Seconds = 0.2,
        headroom: float = 0.0,
        generator: np.random.Generator | None = None,
    ) -> None:
        self.scorers = _checked(DEFAULT_SCORERS if scorers is None else scorers)
        if picker not in PICKERS:
            raise ValueError(f"picker must be one of {', '.join(PICKERS)}, not {picker!r}")
        if endpoint_filter not in ("none", "utilization-detector", "decision-tree"):
            raise ValueError(
                f"endpoint_filter must be none, utilization-detector or decision-tree, not {endpoint_filter!r}"
            )
        if scrape_interval < 0.0:
            raise ValueError(f"scrape_interval must be 0 or more, not {scrape_interval}")
        positive = {
            "block_size_tokens": block_size_tokens,
            "max_prefix_blocks_to_match": max_prefix_blocks_to_match,
            "lru_capacity_per_server": lru_capacity_per_server,
            "threshold": threshold,
        }
        for name, value in positive.items():
            if value <= 0:
                raise ValueError(f"{name} must be positive, not {value}")
        if idle_threshold < 0:
            raise ValueError(f"idle_threshold must be 0 or more, not {idle_threshold}")
        if not 0.0 <= max_busy_score <= 1.0:
            raise ValueError(f"max_busy_score must be within 0 to 1, not {max_busy_score}")
        self.picker = picker
        self.scrape_interval = scrape_interval
        self.endpoint_filter = endpoint_filter
        self.block_size_tokens = block_size_tokens
        self.max_prefix_blocks_to_match = max_prefix_blocks_to_match
        self.lru_capacity_per_server = lru_capacity_per_server
        self.auto_tune = auto_tune
        self.threshold = threshold
        self.idle_threshold = idle_threshold
        self.max_busy_score = max_busy_score
        self._detector = SaturationDetector(
            queue_depth_threshold, kv_cache_util_threshold, metrics_staleness_threshold, headroom
        )
        self._generator = seeded(generator)
        self._endpoints: dict[int, tuple[Endpoint, int]] = {}  # with its KV blocks
        self._prefixes: dict[int, SentPrefixes] = {}
        self._homes: OrderedDict[int, str] = OrderedDict()
        self._lru = score.NoHitLru()

    def _scraped(self, fleet: FleetView) -> list[Endpoint]:
        """The endpoints by position, scraped anew where it is time."""
        if self._endpoints.keys() != set(fleet.ids):
            self._endpoints = {index: self._endpoints[index] for index in fleet.ids if index in self._endpoints}
            self._prefixes = {index: self._prefixes.get(index) or SentPrefixes() for index in fleet.ids}
        found = []
        for i, index in enumerate(fleet.ids):
            known = self._endpoints.get(index)
            if known is None or fleet.now - (known[0].updated or 0.0) >= self.scrape_interval:
                look = fleet.look(i)
                endpoint = Endpoint(f"replica-{index}", look.waiting, look.running, look.kv_usage, updated=fleet.now)
                known = self._endpoints[index] = (endpoint, look.kv_blocks)
            known[0].active = fleet.outstanding[i]
            found.append(known[0])
        return found

    def _candidates(self, endpoints: list[Endpoint], now: float) -> list[int]:
        if self.endpoint_filter == "utilization-detector":
            return self._detector.filter(endpoints, now)
        if self.endpoint_filter == "decision-tree":
            kept = {endpoint.name for endpoint in default_filter(endpoints, "", self._generator)}
            return [i for i, endpoint in enumerate(endpoints) if endpoint.name in kept]
        return list(range(len(endpoints)))

    def _scores(
        self, name: str, endpoints: list[Endpoint], matched: dict[str, int], total: int, session: int, most: int
    ) -> list[float]:
        if name == "queue-scorer":
            return score.queue_scores(endpoints)
        if name == "kv-cache-utilization-scorer":
            return score.kv_cache_utilization_scores(endpoints)
        if name == "prefix-cache-scorer":
            return score.prefix_cache_scores(endpoints, matched, total)
        if name == "running-requests-size-scorer":
            return score.running_requests_size_scores(endpoints)
        if name == "load-aware-scorer":
            return score.load_aware_scores(endpoints, self.threshold)
        if name == "active-request-scorer":
            return score.active_request_scores(endpoints, self.idle_threshold, self.max_busy_score, most)
        if name == "session-affinity-scorer":
            return score.session_affinity_scores(endpoints, self._homes.get(session))
        return self._lru.scores(endpoints, matched)

    def choose(self, session: int, tokens: int, fleet: FleetView) -> int:
        """The replica picked."""
        endpoints = self._scraped(fleet)
        blocks = (fleet.prompt_tokens or tokens) // self.block_size_tokens
        total = min(blocks, self.max_prefix_blocks_to_match)
        candidates = self._candidates(endpoints, fleet.now)
        kept = [endpoints[i] for i in candidates]
        matched = {endpoints[i].name: min(self._prefixes[fleet.ids[i]].length(session), total) for i in candidates}
        most = max(fleet.outstanding)
        scored = [
            (weight, self._scores(name, kept, matched, total, session, most)) for name, weight in self.scorers.items()
        ]
        totals = score.weighted_sum(scored, len(kept))
        chosen = candidates[PICKERS[self.picker](totals, self._generator)[0]]
        self._remember(fleet.ids[chosen], endpoints[chosen].name, session, total)
        return chosen

    def _remember(self, index: int, name: str, session: int, blocks: int) -> None:
        prefixes = self._prefixes[index]
        prefixes.add(session, blocks)
        kv_blocks = self._endpoints[index][1]
        prefixes.trim(kv_blocks if self.auto_tune and kv_blocks > 0 else self.lru_capacity_per_server)
        if "no-hit-lru-scorer" in self.scorers:
            self._lru.sent(name)
        if session >= 0 and "session-affinity-scorer" in self.scorers:
            self._homes[session] = name
            self._homes.move_to_end(session)
            if len(self._homes) > _SESSIONS:
                self._homes.popitem(last=False)


def _checked(scorers: Any) -> dict[str, float]:
    if not isinstance(scorers, Mapping) or not scorers:
        raise ValueError(f"scorers must map names to weights, like {dict(DEFAULT_SCORERS)}, not {scorers!r}")
    for name, weight in scorers.items():
        if name not in SCORERS:
            raise ValueError(f"scorer {name!r} is unknown; there are {', '.join(SCORERS)}")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or weight < 0:
            raise ValueError(f"the weight of {name} must be a number of 0 or more, not {weight!r}")
    return {name: float(weight) for name, weight in scorers.items()}
