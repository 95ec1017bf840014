"""Cold starts phase by phase, caches, sleeping engines: times worked out by hand."""

from __future__ import annotations

import pytest

from sim.control.cluster.cache import Cache
from sim.control.cluster.distribution import Exponential, Fixed
from sim.control.cluster.plans import PoolPlan, ReplicaPlan, Start, WarmPool
from sim.errors import SimulationError
from tests.control.cluster.fakes import Rig

START = Start(
    pull=Fixed(20.0),
    extract=Fixed(5.0),
    before={"process": Fixed(3.0)},
    weights_bytes=100.0,
    weights={"local_disk": Fixed(10.0)},
    after={"compile": Fixed(4.0), "graph_capture": Fixed(2.0)},
    readiness_period=0.0,
)


def one(start: Start = START, **pool: object) -> Rig:
    """No replica at first, on one node of eight GPUs."""
    rig = Rig([PoolPlan("p", gpus=8, nodes=1, **pool)], [ReplicaPlan("d", "p", 0, start=start)])  # type: ignore[arg-type]
    rig.cluster.start()
    return rig


def ready(rig: Rig) -> list[float]:
    return [now for now, _ in rig.kinds("ready")]


def test_phases_follow_one_another() -> None:
    rig = one()
    rig.cluster.scale(0, 1, "wanted")
    rig.run(100.0)
    assert rig.plane.deeds == [("open", 0, 44.0)]  # 20 + 5 + 3 + 10 + 4 + 2
    ((_, numbers),) = rig.kinds("ready")
    assert numbers["phases"] == {
        "image": 25.0,
        "process": 3.0,
        "weights/local_disk": 10.0,
        "compile": 4.0,
        "graph_capture": 2.0,
    }
    assert rig.cluster.cold_start(0) == 19.0
    assert rig.cluster.cold_start(0, cached=False) == 44.0


def test_the_image_is_pulled_once_a_node_and_whoever_comes_later_waits_for_it() -> None:
    rig = one()
    rig.cluster.scale(0, 1, "wanted")
    rig.run(8.0)
    rig.cluster.scale(0, 2, "wanted")
    rig.run(50.0)
    rig.cluster.scale(0, 3, "wanted")
    rig.run(200.0)
    assert ready(rig) == [44.0, 44.0, 69.0]  # both at 25 + 19; the third needs no image: 50 + 19


def test_a_pull_goes_on_when_nobody_wants_it_any_more() -> None:
    rig = one()
    rig.cluster.scale(0, 1, "wanted")
    rig.run(2.0)
    rig.cluster.scale(0, 0, "not wanted")
    assert rig.plane.deeds == [("kill", 0, 2.0)]
    rig.run(30.0)
    rig.cluster.scale(0, 1, "wanted")
    rig.run(100.0)
    assert ready(rig) == [49.0]


def test_two_loads_from_one_disk_take_twice_as_long_and_others_none() -> None:
    rig = one(disk=10.0, images=frozenset({"d"}))
    rig.cluster.scale(0, 2, "wanted")
    rig.run(100.0)
    assert ready(rig) == [29.0, 29.0]  # 3 + 20 + 6
    rig = Rig(
        [PoolPlan("p", gpus=1, nodes=2, disk=10.0, images=frozenset({"d"}))], [ReplicaPlan("d", "p", 0, start=START)]
    )
    rig.cluster.start()
    rig.cluster.scale(0, 2, "wanted")
    rig.run(100.0)
    assert ready(rig) == [19.0, 19.0]  # a disk each


def test_pulls_share_the_registry() -> None:
    start = Start(image_bytes=1000.0, readiness_period=0.0)
    rig = Rig([PoolPlan("p", gpus=1, nodes=4, network=100.0, store=200.0)], [ReplicaPlan("d", "p", 0, start=start)])
    rig.cluster.start()
    rig.cluster.scale(0, 4, "wanted")
    rig.run(100.0)
    assert ready(rig) == pytest.approx([20.0] * 4, abs=1e-9)  # 200 / 4 = 50 bytes/s each, though a wire has 100


