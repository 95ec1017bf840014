"""Slow machines and replicas, partitions, metrics that are missing."""

from __future__ import annotations

import pytest

from sim.control.cluster.distribution import Fixed
from sim.control.faults import At, MetricsOutage, NodeFailure, Partition, Renewal, ReplicaCrash, Slowdown
from tests.control.faults.stage import stage


def straggler(at: float, lasts: float | None = 50.0, factor: float = 3.0, **rest: object) -> Slowdown:
    time = None if lasts is None else Fixed(lasts)
    options: dict[str, object] = {"name": f"s{at:g}", "count": 1, "of": "node"} | rest
    return Slowdown(when=At((at,)), factor=factor, lasts=time, **options)  # type: ignore[arg-type]


def test_a_machine_is_slow_for_a_while_with_all_on_it() -> None:
    it = stage(4, [straggler(100.0)], nodes=2, gpus=2)
    it.run(101.0)
    ((_, fault),) = it.kinds("fault")
    slow = {replica for state in it.cluster.nodes() if state.node == fault["node"] for replica in state.replicas}
    assert it.plane.paces == dict.fromkeys(slow, 3.0)
    assert fault["replicas"] == 2
    it.run(151.0)
    assert set(it.plane.paces.values()) == {1.0}
    assert [when for when, _ in it.kinds("repair")] == [150.0]


def test_one_replica_may_be_slow_and_its_successor_is_not() -> None:
    faults = [straggler(100.0, None, of="replica"), ReplicaCrash(name="c", when=At((200.0,)))]
    it = stage(2, faults, nodes=2)
    it.run(150.0)
    ((slow, pace),) = it.plane.paces.items()
    assert pace == 3.0
    it.run(300.0)
    assert it.plane.gone == {0, 1}
    assert it.plane.paces == {slow: 3.0}
    assert it.kinds("repair") == []


def test_who_opens_on_a_slow_machine_is_slow() -> None:
    it = stage(1, [straggler(100.0, None)], nodes=1, gpus=2)
    it.run(150.0)
    it.cluster.scale(0, 2, "more")
    it.run(200.0)
    assert it.plane.paces == {0: 3.0, 1: 3.0}


def test_slow_several_ways_is_slow_by_the_product() -> None:
    it = stage(1, [straggler(100.0, 100.0, 3.0, count=None), straggler(150.0, 100.0, 2.0, count=None)], nodes=2)
    it.cluster.replace(0, "a slow version", pace=1.5)
    it.run(90.0)
    seen = []
    for time in (101.0, 151.0, 201.0, 251.0):
        it.run(time)
        seen.append(it.plane.paces[1])
    assert seen == [4.5, 9.0, 3.0, 1.5]


def test_stragglers_come_as_often_as_they_should() -> None:
    # of 10 machines each every 1000 s on average: in 20,000 s 200, Poisson, within four standard deviations
    fault = Slowdown(name="s", when=Renewal(1000.0), factor=2.0, lasts=Fixed(100.0), of="node")
    it = stage(10, [fault], nodes=10)
    it.run(20_000.0)
    assert abs(len(it.kinds("fault")) - 200) < 4 * 200**0.5


# partitions


def test_the_gateway_cannot_reach_a_zone_for_a_while_and_nobody_is_replaced() -> None:
    fault = Partition(name="p", when=At((100.0,)), lasts=Fixed(50.0), zone="b")
    it = stage(4, [fault], nodes=4, zones=("a", "b"), placement="spread")
    there = {replica for state in it.cluster.nodes() if state.zone == "b" for replica in state.replicas}
    it.run(101.0)
    assert it.plane.cut_ == there
    assert len(there) == 2
    it.run(1000.0)
    assert it.plane.cut_ == set()
    assert it.plane.gone == set()


def test_a_share_of_the_replicas_cannot_be_reached() -> None:
    fault = Partition(name="p", when=At((100.0,)), lasts=Fixed(50.0), deployments=("d",), share=0.5)
    it = stage(5, [fault], nodes=5)
    it.run(101.0)
    assert len(it.plane.cut_) == 3
    it.run(151.0)
    assert it.plane.cut_ == set()


def test_who_opens_meanwhile_cannot_be_reached_either() -> None:
    it = stage(1, [Partition(name="p", when=At((100.0,)), lasts=Fixed(50.0))], nodes=2)
    it.run(110.0)
    it.cluster.scale(0, 2, "more")
    it.run(130.0)
    assert it.plane.cut_ == {0, 1}
    it.run(151.0)
    assert it.plane.cut_ == set()


def test_partitions_that_overlap_end_with_the_last() -> None:
    faults = [Partition(name=name, when=At((at,)), lasts=Fixed(50.0)) for name, at in (("p", 100.0), ("q", 120.0))]
    it = stage(1, faults, nodes=1)
    it.run(160.0)
    assert it.plane.cut_ == {0}
    it.run(171.0)
    assert it.plane.deeds[1:] == [("cut", 0, 100.0), ("cut", 0, 170.0)]
    assert it.plane.cut_ == set()


def test_who_died_in_a_partition_stays_out_of_reach() -> None:
    faults = [
        Partition(name="p", when=At((100.0,)), lasts=Fixed(50.0)),
        NodeFailure(name="n", when=At((120.0,)), detected_after=500.0),
    ]
    it = stage(1, faults, nodes=1)
    it.run(400.0)
    assert it.plane.cut_ == {0}


def test_a_pool_that_is_not_there_is_said() -> None:
    with pytest.raises(Exception, match="'x' is not one of the pools"):
        stage(1, [Partition(name="p", when=At((1.0,)), lasts=Fixed(1.0), pools=("x",))])


# metrics


def test_autoscalers_are_blind_while_any_outage_lasts() -> None:
    faults = [
        MetricsOutage(name=name, when=At(at), lasts=Fixed(50.0))
        for name, at in (("m", (100.0, 300.0)), ("n", (120.0,)))
    ]
    it = stage(1, faults)
    seen = []
    for time in (99.0, 101.0, 121.0, 151.0, 171.0, 301.0, 351.0):
        it.run(time)
        seen.append(it.operator.blind)
    assert seen == [0, 1, 2, 1, 0, 1, 0]
