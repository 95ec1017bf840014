"""Knative's autoscaler configuration, its defaults, and the targets that follow from it.

knative/serving: pkg/autoscaler/config/config.go, pkg/reconciler/autoscaling/resources/{target,metric}.go. Names are those of the ConfigMap
``config-autoscaler``; where a revision's annotation overrides one, the function that needs it takes the annotation as a parameter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

__all__ = ["TARGET_MIN", "KpaConfig", "fraction", "panic_window", "resolve_initial_scale", "resolve_metric_target"]

TARGET_MIN: Final = 0.01  # autoscaling.TargetMin
WINDOW_MIN: Final = 6.0
WINDOW_MAX: Final = 3600.0
BUCKET: Final = 1.0  # config.BucketSize


def fraction(percentage: float) -> float:
    """A percentage as a fraction; values up to 1 are fractions already, as in ``container-concurrency-target-percentage``."""
    return percentage / 100.0 if percentage > 1.0 else percentage


def _require(holds: bool, name: str, value: float, allowed: str) -> None:
    if not holds:
        raise ValueError(f"{name}: {value:g}; must be {allowed}")


@dataclass(frozen=True, slots=True)
class KpaConfig:
    """``config-autoscaler``: durations in seconds, ``*_percentage`` as written there (70 or 0.7 for the concurrency target).

    ``target_burst_capacity`` is 211 since 0.22 (200 before); 0 takes the activator out of the path, -1 keeps it there always.
    ``max_scale`` 0: no limit. ValueError names what is out of Knative's range.
    """

    enable_scale_to_zero: bool = True
    container_concurrency_target_percentage: float = 70.0
    container_concurrency_target_default: float = 100.0
    requests_per_second_target_default: float = 200.0
    target_utilization: float = 0.7  # of RPS; a constant in Knative
    target_burst_capacity: float = 211.0
    panic_window_percentage: float = 10.0
    panic_threshold_percentage: float = 200.0
    max_scale_up_rate: float = 1000.0
    max_scale_down_rate: float = 2.0
    stable_window: float = 60.0
    scale_down_delay: float = 0.0
    scale_to_zero_grace_period: float = 30.0
    scale_to_zero_pod_retention_period: float = 0.0
    activator_capacity: float = 100.0
    initial_scale: int = 1
    allow_zero_initial_scale: bool = False
    min_scale: int = 0
    max_scale: int = 0
    max_scale_limit: int = 0

    def __post_init__(self) -> None:
        grace = self.scale_to_zero_grace_period
        retention = self.scale_to_zero_pod_retention_period
        tbc, delay, window = self.target_burst_capacity, self.scale_down_delay, self.stable_window
        share = self.container_concurrency_target_percentage
        default = self.container_concurrency_target_default
        _require(grace > 0, "scale_to_zero_grace_period", grace, "positive")
        _require(delay >= 0, "scale_down_delay", delay, "at least 0")
        _require(delay == math.floor(delay), "scale_down_delay", delay, "whole seconds")
        _require(retention >= 0, "scale_to_zero_pod_retention_period", retention, "at least 0")
        _require(tbc >= 0 or tbc == -1, "target_burst_capacity", tbc, "at least 0, or -1 for unlimited")
        _require(0 < fraction(share) <= 1, "container_concurrency_target_percentage", share, "in (0, 100]")
        lowest = f"so high that {share:g} % of it are at least {TARGET_MIN}"
        _require(fraction(share) * default >= TARGET_MIN, "container_concurrency_target_default", default, lowest)
        rps = self.requests_per_second_target_default
        _require(rps >= TARGET_MIN, "requests_per_second_target_default", rps, f"at least {TARGET_MIN}")
        _require(0 < self.target_utilization <= 1, "target_utilization", self.target_utilization, "in (0, 1]")
        _require(self.activator_capacity >= 1, "activator_capacity", self.activator_capacity, "at least 1")
        _require(self.max_scale_up_rate > 1, "max_scale_up_rate", self.max_scale_up_rate, "greater than 1")
        _require(self.max_scale_down_rate > 1, "max_scale_down_rate", self.max_scale_down_rate, "greater than 1")
        allowed = f"in [{WINDOW_MIN:g}, {WINDOW_MAX:g}] seconds"
        _require(WINDOW_MIN <= window <= WINDOW_MAX, "stable_window", window, allowed)
        _require(window == math.floor(window), "stable_window", window, "whole seconds")
        share = self.panic_window_percentage
        _require(1 <= share <= 100, "panic_window_percentage", share, "in [1, 100]")
        share = self.panic_threshold_percentage
        _require(share > 0, "panic_threshold_percentage", share, "positive")
        if self.initial_scale < 0 or (self.initial_scale == 0 and not self.allow_zero_initial_scale):
            raise ValueError(
                f"initial_scale: {self.initial_scale}; must be at least 1 (0 only with allow_zero_initial_scale)"
            )
        _require(self.min_scale >= 0, "min_scale", self.min_scale, "at least 0")
        _require(self.max_scale_limit >= 0, "max_scale_limit", self.max_scale_limit, "at least 0")
        least = 1 if self.max_scale_limit > 0 else 0
        _require(self.max_scale >= least, "max_scale", self.max_scale, f"at least {least}")
        if 0 < self.max_scale_limit < self.max_scale:
            raise ValueError(f"max_scale: {self.max_scale}; must be at most max_scale_limit, {self.max_scale_limit}")
        if 0 < self.max_scale < self.min_scale:
            raise ValueError(f"min_scale: {self.min_scale}; must be at most max_scale, {self.max_scale}")


def resolve_metric_target(
    config: KpaConfig,
    metric: str = "concurrency",
    container_concurrency: float = 0.0,
    target: float | None = None,
    target_utilization: float | None = None,
) -> tuple[float, float]:
    """``ResolveMetricTarget``: (target, total) of one pod: what to aim for, and what it can take at most.

    ``metric``: ``concurrency`` or ``rps``. ``container_concurrency``: the hard limit of a pod, 0 for none. ``target`` and
    ``target_utilization`` (a fraction): the revision's annotations. A target above the hard limit is cut to it, for concurrency only.
    """
    if metric not in ("concurrency", "rps"):
        raise ValueError(f"metric: {metric!r}; must be 'concurrency' or 'rps'")
    if metric == "rps":
        total, utilization = config.requests_per_second_target_default, config.target_utilization
    else:
        total = container_concurrency or config.container_concurrency_target_default
        utilization = fraction(config.container_concurrency_target_percentage)
    if target is not None:
        total = target
        if metric == "concurrency" and container_concurrency:
            total = min(target, container_concurrency)
    if target_utilization is not None:
        utilization = target_utilization
    return max(TARGET_MIN, total * utilization), total


def panic_window(stable_window: float, percentage: float) -> float:
    """``MakeMetric``: the panic window in whole seconds (halves up), a bucket at least."""
    return max(BUCKET, float(math.floor(stable_window * percentage / 100.0 + 0.5)))


def resolve_initial_scale(config: KpaConfig, annotation: int | None = None) -> int:
    """``GetInitialScale``: the revision's, unless it is 0 and 0 is not allowed; else the cluster's."""
    if annotation is None or (annotation == 0 and not config.allow_zero_initial_scale):
        return config.initial_scale
    return annotation