def test_weights_are_read_from_where_the_node_has_them() -> None:
    start = Start(
        weights_bytes=100.0,
        source="object_store",
        weights={"object_store": Fixed(50.0), "local_disk": Fixed(10.0), "page_cache": Fixed(1.0)},
        readiness_period=0.0,
    )

    def second(**pool: float) -> float:
        rig = one(start, **pool)
        rig.cluster.scale(0, 1, "wanted")
        rig.run(100.0)
        rig.cluster.scale(0, 2, "wanted")
        rig.run(200.0)
        return ready(rig)[1] - 100.0

    assert second() == 50.0
    assert second(disk_cache=100.0) == 10.0
    assert second(disk_cache=99.0) == 50.0
    assert second(disk_cache=100.0, host_memory=100.0) == 1.0


def test_the_least_recently_used_goes_first() -> None:
    cache = Cache(10.0)
    assert cache.add("a", 4.0)
    assert cache.add("b", 4.0)
    cache.use("a")
    assert cache.add("c", 4.0)
    assert [name in cache for name in "abc"] == [True, False, True]
    assert not cache.add("d", 11.0)
    assert cache.hold(6.0)  # 4 are left: c, used last, stays
    assert [name in cache for name in "abc"] == [False, False, True]
    assert not cache.hold(5.0)


def test_the_probe_finds_it_ready_at_its_next_round() -> None:
    start = Start(pull=Fixed(7.0), after={"engine": Fixed(25.0)}, readiness_period=10.0, endpoint_delay=2.0)
    rig = one(start)
    rig.cluster.scale(0, 1, "wanted")
    rig.run(100.0)
    assert ready(rig) == [37.0]  # the process starts at 7, is probed at 7, 17, 27, 37; it could serve at 32
    assert rig.plane.deeds == [("open", 0, 39.0)]
    assert rig.cluster.cold_start(0, cached=False) == 39.0


def test_the_kth_start_is_the_same_whatever_else_happens() -> None:
    start = Start(before={"process": Exponential(5.0)}, after={"compile": Exponential(30.0)}, readiness_period=0.0)
    lengths = []
    for gap in (0.0, 1000.0):
        rig = one(start)
        for count in range(1, 6):
            rig.cluster.scale(0, count, "wanted")
            rig.run(rig.env.now + gap + 1.0)
        rig.run(1e5)
        lengths.append({numbers["replica"]: numbers["seconds"] for _, numbers in rig.kinds("ready")})
    assert lengths[0] == pytest.approx(lengths[1], abs=1e-9)
    assert sorted(set(rig.streams)) == ["provision/p", "start/d/compile", "start/d/process"]


# asleep


def warm(level: int = 1, size: int = 1, keeps_gpus: bool = False, gpus: int = 2, **pool: object) -> Rig:
    pools = [PoolPlan("p", gpus=2, nodes=1, host_memory=1000.0, **pool)]  # type: ignore[arg-type]
    pool_of = WarmPool(size, level, bytes=100.0 if level == 1 else 0.0, wake=Fixed(1.0), keeps_gpus=keeps_gpus)
    rig = Rig(
        pools,
        [
            ReplicaPlan("d", "p", 1, gpus=gpus, start=START, warm=pool_of),
            ReplicaPlan("other", "p", 0, gpus=gpus, start=Start()),
        ],
    )
    rig.cluster.start()
    return rig


@pytest.mark.parametrize(("level", "seconds"), [(1, 1.0), (2, 11.0)])
def test_an_engine_that_sleeps_wakes_without_a_start(level: int, seconds: float) -> None:
    rig = warm(level)
    rig.run(5.0)
    rig.cluster.scale(0, 0, "nothing to do")
    assert rig.cluster.asleep(0) == 1
    assert rig.cluster.states(0) == []
    rig.run(50.0)
    rig.cluster.scale(0, 1, "wanted")
    rig.run(100.0)
    assert [deed for deed in rig.plane.deeds if deed[2] > 50.0] == [("open", 1, 50.0 + seconds)]
    assert rig.cluster.asleep(0) == 0


