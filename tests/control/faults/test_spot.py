"""Spot machines: notice, drain, and when machines can be had again."""

from __future__ import annotations

from math import sqrt

from sim.control.cluster.distribution import Fixed
from sim.control.faults import At, NodeFailure, Renewal, ReplicaCrash, SpotReclaim, ZoneLoss
from tests.control.faults.stage import Stage, stage


def up(it: Stage, zone: str | None = None) -> int:
    return sum(state.state == "up" and zone in (None, state.zone) for state in it.cluster.nodes())


def test_a_machine_is_taken_after_its_notice_and_another_comes() -> None:
    fault = SpotReclaim(name="s", when=At((100.0,)), pool="p", notice=30.0, count=1)
    it = stage(2, [fault], nodes=2, provision=Fixed(60.0))
    it.plane.always_busy = True
    it.run(101.0)
    ((_, hit),) = it.kinds("fault")
    (gone,) = [replica for what, replica, _ in it.plane.deeds if what == "close"]
    assert (hit["notice"], up(it)) == (30.0, 2)
    it.run(131.0)
    assert it.plane.gone == {gone}
    assert up(it) == 1
    it.run(161.0)
    assert up(it) == 2  # asked for at the notice
    it.run(171.0)
    assert it.plane.times("open")[2:] == [170.0]


def test_nothing_moves_from_one_machine_that_goes_to_another() -> None:
    fault = SpotReclaim(name="s", when=At((100.0,)), pool="p", notice=30.0)
    it = stage(1, [fault], nodes=3, provision=Fixed(60.0))
    it.run(500.0)
    assert [(when, numbers["node"]) for when, numbers in it.kinds("place")] == [(0.0, 0), (160.0, 3)]


def test_without_a_drain_it_serves_to_the_end() -> None:
    fault = SpotReclaim(
        name="s", when=At((100.0,)), pool="p", notice=30.0, count=1, drain_on_notice=False, detected_after=10.0
    )
    it = stage(1, [fault], nodes=1)
    it.run(200.0)
    assert it.plane.deeds[1:3] == [("cut", 0, 130.0), ("kill", 0, 140.0)]


def test_a_machine_under_notice_is_not_taken_twice() -> None:
    fault = SpotReclaim(name="s", when=At((100.0, 110.0)), pool="p", notice=30.0)
    it = stage(1, [fault], nodes=1, provision=Fixed(1000.0))
    it.run(500.0)
    assert [when for when, _ in it.kinds("fault")] == [100.0]


def test_a_zone_has_no_machines_for_a_while() -> None:
    fault = SpotReclaim(name="s", when=At((100.0,)), pool="p", notice=30.0, returns=Fixed(500.0))
    it = stage(1, [fault], nodes=1, provision=Fixed(60.0))
    it.run(599.0)
    assert up(it) == 0
    assert it.kinds("provision") == []
    it.run(661.0)
    assert [when for when, _ in it.kinds("provision")] == [600.0]
    assert up(it) == 1


def test_another_zone_has() -> None:
    fault = SpotReclaim(name="s", when=At((100.0,)), pool="p", zone="a", notice=30.0, returns=Fixed(500.0))
    it = stage(2, [fault], nodes=2, zones=("a", "b"), placement="spread", provision=Fixed(60.0))
    it.run(200.0)
    assert (up(it, "a"), up(it, "b")) == (0, 2)


def test_the_last_hold_counts() -> None:
    fault = SpotReclaim(name="s", when=At((100.0, 300.0)), pool="p", notice=30.0, count=1, returns=Fixed(400.0))
    it = stage(2, [fault], nodes=2, provision=Fixed(60.0))
    it.run(699.0)
    assert up(it) == 0
    it.run(761.0)
    assert [when for when, _ in it.kinds("provision")] == [700.0, 700.0]
    assert up(it) == 2


def test_a_lost_zone_has_no_machines_though_the_hold_is_over() -> None:
    faults = [
        SpotReclaim(name="s", when=At((100.0,)), pool="p", notice=30.0, returns=Fixed(50.0)),
        ZoneLoss(name="z", when=At((120.0,)), zone="a", lasts=Fixed(500.0)),
    ]
    it = stage(1, faults, nodes=1, provision=Fixed(60.0))
    it.run(619.0)
    assert it.kinds("provision") == []
    it.run(681.0)
    assert up(it) == 1


def test_a_machine_under_notice_does_not_break_as_well() -> None:
    faults = [
        SpotReclaim(name="s", when=At((100.0,)), pool="p", notice=120.0, returns=Fixed(1e5)),
        NodeFailure(name="n", when=At((160.0,)), repair=Fixed(10.0)),
    ]
    it = stage(1, faults, nodes=1, provision=Fixed(60.0))
    it.run(1000.0)
    assert up(it) == 0
    assert [numbers["fault"] for _, numbers in it.kinds("fault")] == ["s"]


def test_machines_go_as_often_as_they_should() -> None:
    # 20 machines, each every 1000 s on average, each replaced at once: 20,000 / 1000 × 20 = 400, Poisson
    fault = SpotReclaim(name="s", when=Renewal(1000.0), pool="p", notice=0.0)
    it = stage(0, [fault], nodes=20)
    it.run(20_000.0)
    assert abs(len(it.kinds("fault")) - 400) < 4 * sqrt(400)


def test_together_they_go_as_often_each() -> None:
    # shocks of a zone: 20,000 / (1000 × 0.5) = 40; each takes half of 20. Var = 40 × 20 × 0.25 + 40 × 10²
    fault = SpotReclaim(name="s", when=Renewal(1000.0), pool="p", notice=0.0, together=0.5)
    it = stage(0, [fault], nodes=20)
    it.run(20_000.0)
    times = [when for when, _ in it.kinds("fault")]
    assert abs(len(times) - 400) < 4 * sqrt(40 * 20 * 0.25 + 40 * 10**2)
    assert len(times) / len(set(times)) > 8.0


def test_a_replica_on_a_machine_under_notice_does_not_crash_as_well() -> None:
    faults = [
        SpotReclaim(name="s", when=At((100.0,)), pool="p", notice=120.0, drain_on_notice=False),
        ReplicaCrash(name="c", when=At((150.0,))),
    ]
    it = stage(1, faults, nodes=1, provision=Fixed(1000.0))
    it.run(500.0)
    assert [numbers["fault"] for _, numbers in it.kinds("fault")] == ["s"]
