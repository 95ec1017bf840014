"""Whatever happens to a cluster, in whatever order: no GPU has two masters, nothing opens on a dead node, all time is accounted once."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings

from sim.control.cluster.distribution import Exponential, Fixed, Uniform
from sim.control.cluster.node import UP
from sim.control.cluster.plans import PACK, SPREAD, PoolPlan, ReplicaPlan, Start, WarmPool
from sim.control.cluster.usage import ReplicaInterval
from sim.control.scaling.view import READY
from tests.control.cluster.fakes import Rig

MOST = 8

START = Start(
    pull=Uniform(1.0, 20.0),
    image_bytes=100.0,
    before={"process": Fixed(2.0)},
    weights_bytes=100.0,
    source="object_store",
    weights={"object_store": Exponential(20.0), "local_disk": Fixed(5.0), "page_cache": Fixed(1.0)},
    after={"compile": Exponential(10.0)},
    readiness_period=5.0,
    endpoint_delay=1.0,
)

DEEDS = st.one_of(
    st.tuples(st.just("scale"), st.integers(0, 1), st.integers(0, 5)),
    st.tuples(st.just("run"), st.floats(0.0, 200.0)),
    st.tuples(st.just("fail_replica"), st.integers(0, 40), st.sampled_from([0.0, 30.0])),
    st.tuples(st.just("fail_node"), st.integers(0, 12), st.sampled_from([0.0, 40.0])),
    st.tuples(st.just("restore_node"), st.integers(0, 12)),
    st.tuples(st.just("cordon"), st.integers(0, 12)),
    st.tuples(st.just("uncordon"), st.integers(0, 12)),
    st.tuples(st.just("reclaim"), st.integers(0, 12), st.sampled_from([0.0, 30.0, 120.0]), st.booleans()),
    st.tuples(st.just("fail_zone"), st.sampled_from("ab")),
    st.tuples(st.just("restore_zone"), st.sampled_from("ab")),
    st.tuples(st.just("replace"), st.integers(0, 1)),
    st.tuples(st.just("busy"), st.booleans()),
    st.tuples(st.just("drained"), st.integers(0, 40)),
)


def build(placement: str, keeps_gpus: bool, level: int, spare: int) -> Rig:
    pool = PoolPlan(
        "p", gpus=4, nodes=2, least=1, most=MOST, provision=Uniform(10.0, 60.0), idle=60.0, after_add=60.0, spare=spare,
        zones=("a", "b"), placement=placement, network=10.0, disk=50.0, store=15.0, disk_cache=100.0, host_memory=250.0,
    )  # fmt: skip
    warm = WarmPool(2, level, bytes=100.0 if level == 1 else 0.0, wake=Fixed(1.0), keeps_gpus=keeps_gpus)
    return Rig(
        [pool], [ReplicaPlan("one", "p", 2, start=START, warm=warm), ReplicaPlan("two", "p", 1, gpus=2, start=START)]
    )


def apply(rig: Rig, deed: tuple[Any, ...]) -> None:
    cluster, (what, *rest) = rig.cluster, deed
    nodes = len(cluster.machines.nodes)
    if what in ("fail_node", "restore_node", "cordon", "uncordon", "reclaim") and rest[0] >= nodes:
        return
    match what:
        case "scale":
            cluster.scale(rest[0], rest[1], "drawn")
        case "run":
            rig.run(rig.env.now + rest[0] + 0.5)
        case "fail_replica":
            cluster.fail_replica(rest[0], "drawn", rest[1])
        case "fail_node":
            cluster.fail_node(rest[0], "drawn", rest[1])
        case "reclaim":
            cluster.reclaim(rest[0], rest[1], "drawn", drain_on_notice=rest[2])
        case "fail_zone":
            cluster.fail_zone(rest[0], "drawn")
        case "replace":
            cluster.replace(rest[0], "drawn")
        case "busy":
            rig.plane.always_busy = rest[0]
        case "drained":
            cluster.told(rig.env.now, "drained", rest[0])
        case _:
            getattr(cluster, what)(*rest)


def check(rig: Rig) -> None:
    """Now: who has which GPUs, and what is open."""
    cluster = rig.cluster
    alive = [state for number in range(2) for state in cluster.states(number)]
    assert {state.replica for state in alive} == set(range(len(rig.plane.created))) - gone_for_good(rig)
    held: dict[int, list[int]] = {}
    for replica in cluster._alive.values():
        if replica.node is not None and replica.node.state == UP:
            held.setdefault(replica.node.number, []).extend(replica.gpus)
    for group in cluster.groups:
        for sleeper in group.sleepers:
            assert sleeper.node.state == UP
            held.setdefault(sleeper.node.number, []).extend(sleeper.gpus)
    for node in cluster.machines.nodes:
        if node.state == UP:
            assert sorted([*held.get(node.number, []), *node.free]) == [0, 1, 2, 3]
            sleepers = [sleeper for group in cluster.groups for sleeper in group.sleepers if sleeper.node is node]
            warm = cluster.groups[0].plan.warm
            assert warm is not None
            assert node.sleepers == len(sleepers)
            assert node.memory.held == warm.bytes * len(sleepers)
            assert node.memory.used + node.memory.held <= node.memory.capacity
    for number in rig.plane.open_ - rig.plane.cut_:
        node_of = cluster._alive[number].node
        assert node_of is not None
        assert node_of.state == UP
    pool = cluster.machines.pools[0]
    assert sum(not node.leaving for node in pool.nodes) <= MOST


def gone_for_good(rig: Rig) -> set[int]:
    """What the plane was told is gone, less those on dead nodes that have not been replaced."""
    return {number for number in rig.plane.gone if number not in rig.cluster._alive}


def accounts(rig: Rig, end: float) -> None:
    """All GPU-seconds, once, and on a machine that was there."""
    usage = rig.cluster.usage(end)
    there: dict[int, list[tuple[float, float]]] = {}
    for node in usage.nodes:
        assert node.start <= node.end <= end
        there.setdefault(node.node, []).append((node.joined, node.end))
    by_gpu: dict[tuple[int, int], list[ReplicaInterval]] = {}
    for item in usage.replicas:
        if item.gpus:
            assert item.created <= item.placed <= item.gone <= end
            assert any(start <= item.placed and item.gone <= stop for start, stop in there[item.node])
        for gpu in item.gpus:
            by_gpu.setdefault((item.node, gpu), []).append(item)
    for items in by_gpu.values():
        items.sort(key=lambda item: (item.placed, item.gone))
        for before, after in pairwise(items):
            assert before.gone <= after.placed
    serving = [item.replica for item in usage.replicas if not item.asleep]
    assert len(serving) == len(set(serving))


@settings(max_examples=120, deadline=None)
@given(
    st.lists(DEEDS, min_size=10, max_size=60),
    st.sampled_from([PACK, SPREAD]),
    st.booleans(),
    st.sampled_from([1, 2]),
    st.sampled_from([0, 1]),
)
def test_a_cluster_whatever_happens(
    deeds: list[tuple[Any, ...]], placement: str, keeps: bool, level: int, spare: int
) -> None:
    rig = build(placement, keeps, level, spare)
    rig.cluster.start()
    check(rig)
    for deed in deeds:
        apply(rig, deed)
        check(rig)
    accounts(rig, rig.env.now + 0.5)
    # all is mended, and there is room: each deployment gets what it asked for
    rig.plane.always_busy = False
    for zone in "ab":
        rig.cluster.restore_zone(zone)
    for number in range(len(rig.cluster.machines.nodes)):
        rig.cluster.restore_node(number)
        rig.cluster.uncordon(number)
    rig.run(rig.env.now + 5000.0)
    check(rig)
    for number in range(2):
        states = rig.cluster.states(number)
        assert [state.phase for state in states] == [READY] * rig.cluster.target(number)
        newest = len(rig.cluster.groups[number].generations) - 1
        assert all(state.generation == newest for state in states)
        assert {state.replica for state in states} <= rig.plane.open_
    accounts(rig, rig.env.now)
