"""Records of replicas and machines that come and go, stated by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sim.control.cluster.usage import NodeInterval, ReplicaInterval, Usage
from sim.errors import SimulationError
from sim.observe import DeploymentFacts, PoolFacts, ReplicationRecord, Terms, WorkloadFacts, tables
from sim.observe.costs import account
from sim.observe.fleet import replica_counts
from sim.observe.metrics import metrics
from sim.serving.ledger import FAILED, OK, REJECTED, TIMEOUT, Ledger
from sim.workload.table import RequestTable
from tests.observe.making import NAN

POOL = PoolFacts("spare", Terms(3.6, minimum=60.0, granularity=1.0), 1, 1)
CHAT = DeploymentFacts("chat", 1, 1, 99.0, 100, pool="spare")

# Two machines of one GPU; the second is asked for at 100 s, joins at 160, is released at 700. The replica on it serves from 220 to 600 and
# drains until 640.
NODES = (
    NodeInterval("spare", 0, "a", 0.0, 0.0, 1000.0),
    NodeInterval("spare", 1, "b", 100.0, 160.0, 700.0, "released"),
)
REPLICAS = (
    ReplicaInterval(0, "chat", 0, (0,), 0.0, 0.0, 0.0, NAN, 1000.0),
    ReplicaInterval(1, "chat", 1, (0,), 100.0, 160.0, 220.0, 600.0, 640.0),
)
SCALED: list[dict[str, Any]] = [
    {"t_s": 100.0, "kind": "scale", "reason": "queue", "deployment": "chat", "before": 1, "after": 2},
    {"t_s": 600.0, "kind": "scale", "reason": "calm", "deployment": "chat", "before": 2, "after": 1},
]


def requests(count: int) -> RequestTable:
    """A request every 100 s, of 10 prompt and 5 output tokens."""
    return RequestTable(
        arrival=np.arange(count) * 100.0,
        workload=np.zeros(count, np.int16),
        prompt_tokens=np.full(count, 10),
        output_tokens=np.full(count, 5),
        priority=np.zeros(count, np.int64),
        session=np.full(count, -1),
    )


def serve(ledger: Ledger, row: int, replica: int, scheduled: float, first: float, end: float) -> None:
    """Row ``row`` was served so."""
    ledger.replica[row], ledger.scheduled[row], ledger.first_token[row] = replica, scheduled, first
    ledger.end[row], ledger.outcome[row] = end, OK


def elastic(
    usage: Usage | None = None,
    deployments: tuple[DeploymentFacts, ...] = (CHAT,),
    pools: tuple[PoolFacts, ...] = (POOL,),
    second: int = 1,
    **others: Any,
) -> ReplicationRecord:
    """Ten requests of a second each by turns at two replicas, which are busy for 500 and 100 s; the run ends at 1,000 s."""
    table = requests(10)
    ledger = Ledger(table.arrival.tolist(), replicas=2)
    for row in range(10):
        when = row * 100.0
        serve(ledger, row, row % 2 * second if 200.0 < when < 600.0 else 0, when, when + 0.5, when + 1.0)
    ledger.area, ledger.end_time = 10.0, 1000.0
    ledger.busy[:] = [500.0, 100.0]
    ledger.peak_blocks[:] = [50, 80]
    given: dict[str, Any] = {"horizon": 1000.0, "deployment_of": [0], "events": SCALED}
    return ReplicationRecord.of(
        0,
        table,
        ledger,
        workloads=[WorkloadFacts("chat")],
        deployments=deployments,
        pools=pools,
        usage=Usage(NODES, REPLICAS) if usage is None else usage,
        **{**given, **others},
    )


def test_money_is_paid_for_machines_while_they_are_there() -> None:
    """1,000 and 600 s at a tenth of a cent: 1.60 $; GPUs were a replica's for 1,000 and 480 s, so 120 s were idle."""
    figures = metrics(elastic())
    assert figures["cost_usd"] == pytest.approx(1.6)
    assert figures["idle_usd"] == pytest.approx(0.12)
    assert figures["idle_share"] == pytest.approx(0.075)
    assert figures["usd_per_hour"] == pytest.approx(5.76)
    assert figures["usd_per_month"] == pytest.approx(5.76 * 730)
    assert figures["gpu_hours"] == pytest.approx(1480.0 / 3600.0)
    assert figures["machine_hours"] == pytest.approx(1600.0 / 3600.0)
    assert figures["usd_per_1m_tokens"] == pytest.approx(1.6 / 150.0 * 1e6)
    assert figures["usd_per_1m_output_tokens"] == pytest.approx(1.6 / 50.0 * 1e6)
    assert figures["usd_per_met_request"] == pytest.approx(0.16)


