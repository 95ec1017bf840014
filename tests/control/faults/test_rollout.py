"""Rolling updates that go well, slow, or nowhere, and the way back.

What is expected follows from Kubernetes' rules (kubernetes/kubernetes, pkg/controller/deployment: rolling.go, progress.go): 25 % of 4
replicas are one more and one fewer; a rollback takes up the old ReplicaSet with the pods it still has.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sim.control.cluster.distribution import Fixed
from sim.control.cluster.plans import Start
from sim.control.faults import Rollout
from sim.control.faults.rollout import progressed
from tests.control.faults.stage import TEN, Stage, stage


def rolled(rollout: Rollout, replicas: int = 4, nodes: int = 5, begin: Start = TEN) -> Stage:
    return stage(replicas, [rollout], nodes=nodes, begin=begin)


def generations(it: Stage) -> list[int]:
    return [state.generation for state in it.cluster.states(0)]


def said(it: Stage) -> list[tuple[float, str]]:
    return [(now, reason) for kind, now, reason, numbers in it.log if kind == "rollout" and "fault" in numbers]


def test_a_slow_version_replaces_the_old_one_step_by_step() -> None:
    it = rolled(Rollout(name="r", at=100.0, deployment="d", pace=1.5))
    it.run(101.0)
    assert generations(it) == [0, 0, 0, 1, 1]  # one fewer, one more
    it.run(1000.0)
    assert generations(it) == [1] * 4
    assert [it.plane.paces[state.replica] for state in it.cluster.states(0)] == [1.5] * 4
    # two start at 100, two at 110: ready at 120
    assert it.plane.times("open")[4:] == [110.0, 110.0, 120.0, 120.0]


def test_when_it_was_complete_is_said() -> None:
    it = rolled(Rollout(name="r", at=100.0, deployment="d"))
    it.run(2000.0)
    ((_, reason),) = said(it)
    assert reason == "complete"
    (numbers,) = [numbers for _, numbers in it.kinds("rollout") if "fault" in numbers]
    assert numbers["seconds"] == 20.0


def test_a_new_image_is_pulled_though_the_old_one_is_there() -> None:
    begin = Start(pull=Fixed(60.0), after={"engine": Fixed(10.0)}, readiness_period=0.0)
    new = rolled(Rollout(name="r", at=100.0, deployment="d"), begin=begin)
    old = rolled(Rollout(name="r", at=100.0, deployment="d", new_image=False), begin=begin, nodes=4)
    for it in (new, old):
        it.run(171.0)
    assert new.plane.times("open")[4:] == [170.0, 170.0]
    assert old.plane.times("open")[4] == 110.0


def test_a_version_that_never_gets_ready_stops_the_rollout_at_its_first_step() -> None:
    it = rolled(Rollout(name="r", at=100.0, deployment="d", ready=False))
    it.run(5000.0)
    assert generations(it) == [0, 0, 0, 1, 1]
    assert it.phases().count("ready") == 3
    assert said(it) == [(700.0, "no progress for 600 s")]


def test_it_is_rolled_back_when_its_deadline_passes() -> None:
    rollout = Rollout(
        name="r", at=100.0, deployment="d", ready=False, progress_deadline=60.0, rollback_on_deadline=True
    )
    it = rolled(rollout)
    before = {state.replica for state in it.cluster.states(0)}
    it.run(161.0)
    left = {state.replica for state in it.cluster.states(0)} & before
    assert len(left) == 3  # what still ran is kept
    it.run(171.0)
    assert it.phases() == ["ready"] * 4
    assert {state.replica for state in it.cluster.states(0)} > left
    assert [reason for _, reason in said(it)] == [
        "no progress for 60 s", "rolled back: its progress deadline passed",
    ]  # fmt: skip


@pytest.mark.parametrize(("surge", "unavailable", "ready"), [(1, 0, 4), (0.5, 0.0, 4), (0, 2, 2), (0.0, 0.5, 2)])
def test_surge_and_unavailable_bound_what_a_bad_version_costs(
    surge: int | float, unavailable: int | float, ready: int
) -> None:
    rollout = Rollout(name="r", at=100.0, deployment="d", ready=False, max_surge=surge, max_unavailable=unavailable)
    it = rolled(rollout, nodes=8)
    it.run(400.0)
    assert it.phases().count("ready") == ready


def test_a_slow_version_is_taken_back_at_a_time() -> None:
    it = rolled(Rollout(name="r", at=100.0, deployment="d", pace=3.0, rollback_after=200.0))
    it.run(299.0)
    assert {it.plane.paces[state.replica] for state in it.cluster.states(0)} == {3.0}
    it.run(400.0)
    assert {it.plane.paces.get(state.replica, 1.0) for state in it.cluster.states(0)} == {1.0}
    assert set(generations(it)) == {2}
    assert said(it)[-1] == (300.0, "rolled back: it is taken back")


def test_the_second_rollout_is_as_much_slower_than_the_first() -> None:
    faults = [Rollout(name=f"r{at:g}", at=at, deployment="d", pace=2.0) for at in (100.0, 300.0)]
    it = stage(2, faults, nodes=3)
    it.run(500.0)
    assert {it.plane.paces[state.replica] for state in it.cluster.states(0)} == {4.0}


def test_a_rollback_undoes_its_own_rollout_and_no_later_one() -> None:
    faults = [
        Rollout(name="bad", at=100.0, deployment="d", pace=2.0, rollback_after=300.0),
        Rollout(name="good", at=200.0, deployment="d", pace=0.5),
    ]
    it = stage(2, faults, nodes=3)
    it.run(1000.0)
    assert {it.plane.paces.get(state.replica, 1.0) for state in it.cluster.states(0)} == {1.0}  # 2 × 0.5
    assert set(generations(it)) == {2}


def test_an_update_comes_on_with_each_new_replica_and_each_that_gets_ready() -> None:
    def replica(generation: int, created: float, ready_since: float = float("nan")) -> SimpleNamespace:
        return SimpleNamespace(generation=generation, created=created, ready_since=ready_since)

    group: Any = SimpleNamespace(counted=[replica(0, 500.0, 600.0)])
    assert progressed(group, 1, 100.0) == 100.0
    group.counted += [replica(1, 110.0), replica(1, 120.0)]
    assert progressed(group, 1, 100.0) == 120.0
    group.counted[1].ready_since = 170.0
    assert progressed(group, 1, 100.0) == 170.0


def test_progress_starts_the_deadline_anew() -> None:
    # each step takes 50 s: a deadline of 60 s holds, though all of it takes 100 s
    begin = Start(after={"engine": Fixed(50.0)}, readiness_period=0.0)
    it = rolled(Rollout(name="r", at=100.0, deployment="d", progress_deadline=60.0), begin=begin)
    it.run(1000.0)
    assert [reason for _, reason in said(it)] == ["complete"]
    assert generations(it) == [1] * 4
