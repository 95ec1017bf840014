"""Nothing is lost and nothing comes from nowhere: requests, tokens and KV blocks, on random fleets and schedulers."""

from __future__ import annotations

from collections import Counter
from math import isnan

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim.control import fleet
from sim.control.plan import FleetPlan
from sim.serving.ledger import OK, REJECTED, UNFINISHED
from sim.serving.scheduler import Scheduler
from sim.serving.settings import EngineSettings
from sim.testing.strategies import Ask, asks, engine_settings, fleet_plans

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@settings(RELAXED, max_examples=150)
@given(fleet_plans(longest=60))
def test_every_request_ends_once_and_in_order(plan: FleetPlan) -> None:
    ledger = fleet.simulate(plan)
    codes = Counter(ledger.outcome)
    assert sum(codes.values()) == len(plan.table)
    assert codes[OK] + codes[REJECTED] <= ledger.issued <= len(plan.table)
    for row, outcome in enumerate(ledger.outcome):
        if outcome == OK:
            times = (ledger.arrival[row], ledger.scheduled[row], ledger.first_token[row], ledger.end[row])
            assert times[0] <= times[1] < times[2] <= times[3] <= ledger.end_time
            assert (times[2] == times[3]) == (plan.table.output_tokens[row] == 1)
            assert ledger.replica[row] >= 0
        elif outcome == REJECTED:
            assert ledger.end[row] == ledger.arrival[row]
            assert ledger.replica[row] == -1
            assert ledger.reason[row] in ("max_model_len", "kv_capacity")
        else:
            assert outcome == UNFINISHED
            assert isnan(ledger.end[row])
    if plan.drain:
        in_system = [row for row in range(len(plan.table)) if ledger.replica[row] >= 0]
        assert all(ledger.outcome[row] == OK for row in in_system)


@settings(RELAXED, max_examples=150)
@given(fleet_plans(longest=60))
def test_time_and_tokens_add_up(plan: FleetPlan) -> None:
    ledger = fleet.simulate(plan)
    area = 0.0
    least_prefill = least_decode = 0
    for row, outcome in enumerate(ledger.outcome):
        if outcome == OK:
            area += ledger.end[row] - ledger.arrival[row]
            least_prefill += int(plan.table.prompt_tokens[row])
            least_decode += int(plan.table.output_tokens[row]) - 1
        elif outcome == UNFINISHED and ledger.replica[row] >= 0:
            area += ledger.end_time - ledger.arrival[row]
    assert ledger.area == area  # Little's law, exactly
    scheduled = sum(ledger.prefill_tokens) + sum(ledger.decode_tokens)
    assert scheduled >= least_prefill + least_decode
    if plan.drain and not sum(ledger.preemptions):
        # without preemption a prompt is computed once and each output token but the last once
        assert sum(ledger.prefill_tokens) == least_prefill
        assert sum(ledger.decode_tokens) == least_decode
        assert sum(ledger.itl.counts) == least_decode
    for replica, deployment in enumerate(d for d in plan.deployments for _ in range(d.replicas)):
        assert ledger.busy[replica] <= ledger.end_time
        assert ledger.peak_running[replica] <= deployment.settings.max_num_seqs
        assert ledger.peak_blocks[replica] < deployment.settings.kv_blocks
        assert ledger.sequence_seconds[replica] <= deployment.settings.max_num_seqs * ledger.busy[replica]


@settings(RELAXED, max_examples=60)
@given(fleet_plans(longest=60))
def test_a_plan_can_be_run_again(plan: FleetPlan) -> None:
    """A simulation leaves nothing behind in the plan: the second run says the same."""
    first, second = fleet.simulate(plan), fleet.simulate(plan)
    assert repr(first.end) == repr(second.end)
    assert first.itl.counts == second.itl.counts


@st.composite
def workloads(draw: st.DrawFn) -> tuple[EngineSettings, list[Ask]]:
    engine = draw(engine_settings(40))
    return engine, draw(asks(engine.max_model_len))


@settings(RELAXED, max_examples=150)
@given(workloads())
def test_blocks_and_tokens_of_a_scheduler_add_up_in_every_step(case: tuple[EngineSettings, list[Ask]]) -> None:
    """All blocks are free at the end; what is computed is what was asked for and what preemption threw away, no more."""
    engine, requests = case
    scheduler = Scheduler(engine)
    for id, ask in enumerate(requests):
        scheduler.add(id, ask.prompt_tokens, ask.output_tokens, ask.priority, float(id))
    computed = thrown_away = 0
    left = set(range(len(requests)))
    while left:
        before = {id: scheduler.num_computed(id) for id in left}
        step = scheduler.schedule() or scheduler.schedule()  # asynchronous: None may only give back what was held
        assert step is not None
        thrown_away += sum(before[id] for id in step.preempted)
        assert step.tokens == sum(step.scheduled.values()) <= engine.max_num_batched_tokens
        assert len(scheduler.running) <= engine.max_num_seqs
        assert sorted([*scheduler.running, *scheduler.waiting]) == sorted(left)
        held = sum(scheduler.blocks(id) for id in left)
        assert held + scheduler.free_blocks == engine.kv_blocks - 1
        if not step.scheduled:
            continue
        computed += step.tokens
        for id in scheduler.commit():
            left.remove(id)
        for id in scheduler.running:
            assert scheduler.num_computed(id) <= scheduler.blocks(id) * engine.block_size
    assert scheduler.schedule() is None
    assert scheduler.free_blocks == engine.kv_blocks - 1
    assert computed == thrown_away + sum(ask.prompt_tokens + ask.output_tokens - 1 for ask in requests)
