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


def start_up(record: ReplicationRecord) -> tuple[float, str]:
    """When the start-up of a replication ends, by MSER-5 on E2E in order of arrival; or 0 and why there is no telling."""
    served = np.flatnonzero(record.ok)
    arrival = record.columns["arrival_s"][served]
    order = np.argsort(arrival, kind="stable")
    e2e = (record.columns["end_s"][served] - arrival)[order]
    truncation = mser5(e2e)
    if not truncation.found:
        return 0.0, truncation.why
    return (float(arrival[order][truncation.index]) if truncation.index else 0.0), ""


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
    """The latest start-up of ``records``, one for all; says in ``warnings`` where none was found."""
    found = [start_up(record) for record in records]
    silent = [why for _, why in found if why]
    if silent:
        warnings.append(
            f"warm-up: none found in {len(silent)} of {len(records)} replications ({silent[0]}); its figures depend on how long the run is"
        )
    return max(seconds for seconds, _ in found)


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
    for (deployment, profile), count in steps.items():
        notes.append(f"{deployment}: {count:,} steps were priced outside what profile {profile} measured")
    return notes
