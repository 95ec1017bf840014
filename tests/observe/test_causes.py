"""What latencies are made of: by hand, and on runs in which replicas, clients and faults do what they like."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim import config
from sim.experiment.replication import replicate
from sim.observe import DeploymentFacts, ReplicationRecord, Result, WorkloadFacts
from sim.observe.alone import Alone
from sim.observe.causes import CAUSES, FAMILIES, split
from sim.observe.presence import Presence
from sim.observe.why import attributions, unserved
from sim.serving.ledger import REJECTED
from sim.serving.settings import EngineSettings
from sim.testing.tables import step_table
from tests.observe import making

NAN = float("nan")


def alone(prefill: float, decode: float) -> Alone:
    """Any prompt takes ``prefill`` seconds, any token after the first ``decode``."""
    return Alone(np.full(1000, prefill), decode * np.arange(1001.0))


def elastic(
    rows: Sequence[Mapping[str, Any]],
    replicas: Sequence[tuple[float, float, float]],
    *,
    at_start: int = 1,
    events: Sequence[Mapping[str, Any]] = (),
    overhead: float = 0.0,
    **columns: Sequence[float],
) -> ReplicationRecord:
    """Replicas of one deployment (created, ready, gone), on a node each; further columns of the rows as lists."""
    created, ready, gone = (list(part) for part in zip(*replicas, strict=True))
    facts = DeploymentFacts("pool", len(replicas), 1, 3.6, 1000, request_overhead=overhead, alone=alone(0.1, 0.01))
    count = len(replicas)
    made = making.record(
        [{**row, **{name: values[place] for name, values in columns.items()}} for place, row in enumerate(rows)],
        deployments=(facts,),
        end=100.0,
        replicas={
            "created_s": created,
            "placed_s": created,
            "ready_s": ready,
            "closed_s": [NAN] * count,
            "gone_s": gone,
            "node": list(range(count)),
            "busy_s": [1.0] * count,
            "sequence_seconds": [1.0] * count,
            "peak_blocks": [1] * count,
        },
        events=list(events),
    )
    made.deployments = (replace(facts, replicas=at_start),)
    return made


def parts(record: ReplicationRecord, latency: str, row: int = 0) -> dict[str, float]:
    """What is not 0, rounded."""
    found = split(record, latency)
    return {cause: round(float(found[cause][row]), 9) for cause in CAUSES if abs(found[cause][row]) > 1e-12}


def test_every_part_of_one_request_by_hand() -> None:
    """Arrives at 10, its second attempt is sent at 13, waits at the gateway until 20 and in the engine until 24.

    A replica is on its way from 18 to 22. First token after 0.5 s in steps, of which 0.1 alone; 10 more in 4 s, of which 0.1 alone
    and 1.5 preempted. The engine's clock is late by 0.25 s.
    """
    row = making.request(10.0, 24.25, 24.75, 28.75, output=11)
    record = elastic(
        [row], [(0.0, 0.0, NAN), (18.0, 22.0, NAN)], overhead=0.25, began_s=[13.0], queued_s=[20.25], lost_s=[1.5]
    )
    first = {
        "retry": 3.0,
        "admission": 5.0,  # 13 to 18
        "cold start": 4.0,  # 18 to 20 at the gateway, 20 to 22 in the engine
        "queueing": 2.0,  # 22 to 24
        "batching": 0.4,
        "compute": 0.1,
        "overhead": 0.25,
    }
    assert parts(record, "ttft") == first
    assert parts(record, "tpot") == {"preemption": 0.15, "batching": 0.24, "compute": 0.01}
    assert parts(record, "e2e") == first | {"preemption": 1.5, "batching": 2.8, "compute": 0.2}
    assert parts(record, "queue") == {"cold start": 2.0, "queueing": 2.0}


def test_waiting_where_no_replica_is_there_is_a_cold_start() -> None:
    row = making.request(10.0, 31.0, 31.1, 31.2, output=11)
    record = elastic([row], [(0.0, 0.0, 5.0), (12.0, 30.0, NAN)], queued_s=[30.0])
    assert parts(record, "ttft") == {"cold start": 20.0, "queueing": 1.0, "compute": 0.1}


def test_preemption_of_a_prompt_is_what_the_decodes_cannot_have_lost() -> None:
    row = making.request(0.0, 0.0, 5.0, 5.4, output=11)  # 0.3 s beyond what it needs to decode
    record = elastic([row], [(0.0, 0.0, NAN)], lost_s=[2.3])
    assert parts(record, "ttft") == {"preemption": 2.0, "batching": 2.9, "compute": 0.1}
    assert parts(record, "tpot") == {"preemption": 0.03, "compute": 0.01}


def test_what_takes_less_than_alone_is_all_compute() -> None:
    record = elastic([making.request(0.0, 0.0, 0.05, 0.1, output=11)], [(0.0, 0.0, NAN)])
    assert parts(record, "e2e") == {"compute": 0.1}


def fail(when: float, node: int) -> dict[str, Any]:
    return {"t_s": when, "kind": "fail", "reason": "the machine failed", "node": node}


def test_waits_are_a_failures_until_what_it_took_is_made_up_for() -> None:
    """Two replicas; one is lost at 20, another comes from 25, ready at 60. A third is asked for at 70, ready at 80."""
    scale = {"t_s": 70.0, "kind": "scale", "deployment": "pool", "reason": "load", "before": 2, "after": 3}
    rows = [
        making.request(start, start + 10.0, start + 10.1, start + 10.2, output=11) for start in (5.0, 15.0, 55.0, 65.0)
    ]
    record = elastic(
        rows,
        [(0.0, 0.0, NAN), (0.0, 0.0, 20.0), (25.0, 60.0, NAN), (70.0, 80.0, NAN)],
        at_start=2,
        events=[fail(20.0, 1), scale],
    )
    assert parts(record, "queue", 0) == {"queueing": 10.0}
    assert parts(record, "queue", 1) == {"failure": 5.0, "queueing": 5.0}
    assert parts(record, "queue", 2) == {"failure": 5.0, "queueing": 5.0}
    assert parts(record, "queue", 3) == {"cold start": 5.0, "queueing": 5.0}


def test_a_replica_that_went_because_fewer_were_wanted_is_no_failure() -> None:
    scale = {"t_s": 20.0, "kind": "scale", "deployment": "pool", "reason": "idle", "before": 2, "after": 1}
    row = making.request(30.0, 40.0, 40.1, 40.2, output=11)
    record = elastic([row], [(0.0, 0.0, NAN), (0.0, 0.0, 20.0)], at_start=2, events=[scale, fail(20.0, 1)])
    assert parts(record, "queue") == {"queueing": 10.0}


def test_a_process_that_starts_again_is_on_its_way_from_then() -> None:
    """The second of the record is the first started anew, in its place at 40; its creation is the first's."""
    record = elastic([making.request(1.0, 2.0, 2.1, 2.2)], [(0.0, 0.0, 40.0), (0.0, 55.0, NAN)], events=[fail(40.0, 0)])
    record.replicas["node"][:] = 0
    record.replicas["placed_s"][:] = (0.0, 40.0)
    presence = Presence.of(record, 0)
    assert presence.failed.within(np.array([0.0]), np.array([100.0])).tolist() == [15.0]
    assert presence.coming.within(np.array([0.0]), np.array([100.0])).tolist() == [0.0]


