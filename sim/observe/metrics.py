"""The figures of one replication, from its record. Definitions are those of the serving field; where it has none, they stand here.

- Requests that arrive before the warm-up ends are left out of latencies and of SLO attainment.
- Rates are over a *window* from the end of the warm-up to the last possible arrival, and count what ends inside it. When draining
  takes longer than arriving did (a burst, an overload), the window is the rest of the run, or a burst would have no rate.
- SLO attainment is the share of requests that met every objective of their workload; one that was not served never does.
- An objective on a quantile or mean gives each request a threshold: ``ttft_p99: 2`` asks TTFT <= 2 s of it. One on ITL is asked of
  the request's TPOT, its mean ITL. A request of one token meets any TPOT.
- ITL is over all tokens of all workloads, warm-up included: single tokens are not stored.
- GPU utilisation is the share of the window in which the GPUs ran a step, weighted by GPUs. KV usage is sampled over the window; its
  peak and the mean batch are over the whole run.
- ``cost_usd`` and ``gpu_hours`` pay for the fleet from time 0 to the end of the run. ``usd_per_1m_tokens`` is the price of an
  hour over the tokens, prompt and output, of the requests served in an hour of the window.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.observe.record import ReplicationRecord
from sim.serving.ledger import REJECTED, UNFINISHED
from sim.stats.quantiles import histogram_quantiles, quantiles

__all__ = ["Measures", "measure", "met_objectives", "metrics", "window"]

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

LATENCIES = ("ttft", "tpot", "itl", "e2e", "queue")
STATISTICS = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}

_HOUR = 3600.0
_MILLION = 1e6


@dataclass(frozen=True)
class Measures:
    """The figures of one replication: of all requests together, and of each workload by name (latencies, rates, counts)."""

    overall: dict[str, float]
    workloads: dict[str, dict[str, float]]


def metrics(record: ReplicationRecord, warmup: float = 0.0) -> dict[str, float]:
    """The figures of all requests of ``record`` together, by flat name (``ttft_p99``, ``goodput_rps``); NaN where there is none."""
    return measure(record, warmup).overall


def measure(record: ReplicationRecord, warmup: float = 0.0) -> Measures:
    """All figures of ``record`` with the first ``warmup`` seconds left out."""
    start, stop = window(record, warmup)
    latencies = record.latencies()
    met = met_objectives(record, latencies)
    columns = record.columns
    counted = columns["arrival_s"] >= warmup
    with np.errstate(invalid="ignore"):
        inside = record.ok & (columns["end_s"] >= start) & (columns["end_s"] <= stop)
    seconds = stop - start
    overall = _of_requests(record, None, latencies, met, counted, inside, seconds)
    overall |= _itl(record)
    overall |= _of_fleet(record, start, stop, _tokens(record, inside))
    if len(record.workloads) == 1:
        shared = {name: value for name, value in overall.items() if name not in _FLEET}
        return Measures(overall, {record.workloads[0].name: shared})
    return Measures(
        overall,
        {
            workload.name: _of_requests(record, columns["workload"] == number, latencies, met, counted, inside, seconds)
            for number, workload in enumerate(record.workloads)
        },
    )


def window(record: ReplicationRecord, warmup: float) -> tuple[float, float]:
    """The span over which rates are taken, in seconds of simulated time."""
    stop = record.horizon
    if record.end - stop > stop - warmup:
        stop = record.end
    return min(warmup, stop), stop


def thresholds(objectives: Mapping[str, float]) -> dict[str, float]:
    """The tightest limit that ``objectives`` put on each latency of a single request."""
    limits: dict[str, float] = {}
    for name, target in objectives.items():
        latency = name.partition("_")[0]
        latency = "tpot" if latency == "itl" else latency
        limits[latency] = min(target, limits.get(latency, math.inf))
    return limits


def met_objectives(record: ReplicationRecord, latencies: Mapping[str, Floats] | None = None) -> Flags:
    """Which requests were served within every threshold of their workload."""
    latencies = record.latencies() if latencies is None else latencies
    met = record.ok
    for number, workload in enumerate(record.workloads):
        for latency, limit in thresholds(workload.objectives).items():
            # NaN compares False: not late. Only a one-token request's TPOT is NaN among those served.
            late = latencies[latency] > limit
            met &= ~late if len(record.workloads) == 1 else ~(late & (record.columns["workload"] == number))
    return met


def _of_requests(
    record: ReplicationRecord,
    mask: Flags | None,
    latencies: Mapping[str, Floats],
    met: Flags,
    counted: Flags,
    inside: Flags,
    seconds: float,
) -> dict[str, float]:
    """What can be said of any set of requests."""
    columns = record.columns
    if mask is not None:
        counted, inside = counted & mask, inside & mask
    figures: dict[str, float] = {}
    for name, values in latencies.items():
        sample = values[counted]
        figures |= _distribution(name, sample[~np.isnan(sample)])
    requests = int(counted.sum())
    outcome = columns["outcome"][counted]
    unfinished = int((outcome == UNFINISHED).sum())
    served = int((counted & record.ok).sum())
    figures["requests"] = float(requests)
    figures["rejected"] = float((outcome == REJECTED).sum())
    figures["unfinished"] = float(unfinished)
    figures["lost_share"] = _ratio(requests - served - unfinished, requests)
    figures["throughput_rps"] = _ratio(float(inside.sum()), seconds)
    figures["output_tokens_per_s"] = _ratio(float(columns["output_tokens"][inside].sum()), seconds)
    figures["goodput_rps"] = _ratio(float((inside & met).sum()), seconds)
    figures["slo_attainment"] = _ratio(float((counted & met).sum()), requests)
    figures["preemptions_per_request"] = _ratio(float(columns["preemptions"][counted].sum()), requests)
    return figures


def _distribution(name: str, sample: Floats) -> dict[str, float]:
    figures = {f"{name}_mean": float(sample.mean()) if len(sample) else math.nan}
    cuts = quantiles(sample, list(STATISTICS.values())).tolist()
    return figures | {f"{name}_{statistic}": cut for statistic, cut in zip(STATISTICS, cuts, strict=True)}


def _itl(record: ReplicationRecord) -> dict[str, float]:
    cuts = histogram_quantiles(record.itl_counts, record.itl_edges, list(STATISTICS.values())).tolist()
    figures = {"itl_mean": _ratio(record.itl_total, float(record.itl_counts.sum()))}
    return figures | {f"itl_{statistic}": cut for statistic, cut in zip(STATISTICS, cuts, strict=True)}


_FLEET = frozenset(
    {
        "gpu_utilization",
        "kv_usage_mean",
        "kv_usage_peak",
        "batch_mean",
        "gpu_hours",
        "cost_usd",
        "usd_per_hour",
        "usd_per_1m_tokens",
        "usd_per_1m_output_tokens",
    }
)
"""Figures of the fleet: they do not belong to a workload, even if there is only one."""


def _of_fleet(record: ReplicationRecord, start: float, stop: float, tokens: tuple[float, float]) -> dict[str, float]:
    replicas, owner = record.replicas, record.owner
    gpus = np.array([d.gpus / d.replicas for d in record.deployments])[owner]
    blocks = np.array([d.kv_blocks for d in record.deployments], dtype=np.float64)[owner]
    hours = record.end / _HOUR
    window_hours = (stop - start) / _HOUR
    total, output = tokens
    return {
        "gpu_utilization": _ratio(float((_busy(record, start, stop) * gpus).sum()), float(gpus.sum()) * (stop - start)),
        "kv_usage_mean": _ratio(_kv_used(record, start, stop), float(blocks.sum())),
        "kv_usage_peak": float((replicas["peak_blocks"] / blocks).max()),
        "batch_mean": _ratio(float(replicas["sequence_seconds"].sum()), float(replicas["busy_s"].sum())),
        "gpu_hours": sum(d.gpus for d in record.deployments) * hours,
        "cost_usd": record.usd_per_hour * hours,
        "usd_per_hour": record.usd_per_hour,
        "usd_per_1m_tokens": _ratio(record.usd_per_hour * window_hours * _MILLION, total),
        "usd_per_1m_output_tokens": _ratio(record.usd_per_hour * window_hours * _MILLION, output),
    }


def _tokens(record: ReplicationRecord, inside: Flags) -> tuple[float, float]:
    output = float(record.columns["output_tokens"][inside].sum())
    return float(record.columns["prompt_tokens"][inside].sum()) + output, output


def _busy(record: ReplicationRecord, start: float, stop: float) -> Floats:
    """Seconds each replica spent in steps between ``start`` and ``stop``, straight lines drawn between samples."""
    whole = record.replicas["busy_s"]
    busy = np.empty(len(whole))
    for replica, (moments, seconds) in enumerate(_sampled(record, "busy_s")):
        before_end = moments < record.end
        known = np.concatenate([[0.0], moments[before_end], [record.end]])
        sums = np.concatenate([[0.0], seconds[before_end], [whole[replica]]])
        busy[replica] = np.diff(np.interp([start, stop], known, sums))[0]
    return busy


def _kv_used(record: ReplicationRecord, start: float, stop: float) -> float:
    """Blocks in use, all replicas together, mean of the samples in the window; NaN without a sample."""
    used = 0.0
    for moments, blocks in _sampled(record, "kv_used"):
        chosen = blocks[(moments >= start) & (moments <= stop)]
        used += float(chosen.mean()) if len(chosen) else math.nan
    return used


def _sampled(record: ReplicationRecord, name: str) -> list[tuple[Floats, Floats]]:
    """The samples of each replica in order of time: moments, values."""
    empty = np.empty(0)
    timeline: Mapping[str, Any] = record.timeline
    moments, values, of = (timeline.get(key, empty) for key in ("t_s", name, "replica"))
    return [(moments[of == replica], values[of == replica]) for replica in range(len(record.owner))]


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
