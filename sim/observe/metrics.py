"""The figures of one replication, from its record. Definitions are those of the serving field; where it has none, they stand here.

- Requests that arrive before the warm-up ends are left out of latencies and of SLO attainment.
- Rates are over a *window* from the end of the warm-up to the last possible arrival, and count what ends inside it. When draining
  takes longer than arriving did (a burst, an overload), the window is the rest of the run, or a burst would have no rate.
- SLO attainment is the share of requests that met every objective of their workload; one that was not served never does.
- An objective on a quantile or mean gives each request a threshold: ``ttft_p99: 2`` asks TTFT <= 2 s of it. One on ITL is asked of
  the request's TPOT, its mean ITL. A request of one token meets any TPOT.
- ITL is over all tokens of all workloads, warm-up included: single tokens are not stored.
- GPU utilisation is the share of the GPU-seconds that replicas had in the window in which a step ran. KV usage is sampled over the
  window, of the replicas there were; its peak and the mean batch are over the whole run. ``replicas_mean`` counts those that were
  ready, over the window.
- ``cost_usd``, ``gpu_hours`` (GPUs that replicas had), ``machine_hours`` and ``energy_kwh`` are of the fleet from time 0 to the end of
  the run; ``usd_per_hour`` is their mean spending, ``usd_per_month`` that of 730 hours, ``idle_share`` the part of it that paid for
  GPUs no replica had. ``usd_per_1m_tokens`` is what was spent in the window over the tokens, prompt and output, of the requests
  served in it; ``usd_per_met_request`` over those of them that met every objective; ``j_per_token`` likewise.
- ``attempts_per_request`` is how often a request was sent: what retries make of the load.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.observe.costs import account, energy, knows_power, machine_seconds
from sim.observe.fleet import held, overlap
from sim.observe.record import ReplicationRecord
from sim.serving.ledger import FAILED, REJECTED, TIMEOUT, UNFINISHED
from sim.stats.quantiles import histogram_quantiles, quantiles

__all__ = ["Measures", "measure", "met_objectives", "metrics", "window"]

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

LATENCIES = ("ttft", "tpot", "itl", "e2e", "queue")
STATISTICS = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}

_HOUR = 3600.0
_MONTH = 730.0  # hours
_KWH = 3.6e6  # joules
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
    overall |= _of_fleet(record, start, stop)
    overall |= _spent(record, start, stop, inside, met)
    overall |= _drawn(record, start, stop, inside)
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
    figures["timeout"] = float((outcome == TIMEOUT).sum())
    figures["failed"] = float((outcome == FAILED).sum())
    figures["unfinished"] = float(unfinished)
    figures["lost_share"] = _ratio(requests - served - unfinished, requests)
    figures["throughput_rps"] = _ratio(float(inside.sum()), seconds)
    figures["output_tokens_per_s"] = _ratio(float(columns["output_tokens"][inside].sum()), seconds)
    figures["goodput_rps"] = _ratio(float((inside & met).sum()), seconds)
    figures["slo_attainment"] = _ratio(float((counted & met).sum()), requests)
    figures["preemptions_per_request"] = _ratio(float(columns["preemptions"][counted].sum()), requests)
    figures["attempts_per_request"] = _ratio(float(columns["attempts"][counted].sum()), requests)
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
        "replicas_mean",
        "gpu_hours",
        "machine_hours",
        "cost_usd",
        "idle_usd",
        "idle_share",
        "usd_per_hour",
        "usd_per_month",
        "usd_per_1m_tokens",
        "usd_per_1m_output_tokens",
        "usd_per_met_request",
        "energy_kwh",
        "j_per_token",
        "gco2",
    }
)
"""Figures of the fleet: they do not belong to a workload, even if there is only one."""


def _of_fleet(record: ReplicationRecord, start: float, stop: float) -> dict[str, float]:
    replicas = record.replicas
    blocks = np.array([d.kv_blocks for d in record.deployments], dtype=np.float64)[record.owner]
    until = np.fmin(np.fmin(replicas["closed_s"], replicas["gone_s"]), record.end)
    ready = overlap(np.where(np.isnan(replicas["ready_s"]), np.inf, replicas["ready_s"]), until, start, stop)
    busy = float((_busy(record, start, stop) * replicas["gpus"]).sum())
    return {
        "gpu_utilization": _ratio(busy, float(held(record, start, stop).sum())),
        "kv_usage_mean": _kv_usage(record, blocks, start, stop),
        "kv_usage_peak": float((replicas["peak_blocks"] / blocks).max()) if len(blocks) else math.nan,
        "batch_mean": _ratio(float(replicas["sequence_seconds"].sum()), float(replicas["busy_s"].sum())),
        "replicas_mean": _ratio(float(ready.sum()), stop - start),
        "gpu_hours": float(held(record, 0.0, record.end).sum()) / _HOUR,
        "machine_hours": float(machine_seconds(record, 0.0, record.end).sum()) / _HOUR,
    }


def _spent(record: ReplicationRecord, start: float, stop: float, inside: Flags, met: Flags) -> dict[str, float]:
    """Money of the whole run, and of the window for what was served in it."""
    columns = record.columns
    output = float(columns["output_tokens"][inside].sum())
    total = float(columns["prompt_tokens"][inside].sum()) + output
    spent = account(record)
    usd, in_window = spent.usd, spent.between(start, stop)
    idle = max(usd - float(spent.own_usd.sum()), 0.0)
    an_hour = _ratio(usd, record.end / _HOUR)
    return {
        "cost_usd": usd,
        "idle_usd": idle,
        "idle_share": _ratio(idle, usd),
        "usd_per_hour": an_hour,
        "usd_per_month": an_hour * _MONTH,
        "usd_per_1m_tokens": _ratio(in_window * _MILLION, total),
        "usd_per_1m_output_tokens": _ratio(in_window * _MILLION, output),
        "usd_per_met_request": _ratio(in_window, float((inside & met).sum())),
    }


def _drawn(record: ReplicationRecord, start: float, stop: float, inside: Flags) -> dict[str, float]:
    """Energy of the whole run, and of the window for what was served in it; nothing where it is not known what GPUs draw."""
    if not knows_power(record):
        return {}
    tokens = float(sum(record.columns[name][inside].sum() for name in ("prompt_tokens", "output_tokens")))
    joules = energy(record, record.replicas["busy_s"], 0.0, record.end)
    in_window = energy(record, _busy(record, start, stop), start, stop)
    figures = {"energy_kwh": float(joules.sum()) / _KWH, "j_per_token": _ratio(float(in_window.sum()), tokens)}
    grams = np.array([pool.site.g_per_kwh for pool in record.pools if pool.site is not None])
    return figures if np.isnan(grams).any() else figures | {"gco2": float((joules * grams).sum()) / _KWH}


def _busy(record: ReplicationRecord, start: float, stop: float) -> Floats:
    """Seconds each replica spent in steps between ``start`` and ``stop``, straight lines drawn between samples."""
    replicas = record.replicas
    whole = replicas["busy_s"]
    begun = np.where(np.isnan(replicas["ready_s"]), 0.0, replicas["ready_s"])
    ended = np.where(np.isnan(replicas["gone_s"]), record.end, replicas["gone_s"])
    busy = np.empty(len(whole))
    for replica, (moments, seconds) in enumerate(_sampled(record, "busy_s")):
        first, last = float(begun[replica]), float(ended[replica])
        between = (moments > first) & (moments < last)
        known = np.concatenate([[first], moments[between], [last]])
        sums = np.concatenate([[0.0], seconds[between], [whole[replica]]])
        busy[replica] = np.diff(np.interp([start, stop], known, sums))[0]
    return busy


def _kv_usage(record: ReplicationRecord, blocks: Floats, start: float, stop: float) -> float:
    """Share of the KV blocks of all replicas in use, mean of the samples in the window at which each was there; NaN without one."""
    replicas = record.replicas
    used, samples = np.zeros(len(blocks)), np.zeros(len(blocks))
    for replica, (moments, values) in enumerate(_sampled(record, "kv_used")):
        there = (moments >= start) & (moments <= stop)
        there &= ~(moments < replicas["ready_s"][replica]) & ~(moments >= replicas["gone_s"][replica])
        samples[replica] = there.sum()
        used[replica] = values[there].mean() if there.any() else 0.0
    weight = samples / max(float(samples.max(initial=0.0)), 1.0)
    return _ratio(float((used * weight).sum()), float((blocks * weight).sum()))


def _sampled(record: ReplicationRecord, name: str) -> list[tuple[Floats, Floats]]:
    """The samples of each replica in order of time: moments, values."""
    empty = np.empty(0)
    moments, values, of = (record.timeline.get(key, empty) for key in ("t_s", name, "replica"))
    order = np.argsort(of, kind="stable")
    cuts = np.searchsorted(of[order], np.arange(1, len(record.owner)))
    return list(zip(np.split(moments[order], cuts), np.split(values[order], cuts), strict=True))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
