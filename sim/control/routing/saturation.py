"""The saturation detector of the Gateway API inference extension (``utilization-detector``), old signal and new.

Source: pkg/epp/saturationdetector (is it saturated: no endpoint with room), and pkg/epp/framework/plugins/flowcontrol/
saturationdetector/utilization (how saturated: the mean over endpoints; and a filter).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sim.control.parameters import Seconds
from sim.control.routing.endpoints import Endpoint

__all__ = ["SaturationDetector"]


@dataclass(frozen=True)
class SaturationDetector:
    """Thresholds on waiting requests, KV cache usage and the age of metrics; ``headroom`` is a share on top for :meth:`filter`.

    ValueError where a threshold is out of range, as newer versions refuse it (older ones took the default).
    """

    queue_depth_threshold: int = 5
    kv_cache_util_threshold: float = 0.8
    metrics_staleness_threshold: Seconds = 0.2
    headroom: float = 0.0

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
                queue = endpoint.waiting / self.queue_depth_threshold
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
