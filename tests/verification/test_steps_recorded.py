"""Steps that are written down: they change nothing, add up to the totals, and are those of the reference, bit for bit.

The reference is recorded here, one step at a time, by a subclass that looks at each step when it is priced.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from math import isnan
from typing import Any, NamedTuple

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from sim.control.fleet import Fleet
from sim.control.floor import Floor
from sim.control.plan import FleetPlan
from sim.control.recorded import RecordedFleet
from sim.control.reference import ReferenceFleet
from sim.control.station import Station
from sim.serving import reference
from sim.serving.ledger import Ledger
from sim.serving.reference_scheduler import Step
from sim.testing.controlled import Disturbance, controlled_plans, disturbances, run
from sim.testing.strategies import fleet_plans

RELAXED = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


class One(NamedTuple):
    """A step of the reference."""

    start: float
    seconds: float
    made_of: tuple[int, ...]
    running: int
    waiting: int
    kv_used: int


class Watched(reference.Replica):
    """Notes each step when its price is asked for, which is when it begins."""

    noted: list[One]

    def price(self, step: Step) -> float:
        seconds = super().price(step)
        running, waiting, used = self.snapshot()
        prompts = step.sequences - step.decodes
        made_of = (prompts, step.prefill_tokens, step.decodes, step.context_sum)
        self.noted.append(One(self._env.now, seconds, made_of, running, waiting, used))
        return seconds


class WatchedFleet(ReferenceFleet):
    def make(self, number: int, station: Station) -> None:
        super().make(number, station)
        self.replicas[number].__class__ = Watched
        vars(self.replicas[number])["noted"] = []


def rows(fleet: RecordedFleet) -> dict[int, list[dict[str, Any]]]:
    """The log by replica."""
    found = defaultdict(list)
    columns = fleet.steps.columns
    for values in zip(*columns.values(), strict=True):
        row = dict(zip(columns, values, strict=True))
        found[row["replica"]].append(row)
    return found


def same_ledger(one: Ledger, other: Ledger) -> None:
    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(item) for item in value]
        return None if isinstance(value, float) and isnan(value) else value

    for name in Ledger.__slots__:
        if name != "itl":
            assert plain(getattr(one, name)) == plain(getattr(other, name)), name
    assert (one.itl.counts, one.itl.total) == (other.itl.counts, other.itl.total)


def totals_agree(fleet: RecordedFleet) -> None:
    ledger = fleet.ledger
    for replica, noted in rows(fleet).items():
        assert sum(row["steps"] for row in noted) == ledger.steps[replica]
        assert sum(row["steps"] * row["prefill_tokens"] for row in noted) == ledger.prefill_tokens[replica]
        assert sum(row["steps"] * row["decodes"] for row in noted) == ledger.decode_tokens[replica]
        assert sum(row["end_s"] - row["start_s"] for row in noted) == ledger.busy[replica]
        assert max(row["kv_used"] for row in noted) <= ledger.peak_blocks[replica]
        assert all(one["end_s"] <= other["start_s"] for one, other in pairwise(noted))
    assert {replica for replica, steps in enumerate(ledger.steps) if steps} <= set(rows(fleet))


def same_steps(fleet: RecordedFleet, slow: WatchedFleet) -> None:
    noted = rows(fleet)
    for number, replica in enumerate(slow.replicas):
        assert isinstance(replica, Watched)
        expected = iter(replica.noted)
        for row in noted[number]:
            made_of = (row["prompts"], row["prefill_tokens"], row["decodes"])
            if row["steps"] == 0:
                event("a lost step")
                lost = next(expected)
                assert (lost.start, lost.made_of[:3]) == (row["start_s"], made_of)
                assert lost.start < row["end_s"] <= lost.start + lost.seconds
                continue
            if row["steps"] > 1:
                event("a span")
            first, *more = [next(expected) for _ in range(row["steps"])]
            last = more[-1] if more else first
            assert (first.start, last.start + last.seconds) == (row["start_s"], row["end_s"])
            assert (*made_of, row["context_tokens"]) == first.made_of
            assert (row["running"], row["waiting"], row["kv_used"]) == (first.running, first.waiting, first.kv_used)
            assert all(step.made_of[:3] == made_of for step in more)
        assert len(list(expected)) <= 1  # the one in progress when the run ended, or that was lost as it began


def finished(floor: Floor, plan: FleetPlan) -> None:
    while floor.advance(float("inf") if plan.drain else plan.horizon) and floor.notices:
        floor.notices.clear()
    floor.finish()


@settings(RELAXED, max_examples=150)
@given(fleet_plans(longest=30))
def test_steps_of_fleets(plan: FleetPlan) -> None:
    bare, recorded, slow = Fleet(plan), RecordedFleet(plan), WatchedFleet(plan)
    for fleet in (bare, recorded, slow):
        finished(fleet, plan)
    same_ledger(bare.ledger, recorded.ledger)
    totals_agree(recorded)
    same_steps(recorded, slow)


@st.composite
def controlled(draw: st.DrawFn) -> tuple[FleetPlan, list[Disturbance]]:
    plan = draw(controlled_plans(longest=30))
    return plan, draw(disturbances(plan))


@settings(RELAXED, max_examples=150)
@given(controlled())
def test_steps_of_fleets_whose_replicas_come_and_go(case: tuple[FleetPlan, list[Disturbance]]) -> None:
    plan, script = case
    bare, recorded, slow = Fleet(plan), RecordedFleet(plan), WatchedFleet(plan)
    for fleet in (bare, recorded, slow):
        run(fleet, script)
        fleet.finish()
    same_ledger(bare.ledger, recorded.ledger)
    totals_agree(recorded)
    same_steps(recorded, slow)
