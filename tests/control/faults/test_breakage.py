"""GPUs, machines, processes and zones that break, and come back."""

from __future__ import annotations

from math import sqrt
from typing import Any

import pytest

from sim.control.cluster.distribution import Fixed
from sim.control.cluster.plans import PoolPlan
from sim.control.faults import At, GpuFailure, NodeFailure, Renewal, ReplicaCrash, ZoneLoss
from sim.control.scaling.view import READY
from sim.errors import SimulationError
from tests.control.faults.stage import Stage, stage


def broken(it: Stage) -> list[tuple[float, Any]]:
    return [(now, numbers.get("node")) for now, numbers in it.kinds("fault")]


def test_a_machine_fails_and_is_repaired() -> None:
    it = stage(2, [NodeFailure(name="f", when=At((100.0,)), count=1, repair=Fixed(60.0))], nodes=2, placement="spread")
    it.run(1000.0)
    (when, node), *more = broken(it)
    assert not more
    assert when == 100.0
    assert [(time, numbers["node"]) for time, numbers in it.kinds("repair")] == [(160.0, node)]
    # back before its replica is replaced (40 + 300 s): it starts there again, in 10 s
    assert [(time, replica) for what, replica, time in it.plane.deeds if what == "open"][2:] == [(170.0, 2)]
    assert [state.node for state in it.cluster.nodes() if state.state == "up"] == [0, 1]


def test_without_a_repair_it_stays_broken() -> None:
    it = stage(1, [NodeFailure(name="f", when=At((100.0,)))], nodes=1)
    it.run(1e5)
    assert [state.state for state in it.cluster.nodes()] == ["failed"]


def test_a_machine_that_is_broken_cannot_break_again() -> None:
    it = stage(1, [NodeFailure(name="f", when=At((100.0, 130.0)), repair=Fixed(60.0))], nodes=1)
    it.run(1000.0)
    assert [when for when, _ in broken(it)] == [100.0]
    assert [when for when, _ in it.kinds("repair")] == [160.0]


def test_a_repair_is_of_its_own_failure_and_no_later_one() -> None:
    it = stage(1, [NodeFailure(name="f", when=At((100.0,)), repair=Fixed(60.0))], nodes=1)
    it.run(120.0)
    assert it.cluster.restore_node(0)
    assert it.cluster.fail_node(0, "by hand")
    it.run(1000.0)
    assert [state.state for state in it.cluster.nodes()] == ["failed"]


def test_only_machines_of_the_pool_and_the_zone_are_hit() -> None:
    fault = NodeFailure(name="f", when=At((100.0,)), pools=("p",), zone="b", share=1.0, repair=Fixed(60.0))
    it = stage(4, [fault], nodes=4, zones=("a", "b"), others=[PoolPlan("q", gpus=1, nodes=2, zones=("b",))])
    it.run(150.0)
    assert {(state.pool, state.zone) for state in it.cluster.nodes() if state.state == "failed"} == {("p", "b")}
    assert sum(state.state == "failed" for state in it.cluster.nodes()) == 2


def test_it_is_noticed_when_the_fault_says() -> None:
    it = stage(1, [NodeFailure(name="f", when=At((100.0,)), detected_after=5.0)], nodes=1)
    it.run(1000.0)
    assert it.plane.deeds[1:] == [("cut", 0, 100.0), ("kill", 0, 105.0)]


def test_machines_fail_as_often_as_they_should() -> None:
    # up 1000 s and down 250 s on average: in 100,000 s each of 20 fails 100,000 / 1250 = 80 times. An alternating renewal process with
    # exponential times up and fixed ones down: variance of the count t σ²/μ³ = 100,000 × 1000² / 1250³ = 51.2
    fault = NodeFailure(name="f", when=Renewal(1000.0), repair=Fixed(250.0))
    it = stage(0, [fault], nodes=20)
    it.run(100_000.0)
    assert abs(len(broken(it)) - 1600) < 4 * sqrt(20 * 51.2)


def test_a_gpu_takes_its_machine_with_it() -> None:
    it = stage(4, [GpuFailure(name="f", when=At((100.0,)), count=1, repair=Fixed(60.0))], nodes=2, gpus=2)
    it.run(101.0)
    ((_, fault),) = it.kinds("fault")
    assert fault["gpu"] in (0, 1)
    assert [state.state for state in it.cluster.nodes()].count("failed") == 1
    assert len(it.plane.cut_) == 2


def test_a_gpu_may_take_only_the_replica_that_runs_on_it() -> None:
    it = stage(4, [GpuFailure(name="f", when=At((100.0,)), count=1, takes="replica")], nodes=2, gpus=2)
    placed = {(numbers["node"], gpu): numbers["replica"] for _, numbers in it.kinds("place") for gpu in numbers["gpus"]}
    it.run(105.0)
    ((_, fault),) = it.kinds("fault")
    assert it.plane.gone == {placed[fault["node"], fault["gpu"]]} == {fault["replica"]}
    assert all(state.state == "up" for state in it.cluster.nodes())
    it.run(111.0)
    assert it.phases() == [READY] * 4


