"""The oracle: plans for demand worked out by hand, and plans that no other is cheaper than."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.control.fleet import simulate
from sim.control.plan import DeploymentPlan, FleetPlan
from sim.control.routers import LeastOutstanding
from sim.control.scaling.foresight import Plan, _Judge, foresee, lookahead, serving
from sim.control.scaling.limits import limits
from sim.control.scaling.oracle import OracleScaler
from sim.control.scaling.rehearsal import Change, Latencies, rehearse
from sim.control.scaling.sizing import Bounds
from sim.control.scaling.view import Autoscaler, DeploymentView, Knowledge
from sim.serving.settings import EngineSettings
from sim.testing.tables import constant_step_table, request_table

STEP = 2.0**-5
FOUR = EngineSettings(max_num_seqs=4, max_num_batched_tokens=256, kv_blocks=1_001)
TABLE = constant_step_table(STEP, 4, 256)


def square(rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """5 requests a second, 30 from 100 s to 200 s, 5 again until 300 s."""
    parts = [rng.uniform(0.0, 100.0, 500), rng.uniform(100.0, 200.0, 3000), rng.uniform(200.0, 300.0, 500)]
    return np.sort(np.concatenate(parts))


def all_known(arrival: Any, cold_start: float = 30.0, output: int = 11, **objectives: float) -> Knowledge:
    n = len(arrival)
    return Knowledge(
        TABLE,
        FOUR,
        cold_start,
        objectives or {"ttft_p99": 1.0},
        np.asarray(arrival, dtype=np.float64),
        np.full(n, 1),
        np.full(n, output),
        300.0,
    )


def plan_of(
    known: Knowledge, initial: int = 1, attainment: float = 0.99, rehearsals: int = 24, headroom: float = 0.0
) -> Plan:
    return foresee(
        known,
        limits(known.objectives),
        bounds=Bounds(1, 20),
        initial=initial,
        period=10.0,
        lead=known.cold_start,
        attainment=attainment,
        headroom=headroom,
        rehearsals=rehearsals,
    )


# what is asked for, and what serves


def test_replicas_are_asked_for_ahead_of_need_and_kept_through_short_gaps() -> None:
    assert lookahead([1, 1, 1, 3, 1, 1], 2) == [1, 3, 3, 3, 1, 1]
    assert lookahead([2, 1, 1, 2, 1], 1) == [2, 1, 2, 2, 1]  # a gap of two slots is longer than a start of one
    assert lookahead([2, 1, 1, 2, 1], 2) == [2, 2, 2, 2, 1]  # as long as a start of two: kept
    assert lookahead([2, 0, 5], 0) == [2, 0, 5]


@pytest.mark.parametrize(
    ("target", "cold_start", "expected"),
    [
        ([2, 4, 4, 4, 1], 15.0, [(0.0, 2), (25.0, 4), (40.0, 1)]),
        ([2, 4, 1], 15.0, [(0.0, 2), (20.0, 1)]),  # let go before they were ready
        ([1, 3, 3], 20.0, [(0.0, 1), (30.0, 3)]),
        ([1, 3, 2], 0.0, [(0.0, 1), (10.0, 3), (20.0, 2)]),
        ([1, 2, 3, 3, 3], 10.0, [(0.0, 1), (20.0, 2), (30.0, 3)]),
    ],
)
def test_what_serves_was_wanted_for_a_whole_cold_start(
    target: list[int], cold_start: float, expected: list[tuple[float, int]]
) -> None:
    assert serving(target, 10.0, cold_start) == [Change(*pair) for pair in expected]


@given(
    need=st.lists(st.integers(0, 9), min_size=1, max_size=30),
    slots=st.integers(0, 5),
    late=st.floats(0.0, 0.99),
)
def test_what_was_asked_for_ahead_serves_in_time(need: list[int], slots: int, late: float) -> None:
    cold = max(0.0, 10.0 * (slots - late))
    target = [max(need), *lookahead(need, slots)[1:]]
    changes = serving(target, 10.0, cold)
    for slot, wanted in enumerate(need):
        assert [change for change in changes if change.time <= 10.0 * slot][-1].replicas >= wanted


# rehearsals


def test_one_request_takes_its_steps() -> None:
    found = rehearse(TABLE, FOUR, [0.0], [1], [11], [Change(0.0, 1)])
    assert (found.ttft[0], found.tpot[0], found.e2e[0], found.queue[0]) == (STEP, STEP, 11 * STEP, 0.0)


def test_a_request_waits_for_a_replica() -> None:
    found = rehearse(TABLE, FOUR, [1.0], [1], [11], [Change(0.0, 0), Change(5.0, 1)])
    assert (found.ttft[0], found.queue[0]) == (4.0 + STEP, 4.0)
    assert rehearse(TABLE, FOUR, [1.0], [1], [11], [Change(0.0, 0)]).e2e[0] == np.inf


def test_what_no_replica_can_hold_is_not_served() -> None:
    small = EngineSettings(max_num_seqs=4, max_num_batched_tokens=256, kv_blocks=1_001, max_model_len=20)
    assert rehearse(TABLE, small, [0.0, 0.0], [1, 30], [2, 2], [Change(0.0, 1)]).ttft.tolist() == [STEP, np.inf]


def test_a_replica_let_go_serves_what_it_has() -> None:
    # The first request begins a step, the next are seen when it ends. Four seats: with one replica the fifth request waits until the
    # first has had its 11 steps; with two none waits, even when one of them goes at once.
    arrival = [0.0] * 5
    one = rehearse(TABLE, FOUR, arrival, [1] * 5, [11] * 5, [Change(0.0, 1)])
    two = rehearse(TABLE, FOUR, arrival, [1] * 5, [11] * 5, [Change(0.0, 2), Change(0.1, 1)])
    assert sorted(one.ttft) == [STEP, 2 * STEP, 2 * STEP, 2 * STEP, 12 * STEP]
    assert sorted(two.ttft) == [STEP, STEP, 2 * STEP, 2 * STEP, 2 * STEP]


def test_a_rehearsal_is_the_simulation() -> None:
    rng = np.random.default_rng(5)
    arrival = np.sort(rng.integers(0, 64 * 60, 600)) / 64.0
    prompt, output = rng.integers(1, 300, 600).tolist(), rng.integers(1, 40, 600).tolist()
    deployment = DeploymentPlan("chat", 1, FOUR, TABLE, LeastOutstanding)
    ledger = simulate(FleetPlan(request_table(arrival.tolist(), prompt, output), [deployment], [0]))
    found = rehearse(TABLE, FOUR, arrival.tolist(), prompt, output, [Change(0.0, 1)])
    assert found.ttft.tolist() == (np.array(ledger.first_token) - arrival).tolist()
    assert found.e2e.tolist() == (np.array(ledger.end) - arrival).tolist()


# plans


def test_a_square_of_demand_gets_a_square_of_replicas() -> None:
    # Four seats of 11 steps of 1/32 s: a replica serves at most 4 / (11/32) = 11.64 a second. So 5/s take one and 30/s take three
    # at least, two of them more, for 100 s and a start of 30 s: no plan costs less than 300 + 2 * 130 = 560 replica-seconds,
    # but for the last of the backlog that may wait for up to a second.
    plan = plan_of(all_known(square(np.random.default_rng(1))))
    assert plan.kept
    assert plan.attained >= 0.99
    assert plan.target[:7] == (1,) * 7
    assert plan.target[7] >= 3  # asked for at 70 s, ready at 100 s
    assert plan.target[-5:] == (1,) * 5
    assert 560.0 <= plan.replica_seconds <= 640.0


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_other_square_is_cheaper(seed: int) -> None:
    known = all_known(square(np.random.default_rng(seed)))
    plan = plan_of(known)
    rows = (known.arrival.tolist(), known.prompt_tokens.tolist(), known.output_tokens.tolist())
    judge = _Judge(limits(known.objectives), 0.99)
    cheapest = np.inf
    for base, height, up, down in product((1, 2), (3, 4), (6, 7, 8, 9), (18, 19, 20, 21)):
        target = [1] + [height if up <= k < down else base for k in range(1, 30)]
        cost = 10.0 * sum(target)
        if cost < cheapest and not judge.missed(rehearse(TABLE, FOUR, *rows, serving(target, 10.0, 30.0)))[0]:
            cheapest = cost
    assert plan.kept
    assert plan.replica_seconds <= cheapest


def test_less_attainment_is_not_dearer() -> None:
    known = all_known(square(np.random.default_rng(4)))
    costs = [plan_of(known, attainment=share).replica_seconds for share in (0.8, 0.99)]
    assert costs == sorted(costs)


def test_rehearsals_mend_a_model_that_is_wrong() -> None:
    known = all_known(square(np.random.default_rng(1)))
    believed = plan_of(known, headroom=-0.9, rehearsals=1)
    mended = plan_of(known, headroom=-0.9)
    assert not believed.kept
    assert mended.kept
    assert mended.replica_seconds <= 1.1 * plan_of(known).replica_seconds


def test_believing_the_model_takes_no_rehearsal() -> None:
    plan = plan_of(all_known(square(np.random.default_rng(1))), rehearsals=0)
    assert plan.rehearsals == 0
    assert np.isnan(plan.attained)
    assert max(plan.target) >= 3


def test_the_end_is_not_paid_for() -> None:
    plan = plan_of(all_known([1.0, 2.0, 3.0]), initial=5)
    assert plan.target == (5,)
    assert plan.at(0.0) == 5
    assert plan.at(10.0) == 1
    assert plan_of(all_known([]), initial=3).at(10.0) == 1


def test_limits_may_be_missed_by_the_rest_of_their_quantile() -> None:
    late = Latencies(*(np.array([2.0] * 30 + [0.5] * 70) for _ in range(4)))
    assert _Judge(limits({"ttft_p50": 1.0}), 0.99).missed(late)[0] == 0.0
    assert _Judge(limits({"ttft_mean": 1.0}), 0.99).missed(late)[0] == 0.0
    # 30 of 100 missed, one may
    assert _Judge(limits({"ttft_p99": 1.0}), 0.99).missed(late)[0] == pytest.approx(29.0, abs=1e-3)
    assert _Judge(limits({"ttft_p99": 1.0}), 0.6).missed(late)[0] == 0.0
    excess, missed, attained = _Judge(limits({"ttft_p99": 1.0, "tpot_p50": 1.0}), 0.99).missed(late)
    assert (missed.sum(), attained) == (30, 0.7)
    assert excess == pytest.approx(29.0, abs=1e-3)


# the scaler


def test_it_carries_out_its_plan() -> None:
    known = all_known(square(np.random.default_rng(1)))
    scaler = OracleScaler(knowledge=known, rehearsals=24)
    assert isinstance(scaler, Autoscaler)
    decided = [scaler.decide(DeploymentView(10.0 * k, 1)) for k in range(1, 40)]
    plan = plan_of(known)
    assert tuple(decision.replicas for decision in decided) == plan.target[1:] + (1,) * 10
    assert decided[0].reason == "plan"
    assert decided[0].numbers["attained"] == plan.attained
    assert decided[0].numbers["replica_seconds"] == plan.replica_seconds


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"attainment": 1.0}, "attainment is 1.0; it must lie between 0 and 1"),
        ({"headroom": -1.0}, "headroom is -1.0; it must be a number above -1"),
        ({"rehearsals": -1}, "rehearsals is -1; it must be a whole number from 0"),
        ({"lead": -1.0}, "lead is -1.0"),
        ({"tpot": -1.0}, "tpot is -1.0"),
    ],
)
def test_parameters_that_cannot_be(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        OracleScaler(**given)


def test_what_it_cannot_foresee() -> None:
    with pytest.raises(ValueError, match="it cannot foresee closed loops"):
        OracleScaler(knowledge=all_known([1.0, np.nan]))
    with pytest.raises(ValueError, match="there is no latency objective to keep"):
        OracleScaler(knowledge=all_known([1.0], usd_per_1m_tokens=1.0))
    with pytest.raises(ValueError, match="it needs to know what will come"):
        OracleScaler().decide(DeploymentView(10.0, 1))


@settings(max_examples=30)
@given(
    arrival=st.lists(st.integers(0, 64 * 120).map(lambda ticks: ticks / 64.0), max_size=120),
    output=st.integers(1, 60),
    least=st.integers(0, 2),
    more=st.integers(1, 6),
    initial=st.integers(0, 3),
    ttft=st.sampled_from([0.001, 0.1, 1.0, 10.0]),
    cold_start=st.sampled_from([0.0, 5.0, 25.0]),
)
def test_decisions_stay_within_bounds_and_are_always_the_same(
    arrival: list[float], output: int, least: int, more: int, initial: int, ttft: float, cold_start: float
) -> None:
    known = all_known(sorted(arrival), cold_start, output, ttft_p99=ttft, tpot_p99=0.5)

    def run() -> list[int | None]:
        scaler = OracleScaler(min=least, max=least + more, rehearsals=4, knowledge=known)
        return [scaler.decide(DeploymentView(10.0 * k, initial)).replicas for k in range(1, 15)]

    decided = run()
    assert decided == run()
    assert all(n is not None and least <= n <= least + more for n in decided)
