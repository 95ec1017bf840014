"""Figures as JSON nests them, and as a notebook shows them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sim.observe.metrics import LATENCIES, STATISTICS
from sim.observe.objectives import Estimate

__all__ = ["called", "in_seconds", "nested", "number", "shown"]

_OTHERS = {
    "throughput_rps": "throughput",
    "output_tokens_per_s": "output tokens a second",
    "goodput_rps": "goodput",
    "slo_attainment": "SLO attainment",
    "usd_per_hour": "$ an hour",
    "usd_per_month": "$ a month",
    "usd_per_met_request": "$ per request within objectives",
    "usd_per_1m_tokens": "$ per 1M tokens",
    "usd_per_1m_output_tokens": "$ per 1M output tokens",
}


def called(metric: str) -> str:
    """A figure's name in a sentence: ``p99 TTFT`` for ``ttft_p99``."""
    latency, _, statistic = metric.rpartition("_")
    if latency in LATENCIES:
        return (
            f"{statistic} {latency if latency == 'queue' else latency.upper()}{' time' if latency == 'queue' else ''}"
        )
    return _OTHERS.get(metric, metric.replace("_", " "))


def number(value: float, digits: int = 3) -> str:
    """``value`` with ``digits`` figures that count, never with an exponent: 0.0123, 1.23, 123, 12,345."""
    if not math.isfinite(value):
        return "none"
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2]) if value else 0
    return f"{value:,.{min(max(digits - 1 - exponent, 0), 9)}f}"


def in_seconds(largest: float) -> tuple[float, str]:
    """The factor and the unit in which times up to ``largest`` seconds are shortest."""
    return (1.0, "s") if largest >= 1.0 else (1e3, "ms")


def nested(figures: Mapping[str, Estimate]) -> dict[str, Any]:
    """``ttft_p99`` under ``ttft``, ``p99``; figures that are not latencies as they are."""
    nested: dict[str, Any] = {}
    statistics = ("mean", *STATISTICS)
    for name, estimate in figures.items():
        latency, _, statistic = name.rpartition("_")
        if latency in LATENCIES and statistic in statistics:
            nested.setdefault(latency, {})[statistic] = estimate.to_json()
        else:
            nested[name] = estimate.to_json()
    return nested


def shown(estimate: Estimate) -> str:
    reach = f" ± {number(estimate.half_width, 2)}" if estimate.half_width is not None else ""
    return "" if math.isnan(estimate.value) else f"{number(estimate.value, 4)}{reach}"
