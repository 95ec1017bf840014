"""Records made by hand: what happened is stated, so what the figures must be can be worked out on paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from sim.observe import DeploymentFacts, ReplicationRecord, Result, WorkloadFacts
from sim.serving.ledger import OK, REJECTED, UNFINISHED, ItlHistogram

NAN = float("nan")


def scenario(warmup: float | str | None = 0.0, confidence: float = 0.95, kinds: Sequence[str] = ("rate",)) -> Any:
    """What a Result reads of a scenario."""
    workloads = [SimpleNamespace(arrivals=SimpleNamespace(**{kind: 1})) for kind in kinds]
    run = SimpleNamespace(warmup=warmup, confidence=confidence)
    return SimpleNamespace(run=run, question="Is it enough?", path="somewhere/chat.yaml", workloads=workloads)


def request(
    arrival: float,
    scheduled: float = NAN,
    first: float = NAN,
    end: float = NAN,
    *,
    prompt: int = 100,
    output: int = 11,
    workload: int = 0,
    deployment: int = 0,
    replica: int = 0,
    outcome: int | None = None,
    preemptions: int = 0,
) -> dict[str, Any]:
    """One row. The outcome is ok if it has an end, unfinished if not, unless given."""
    if outcome is None:
        outcome = UNFINISHED if end != end else OK
    return {
        "arrival_s": arrival,
        "scheduled_s": scheduled,
        "first_token_s": first,
        "end_s": end,
        "prompt_tokens": prompt,
        "output_tokens": output,
        "workload": workload,
        "deployment": deployment,
        "replica": replica,
        "outcome": outcome,
        "preemptions": preemptions,
    }


def rejected(arrival: float, **others: Any) -> dict[str, Any]:
    """A row that was turned away when it came."""
    return request(arrival, end=arrival, outcome=REJECTED, replica=-1, **others)


def record(rows: Sequence[Mapping[str, Any]], **others: Any) -> ReplicationRecord:
    """A replication of ``rows``; one workload ``chat``, one deployment ``pool`` of one GPU at 3.6 $/h, unless given."""
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    ends = [row["end_s"] for row in rows if row["end_s"] == row["end_s"]]
    arrivals = [row["arrival_s"] for row in rows if row["arrival_s"] == row["arrival_s"]]
    end = others.get("end", max([*ends, *arrivals]))
    deployments = others.get("deployments", (DeploymentFacts("pool", 1, 1, 3.6, 1000),))
    replicas = sum(deployment.replicas for deployment in deployments)
    stays = [
        (end if row["end_s"] != row["end_s"] else row["end_s"]) - row["arrival_s"]
        for row in rows
        if row["arrival_s"] <= end
    ]
    histogram = others.pop("itl", ItlHistogram())
    given: dict[str, Any] = {
        "replication": 0,
        "columns": columns,
        "workloads": (WorkloadFacts("chat", "llama", "default", {}),),
        "deployments": deployments,
        "itl_counts": histogram.counts,
        "itl_edges": histogram.edges,
        "itl_total": histogram.total,
        "replicas": {
            "busy_s": [end / 2] * replicas,
            "sequence_seconds": [end] * replicas,
            "peak_blocks": [250] * replicas,
        },
        "area_requests": sum(stays),
        "horizon": max(arrivals),
        "end": end,
    }
    return ReplicationRecord(**{**given, **others})


def served(
    seed: int,
    count: int = 200,
    ttft: float = 0.5,
    tpot: float = 0.02,
    noise: float = 0.1,
    usd_per_hour: float = 3.6,
    **facts: Any,
) -> ReplicationRecord:
    """A replication of ``count`` requests, their latencies about ``ttft`` and ``tpot`` with a relative ``noise`` a replication."""
    generator = np.random.default_rng(seed)
    shift = 1.0 + noise * generator.normal()
    arrivals = np.cumsum(generator.exponential(0.1, count))
    rows = []
    for arrival in arrivals.tolist():
        wait = ttft * shift * generator.uniform(0.5, 1.0)
        output = int(generator.integers(2, 40))
        first = arrival + wait
        rows.append(request(arrival, arrival + wait / 2, first, first + tpot * shift * (output - 1), output=output))
    objectives = facts.pop("objectives", {})
    return record(
        rows,
        replication=seed,
        workloads=(WorkloadFacts("chat", "llama", "default", objectives),),
        deployments=(DeploymentFacts("pool", 1, 1, usd_per_hour, 1000),),
        **facts,
    )


def result(replications: int = 5, manifest: Mapping[str, Any] | None = None, **option: Any) -> Result:
    """A Result of records made by :func:`served`."""
    return Result(scenario(), [served(seed, **option) for seed in range(replications)], manifest or {"seed": 0})
