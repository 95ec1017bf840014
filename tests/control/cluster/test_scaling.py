"""Scaling up and down: drains, nodes that come and go, rolling updates."""

from __future__ import annotations

import pytest

from sim.control.cluster.distribution import Fixed
from sim.control.cluster.plans import PoolPlan, ReplicaPlan, Start
from sim.control.scaling.view import DRAINING, PENDING, READY, STARTING
from tests.control.cluster.fakes import Rig

TEN = Start(after={"engine": Fixed(10.0)}, readiness_period=0.0)


def rig_of(replicas: int, pool: PoolPlan, grace: float = 30.0, start: Start = TEN) -> Rig:
    rig = Rig([pool], [ReplicaPlan("d", "p", replicas, start=start, grace=grace)])
    rig.cluster.start()
    return rig


def test_replicas_are_ready_at_the_start() -> None:
    rig = rig_of(3, PoolPlan("p", gpus=4, nodes=1))
    assert rig.plane.deeds == [("open", 0, 0.0), ("open", 1, 0.0), ("open", 2, 0.0)]
    assert [(state.index, state.phase, state.ready_since) for state in rig.cluster.states(0)] == [
        (0, READY, 0.0),
        (1, READY, 0.0),
        (2, READY, 0.0),
    ]
    assert rig.cluster.target(0) == 3


# down


def test_an_idle_replica_goes_at_once_and_a_busy_one_when_it_has_drained() -> None:
    rig = rig_of(2, PoolPlan("p", gpus=2, nodes=1))
    rig.plane.busy = {1}
    rig.run(5.0)
    rig.cluster.scale(0, 0, "nothing to do")
    assert rig.phases() == [DRAINING]
    rig.run(12.0)
    rig.cluster.told(12.0, "drained", 1)
    assert rig.cluster.states(0) == []
    assert [deed for deed in rig.plane.deeds if deed[0] == "kill"] == [("kill", 0, 5.0), ("kill", 1, 12.0)]
    assert [(item.closed, item.gone) for item in rig.cluster.usage(20.0).replicas] == [(5.0, 5.0), (5.0, 12.0)]


def test_what_has_not_drained_within_the_grace_period_is_killed() -> None:
    rig = rig_of(1, PoolPlan("p", gpus=1, nodes=1), grace=30.0)
    rig.plane.always_busy = True
    rig.run(5.0)
    rig.cluster.scale(0, 0, "nothing to do")
    rig.run(34.9)
    assert rig.phases() == [DRAINING]
    rig.run(36.0)
    assert rig.plane.deeds[-1] == ("kill", 0, 35.0)
    assert rig.kinds("gone")[0][1]["failed"] == 1


def test_scaling_up_does_not_bring_a_draining_replica_back() -> None:
    rig = rig_of(1, PoolPlan("p", gpus=2, nodes=1))
    rig.plane.always_busy = True
    rig.cluster.scale(0, 0, "down")
    rig.cluster.scale(0, 1, "up")
    assert rig.phases() == [DRAINING, STARTING]
    rig.run(11.0)
    assert rig.phases() == [DRAINING, READY]


def test_a_draining_replica_has_its_gpus_until_it_is_gone() -> None:
    rig = rig_of(1, PoolPlan("p", gpus=1, nodes=1))
    rig.plane.always_busy = True
    rig.cluster.scale(0, 0, "down")
    rig.cluster.scale(0, 1, "up")
    assert rig.phases() == [DRAINING, PENDING]
    rig.run(100.0)
    assert rig.plane.deeds[-1] == ("open", 1, 40.0)  # 30 s of grace, 10 s of start


def test_those_that_serve_least_go_first() -> None:
    rig = rig_of(2, PoolPlan("p", gpus=4, nodes=1, most=2, provision=Fixed(100.0)))
    rig.cluster.scale(0, 4, "up")
    rig.run(5.0)
    rig.cluster.scale(0, 6, "up")  # two ready, two starting, two that wait for a node
    rig.cluster.scale(0, 3, "down")
    assert sorted(rig.phases()) == [READY, READY, STARTING]
    assert {deed[1] for deed in rig.plane.deeds if deed[0] == "kill"} >= {4, 5}
    rig.cluster.scale(0, 1, "down")
    assert rig.phases() == [READY]


