"""Crashes, dead nodes, zones, spot machines: when they are noticed, and what comes in their place."""

from __future__ import annotations

import pytest

from sim.control.cluster.distribution import Fixed
from sim.control.cluster.plans import PoolPlan, ReplicaPlan, Start
from sim.control.scaling.view import DRAINING, PENDING, READY, STARTING
from tests.control.cluster.fakes import Rig

TEN = Start(after={"engine": Fixed(10.0)}, readiness_period=0.0)


def rig_of(replicas: int, start: Start = TEN, **pool: object) -> Rig:
    options: dict[str, object] = {"gpus": 2, "nodes": 2} | pool
    rig = Rig([PoolPlan("p", **options)], [ReplicaPlan("d", "p", replicas, start=start)])  # type: ignore[arg-type]
    rig.cluster.start()
    return rig


# replicas


def test_a_crashed_replica_starts_again_in_its_place() -> None:
    rig = rig_of(2)
    rig.run(5.0)
    assert rig.cluster.fail_replica(0, "a fault")
    states = rig.cluster.states(0)
    assert [(state.replica, state.index, state.phase, state.node) for state in states] == [
        (1, 1, READY, 0),
        (2, 2, STARTING, 0),
    ]
    rig.run(20.0)
    assert rig.plane.deeds[2:] == [("kill", 0, 5.0), ("open", 2, 15.0)]
    usage = rig.cluster.usage(20.0)
    assert [(item.replica, item.gpus, item.placed, item.gone) for item in usage.replicas] == [
        (0, (0,), 0.0, 5.0),
        (1, (1,), 0.0, 20.0),
        (2, (0,), 5.0, 20.0),
    ]


def test_image_and_page_cache_are_warm_when_it_starts_again() -> None:
    start = Start(
        pull=Fixed(100.0),
        weights_bytes=10.0,
        weights={"local_disk": Fixed(50.0), "page_cache": Fixed(2.0)},
        readiness_period=0.0,
    )
    rig = rig_of(1, start, host_memory=10.0)
    rig.run(5.0)
    rig.cluster.fail_replica(0, "a fault")
    rig.run(100.0)
    assert rig.plane.deeds[-1] == ("open", 1, 7.0)


def test_one_that_crashes_again_and_again_waits_longer_each_time() -> None:
    """The kubelet: at once, then 10 s, 20 s, 40 s and so on to 5 min; from the beginning when it has run for 10 min."""
    rig = rig_of(1)
    waits = []
    for _ in range(8):
        number = rig.cluster.states(0)[0].replica
        rig.run(rig.env.now + 1.0)
        rig.cluster.fail_replica(number, "a fault")
        crashed = rig.env.now
        while rig.phases() != [READY]:
            rig.run(rig.env.now + 1.0)
        waits.append(rig.plane.deeds[-1][2] - crashed - 10.0)
    assert waits == [0.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0]
    rig.run(rig.env.now + 601.0)
    crashed = rig.env.now
    rig.cluster.fail_replica(rig.cluster.states(0)[0].replica, "a fault")
    rig.run(crashed + 11.0)
    assert rig.plane.deeds[-1][2] - crashed == 10.0


def test_a_replica_that_hangs_fails_requests_until_it_is_found_out() -> None:
    rig = rig_of(1)
    rig.run(5.0)
    assert rig.cluster.fail_replica(0, "it hangs", detected_after=30.0)
    assert rig.phases() == [READY]  # as far as anybody knows
    rig.run(60.0)
    assert rig.plane.deeds[1:] == [("cut", 0, 5.0), ("kill", 0, 35.0), ("open", 1, 45.0)]


def test_one_that_crashes_more_often_than_a_float_can_double() -> None:
    rig = rig_of(1)
    for number in range(1100):
        assert rig.cluster.fail_replica(number, "a fault")
    rig.run(311.0)
    assert rig.plane.deeds[-1] == ("open", 1100, 310.0)  # 5 min, and its start


def test_what_is_starting_waits_or_is_gone_cannot_crash_twice() -> None:
    rig = rig_of(4)
    rig.cluster.scale(0, 5, "up")
    assert not rig.cluster.fail_replica(4, "it waits for GPUs")
    assert rig.cluster.fail_replica(0, "a fault")
    assert not rig.cluster.fail_replica(0, "gone")
    assert rig.cluster.fail_replica(5, "while it starts")