def test_money_of_the_window_is_over_what_was_served_in_the_window() -> None:
    """From 400 s on: 600 + 300 machine-seconds, 0.90 $, for six requests."""
    figures = metrics(elastic(), warmup=400.0)
    assert figures["usd_per_met_request"] == pytest.approx(0.15)
    assert figures["usd_per_1m_output_tokens"] == pytest.approx(0.9 / 30.0 * 1e6)


def test_only_requests_within_their_objectives_are_met() -> None:
    made = elastic()
    made.workloads = (WorkloadFacts("chat", objectives={"ttft_p99": 0.4}),)
    assert np.isnan(metrics(made)["usd_per_met_request"])


def test_utilisation_is_of_the_gpus_that_replicas_had() -> None:
    assert metrics(elastic())["gpu_utilization"] == pytest.approx(600.0 / 1480.0)
    # from 400 s on: 300 s of the first; of the second's 100 s, spread over its 420 s, the last 240; they had 600 and 240 s
    assert metrics(elastic(), warmup=400.0)["gpu_utilization"] == pytest.approx((300.0 + 100.0 * 240 / 420) / 840.0)


def test_the_mean_number_of_replicas_is_of_those_that_were_ready() -> None:
    assert metrics(elastic())["replicas_mean"] == pytest.approx((1000.0 + 380.0) / 1000.0)


def test_kv_usage_is_of_the_replicas_there_were() -> None:
    """Both have 100 blocks. The first uses 10, 20, 30; the second, there at one of the samples, 80: (60 + 80) / 400."""
    timeline = {
        "t_s": [0.0, 0.0, 500.0, 500.0, 900.0, 900.0],
        "replica": [0, 1, 0, 1, 0, 1],
        "running": [1] * 6,
        "waiting": [0] * 6,
        "kv_used": [10, 0, 20, 80, 30, 0],
        "busy_s": [0.0, 0.0, 250.0, 60.0, 450.0, 100.0],
    }
    figures = metrics(elastic(timeline=timeline))
    assert figures["kv_usage_mean"] == pytest.approx(140.0 / 400.0)
    assert figures["kv_usage_peak"] == 0.8


def test_counts_of_replicas_over_time() -> None:
    counts = replica_counts(elastic())
    assert counts.times.tolist() == [0.0, 100.0, 220.0, 600.0]
    assert counts.ready.tolist() == [[1, 1, 2, 1]]
    assert counts.starting.tolist() == [[0, 1, 0, 0]]
    assert counts.target.tolist() == [[1, 2, 2, 1]]


def test_a_replica_that_never_became_ready_is_starting_until_it_is_gone() -> None:
    stillborn = replace(REPLICAS[1], ready=NAN, closed=300.0, gone=300.0)
    counts = replica_counts(elastic(Usage(NODES, (REPLICAS[0], stillborn)), events=[]))
    assert counts.times.tolist() == [0.0, 100.0, 300.0]
    assert counts.starting.tolist() == [[0, 1, 0]]
    assert counts.ready.tolist() == [[1, 1, 1]]


def test_replicas_are_of_the_deployment_that_made_them_and_numbered_within_it() -> None:
    docs = DeploymentFacts("docs", 0, 0, 0.0, 50, pool="spare", replica_gpus=1)
    other = Usage(NODES, (REPLICAS[0], replace(REPLICAS[1], deployment="docs")))
    made = elastic(other, (CHAT, docs))
    assert made.owner.tolist() == [0, 1]
    assert made.replicas["ordinal"].tolist() == [0, 0]
    assert made.columns["deployment"].tolist() == [
        0,
        0,
        0,
        1,
        0,
        1,
        0,
        0,
        0,
        0,
    ]  # where each was sent, by choice or cascade
    rows = tables.requests([made]).to_pylist()
    assert [row["deployment"] for row in rows[3:6]] == ["docs", "chat", "docs"]
    assert {row["replica"] for row in rows} == {0}


def test_who_shares_the_pool_pays_by_gpu_seconds() -> None:
    """1.60 $ for 1,600 s: 1.00 and 0.48 for their own, 0.12 for the idle ones as 1000 to 480. All requests are of the first but two."""
    docs = DeploymentFacts("docs", 0, 0, 0.0, 50, pool="spare", replica_gpus=1)
    made = elastic(Usage(NODES, (REPLICAS[0], replace(REPLICAS[1], deployment="docs"))), (CHAT, docs))
    spent = account(made)
    assert spent.own_usd.tolist() == pytest.approx([1.0, 0.48])
    assert spent.deployment_usd.tolist() == pytest.approx([1.6 * 1000 / 1480, 1.6 * 480 / 1480])
    paid = tables.requests([made]).column("cost_usd").to_pylist()
    assert sum(paid) == pytest.approx(1.6)
    assert paid[3] == pytest.approx(1.6 * 480 / 1480 / 2)


