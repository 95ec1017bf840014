"""The fast simulation and the reference are equal, record for record and bit for bit, on random fleets.

The two were written apart: the fast one counts in spans and keeps its own calendar, the reference is a SimPy process a
replica, an event a step and a token a sequence.
"""

from __future__ import annotations

from collections import Counter
from math import isnan
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings

from sim.control import fleet, reference
from sim.control.plan import FleetPlan
from sim.serving.ledger import OK, OUTCOMES, UNFINISHED, Ledger
from sim.testing.strategies import fleet_plans

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def plain(value: Any) -> Any:
    """A value that compares: NaN becomes None."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and isnan(value) else value


def compare(fast: Ledger, slow: Ledger) -> None:
    for name in Ledger.__slots__:
        if name != "itl":
            assert plain(getattr(fast, name)) == plain(getattr(slow, name)), name
    assert fast.itl.counts == slow.itl.counts
    assert fast.itl.total == slow.itl.total


def met(plan: FleetPlan, ledger: Ledger) -> set[str]:
    """What the case was about."""
    names = {OUTCOMES[outcome] for outcome in ledger.outcome}
    if sum(ledger.preemptions):
        names.add("preemption")
    if plan.closed_loops:
        names.add("closed loop")
    if not plan.drain:
        names.add("stopped at the horizon")
    times = [time for time in ledger.arrival if not isnan(time)]
    if len(set(times)) < len(times):
        names.add("simultaneous arrivals")
    if set(times) & set(ledger.end):
        names.add("arrival at the end of a step")
    if sum(count > 0 for count in ledger.steps) > 1:
        names.add("several replicas busy")
    return names


def check(plan: FleetPlan) -> None:
    slow = reference.simulate(plan)
    compare(fleet.simulate(plan), slow)
    for name in met(plan, slow):
        event(name)


@settings(RELAXED, max_examples=350)
@given(fleet_plans(longest=40))
def test_small_fleets_under_kv_pressure(plan: FleetPlan) -> None:
    check(plan)


@settings(RELAXED, max_examples=300)
@given(fleet_plans(longest=30, max_size=30))
def test_longer_queues(plan: FleetPlan) -> None:
    check(plan)


@settings(RELAXED, max_examples=250)
@given(fleet_plans(longest=400, large=True))
def test_long_outputs_in_a_large_cache(plan: FleetPlan) -> None:
    check(plan)


@settings(RELAXED, max_examples=250)
@given(fleet_plans(longest=250))
def test_long_outputs_in_a_small_cache(plan: FleetPlan) -> None:
    check(plan)


@pytest.mark.verify
@settings(RELAXED, max_examples=10_000)
@given(fleet_plans(longest=80, max_size=40))
def test_many_more_fleets(plan: FleetPlan) -> None:
    check(plan)


@pytest.mark.verify
@settings(RELAXED, max_examples=3_000)
@given(fleet_plans(longest=1_500, max_size=30, large=True))
def test_many_more_fleets_with_long_outputs(plan: FleetPlan) -> None:
    check(plan)


def test_the_generated_fleets_meet_every_case() -> None:
    seen: Counter[str] = Counter()

    @settings(RELAXED, max_examples=150, database=None, derandomize=True)
    @given(fleet_plans(longest=40))
    def collect(plan: FleetPlan) -> None:
        seen.update(met(plan, reference.simulate(plan)))

    collect()
    for name in (
        OUTCOMES[OK],
        OUTCOMES[UNFINISHED],
        "rejected",
        "preemption",
        "closed loop",
        "stopped at the horizon",
        "simultaneous arrivals",
        "arrival at the end of a step",
        "several replicas busy",
    ):
        assert seen[name] >= 5, f"{name}: {seen[name]} of 150 fleets"