def test_a_draining_replica_that_crashes_is_not_replaced() -> None:
    rig = rig_of(1)
    rig.plane.always_busy = True
    rig.cluster.scale(0, 0, "down")
    assert rig.cluster.fail_replica(0, "a fault")
    rig.run(100.0)
    assert rig.cluster.states(0) == []


# nodes


def test_a_dead_node_is_noticed_and_then_its_replicas_are_replaced() -> None:
    """node-monitor-grace-period 40 s, then the 300 s that pods tolerate an unreachable node."""
    rig = rig_of(2)
    rig.run(5.0)
    assert rig.cluster.fail_node(0, "power")
    assert rig.plane.deeds[2:] == [("cut", 0, 5.0), ("cut", 1, 5.0)]
    assert rig.phases() == [READY, READY]
    rig.run(46.0)
    assert rig.plane.deeds[4:] == [("kill", 0, 45.0), ("kill", 1, 45.0)]
    assert rig.phases() == [STARTING, STARTING]
    rig.run(360.0)
    assert rig.plane.deeds[6:] == [("open", 2, 355.0), ("open", 3, 355.0)]
    assert {state.node for state in rig.cluster.states(0)} == {1}
    usage = rig.cluster.usage(400.0)
    assert [(node.node, node.end, node.ended) for node in usage.nodes] == [(0, 5.0, "power"), (1, 400.0, "")]
    assert [item.gone for item in usage.replicas] == [5.0, 5.0, 400.0, 400.0]


def test_a_node_that_is_back_before_its_replicas_are_replaced_starts_them_itself() -> None:
    rig = rig_of(2)
    rig.run(5.0)
    rig.cluster.fail_node(0, "a reboot")
    rig.run(100.0)
    assert rig.cluster.restore_node(0)
    rig.run(1000.0)
    assert [(state.phase, state.node) for state in rig.cluster.states(0)] == [(READY, 0), (READY, 0)]
    assert rig.plane.times("open") == [0.0, 0.0, 110.0, 110.0]
    assert [(node.start, node.end) for node in rig.cluster.usage(1000.0).nodes] == [
        (0.0, 5.0),
        (0.0, 1000.0),
        (100.0, 1000.0),
    ]


def test_a_failed_node_counts_for_the_pool_until_it_is_restored() -> None:
    rig = rig_of(4)
    rig.cluster.fail_node(0, "power", detected_after=0.0, toleration=0.0)
    rig.run(100.0)
    assert rig.phases().count(PENDING) == 2
    assert rig.cluster.restore_node(0)
    rig.run(200.0)
    assert rig.phases() == [READY] * 4
    assert not rig.cluster.restore_node(0)


def test_a_start_on_a_dead_node_comes_to_nothing() -> None:
    rig = rig_of(0)
    rig.cluster.scale(0, 1, "up")
    rig.run(5.0)
    rig.cluster.fail_node(0, "power", detected_after=1.0, toleration=2.0)
    rig.run(100.0)
    assert rig.plane.deeds == [("kill", 0, 8.0), ("open", 1, 18.0)]


def test_a_start_does_not_go_on_while_nobody_has_noticed() -> None:
    rig = rig_of(0)
    rig.cluster.scale(0, 1, "up")
    rig.run(5.0)
    rig.cluster.fail_node(0, "power")
    rig.run(300.0)
    assert rig.phases() == [STARTING]
    rig.run(400.0)
    assert rig.plane.deeds == [("kill", 0, 345.0), ("open", 1, 355.0)]


def test_a_node_that_was_asked_for_and_fails_is_asked_for_again() -> None:
    rig = rig_of(2, gpus=2, nodes=1, most=2, provision=Fixed(50.0))
    rig.cluster.scale(0, 3, "up")
    rig.run(10.0)
    assert rig.cluster.fail_node(1, "no capacity")
    rig.run(100.0)
    assert rig.plane.deeds[-1] == ("open", 2, 70.0)


def test_a_cordoned_node_takes_nothing_new() -> None:
    rig = rig_of(1)
    rig.cluster.cordon(0)
    rig.cluster.scale(0, 4, "up")
    assert rig.phases().count(PENDING) == 1
    rig.cluster.uncordon(0)
    assert rig.phases().count(PENDING) == 0


# zones