def test_alone_is_the_sum_of_the_steps_of_a_request_by_itself() -> None:
    """Two chunks of at most 8 tokens, then a decode step for each token after the first."""
    step = step_table(4, 8, seed=3)
    setting = EngineSettings(max_num_seqs=4, max_num_batched_tokens=8, kv_blocks=100)
    found = Alone.of(step, setting, np.array([12, 3]), 20)
    prefill, decode = found.seconds(np.array([12, 3]), np.array([4, 1]))
    chunks = step.mixed_step(8, 64, 0, 0, 0, 1) + step.mixed_step(4, 4 * (2 * 8 + 4), 0, 0, 0, 1)
    assert prefill.tolist() == [chunks, step.mixed_step(3, 9, 0, 0, 0, 1)]
    assert decode.tolist() == pytest.approx([sum(step.decode_step(1, context, 0) for context in (12, 13, 14)), 0.0])


SCENARIO = """\
run: {{duration: {duration}s, replications: 1, seed: {seed}, warmup: 0, drain: {drain}}}
models: {{llama: {{architecture: llama-3.1-8b}}}}
cluster:
  pools:
    - {{name: h100, instance: aws/p5.4xlarge, nodes: 2, zones: [a, b], growth: {{least: 1, most: 4, provision: {{low: 2s, high: 5s}}}},
       loss: {{noticed: 1s, toleration: 2s}}}}
workloads:
  - name: chat
    model: llama
    arrivals: {{rate: {rate}/s}}
    lengths: {{prompt: {{lognormal: {{median: 900, sigma: 0.8}}}}, output: {{lognormal: {{median: 60, sigma: 0.8}}}}}}
    client: {client}
deployments:
  - name: chat
    model: llama
    pool: h100
    replicas: 2
    on_loss: {on_loss}
    engine: {{kind: vllm, kv_blocks: {blocks}, max_num_seqs: 16, request_overhead: {overhead}}}
    autoscaler: {{kind: hpa, metric: concurrency, target: 6, min: 1, max: 4}}
    cold_start: {{phases: {{process: 2s, weights: 3s}}}}
    queue: {{per_replica: {per_replica}, timeout: 20s}}
faults: {faults}
"""
_FAULTS = (
    "[]",
    "[{kind: zone-loss, name: z, zone: a, at: 6s, lasts: 5s}]",
    "[{kind: replica-crash, name: c, deployment: chat, count: 1, at: 4s}]",
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    duration=st.integers(20, 60),
    seed=st.integers(0, 1000),
    rate=st.sampled_from([30, 60, 4]),
    drain=st.sampled_from(["true", "false"]),
    client=st.sampled_from(["null", "{timeout: 3s, max_attempts: 3}", "{hedge_after: 500ms, timeout: 9s}"]),
    on_loss=st.sampled_from(["fail", "retry", "migrate"]),
    blocks=st.sampled_from([400, 2000]),
    overhead=st.sampled_from(["0s", "80ms"]),
    per_replica=st.sampled_from(["null", "4"]),
    faults=st.sampled_from(_FAULTS),
)
def test_parts_are_not_negative_and_sum_to_the_latency_whatever_happens(**said: Any) -> None:
    record = simulated(SCENARIO.format(**said))
    served = np.flatnonzero(record.ok)
    latencies = record.latencies()
    for family in FAMILIES:
        found = split(record, family)
        assert all((part >= 0.0).all() for part in found.values())
        wanted = np.nan_to_num(latencies[family][served])  # one token: no TPOT
        assert sum(found.values(), np.zeros(len(served))) == pytest.approx(wanted, abs=1e-9)