def test_a_gpu_that_nobody_uses_takes_no_replica() -> None:
    it = stage(0, [GpuFailure(name="f", when=Renewal(50.0), takes="replica")], nodes=2, gpus=2)
    it.run(1000.0)
    assert broken(it) == []


def test_a_process_dies_and_starts_again() -> None:
    it = stage(3, [ReplicaCrash(name="f", when=At((100.0,)), deployments=("d",), count=2)], nodes=3)
    it.run(105.0)
    assert len(it.plane.gone) == 2
    assert it.phases().count(READY) == 1
    it.run(200.0)
    assert it.phases() == [READY] * 3
    assert len(it.kinds("fault")) == 2


def test_a_process_may_hang_until_it_is_found_out() -> None:
    it = stage(1, [ReplicaCrash(name="f", when=At((100.0,)), detected_after=30.0)], nodes=1)
    it.run(200.0)
    assert it.plane.deeds[1:] == [("cut", 0, 100.0), ("kill", 0, 130.0), ("open", 1, 140.0)]


def test_replicas_crash_as_often_as_they_should() -> None:
    # each of 10 runs for 1000 s on average and starts in 10 s: 50,000 / 1000 strikes each, those that meet a starting one included
    it = stage(10, [ReplicaCrash(name="f", when=Renewal(1000.0))], nodes=10)
    it.run(50_000.0)
    assert abs(len(it.kinds("fault")) - 500) < 4 * sqrt(500)


# zones


def zones(*faults: Any) -> Stage:
    return stage(4, list(faults), nodes=4, zones=("a", "b"), placement="spread")


def test_a_zone_is_lost_and_comes_back() -> None:
    it = zones(ZoneLoss(name="z", when=At((100.0,)), zone="a", lasts=Fixed(60.0)))
    it.run(101.0)
    assert [(state.zone, state.state) for state in it.cluster.nodes()] == [
        ("a", "failed"), ("b", "up"), ("a", "failed"), ("b", "up"),
    ]  # fmt: skip
    it.run(200.0)
    assert all(state.state == "up" for state in it.cluster.nodes())
    assert [when for when, _ in it.kinds("repair")] == [160.0]


def test_a_zone_that_two_faults_hold_comes_back_when_both_are_over() -> None:
    it = zones(
        ZoneLoss(name="y", when=At((100.0,)), zone="a", lasts=Fixed(60.0)),
        ZoneLoss(name="z", when=At((130.0,)), zone="a", lasts=Fixed(100.0)),
    )
    it.run(200.0)
    assert [state.state for state in it.cluster.nodes()].count("failed") == 2
    it.run(231.0)
    assert [state.state for state in it.cluster.nodes()].count("failed") == 0
    assert [when for when, _ in it.kinds("repair")] == [230.0]


@pytest.mark.parametrize(("repair", "back"), [(30.0, 200.0), (400.0, 490.0)])
def test_a_machine_that_failed_before_its_zone_needs_its_repair_and_its_zone(repair: float, back: float) -> None:
    it = zones(
        NodeFailure(name="n", when=At((90.0,)), zone="a", count=1, repair=Fixed(repair)),
        ZoneLoss(name="z", when=At((100.0,)), zone="a", lasts=Fixed(100.0)),
    )
    it.run(1000.0)
    ((_, lost), (_, zone)) = it.kinds("fault")
    assert zone["nodes"] == 1
    assert [when for when, numbers in it.kinds("repair") if numbers.get("node") == lost["node"]] == [back]
    assert all(state.state == "up" for state in it.cluster.nodes())


# names


def test_a_name_that_is_not_there_is_said() -> None:
    with pytest.raises(SimulationError, match=r"'pp' is not one of the pools \(did you mean 'p'\?\)"):
        stage(1, [NodeFailure(name="f", when=At((1.0,)), pools=("pp",))])
    with pytest.raises(SimulationError, match="'x' is not one of the deployments"):
        stage(1, [ReplicaCrash(name="f", when=At((1.0,)), deployments=("x",))])


def test_names_differ() -> None:
    fault = ReplicaCrash(name="f", when=At((1.0,)))
    with pytest.raises(SimulationError, match="'f' is the name of 2 of them"):
        stage(1, [fault, fault])


def test_options_with_more_replicas_meet_the_same_faults() -> None:
    fault = NodeFailure(name="f", when=Renewal(500.0), repair=Fixed(50.0))

    def met(replicas: int, nodes: int) -> list[tuple[float, Any]]:
        it = stage(replicas, [fault], nodes=nodes)
        it.run(2000.0)
        return [(when, node) for when, node in broken(it) if node < 3]

    assert met(1, 3) == met(3, 3) == met(6, 6) != []


def test_the_kubelet_still_waits_longer_each_time() -> None:
    # crashes at 100 and 115 (the second start began at 100 and was ready at 110): at once, then after 10 s
    it = stage(1, [ReplicaCrash(name="f", when=At((100.0, 115.0)))], nodes=1)
    it.run(1000.0)
    assert it.plane.times("open") == [0.0, 110.0, 135.0]


def test_plans_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="count 1 and share"):
        NodeFailure(name="f", when=At((1.0,)), count=1, share=0.5)
    with pytest.raises(ValueError, match="takes 'rack' is neither node nor replica"):
        GpuFailure(name="f", when=At((1.0,)), takes="rack")