def test_a_sleeping_engine_that_keeps_its_gpus_has_them_and_is_no_replica() -> None:
    asleep = ReplicaInterval(1, "chat", 1, (0,), 640.0, 640.0, NAN, NAN, 700.0, asleep=True)
    made = elastic(Usage(NODES, (*REPLICAS, asleep)))
    assert metrics(made)["gpu_hours"] == pytest.approx((1480.0 + 60.0) / 3600.0)
    assert made.replicas["gone_s"].tolist()[1] == 640.0


def test_a_replica_that_waits_for_a_gpu_is_there_and_costs_nothing() -> None:
    waiting = ReplicaInterval(2, "chat", -1, (), 900.0, NAN, NAN, NAN, 1000.0)
    counts = replica_counts(with_third(waiting))
    assert counts.starting[0, -1] == 1
    assert metrics(with_third(waiting))["gpu_hours"] == pytest.approx(1480.0 / 3600.0)


def with_third(waiting: ReplicaInterval) -> ReplicationRecord:
    """The record, with a third replica."""
    table = requests(1)
    ledger = Ledger(table.arrival.tolist(), replicas=3)
    serve(ledger, 0, 0, 0.0, 0.5, 1.0)
    ledger.area, ledger.end_time = 1.0, 1000.0
    return ReplicationRecord.of(
        0,
        table,
        ledger,
        workloads=[WorkloadFacts("chat")],
        deployments=[CHAT],
        deployment_of=[0],
        horizon=1000.0,
        pools=[POOL],
        usage=Usage(NODES, (*REPLICAS, waiting)),
        events=SCALED,
    )


def test_a_spot_machine_that_was_taken_back_early_is_free_where_the_terms_say_so() -> None:
    spot = replace(POOL, terms=Terms(3.6, "spot", free_within=3600.0))
    notice = {"t_s": 580.0, "kind": "reclaim", "reason": "spot", "node": 1, "notice": 120.0}
    assert account(elastic(pools=(spot,), events=[notice])).usd == pytest.approx(1.0)
    assert account(elastic(pools=(spot,), events=[])).usd == pytest.approx(1.6)


def test_usage_that_was_cut_elsewhere_or_names_who_is_not_known_is_refused() -> None:
    with pytest.raises(SimulationError, match=r"usage was cut at 900\.0 s; the record ends at 1000\.0 s"):
        elastic(Usage((replace(NODES[0], end=900.0),), REPLICAS))
    with pytest.raises(SimulationError, match="names deployment 'who'"):
        elastic(Usage(NODES, (REPLICAS[0], replace(REPLICAS[1], deployment="who"))))
    with pytest.raises(SimulationError, match="went to replica 1, of which nothing is known"):
        elastic(Usage(NODES, REPLICAS[:1]))
    with pytest.raises(SimulationError, match="says nothing of replica 0"):
        elastic(Usage(NODES, REPLICAS[1:]))
    with pytest.raises(SimulationError, match="names pool 'spare'"):
        elastic(pools=())


def test_a_replica_made_at_the_very_end_was_nothing() -> None:
    """The ledger has two replicas; usage, which is cut, only the first."""
    made = elastic(
        Usage(NODES[:1], REPLICAS[:1]),
        second=0,
        timeline={"t_s": [1000.0], "replica": [1], "kv_used": [0], "busy_s": [0]},
    )
    assert len(made.owner) == 1
    assert len(made.timeline["t_s"]) == 0


def test_a_run_goes_on_when_nothing_happens_any_more() -> None:
    """Paid until 2,000 s, though the last request ended at 1,000."""
    nodes = (replace(NODES[0], end=2000.0),)
    replicas = (replace(REPLICAS[0], gone=2000.0),)
    made = elastic(Usage(nodes, replicas), second=0, until=2000.0)
    assert made.end == 2000.0
    assert metrics(made)["cost_usd"] == pytest.approx(2.0)