def simulated(text: str) -> ReplicationRecord:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "scenario.yaml")
        path.write_text(text, encoding="utf-8")
        return replicate(config.load(path), 0)


LONE = """\
run: {duration: 400s, replications: 1, seed: 3, warmup: 0}
models: {llama: {architecture: llama-3.1-8b}}
cluster: {pools: [{name: h100, instance: aws/p5.4xlarge, nodes: 1}]}
workloads:
  - name: chat
    model: llama
    arrivals: {closed_loop: 1, think: 1s}
    lengths: {prompt: {lognormal: {median: 2000, sigma: 1.2}}, output: {lognormal: {median: 60, sigma: 1}}}
deployments: [{name: chat, model: llama, pool: h100, replicas: 1, engine: {kind: vllm, request_overhead: 20ms}}]
"""


def test_one_user_alone_meets_nothing_but_compute_and_the_way_there() -> None:
    record = simulated(LONE)
    found = split(record, "e2e")
    assert len(record) > 50
    others = sum((found[cause] for cause in CAUSES if cause not in ("compute", "overhead")), np.zeros(1))
    assert others == pytest.approx(np.zeros(int(record.ok.sum())), abs=1e-9)
    assert found["overhead"] == pytest.approx(0.02)


def a_run(waits: Sequence[float]) -> ReplicationRecord:
    """100 requests, one a second, each ``waits`` for a replica that is on its way all the time, and computed in 0.1 s."""
    rows = [
        making.request(0.5 * place, 0.5 * place + wait, 0.5 * place + wait + 0.1, 0.5 * place + wait + 0.2, output=11)
        for place, wait in enumerate(waits)
    ]
    made = elastic(rows, [(0.0, 0.0, NAN), (0.0, NAN, NAN)])
    made.workloads = (WorkloadFacts("chat", "llama", "default", {"ttft_p90": 1.0}),)
    return made


def test_the_tail_of_a_missed_objective_is_what_is_beyond_its_limit() -> None:
    """In each of two runs 20 of 100 requests wait: 3.9 s of 4.0, and 1.9 s of 2.0; the rest take what they compute."""
    records = [a_run([wait if place % 5 == 0 else 0.0 for place in range(100)]) for wait in (3.9, 1.9)]
    result = Result(making.scenario(), records)
    (standing,) = result.objectives
    assert standing.status == "undecided"  # 2 of them, far apart
    (met,) = attributions(records, [standing], 0.0, 0.95, exact=False)
    missed = replace(standing, status="misses")
    (found,) = attributions(records, [missed], 0.0, 0.95, exact=False)
    assert found.beyond
    assert not met.beyond
    assert found.tail is not None
    assert found.typical is not None
    assert found.tail.requests == 20
    assert found.tail.latency == pytest.approx(3.0)
    share = found.tail.shares["cold start"]
    assert share.value == pytest.approx((3.9 / 4.0 + 1.9 / 2.0) / 2.0)
    # Student's t with one degree of freedom: 12.706; the standard error of two values is half of their difference
    assert share.half_width == pytest.approx(12.7062 * (3.9 / 4.0 - 1.9 / 2.0) / 2.0, rel=1e-4)
    assert found.typical.latency == pytest.approx(0.1)
    assert set(found.typical.shares) == {"compute"}


def test_what_became_of_requests_that_were_not_served_and_what_was_going_on_then() -> None:
    rows = [making.request(float(when), when + 0.0, when + 0.1, when + 0.2, output=11) for when in range(6)]
    rows += [
        making.request(when, end=when, outcome=REJECTED, replica=-1) for when in (30.0, 35.0, 50.0, 95.0)
    ]  # fmt: skip
    record = elastic(rows, [(0.0, 0.0, NAN), (25.0, 40.0, NAN)])
    record.reasons = {6: "queue full", 7: "queue full", 8: "queue full", 9: "token bucket"}
    full, bucket = unserved([record], 0.0)
    assert (full.outcome, full.reason) == ("rejected", "queue full")
    assert full.share == pytest.approx(0.3)
    assert full.meanwhile == {"cold start": pytest.approx(2.0 / 3.0)}  # at 30 and 35
    assert bucket.reason == "token bucket"
    assert bucket.share == pytest.approx(0.1)
    assert not bucket.meanwhile