def test_others_may_use_the_gpus_of_a_sleeper_and_then_it_cannot_wake() -> None:
    rig = warm()
    rig.cluster.scale(0, 0, "nothing to do")
    rig.cluster.scale(1, 1, "wanted")
    rig.run(10.0)
    assert rig.phases(1) == ["ready"]
    rig.cluster.scale(0, 1, "wanted")
    rig.run(200.0)
    assert rig.phases(0) == ["pending"]
    rig.cluster.scale(1, 0, "not wanted")
    rig.run(300.0)
    assert rig.phases(0) == ["ready"]


def test_a_sleeper_that_keeps_its_gpus_is_billed_for_them() -> None:
    rig = warm(keeps_gpus=True)
    rig.run(5.0)
    rig.cluster.scale(0, 0, "nothing to do")
    rig.cluster.scale(1, 1, "wanted")
    rig.run(20.0)
    assert rig.phases(1) == ["pending"]
    usage = rig.cluster.usage(20.0)
    assert [(item.placed, item.gone, item.asleep) for item in usage.replicas if item.gpus] == [
        (0.0, 5.0, False),
        (5.0, 20.0, True),
    ]
    assert usage.gpu_seconds == 40.0


def test_no_more_sleep_than_the_pool_is_large_or_memory_holds() -> None:
    rig = warm(gpus=1)
    rig.cluster.scale(0, 2, "wanted")
    rig.run(100.0)
    rig.cluster.scale(0, 0, "nothing to do")
    assert rig.cluster.asleep(0) == 1
    plan = ReplicaPlan("d", "p", 1, warm=WarmPool(1, 1, bytes=100.0))
    rig = Rig([PoolPlan("p", gpus=1, nodes=1, host_memory=99.0)], [plan])
    rig.cluster.start()
    rig.cluster.scale(0, 0, "nothing to do")
    assert rig.cluster.asleep(0) == 0


def test_engines_of_an_old_version_do_not_sleep() -> None:
    rig = warm(gpus=1)
    rig.cluster.scale(0, 0, "nothing to do")
    assert rig.cluster.asleep(0) == 1
    rig.cluster.replace(0, "a new version")
    assert rig.cluster.asleep(0) == 0
    rig.cluster.scale(0, 1, "wanted")
    rig.run(100.0)
    assert ready(rig) == [19.0]  # the image is there
    rig.cluster.replace(0, "a newer version")
    rig.run(200.0)
    assert rig.cluster.asleep(0) == 0


def test_engines_may_be_asleep_from_the_start() -> None:
    plan = ReplicaPlan("d", "p", 0, start=START, warm=WarmPool(2, 1, bytes=10.0, wake=Fixed(2.0), asleep=2))
    rig = Rig([PoolPlan("p", gpus=2, nodes=1, host_memory=20.0)], [plan])
    rig.cluster.start()
    rig.cluster.scale(0, 2, "wanted")
    rig.run(10.0)
    assert ready(rig) == [2.0, 2.0]
    with pytest.raises(SimulationError, match="has no 10 bytes of memory for a sleeping engine"):
        Rig([PoolPlan("p", gpus=2, nodes=1, host_memory=19.0)], [plan]).cluster.start()


def test_a_sleeper_keeps_its_node() -> None:
    rig = warm(least=0, most=2, idle=60.0, after_add=0.0)
    rig.cluster.scale(0, 0, "nothing to do")
    rig.run(1000.0)
    assert rig.kinds("release") == []


# against theory


def test_set_up_times_without_contention_have_the_mean_that_was_asked_for() -> None:
    """The start of an idle pool is an M/M/∞ set-up: exponential with the mean given. 2,000 of them: standard error 2.2 %."""
    start = Start(after={"engine": Exponential(40.0)}, readiness_period=0.0)
    rig = Rig([PoolPlan("p", gpus=2000, nodes=1)], [ReplicaPlan("d", "p", 0, start=start)])
    rig.cluster.start()
    rig.cluster.scale(0, 2000, "wanted")
    rig.run(2000.0)
    times = ready(rig)
    assert len(times) == 2000
    mean = sum(times) / 2000
    assert mean == pytest.approx(40.0, rel=4 * 0.0224)
    spread = (sum((time - mean) ** 2 for time in times) / 2000) ** 0.5
    assert spread == pytest.approx(40.0, rel=0.15)