def tried() -> ReplicationRecord:
    """Four requests behind a gateway, the engine's clock 0.01 s late; rows past the fourth are attempts.

    0: sent at once. 1: arrives at 100, its second attempt (sent at 104) reached a replica at 105 and was preempted for 0.5 s.
    2: waits in line until it times out, 30 s later. 3: turned away after three attempts, the last sent at 307; 8: its replica was lost.
    """
    table = requests(5)
    ledger = Ledger(table.arrival.tolist(), replicas=1)
    for _ in range(4):
        ledger.add_row(104.0)
    serve(ledger, 0, 0, 0.0, 0.5, 1.0)
    serve(ledger, 1, 0, 105.0, 105.5, 106.0)
    serve(ledger, 5, 0, 105.0, 105.5, 106.0)
    ledger.lost[1] = 0.5
    ledger.end[2], ledger.outcome[2], ledger.reason[2] = 230.0, TIMEOUT, "waited too long at the gateway"
    ledger.end[3], ledger.outcome[3], ledger.reason[3] = 307.0, REJECTED, "queue full"
    ledger.end[4], ledger.outcome[4], ledger.reason[4], ledger.replica[4] = 402.0, FAILED, "node lost", 0
    ledger.reason[7] = "an attempt's"
    ledger.area, ledger.end_time = 1.0 + 6.0 + 30.0 + 7.0 + 2.0, 500.0
    return ReplicationRecord.of(
        0,
        table,
        ledger,
        workloads=[WorkloadFacts("chat")],
        deployments=[replace(CHAT, request_overhead=0.01, pool="")],
        deployment_of=[0],
        horizon=500.0,
        tries={1: 2, 3: 3, 99: 7},
        began={1: 104.0, 3: 307.0},
        sent={1: 105.0, 6: 1.0},
    )


def test_where_requests_spent_their_time_before_an_engine_had_them() -> None:
    rows = tables.requests([tried()]).to_pylist()
    assert len(rows) == 5
    assert [row["attempts"] for row in rows] == [1, 2, 1, 3, 1]
    assert [row["retry_s"] for row in rows] == [0.0, 4.0, 0.0, 7.0, 0.0]
    assert [row["gateway_s"] for row in rows] == pytest.approx([0.0, 1.0, 30.0, 0.0, 0.0])
    assert [row["preempted_s"] for row in rows] == [0.0, 0.5, 0.0, 0.0, 0.0]
    assert rows[1]["queued_s"] == pytest.approx(105.01)
    assert rows[1]["queue_s"] == pytest.approx(0.0)
    assert rows[1]["ttft_s"] == pytest.approx(5.51)
    assert [row["outcome"] for row in rows] == ["ok", "ok", "timeout", "rejected", "failed"]
    assert [row["reason"] for row in rows] == ["", "", "waited too long at the gateway", "queue full", "node lost"]


def test_outcomes_and_attempts_are_counted() -> None:
    figures = metrics(tried())
    assert [figures[name] for name in ("rejected", "timeout", "failed", "unfinished")] == [1.0, 1.0, 1.0, 0.0]
    assert figures["lost_share"] == pytest.approx(0.6)
    assert figures["attempts_per_request"] == pytest.approx(8.0 / 5.0)


def test_rejections_and_decisions_are_events_in_order_of_time() -> None:
    made = tried()
    made.events = [
        {"t_s": 350.0, "kind": "scale", "reason": "queue", "deployment": "chat", "before": 1, "after": 2},
        {"t_s": 5.0, "kind": "place", "reason": "pack", "deployment": "chat", "replica": 0, "gpus": [0]},
    ]
    rows = tables.events([made]).to_pylist()
    assert [(row["t_s"], row["kind"], row["replica"], row["request"]) for row in rows] == [
        (5.0, "place", 0, -1),
        (pytest.approx(307.01), "reject", -1, 3),
        (350.0, "scale", -1, -1),
    ]
    assert json.loads(rows[0]["detail"]) == {"gpus": [0]}
    assert rows[1]["detail"] == json.dumps({"output_tokens": 5, "prompt_tokens": 10}, sort_keys=True)
    assert rows[1]["reason"] == "queue full"


def test_without_usage_the_machines_of_the_facts_are_there_all_the_time() -> None:
    """Two machines of 8 GPUs at 3.60 $/h for 1,000 s; a deployment of 3 x 4 GPUs: a quarter is idle."""
    table = requests(1)
    ledger = Ledger(table.arrival.tolist(), replicas=3)
    serve(ledger, 0, 0, 0.0, 0.5, 1000.0)
    ledger.area, ledger.end_time = 1000.0, 1000.0
    made = ReplicationRecord.of(
        0,
        table,
        ledger,
        workloads=[WorkloadFacts("chat")],
        deployments=[DeploymentFacts("chat", 3, 12, 99.0, 100, pool="big")],
        deployment_of=[0],
        horizon=1000.0,
        pools=[PoolFacts("big", Terms(3.6), 2, 8)],
    )
    figures = metrics(made)
    assert figures["cost_usd"] == pytest.approx(2.0)
    assert figures["idle_share"] == pytest.approx(0.25)
    assert figures["gpu_hours"] == pytest.approx(12 * 1000.0 / 3600.0)
    assert figures["machine_hours"] == pytest.approx(2000.0 / 3600.0)
    assert figures["replicas_mean"] == pytest.approx(3.0)
    assert replica_counts(made).ready.tolist() == [[3]]
