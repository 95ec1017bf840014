"""Fleets behind a gateway, with clients that give up and try again and replicas that come and go: the fast simulation equals the
reference, record for record and bit for bit.

Gateway and clients are the same code in both, so this is about when they are called, and about replicas that are disturbed; that they do
the right thing is for ``tests/control/test_gateway.py``. Disturbances come from SimPy processes, as the cluster's do.
"""

from __future__ import annotations

from collections import Counter, deque
from math import isnan
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from sim.control.calls import Attempt, Call
from sim.control.fleet import Fleet
from sim.control.floor import Floor
from sim.control.plan import FleetPlan
from sim.control.reference import ReferenceFleet
from sim.serving.ledger import OUTCOMES, Ledger
from sim.testing.controlled import Disturbance, Script, controlled_plans, disturbances, run

RELAXED = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


@st.composite
def cases(draw: st.DrawFn, **kinds: Any) -> tuple[FleetPlan, list[Disturbance]]:
    plan = draw(controlled_plans(**kinds))
    return plan, draw(disturbances(plan)) if draw(st.integers(0, 4)) else []


def plain(value: Any) -> Any:
    """A value that compares: NaN becomes None."""
    if isinstance(value, list | tuple | deque):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and isnan(value) else value


def compare(fast: Floor, slow: Floor) -> None:
    """All that is written down, and all that the gateway and its routers have in their heads."""
    for name in Ledger.__slots__:
        if name != "itl":
            assert plain(getattr(fast.ledger, name)) == plain(getattr(slow.ledger, name)), name
    assert fast.ledger.itl.counts == slow.ledger.itl.counts
    assert fast.ledger.itl.total == slow.ledger.itl.total
    assert fast.gateway is not None
    assert slow.gateway is not None
    for name in ("open", "tries", "began", "sent", "inflight", "due"):
        assert getattr(fast.gateway, name) == getattr(slow.gateway, name), name
    for name in ("attempts", "waiting"):
        assert getattr(fast.gateway, name).keys() == getattr(slow.gateway, name).keys(), name
    for one, other in zip(fast.stations, slow.stations, strict=True):
        for name in ("eligible", "ready", "away", "inside", "area", "arrived", "ended", "rejected", "latencies"):
            assert plain(getattr(one, name)) == plain(getattr(other, name)), name
        assert (one.view.outstanding, one.view.tokens) == (other.view.outstanding, other.view.tokens)


def check(case: tuple[FleetPlan, list[Disturbance]]) -> tuple[Floor, Script]:
    plan, script = case
    fast, slow = Fleet(plan), ReferenceFleet(plan)
    done, expected = run(fast, script), run(slow, script)
    fast.finish()
    slow.finish()
    assert plain(done.said) == plain(expected.said)
    compare(fast, slow)
    return slow, expected


@settings(RELAXED, max_examples=300)
@given(cases(longest=30))
def test_small_fleets_with_a_gateway(case: tuple[FleetPlan, list[Disturbance]]) -> None:
    floor, script = check(case)
    for name in met(floor, script):
        event(name)


@settings(RELAXED, max_examples=100)
@given(cases(longest=200, large=True))
def test_long_outputs_in_a_large_cache(case: tuple[FleetPlan, list[Disturbance]]) -> None:
    check(case)


@settings(RELAXED, max_examples=100)
@given(cases(longest=120, max_size=24))
def test_long_outputs_in_a_small_cache(case: tuple[FleetPlan, list[Disturbance]]) -> None:
    check(case)


@pytest.mark.verify
@settings(RELAXED, max_examples=8_000)
@given(st.one_of(cases(longest=40, max_size=30), cases(longest=400, large=True), cases(longest=150)))
def test_many_more_fleets_with_a_gateway(case: tuple[FleetPlan, list[Disturbance]]) -> None:
    check(case)