def test_a_replica_that_is_ready_but_not_yet_known_to_the_gateway_is_just_gone() -> None:
    start = Start(after={"engine": Fixed(10.0)}, readiness_period=0.0, endpoint_delay=5.0)
    rig = rig_of(0, PoolPlan("p", gpus=1, nodes=1), start=start)
    rig.plane.always_busy = True
    rig.cluster.scale(0, 1, "up")
    rig.run(12.0)
    assert rig.phases() == [READY]
    rig.cluster.scale(0, 0, "down")
    rig.run(100.0)
    assert rig.plane.deeds == [("kill", 0, 12.0)]


# nodes


def test_a_node_is_asked_for_when_none_has_room_and_comes_after_its_time() -> None:
    rig = rig_of(2, PoolPlan("p", gpus=2, nodes=1, most=4, provision=Fixed(100.0)))
    rig.cluster.scale(0, 5, "up")  # three more: two nodes
    assert [numbers["node"] for _, numbers in rig.kinds("provision")] == [1, 2]
    rig.cluster.scale(0, 6, "up")  # fits on those that are coming
    assert len(rig.kinds("provision")) == 2
    rig.run(200.0)
    assert rig.plane.times("open")[2:] == [110.0] * 4
    assert rig.cluster.cold_start(0, provision=True) == 110.0


def test_no_more_nodes_than_the_pool_may_have() -> None:
    rig = rig_of(1, PoolPlan("p", gpus=1, nodes=1, most=3, provision=Fixed(1.0)))
    rig.cluster.scale(0, 9, "up")
    rig.run(100.0)
    assert rig.phases().count(READY) == 3
    assert rig.phases().count(PENDING) == 6


def test_an_empty_node_is_released_when_it_was_idle_for_long_enough_and_none_was_added_lately() -> None:
    pool = PoolPlan("p", gpus=1, nodes=1, most=3, provision=Fixed(50.0), idle=600.0, after_add=600.0)
    rig = rig_of(1, pool)
    rig.cluster.scale(0, 2, "up")
    rig.run(100.0)
    rig.cluster.scale(0, 1, "down")  # one of the nodes is empty from 100 on; the last was asked for at 0
    rig.run(650.0)
    rig.cluster.scale(0, 3, "up")  # the empty one is used, and another is asked for at 650
    rig.run(701.0)
    rig.cluster.scale(0, 1, "down")
    rig.run(3000.0)
    # both are empty from 701 on: idle at 1301, and 600 s after 650 have passed by then
    assert [now for now, _ in rig.kinds("release")] == [1301.0, 1301.0]
    ends = [(node.node, node.start, node.joined, node.end, node.ended) for node in rig.cluster.usage(3000.0).nodes]
    assert len(ends) == 3
    assert sum(1 for end in ends if end[3] == 1301.0 and end[4] == "released") == 2
    assert sum(1 for end in ends if end[3] == 3000.0 and end[4] == "") == 1


def test_none_is_released_soon_after_one_was_asked_for() -> None:
    pool = PoolPlan("p", gpus=1, nodes=2, least=1, most=3, provision=Fixed(1.0), idle=10.0, after_add=500.0)
    rig = rig_of(2, pool)
    rig.run(100.0)
    rig.cluster.scale(0, 3, "up")
    rig.cluster.scale(0, 1, "down")
    rig.run(3000.0)
    assert [now for now, _ in rig.kinds("release")] == [600.0, 600.0]


def test_the_least_number_of_nodes_stays() -> None:
    rig = rig_of(3, PoolPlan("p", gpus=1, nodes=3, least=2, most=3, idle=10.0, after_add=0.0))
    rig.cluster.scale(0, 0, "down")
    rig.run(1000.0)
    assert len(rig.cluster.nodes()) == 2


