"""The warm-up that all replications, and all options of a comparison, are read without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sim.observe.record import ReplicationRecord
from sim.serving.ledger import UNFINISHED
from sim.stats.warmup import mser5

__all__ = ["common_start_up", "remarks", "scenario_warmup", "start_up"]

_WORTH_SAYING = 0.01
_MOMENTS = 1000


def start_up(records: Sequence[ReplicationRecord]) -> tuple[float, str]:
    """When the start-up ends, seconds, one time for all replications; or 0, and why there is no telling.

    MSER-5 on the mean E2E of those who arrive at the same time after the start in each replication: averaging over
    replications first leaves the start-up, which all of them share, and levels the bursts, which each has at times of its own
    (Hoad, Robinson & Davies, "Automating warm-up length estimation", J. Oper. Res. Soc. 61 (2010)). Time is cut into as many
    moments as a replication has requests, 1,000 at most; the truncation is never past the half of them.
    """
    horizon = max(record.horizon for record in records)
    moments = min(_MOMENTS, *(int(record.ok.sum()) for record in records))
    if moments == 0 or horizon <= 0.0:
        return 0.0, mser5([]).why
    sums, replications = np.zeros(moments), np.zeros(moments)
    for record in records:
        arrival = record.columns["arrival_s"][record.ok]
        e2e = record.columns["end_s"][record.ok] - arrival
        moment = np.minimum((arrival * (moments / horizon)).astype(np.int64), moments - 1)
        count = np.bincount(moment, minlength=moments)
        sums += np.bincount(moment, weights=e2e, minlength=moments) / np.maximum(count, 1)
        replications += count > 0
    known = np.flatnonzero(replications)
    truncation = mser5(sums[known] / replications[known])
    return (float(known[truncation.index]) * horizon / moments if truncation.index else 0.0), truncation.why


def scenario_warmup(scenario: Any) -> float | None:
    """Seconds, or None for auto. Left open it is auto, but 0 where every workload replays a trace or is a closed loop."""
    run = getattr(scenario, "run", None)
    warmup = getattr(run, "warmup", None)
    if warmup == "auto":
        return None
    if warmup is not None:
        return float(warmup)
    workloads = getattr(scenario, "workloads", ())
    as_given = [
        getattr(w.arrivals, "trace", None) is not None or getattr(w.arrivals, "closed_loop", None) is not None
        for w in workloads
    ]
    return 0.0 if as_given and all(as_given) else None


def common_start_up(records: Sequence[ReplicationRecord], warnings: list[str]) -> float:
    """The start-up of ``records``; says in ``warnings`` if none was found."""
    seconds, why = start_up(records)
    if why:
        warnings.append(f"warm-up: none found ({why}); the figures depend on how long the run is")
    return seconds


def remarks(records: Sequence[ReplicationRecord], warmup: float) -> list[str]:
    """What a reader of the figures should know of the run."""
    notes = []
    if warmup > 0.0 and all(record.end <= warmup for record in records):
        notes.append(f"the warm-up of {warmup:g} s is longer than the run: nothing is left to count")
    unfinished = sum(int((record.columns["outcome"] == UNFINISHED).sum()) for record in records)
    requests = sum(len(record) for record in records)
    if unfinished > _WORTH_SAYING * requests:
        share = unfinished / requests
        notes.append(f"{share:.1%} of the requests were still in the system at the end; latencies are of the rest")
    steps: dict[tuple[str, str], int] = {}
    for record in records:
        for event in record.events:
            if event["kind"] == "extrapolated":
                key = (str(event["deployment"]), str(event["profile"]))
                steps[key] = steps.get(key, 0) + int(event["steps"])
    notes += [
        f"{facts.name}: the power of its GPUs was not measured; assumed are {facts.power.assumed}"
        for facts in records[0].deployments
        if facts.power is not None and facts.power.assumed
    ]
    for (deployment, profile), count in steps.items():
        notes.append(f"{deployment}: {count:,} steps were priced outside what profile {profile} measured")
    return notes