def met(floor: Floor, script: Script) -> set[str]:
    """What the case was about."""
    plan, ledger, gateway = floor.plan, floor.ledger, floor.gateway
    assert gateway is not None
    assert plan.gateway is not None
    rows = floor.rows
    names = {OUTCOMES[outcome] for outcome in ledger.outcome[:rows]}
    names |= {reason for row, reason in ledger.reason.items() if row < rows}
    for request in gateway.tries:
        client = gateway.callers.clients[floor.workload[request]]
        hedged = client is not None and client.hedge_after is not None
        names.add("hedged" if hedged else "tried again")
        if ledger.outcome[request] == 0:
            names.add("a later attempt was answered")
    if any(moment for moment in gateway.sent.values()):
        names.add("waited for a replica")
    ends = [end for end in ledger.end[:rows] if not isnan(end)]
    if set(ends) & set(ledger.arrival):
        names.add("something came as something ended")
    names |= {f"notice: {entry[2]}" for entry in script.said if len(entry) == 4}
    for entry in script.said:
        if entry[0] == "killed" and entry[2]:
            names.add("killed with requests in it")
    done = [entry for entry in script.said if len(entry) == 3 and isinstance(entry[1], str)]
    names |= {f"script: {what}" for _, what, _ in done}
    if {when for when, _, _ in done} & set(ledger.arrival):
        names.add("disturbed at an arrival")
    if {when for when, _, _ in done} & set(ends):
        names.add("disturbed at an end")
    if any(row_of_more(floor, row) for row in range(rows, len(floor.prompt))):
        names.add("migrated with tokens")
    if plan.closed_loops:
        names.add("closed loop")
    if not plan.drain:
        names.add("stopped at the horizon")
    for number, terms in enumerate(plan.gateway.terms):
        if terms.order != "fifo" and any(moment for moment in gateway.sent.values()):
            names.add(f"a line that is {terms.order}")
        ejection = gateway.ejections[number]
        if ejection is not None and sum(ejection.outlier.enforced.values()):
            names.add("ejected")
    for workload, choice in enumerate(gateway.callers.choices):
        served = {ledger.replica[row] for row in range(rows) if floor.workload[row] == workload} - {-1}
        if choice is not None and len({floor.owner[replica].number for replica in served}) > 1:
            names.add("a choice that chose both")
    return names


def row_of_more(floor: Floor, row: int) -> bool:
    """Whether an attempt's prompt is none of those that requests of its workload and session have."""
    same = [
        (floor.prompt[other], floor.output[other])
        for other in range(floor.rows)
        if floor.workload[other] == floor.workload[row]
    ]
    return (floor.prompt[row], floor.output[row]) not in same


def test_the_generated_fleets_meet_every_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the property tests above are worth: each thing that can happen does in several of the cases they draw."""
    from sim.control.callers import Callers
    from sim.control.gateway import Gateway

    seen: Counter[str] = Counter()
    now_met: set[str] = set()

    def spy(owner: type, method: str, name: str, when: Any = lambda *given: True) -> None:
        original = getattr(owner, method)

        def spied(self: Any, *given: Any) -> Any:
            if when(*given):
                now_met.add(name)
            return original(self, *given)

        monkeypatch.setattr(owner, method, spied)

    def escalated(call: Call, *rest: Any) -> bool:
        return call.escalated

    def resent(call: Call, number: int, began: float, kept: object, now: float, late: bool) -> bool:
        return call.resent > 0 and began != now

    def kept(attempt: Attempt, *rest: Any) -> bool:
        return attempt.kept is not None

    def outdone(attempt: Attempt, now: float, outcome: int, reason: str) -> bool:
        return OUTCOMES[outcome] == "unfinished" and attempt.sent

    spy(Callers, "_next", "escalated", escalated)
    spy(Callers, "_send", "sent again by the gateway", resent)
    spy(Callers, "_keep", "migrated again", kept)
    spy(Callers, "_bridge", "a gap between tokens that migrated and the next")
    spy(Gateway, "withdraw", "a copy was outdone", outdone)
    spy(Gateway, "withdraw", "timed out in the line", lambda attempt, *rest: not attempt.sent)
    spy(Gateway, "_return", "let in by one policy and not by the next", lambda attempt, now: attempt.passed > 0)
    spy(Gateway, "remember", "a reservation", lambda when, kind, number: kind == 1)

    @settings(RELAXED, max_examples=400, database=None, derandomize=True)
    @given(cases(longest=60))
    def collect(case: tuple[FleetPlan, list[Disturbance]]) -> None:
        now_met.clear()
        floor = ReferenceFleet(case[0])
        script = run(floor, case[1])
        floor.finish()
        seen.update(met(floor, script) | now_met)

    collect()
    missing = {name: seen[name] for name in EVERYTHING if seen[name] < 2}
    assert not missing, missing


EVERYTHING = (
    *OUTCOMES,
    "rate limit",
    "token rate limit",
    "concurrency limit",
    "adaptive concurrency",
    "priority shedding",
    "queue full",
    "waited too long at the gateway",
    "timeout",
    "deadline",
    "abandoned",
    "unreachable",
    "killed",
    "circuit breaker open",
    "max_model_len",
    "tried again",
    "hedged",
    "a copy was outdone",
    "a later attempt was answered",
    "waited for a replica",
    "a reservation",
    "let in by one policy and not by the next",
    "timed out in the line",
    "something came as something ended",
    "notice: wanted",
    "notice: drained",
    "killed with requests in it",
    "script: ready",
    "script: close",
    "script: kill",
    "script: strike",
    "script: pace",
    "script: cut",
    "script: restore",
    "script: look",
    "disturbed at an arrival",
    "disturbed at an end",
    "sent again by the gateway",
    "migrated with tokens",
    "migrated again",
    "a gap between tokens that migrated and the next",
    "escalated",
    "a choice that chose both",
    "ejected",
    "a line that is fair",
    "a line that is priority",
    "closed loop",
    "stopped at the horizon",
)

# whole scenarios

SCENARIO = """
question: Is the fast simulation right?
run: {duration: 6m, warmup: 0, replications: 1, seed: 11, sample_every: 15s}
models: {llama: {architecture: llama-3.1-8b}}
cluster: {pools: [{name: h100, instance: aws/p5.4xlarge, nodes: 4}]}
workloads:
  - name: chat
    model: llama
    arrivals: {curve: [[0m, 0.5/s], [2m, 4/s], [4m, 1/s], [6m, 0/s]]}
    lengths: {prompt: {lognormal: {median: 800, sigma: 0.8}}, output: {lognormal: {median: 60, sigma: 0.6}}}
    objectives: {ttft_p99: 5s}