def test_spare_nodes_are_kept_and_replaced_when_they_are_used() -> None:
    rig = rig_of(1, PoolPlan("p", gpus=1, nodes=1, most=4, spare=1, provision=Fixed(100.0), idle=50.0, after_add=0.0))
    rig.run(150.0)
    assert len(rig.cluster.nodes()) == 2
    rig.cluster.scale(0, 2, "up")
    rig.run(161.0)
    assert rig.plane.deeds[-1] == ("open", 1, 160.0)  # at once, on the spare one
    rig.run(400.0)
    assert [node.state for node in rig.cluster.nodes()] == ["up"] * 3
    rig.cluster.scale(0, 0, "down")
    rig.run(1000.0)
    assert len(rig.cluster.nodes()) == 1  # least is 1, and one is spare


# rolling updates


def counts(rig: Rig) -> tuple[int, int, int]:
    """Replicas in all, ready ones, and those of the newest generation."""
    states = [state for state in rig.cluster.states(0) if state.phase != DRAINING]
    newest = max(state.generation for state in states)
    return (
        len(states),
        sum(state.phase == READY for state in states),
        sum(state.generation == newest for state in states),
    )


def test_a_rolling_update_never_has_too_many_or_too_few() -> None:
    rig = rig_of(10, PoolPlan("p", gpus=16, nodes=1))
    rig.run(5.0)
    assert rig.cluster.replace(0, "a new version", pace=1.5) == 1
    for _ in range(400):
        total, ready, _ = counts(rig)
        assert total <= 13  # 10 and 25 % rounded up
        assert ready >= 8  # 10 less 25 % rounded down
        rig.run(rig.env.now + 0.25)
    assert counts(rig) == (10, 10, 10)
    assert rig.plane.paces == dict.fromkeys(range(10, 20), 1.5)


def test_a_rolling_update_without_room_for_more_goes_on_with_fewer() -> None:
    rig = rig_of(4, PoolPlan("p", gpus=4, nodes=1))
    rig.cluster.replace(0, "a new version")
    rig.run(1000.0)
    assert counts(rig) == (4, 4, 4)


def test_a_new_version_that_never_gets_ready_stops_the_update() -> None:
    rig = rig_of(4, PoolPlan("p", gpus=8, nodes=1))
    rig.cluster.replace(0, "a bad version", start=Start(after={"engine": Fixed(1e9)}, readiness_period=0.0))
    rig.run(1e6)
    assert counts(rig) == (5, 3, 2)  # one is surplus, one of four may be unavailable
    rig.cluster.replace(0, "back", start=TEN)
    rig.run(2e6)
    assert counts(rig) == (4, 4, 4)


def test_an_update_may_be_scaled_meanwhile() -> None:
    rig = rig_of(4, PoolPlan("p", gpus=16, nodes=1))
    rig.cluster.replace(0, "a new version")
    rig.run(3.0)
    rig.cluster.scale(0, 8, "up")
    rig.run(6.0)
    rig.cluster.scale(0, 6, "down")
    rig.run(1000.0)
    assert counts(rig) == (6, 6, 6)


def test_one_replica_is_replaced_only_when_the_new_one_is_ready() -> None:
    rig = rig_of(1, PoolPlan("p", gpus=2, nodes=1))
    rig.cluster.replace(0, "a new version")
    assert rig.phases() == [READY, STARTING]
    rig.run(11.0)
    assert rig.plane.deeds[1:] == [("open", 1, 10.0), ("close", 0, 10.0), ("kill", 0, 10.0)] or rig.plane.deeds[1:] == [
        ("close", 0, 10.0),
        ("kill", 0, 10.0),
        ("open", 1, 10.0),
    ]


def test_what_cannot_be_asked_for() -> None:
    rig = rig_of(1, PoolPlan("p", gpus=2, nodes=1))
    with pytest.raises(ValueError, match="replicas -1: 0 or more"):
        rig.cluster.scale(0, -1, "down")
    with pytest.raises(ValueError, match=r"max_surge 2\.0"):
        rig.cluster.replace(0, "a new version", max_surge=2.0)
