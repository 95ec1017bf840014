"""The names of metrics that a scenario may set objectives on or ask precision of."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["FIGURES", "LATENCIES", "listed"]

LATENCIES = tuple(
    f"{metric}_{statistic}"
    for metric in ("ttft", "tpot", "itl", "e2e", "queue")
    for statistic in ("mean", "p50", "p90", "p95", "p99")
)
"""Seconds, of the requests of one workload: ``ttft_p99`` and the like."""

FIGURES = (
    *LATENCIES,
    "throughput_rps",
    "output_tokens_per_s",
    "goodput_rps",
    "slo_attainment",
    "lost_share",
    "attempts_per_request",
    "gpu_utilization",
    "kv_usage_mean",
    "batch_mean",
    "replicas_mean",
    "gpu_hours",
    "machine_hours",
    "cost_usd",
    "idle_share",
    "usd_per_hour",
    "usd_per_month",
    "usd_per_1m_tokens",
    "usd_per_1m_output_tokens",
    "usd_per_met_request",
)
"""Every figure of a run that has an interval worth waiting for."""


def listed(figures: Sequence[str] = FIGURES) -> str:
    """All of ``figures`` in words, latencies by their parts."""
    others = ", ".join(name for name in figures if name not in LATENCIES)
    return f"ttft, tpot, itl, e2e and queue with _mean, _p50, _p90, _p95 or _p99, and {others}"
