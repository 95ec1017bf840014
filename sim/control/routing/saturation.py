"""The saturation detectors of the Gateway API inference extension: ``utilization-detector``, old signal and new, ``concurrency-detector``.

Source: pkg/epp/saturationdetector (is it saturated: no endpoint with room), and pkg/epp/framework/plugins/flowcontrol/
saturationdetector/{utilization,concurrency} (how saturated; and a filter). Since 2026 in llm-d/llm-d-router.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sim.control.parameters import Seconds
from sim.control.routing.endpoints import Endpoint

__all__ = ["ConcurrencyDetector", "SaturationDetector"]


@dataclass(frozen=True)
class SaturationDetector:
    """Thresholds on waiting requests, KV cache usage and the age of metrics; ``headroom`` is a share on top for :meth:`filter`.

    ``scrape_lag_credit`` (llm-d-router, mid 2026): :meth:`saturation` counts as waiting what was sent and the metrics do not show yet,
    ``active - waiting - running``. ValueError where a threshold is out of range, as newer versions refuse it (older ones took the
    default).
    """

    queue_depth_threshold: int = 5
    kv_cache_util_threshold: float = 0.8
    metrics_staleness_threshold: Seconds = 0.2
    headroom: float = 0.0
    scrape_lag_credit: bool = False

    def __post_init__(self) -> None:
        if self.queue_depth_threshold <= 0:
            raise ValueError(f"queue_depth_threshold must be positive, not {self.queue_depth_threshold}")
        if not 0.0 < self.kv_cache_util_threshold <= 1.0:
            raise ValueError(
                f"kv_cache_util_threshold must be over 0 and at most 1, not {self.kv_cache_util_threshold}"
            )
        if self.metrics_staleness_threshold <= 0.0:
            raise ValueError(f"metrics_staleness_threshold must be positive, not {self.metrics_staleness_threshold}")
        if self.headroom < 0.0:
            raise ValueError(f"headroom must be 0 or more, not {self.headroom}")

    def stale(self, endpoint: Endpoint, now: float) -> bool:
        """Whether its metrics are missing or older than the threshold."""
        return endpoint.updated is None or now - endpoint.updated > self.metrics_staleness_threshold

    def saturation(self, endpoints: Sequence[Endpoint], now: float = 0.0) -> float:
        """The mean over endpoints of max(waiting/threshold, kv/threshold), 1 for a stale one; 1 when there are none."""
        if not endpoints:
            return 1.0
        total = 0.0
        for endpoint in endpoints:
            if self.stale(endpoint, now):
                total += 1.0
            else:
                waiting = endpoint.waiting
                if self.scrape_lag_credit:
                    waiting += max(endpoint.active - endpoint.waiting - endpoint.running, 0)
                queue = waiting / self.queue_depth_threshold
                total += max(queue, endpoint.kv_usage / self.kv_cache_util_threshold)
        return total / len(endpoints)

    def is_saturated(self, endpoints: Sequence[Endpoint], now: float = 0.0) -> bool:
        """Releases before 1.4: whether no endpoint is fresh and at or under both thresholds."""
        return not any(
            endpoint.waiting <= self.queue_depth_threshold
            and endpoint.kv_usage <= self.kv_cache_util_threshold
            and not self.stale(endpoint, now)
            for endpoint in endpoints
        )

    def filter(self, endpoints: Sequence[Endpoint], now: float = 0.0) -> list[int]:
        """Positions of the endpoints that are fresh and under both thresholds times (1 + headroom); all, if there are none."""
        queue_limit = self.queue_depth_threshold * (1.0 + self.headroom)
        kv_limit = self.kv_cache_util_threshold * (1.0 + self.headroom)
        kept = [
            i
            for i, endpoint in enumerate(endpoints)
            if not self.stale(endpoint, now) and endpoint.waiting < queue_limit and endpoint.kv_usage < kv_limit
        ]
        return kept or list(range(len(endpoints)))


@dataclass(frozen=True)
class ConcurrencyDetector:
    """``concurrency-detector``: what this gateway has in flight (``active``, ``active_tokens``), whatever the metrics say.

    ``concurrency_mode``: requests, tokens or (2026) both, the fuller one counting. ``headroom`` is a share on top for :meth:`filter`.
    ValueError where a parameter is out of range.
    """

    max_concurrency: int = 100
    concurrency_mode: Literal["requests", "tokens", "hybrid"] = "requests"
    max_token_concurrency: int = 1_000_000
    headroom: float = 0.0

    def __post_init__(self) -> None:
        if self.max_concurrency <= 0:
            raise ValueError(f"max_concurrency must be positive, not {self.max_concurrency}")
        if self.max_token_concurrency <= 0:
            raise ValueError(f"max_token_concurrency must be positive, not {self.max_token_concurrency}")
        if self.headroom < 0.0:
            raise ValueError(f"headroom must be 0 or more, not {self.headroom}")
        if self.concurrency_mode not in ("requests", "tokens", "hybrid"):
            raise ValueError(f"concurrency_mode must be requests, tokens or hybrid, not {self.concurrency_mode!r}")

    def _counted(self, endpoint: Endpoint) -> list[tuple[int, int]]:
        """What is in flight and how much may be, of requests, of tokens or of both."""
        requests = (endpoint.active, self.max_concurrency)
        tokens = (endpoint.active_tokens, self.max_token_concurrency)
        if self.concurrency_mode == "hybrid":
            return [requests, tokens]
        return [tokens if self.concurrency_mode == "tokens" else requests]

    def saturation(self, endpoints: Sequence[Endpoint]) -> float:
        """All that is in flight over all that may be, the larger of the two when both count; 1 without endpoints."""
        kinds = zip(*(self._counted(endpoint) for endpoint in endpoints), strict=True)
        ratios = [sum(used for used, _ in kind) / sum(limit for _, limit in kind) for kind in kinds]
        return max(ratios, default=1.0)

    def filter(self, endpoints: Sequence[Endpoint]) -> list[int]:
        """Positions of the endpoints below the whole part of their limit times (1 + headroom); none, if there are none."""
        return [
            i
            for i, endpoint in enumerate(endpoints)
            if all(used < int(limit * (1.0 + self.headroom)) for used, limit in self._counted(endpoint))
        ]
