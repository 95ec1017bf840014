"""What limited throughput, from samples made by hand; and the sentences, from figures made by hand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim.observe import DeploymentFacts, ReplicationRecord, Result, WorkloadFacts, load
from sim.observe.explain import Explanation, explain, explain_limit
from sim.observe.limits import Limit, limits
from sim.observe.objectives import WHOLE_RUN, Estimate, Standing
from sim.observe.why import Attribution, Group, Unserved
from sim.serving.settings import EngineSettings
from tests.observe import making
from tests.paths import ROOT

ENGINE = EngineSettings(max_num_seqs=8, max_num_batched_tokens=512, kv_blocks=101)


def sampled(samples: Sequence[tuple[float, int, int, int, int, float]], rows: Sequence[Any] = (), **others: Any) -> Any:
    """Ten samples or so of two replicas, ten seconds apart: (t, replica, running, waiting, KV blocks of 100, busy seconds so far)."""
    names = ("t_s", "replica", "running", "waiting", "kv_used", "busy_s")
    facts = DeploymentFacts("pool", 2, 2, 7.2, 100, engine=ENGINE, **others.pop("facts", {}))
    end = 40.0
    return making.record(
        [making.request(0.0, 0.0, 0.1, 0.2, prompt=160), *rows],
        deployments=(facts,),
        end=end,
        horizon=end,
        timeline=dict(zip(names, (list(column) for column in zip(*samples, strict=True)), strict=True)),
        **others,
    )


def found(record: ReplicationRecord) -> Limit:
    (limit,) = limits([record], 0.0, 0.95, exact=True)
    return limit


IDLE = [(float(moment), replica, 1, 0, 5, 0.0) for moment in (0, 10, 20, 30, 40) for replica in (0, 1)]


def with_states(*states: tuple[float, int, int, int, int, float]) -> list[tuple[float, int, int, int, int, float]]:
    """:data:`IDLE` but for these."""
    changed = {state[:2]: state for state in states}
    return [changed.get(state[:2], state) for state in IDLE]


def test_load_below_what_there_was_room_for_is_limited_by_nothing() -> None:
    limit = found(sampled(IDLE))
    assert not limit.shares
    assert explain_limit(limit) == "Nothing limited pool: it had room for more."


def test_each_limit_by_what_it_leaves_in_a_sample() -> None:
    """Five moments of two replicas; one waits for seats, one for blocks (94 taken, ten needed), one in busy steps, one just came."""
    limit = found(
        sampled(
            with_states(
                (10.0, 0, 8, 3, 50, 5.0),
                (20.0, 0, 4, 1, 94, 10.0),
                (30.0, 0, 4, 1, 50, 19.8),  # 98 % of the ten seconds
                (30.0, 1, 4, 1, 50, 5.0),  # half of the time there was nothing to do: it just came
            )
        )
    )
    assert {name: share.value for name, share in limit.shares.items()} == pytest.approx(
        {"seats": 0.1, "kv": 0.1, "compute": 0.1}
    )
    assert limit.because == pytest.approx({"fixed": 1.0})
    assert explain_limit(limit) == (
        "pool was limited for 30% of the time: 10% by a full KV cache, 10% by max_num_seqs, 10% by compute (no step had room for the "
        "prompts that waited); no more replicas served, as their number is fixed."
    )


def test_rejections_and_waits_at_the_gateway_are_its_limits_unless_replicas_are_missing() -> None:
    """Rejected between 0 and 10; one waits at the gateway from 18 to 22; too long for any replica between 30 and 40."""
    waited = making.request(18.0, 22.0, 22.1, 22.2)
    rows = [making.rejected(5.0), waited, making.rejected(35.0)]
    for row in rows:
        row["queued_s"] = row["arrival_s"]
    waited["queued_s"] = 22.0
    first = making.request(0.0, 0.0, 0.1, 0.2, prompt=160) | {"queued_s": 0.0}
    record = sampled(IDLE, rows)
    columns = {name: [row[name] for row in (first, *rows)] for name in first}
    record = replace(record, columns=columns, reasons={1: "queue full", 3: "max_model_len"})
    limit = found(record)
    assert {name: share.value for name, share in limit.shares.items()} == pytest.approx({"admission": 0.4})

    record.replicas |= {"created_s": np.array([0.0, 15.0]), "ready_s": np.array([0.0, 25.0])}
    limit = found(record)
    assert {name: share.value for name, share in limit.shares.items()} == pytest.approx(
        {"admission": 0.2, "replicas": 0.2}
    )
    assert limit.because == pytest.approx({"starting": 0.5, "fixed": 0.5})


def test_an_autoscaler_at_its_maximum_is_why_no_more_came() -> None:
    full = with_states((20.0, 0, 8, 3, 50, 5.0), (20.0, 1, 8, 3, 50, 5.0))
    assert found(sampled(full, facts={"ceiling": 2})).because == pytest.approx({"ceiling": 1.0})
    assert found(sampled(full, facts={"ceiling": 3})).because == pytest.approx({"unasked": 1.0})


def test_without_samples_nothing_is_said() -> None:
    assert limits([making.record([making.request(0.0, 0.0, 0.1, 0.2)])], 0.0, 0.95, exact=True) == []


MISSED = Standing("chat", "ttft_p99", 2.0, Estimate(3.9, 0.2, 5), "misses")
TAIL = Group(
    120.0,
    6.1,
    {"cold start": Estimate(0.71, 0.06, 5), "queueing": Estimate(0.06, 0.02, 5), "batching": Estimate(0.18, 0.04, 5)},
)
TYPICAL = Group(5000.0, 0.084, {"compute": Estimate(0.9, 0.1, 5)})


def test_a_missed_objective_is_explained_by_the_largest_causes_of_its_tail() -> None:
    assert explain(MISSED, Attribution("chat", "ttft_p99", True, TAIL, TYPICAL)) == (
        "p99 TTFT of chat misses 2 s (3.90 ± 0.20 s): 71% ± 6% of the tail's time is waiting for replicas that were starting, 18% "
        "batching; a typical request takes 84.0 ms."
    )


def test_attempts_that_failed_are_explained_by_what_was_going_on_meanwhile() -> None:
    tail = Group(120.0, 6.1, {"retry": Estimate(0.9, None, 1)}, {"cold start": 0.2, "failure": 0.7})
    assert explain(MISSED, Attribution("chat", "ttft_p99", True, tail, None)) == (
        "p99 TTFT of chat misses 2 s (3.90 ± 0.20 s): 90% of the tail's time is lost in attempts that failed, 70% of it while replicas "
        "were missing by a fault."
    )


def test_requests_that_were_not_served_are_named_by_reason() -> None:
    lost = [
        Unserved("chat", "timeout", "timeout", 0.03, {"cold start": 1.0}),
        Unserved("chat", "rejected", "queue full", 0.01),
        Unserved("other", "rejected", "queue full", 0.5),
    ]
    standing = replace(MISSED, estimate=Estimate(1.2, 0.1, 5), why="4.0% of its requests were not served")
    assert explain(standing, Attribution("chat", "ttft_p99", False, TAIL, TYPICAL), lost) == (
        "p99 TTFT of chat misses 2 s (of those served: 1.20 ± 0.10 s): 4.0% of its requests were not served (timeout 3.0%, rejected: "
        "queue full 1.0%), 75% of them while replicas were starting."
    )


def test_it_is_said_once_a_workload_what_became_of_them() -> None:
    lost = [Unserved("chat", "timeout", "timeout", 0.04)]
    standing = replace(MISSED, estimate=Estimate(1.2, 0.1, 5), why="4.0% of its requests were not served")
    first, second, met = Explanation(unserved=lost).sentences(
        [standing, replace(standing, metric="tpot_p99"), replace(standing, status="meets")]
    )
    assert "(timeout 4.0%)" in first
    assert "timeout" not in second
    assert met == ""


def test_a_budget_is_explained_by_what_nobody_used() -> None:
    standing = Standing(WHOLE_RUN, "usd_per_hour", 40.0, Estimate(52.0, 1.0, 5), "misses")
    assert explain(standing, None, (), Estimate(0.31, 0.02, 5)) == (
        "$ an hour is over 40 (52.0 ± 1.0): 31% of the money paid for GPUs that no replica had."
    )


def test_a_loaded_result_explains_as_it_did_before(tmp_path: Path) -> None:
    facts = WorkloadFacts("chat", "llama", "default", {"ttft_p99": 0.2, "tpot_mean": 0.01})
    lost = making.rejected(1.0)
    records = [
        replace(
            sampled(
                with_states((20.0, 0, 8, 3, 50, 5.0)),
                [making.request(place / 10.0, 5.0 + place, 5.1 + place, 6.0 + place) for place in range(30)] + [lost],
            ),
            workloads=(facts,),
            replication=number,
        )
        for number in range(3)
    ]
    result = Result(making.scenario(), records)
    assert len(result.why) == 3
    result.save(tmp_path / "run")
    again = load(tmp_path / "run")
    assert isinstance(again, Result)
    assert again.why == result.why
    assert again.to_json() == result.to_json() | {"out": None}
    again.save(tmp_path / "copy")
    assert (tmp_path / "copy" / "summary.json").read_bytes() == (tmp_path / "run" / "summary.json").read_bytes()


def test_the_examples_of_the_page_run() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "why.md").read_text(), re.DOTALL | re.MULTILINE)
    assert blocks
    for block in blocks:
        exec(compile(block, "docs/why.md", "exec"), {})
