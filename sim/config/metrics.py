"""The names of metrics that a scenario may set objectives on or ask precision of."""

from __future__ import annotations

__all__ = ["FIGURES", "LATENCIES"]

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