def test_a_lost_zone_takes_its_nodes_and_what_is_replaced_goes_elsewhere() -> None:
    rig = rig_of(2, nodes=2, most=4, zones=("a", "b"), placement="spread", provision=Fixed(20.0))
    zones = {node.node: node.zone for node in rig.cluster.nodes()}
    assert sorted(zones.values()) == ["a", "b"]
    lost = rig.cluster.fail_zone("a", "the zone", detected_after=1.0)
    assert [zones[node] for node in lost] == ["a"]
    rig.run(400.0)
    up = {node.node: node.zone for node in rig.cluster.nodes() if node.state == "up"}
    assert {up[state.node or 0] for state in rig.cluster.states(0)} == {"b"}
    assert rig.phases() == [READY] * 2
    rig.cluster.scale(0, 8, "up")
    rig.run(500.0)
    assert {node.zone for node in rig.cluster.nodes() if node.state == "up"} == {"b"}
    rig.cluster.restore_zone("a")
    rig.run(700.0)
    assert {node.zone for node in rig.cluster.nodes() if node.state == "up"} == {"a", "b"}
    assert rig.phases() == [READY] * 8


def test_nothing_moves_from_one_node_of_a_lost_zone_to_another() -> None:
    rig = rig_of(4, nodes=4, zones=("a", "b"), monitor=0.0, toleration=0.0)
    rig.cluster.cordon(2)  # of zone b, node 1 is full and node 3 empty
    rig.cluster.fail_zone("b", "the zone")
    assert [numbers["node"] for _, numbers in rig.kinds("place")] == [0, 0, 1, 1]
    rig.cluster.uncordon(2)
    assert [numbers["node"] for _, numbers in rig.kinds("place")] == [0, 0, 1, 1, 2, 2]


def test_a_node_that_failed_by_itself_does_not_come_back_with_its_zone() -> None:
    rig = rig_of(0, nodes=2, zones=("a",))
    rig.cluster.fail_node(0, "a disk")
    assert rig.cluster.fail_zone("a", "the zone") == [1]
    assert not rig.cluster.restore_node(0)  # not before the zone is
    rig.cluster.restore_zone("a")
    assert [node.state for node in rig.cluster.nodes()] == ["failed", "up"]


# spot


def test_a_spot_machine_drains_on_notice_and_its_replicas_are_replaced_at_once() -> None:
    rig = rig_of(2, gpus=2, nodes=1, most=1, provision=Fixed(60.0))
    rig.plane.always_busy = True
    rig.run(5.0)
    assert rig.cluster.reclaim(0, 120.0, "spot")
    assert rig.phases() == [DRAINING, DRAINING, PENDING, PENDING]
    rig.run(400.0)
    assert rig.plane.times("kill") == [35.0, 35.0]  # 30 s of grace are less than 120 s of notice
    assert rig.plane.times("open")[2:] == [75.0, 75.0]
    ends = [(node.node, node.start, node.end, node.ended) for node in rig.cluster.usage(400.0).nodes]
    assert ends == [(0, 0.0, 125.0, "spot"), (1, 5.0, 400.0, "")]


def test_a_notice_shorter_than_the_grace_period_ends_it() -> None:
    rig = rig_of(1)
    rig.plane.always_busy = True
    rig.cluster.reclaim(0, 10.0, "spot")
    rig.run(50.0)
    assert rig.plane.times("kill") == [10.0]


def test_without_draining_it_serves_to_the_end_and_the_loss_has_to_be_noticed() -> None:
    rig = rig_of(1, nodes=1, most=1)
    rig.cluster.reclaim(0, 30.0, "spot", drain_on_notice=False, detected_after=15.0)
    rig.run(29.0)
    assert rig.phases() == [READY]
    rig.run(100.0)
    assert rig.plane.deeds[1:] == [("cut", 0, 30.0), ("kill", 0, 45.0), ("open", 1, 55.0)]


@pytest.mark.parametrize("notice", [0.0, 30.0])
def test_a_machine_is_taken_once(notice: float) -> None:
    rig = rig_of(1)
    assert rig.cluster.reclaim(0, notice, "spot")
    assert not rig.cluster.reclaim(0, notice, "spot")
    rig.run(100.0)
    assert not rig.cluster.reclaim(0, notice, "spot")
    assert not rig.cluster.fail_node(0, "power")


def test_a_machine_that_dies_before_it_is_taken_does_not_come_back() -> None:
    rig = rig_of(0)
    rig.cluster.reclaim(0, 120.0, "spot")
    rig.run(5.0)
    assert rig.cluster.fail_node(0, "power")
    rig.run(200.0)
    assert not rig.cluster.restore_node(0)
    assert [node.end for node in rig.cluster.usage(200.0).nodes if node.node == 0] == [5.0]