deployments:
  - {name: chat, model: llama, pool: h100, replicas: 1, drain: {grace: 20s}}
"""
START = "{preset: vllm-0.8.5-h100-llama-3.1-8b, phases: {image_pull: 2s, image_extract: 1s, process: 5s, context: 1s}}"
CLIENT = "{timeout: 8s, deadline: 30s, max_attempts: 3, backoff: {kind: full-jitter, base: 1, cap: 5}, budget: envoy}"


@pytest.mark.parametrize(
    "overrides",
    [
        {
            "deployments.chat.autoscaler": "{kind: hpa, metric: concurrency, target: 1, min: 1, max: 4}",
            "deployments.chat.cold_start": START,
            "workloads.chat.client": CLIENT,
        },
        {
            "deployments.chat.autoscaler": "{kind: kpa, max: 3, target: 4}",
            "deployments.chat.replicas": "0",
            "deployments.chat.cold_start": START,
            "deployments.chat.queue": "{per_replica: 8, timeout: 60s}",
            "cluster.pools.h100.growth": "{least: 0, most: 4, provision: {low: 5s, high: 15s}, idle: 30s, after_add: 10s}",
            "cluster.pools.h100.nodes": "0",
        },
        {
            "deployments.chat.replicas": "3",
            "deployments.chat.on_loss": "migrate",
            "deployments.chat.cold_start": START,
            "deployments.chat.outlier": "{kind: envoy, consecutive_5xx: 2, max_ejection_percent: 50}",
            "deployments.chat.admission": "[{kind: gradient2, initial_limit: 20}]",
            "workloads.chat.client": "{hedge_after: 2s, patience: 20s}",
            "faults": "[{kind: replica-crash, mtbf: 1h, scale: 120}, {kind: straggler, at: 2m, factor: 3, lasts: 30s},"
            " {kind: partition, at: 3m, count: 1, lasts: 20s}, {kind: node-failure, at: 4m, repair: 30s, count: 1}]",
        },
    ],
    ids=["hpa with retries", "kpa from zero", "faults, migration and hedges"],
)
def test_whole_scenarios(overrides: dict[str, str]) -> None:
    """Cluster, autoscalers, faults and clients on one clock: the same ledger, decisions, timeline and use of machines in both."""
    from sim.config import load_text
    from sim.experiment import elastic
    from sim.experiment.build import build, plan

    found = []
    for mode in ("fast", "reference"):
        system = build(load_text(SCENARIO, overrides | {"run.mode": mode}))
        drawn = plan(system, 0)
        assert drawn.gateway is not None
        found.append(elastic.run(system, drawn, 360.0, 0, 15.0, steps=False))
    fast, slow = found
    assert fast.events == slow.events
    assert plain(list(fast.timeline.values())) == plain(list(slow.timeline.values()))
    for name in Ledger.__slots__:
        if name != "itl":
            assert plain(getattr(fast.ledger, name)) == plain(getattr(slow.ledger, name)), name
    assert fast.ledger.itl.counts == slow.ledger.itl.counts
    assert fast.gateway is not None
    assert slow.gateway is not None
    assert (fast.gateway.tries, fast.gateway.began, fast.gateway.sent) == (
        slow.gateway.tries, slow.gateway.began, slow.gateway.sent,
    )  # fmt: skip
    end = fast.ledger.end_time
    assert fast.usage is not None
    assert slow.usage is not None
    assert plain([repr(one) for one in fast.usage(end).replicas]) == [repr(one) for one in slow.usage(end).replicas]
    assert len({event["kind"] for event in fast.events}) >= 3
