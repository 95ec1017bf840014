"""What a request spends outside of the engine: clients see everything later by it, and the engine works as it did."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sim
from sim import profiles
from sim.kernel.clock import on_grid
from sim.observe import ReplicationRecord
from sim.serving.ledger import OK, REJECTED, UNFINISHED

Write = Callable[..., Path]

OVERHEAD = on_grid(0.0237)
ENGINE = "deployments.chat.engine.request_overhead"
SHORT = {"run.duration": "8s", "run.warmup": 0, "run.replications": 1}
CLOSED = {
    "workloads.chat.arrivals.closed_loop": 6,
    "workloads.chat.lengths": {"prompt": 200, "output": {"lognormal": {"median": 40, "sigma": 0.5}}},
    "deployments.chat.router.kind": "round-robin",
}
TIGHT = {"deployments.chat.engine.kv_blocks": 60}  # some requests do not fit: they are rejected


def record(path: Path, changes: dict[str, Any], overhead: float | None) -> ReplicationRecord:
    given = {} if overhead is None else {ENGINE: overhead}
    return sim.simulate(sim.load(path, {**SHORT, **changes, **given})).records[0]


@pytest.mark.parametrize("mode", ["fast", "reference"])
def test_open_arrivals_are_served_as_before_and_answered_later_by_exactly_the_overhead(write: Write, mode: str) -> None:
    path, changes = write(), {**TIGHT, "run.mode": mode}
    without, with_it = record(path, changes, None), record(path, changes, OVERHEAD)
    before, after = without.columns, with_it.columns
    assert set(after["outcome"].tolist()) == {OK, REJECTED}
    assert np.array_equal(before["arrival_s"], after["arrival_s"])
    for name in ("queued_s", "scheduled_s", "first_token_s", "end_s"):
        assert np.array_equal(after[name] - before[name], np.where(np.isnan(before[name]), np.nan, OVERHEAD), True), (
            name
        )
    was, now = without.latencies(), with_it.latencies()
    for name, more in (("ttft", OVERHEAD), ("e2e", OVERHEAD), ("tpot", 0.0), ("queue", 0.0)):
        served = without.ok & ~np.isnan(was[name])
        assert now[name][served] - was[name][served] == pytest.approx(more, abs=1e-12), name
    assert np.array_equal(with_it.itl_counts, without.itl_counts)
    assert with_it.end == without.end + OVERHEAD


@pytest.mark.parametrize("think", [0.0, 0.05])
def test_closed_loop_users_wait_for_it_once_a_request(write: Write, think: float) -> None:
    # one user: a request a time, so each is issued when the one before was answered, and has waited for nobody
    changes = {**CLOSED, "workloads.chat.arrivals.closed_loop": 1, "workloads.chat.arrivals.think": think}
    slow = record(write(), changes, OVERHEAD)
    arrival, end = slow.columns["arrival_s"], slow.columns["end_s"]
    assert np.array_equal(arrival[1:], end[:-1] + on_grid(think))
    fast = record(write(), changes, None)
    shared = min(len(slow), len(fast))
    assert len(slow) < len(fast)
    for name, more in (("ttft", OVERHEAD), ("e2e", OVERHEAD), ("queue", 0.0)):
        grown = slow.latencies()[name][:shared] - fast.latencies()[name][:shared]
        assert grown == pytest.approx(more, abs=1e-12), name


@pytest.mark.parametrize(
    ("changes", "outcomes"),
    [
        (CLOSED, {OK}),
        ({**CLOSED, "deployments.chat.engine.kv_blocks": 16}, {OK, REJECTED}),
        ({**CLOSED, "run.drain": False}, {OK, UNFINISHED}),
        ({"run.drain": False}, {OK, UNFINISHED}),
        ({**CLOSED, "run.requests": 40}, {OK}),
    ],
    ids=["closed", "rejected", "closed, stopped", "open, stopped", "limited"],
)
def test_the_reference_gives_the_same_rows_and_totals(
    write: Write, changes: dict[str, Any], outcomes: set[int]
) -> None:
    path = write()
    fast = record(path, changes, OVERHEAD)
    slow = record(path, {**changes, "run.mode": "reference"}, OVERHEAD)
    for name in fast.columns:
        assert np.array_equal(fast.columns[name], slow.columns[name], equal_nan=True), name
    assert (fast.end, fast.horizon) == (slow.end, slow.horizon)
    assert fast.area_requests == pytest.approx(slow.area_requests, rel=1e-12)
    assert set(fast.columns["outcome"].tolist()) == outcomes


def test_users_of_a_loop_that_is_turned_away_come_back_after_the_answer(write: Write) -> None:
    changes = {
        **CLOSED,
        "workloads.chat.arrivals.closed_loop": 1,
        "deployments.chat.engine.kv_blocks": 2,
        "run.duration": "1s",
    }
    rejected = record(write(), changes, OVERHEAD)
    assert not rejected.ok.any()
    assert np.array_equal(rejected.columns["arrival_s"], np.arange(len(rejected)) * OVERHEAD)
    assert np.array_equal(rejected.columns["end_s"] - rejected.columns["arrival_s"], np.full(len(rejected), OVERHEAD))


def test_deployments_have_each_their_own(write: Write) -> None:
    path = write()
    other = {"name": "slow", "model": "llama", "pool": "h100", "engine": {"request_overhead": "50ms"}}
    both = [{"name": "chat", "model": "llama", "pool": "h100", "engine": {"request_overhead": OVERHEAD}}, other]
    text = path.read_text().split("options:")[0]
    path.write_text(text)
    work = {"model": "llama", "arrivals": {"rate": 4}, "lengths": {"prompt": 100, "output": 1}}
    loads = [{"name": "a", "deployment": "chat", **work}, {"name": "b", "deployment": "slow", **work}]
    made = record(path, {"deployments": both, "workloads": loads, "run.drain": False}, None)
    late = made.columns["queued_s"] - made.columns["arrival_s"]
    assert late == pytest.approx(np.where(made.columns["deployment"] == 0, OVERHEAD, 0.05), abs=1e-9)


def test_the_profiles_own_is_taken_unless_the_scenario_gives_one(write: Write, tmp_path: Path) -> None:
    shipped = profiles.load("h100-sxm/llama-3.1-8b/tp1")
    host = shipped.steps.host.model_copy(update={"request_us": 4300.0, "request_source": "fitted"})
    step = shipped.steps.model_copy(update={"host": host})
    mine = tmp_path / "mine.json"
    profiles.save(shipped.model_copy(update={"step": step}), mine)
    changes = {**SHORT, "deployments.chat.profile": str(mine)}
    result = sim.simulate(sim.load(write(), changes))
    assert result.manifest["deployments"]["chat"]["request_overhead_s"] == on_grid(4300e-6)
    assert any("4.3 ms of a request outside of the engine's steps, as profile" in text for text in result.warnings)
    free = sim.simulate(sim.load(write(), {**changes, ENGINE: 0}))
    assert free.manifest["deployments"]["chat"]["request_overhead_s"] == 0.0
    assert not any("outside of the engine's steps" in text for text in free.warnings)
    grown = result.summary["ttft_mean"].value - free.summary["ttft_mean"].value
    assert grown == pytest.approx(4300e-6, abs=1e-10)
