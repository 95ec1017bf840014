"""Nothing is lost and nothing comes from nowhere when replicas come and go, clients give up and try again, and machines fail."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import pairwise
from math import inf, isnan
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simpy import Environment

from sim.control.clients.breakers import EnvoyCircuitBreaker
from sim.control.cluster.cluster import Cluster
from sim.control.cluster.distribution import Fixed, Uniform
from sim.control.cluster.plans import PoolPlan, ReplicaPlan, Start
from sim.control.fleet import Fleet
from sim.control.floor import Floor
from sim.control.plan import FleetPlan
from sim.kernel.drive import drive
from sim.kernel.streams import generator
from sim.serving.ledger import FAILED, OK, OUTCOMES, REJECTED, TIMEOUT, UNFINISHED
from sim.testing.controlled import Disturbance, controlled_plans, disturbances, moments, run

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@st.composite
def cases(draw: st.DrawFn, **kinds: Any) -> tuple[FleetPlan, list[Disturbance]]:
    plan = draw(controlled_plans(**kinds))
    return plan, draw(disturbances(plan))


def closings(floor: Floor) -> Counter[int]:
    """How often the gateway will have said of each request that it is over."""
    gateway = floor.gateway
    assert gateway is not None
    seen: Counter[int] = Counter()
    close = gateway.close

    def counted(request: int, now: float, outcome: int, reason: str) -> None:
        seen[request] += 1
        close(request, now, outcome, reason)

    gateway.close = counted  # type: ignore[method-assign]
    return seen


def requests_are_accounted_for(floor: Floor, closed: Counter[int]) -> None:
    """Each request that came ended once, in one way, or is still inside; the time integral of their number is the sum of their times."""
    ledger, gateway = floor.ledger, floor.gateway
    assert gateway is not None
    rows = range(floor.rows)
    came = [row for row in rows if row_came(floor, row)]
    assert ledger.issued == len(came)
    over = [row for row in came if ledger.outcome[row] != UNFINISHED]
    assert closed == Counter(over)
    assert gateway.open == len(came) - len(over)
    assert all(ledger.outcome[row] == UNFINISHED for row in rows if row not in set(came))
    assert {ledger.outcome[row] for row in over} <= {OK, REJECTED, TIMEOUT, FAILED}
    assert all((ledger.outcome[row] == OK) == (row not in ledger.reason) for row in over)
    area = sum(ledger.end[row] - ledger.arrival[row] for row in over)
    area += sum(ledger.end_time - ledger.arrival[row] for row in came if ledger.outcome[row] == UNFINISHED)
    assert ledger.area == area  # Little's law, exactly: times are on a grid
    for row in over:
        began = gateway.began.get(row, ledger.arrival[row])
        sent = gateway.sent.get(row, began)
        times = [ledger.arrival[row], began, sent, ledger.scheduled[row], ledger.first_token[row], ledger.end[row]]
        known = [time for time in times if not isnan(time)]
        assert known == sorted(known)
        assert known[-1] <= ledger.end_time
        if ledger.outcome[row] == OK:
            assert len(known) == 6
            assert ledger.first_token[row] > ledger.scheduled[row]
    assert min(ledger.itl.counts) >= 0


def row_came(floor: Floor, row: int) -> bool:
    """Whether a row of the table arrived: closed-loop rows have a time then, others once it has come."""
    arrival = floor.ledger.arrival[row]
    return not isnan(arrival) and (floor.plan.drain or arrival <= floor.plan.horizon)


def everybody_has_left(floor: Floor) -> None:
    """At the end of a run without a horizon."""
    gateway = floor.gateway
    assert gateway is not None
    assert gateway.open == 0
    callers = gateway.callers
    assert (gateway.attempts, gateway.waiting, callers.calls, callers.outdone, callers.resends) == ({}, {}, {}, {}, {})
    assert [len(queue) for queue in gateway.lines] == gateway.inflight == [0] * len(gateway.lines)
    for station in floor.stations:
        assert station.inside == 0
        assert station.arrived == station.ended
        assert not any(station.view.outstanding + station.view.tokens)
        assert set(station.away.values()) <= {(0, 0)}
    for client in callers.clients:
        if client is not None:
            assert (client.active, client.retrying) == (0, 0)
            if isinstance(client.breaker, EnvoyCircuitBreaker):
                assert not any(client.breaker.used.values())
    for number in floor.serving:
        assert floor.idle(number)
        assert floor.held(number) == []


def the_dead_do_nothing(floor: Floor, died: dict[int, float]) -> None:
    """Nothing that a replica wrote down is later than its death."""
    ledger = floor.ledger
    for row, replica in enumerate(ledger.replica):
        if replica in died:
            for time in (ledger.scheduled[row], ledger.first_token[row]):
                assert not time > died[replica]
            if ledger.outcome[row] == OK:
                assert ledger.end[row] <= died[replica]
    for replica, when in died.items():
        assert ledger.busy[replica] <= when
        assert floor.idle(replica)
        assert floor.held(replica) == []
        assert floor.position[replica] == -1
        assert replica not in floor.serving


@settings(RELAXED, max_examples=200)
@given(cases(longest=40, drained=True))
def test_a_run_to_its_end(case: tuple[FleetPlan, list[Disturbance]]) -> None:
    plan, script = case
    floor = Fleet(plan)
    closed = closings(floor)
    done = run(floor, script)
    floor.finish()
    requests_are_accounted_for(floor, closed)
    everybody_has_left(floor)
    the_dead_do_nothing(floor, done.died)


@settings(RELAXED, max_examples=150)
@given(cases(longest=40, drained=False))
def test_a_run_to_a_horizon(case: tuple[FleetPlan, list[Disturbance]]) -> None:
    plan, script = case
    floor = Fleet(plan)
    closed = closings(floor)
    done = run(floor, script)
    ledger = floor.finish()
    requests_are_accounted_for(floor, closed)
    the_dead_do_nothing(floor, done.died)
    gateway = floor.gateway
    assert gateway is not None
    assert ledger.end_time <= plan.horizon
    assert sum(station.inside for station in floor.stations) >= len(gateway.attempts)
    for station in floor.stations:
        assert station.arrived - station.ended == station.inside
        assert min([0, *station.view.outstanding, *station.view.tokens]) == 0


# with machines


START = Start(
    before={"process": Uniform(0.01, 0.1)},
    weights_bytes=100.0,
    source="local_disk",
    weights={"local_disk": Fixed(0.05), "page_cache": Fixed(0.01)},
    readiness_period=0.05,
    endpoint_delay=0.01,
)
POOL = PoolPlan(
    "p", gpus=2, nodes=2, least=1, most=4, provision=Uniform(0.05, 0.2), idle=0.3, after_add=0.1, zones=("a", "b"),
    disk=2000.0, disk_cache=100.0, host_memory=250.0, monitor=0.1, toleration=0.1,
)  # fmt: skip
DEEDS = st.one_of(
    st.tuples(st.just("scale"), st.integers(0, 1), st.integers(0, 4)),
    st.tuples(st.just("fail_replica"), st.integers(0, 5), st.sampled_from([0.0, 0.1])),
    st.tuples(st.just("fail_node"), st.integers(0, 2), st.sampled_from([0.0, 0.1])),
    st.tuples(st.just("restore_node"), st.integers(0, 4)),
    st.tuples(st.just("reclaim"), st.integers(0, 4), st.sampled_from([0.0, 0.2])),
    st.tuples(st.just("replace"), st.integers(0, 1)),
)
Deeds = list[tuple[float, tuple[Any, ...]]]


class Killed:
    """A floor that remembers when its replicas died."""

    def __init__(self, floor: Floor) -> None:
        self.died: dict[int, float] = {}
        kill = floor.kill

        def killed(replica: int, now: float, reason: str) -> int:
            assert replica not in self.died
            self.died[replica] = now
            return kill(replica, now, reason)

        floor.kill = killed  # type: ignore[method-assign]


def on_machines(floor: Floor, deeds: Deeds) -> tuple[Cluster, Killed, list[Any]]:
    """Drive the floor with a cluster to which ``deeds`` are done."""
    env = Environment()
    killed = Killed(floor)
    log: list[Any] = []
    deployments = [
        ReplicaPlan(plan.name, "p", replicas, gpus, START, grace=0.2)
        for plan, replicas, gpus in zip(floor.plan.deployments, (2, 1), (1, 2), strict=False)
    ]
    cluster = Cluster(
        env, floor, [POOL], deployments, partial(generator, 1, 0), lambda *given, **numbers: log.append((given, numbers))
    )  # fmt: skip
    cluster.start()

    def told(when: float, what: str, whom: int) -> None:
        if what == "wanted":
            cluster.scale(whom, max(1, cluster.target(whom)), "somebody waits")
        else:
            cluster.told(when, what, whom)

    def script() -> Any:
        for when, (what, whom, *rest) in deeds:
            yield env.timeout(when - env.now)
            if what in ("scale", "replace"):
                if whom < len(deployments):
                    getattr(cluster, what)(whom, *rest, "drawn")
            elif what == "fail_replica" or whom < len(cluster.machines.nodes):
                if what == "restore_node":
                    cluster.restore_node(whom)
                elif what == "reclaim":
                    cluster.reclaim(whom, rest[0], "drawn", detected_after=0.1)
                else:
                    getattr(cluster, what)(whom, "drawn", rest[0])

    env.process(script())
    drive(env, floor, inf if floor.plan.drain else floor.plan.horizon, told)
    floor.finish()
    return cluster, killed, log


@st.composite
def cases_with_machines(draw: st.DrawFn) -> tuple[FleetPlan, Deeds]:
    plan = draw(controlled_plans(longest=80, max_size=24))
    deeds = draw(st.lists(st.tuples(moments(plan), DEEDS), min_size=1, max_size=12))
    plan = replace(plan, deployments=[replace(each, replicas=0) for each in plan.deployments])  # they are the cluster's
    return plan, sorted(deeds, key=lambda deed: deed[0])


@settings(RELAXED, max_examples=150)
@given(cases_with_machines())
def test_on_machines(case: tuple[FleetPlan, Deeds]) -> None:
    """Every GPU-second of a node belongs to one replica at most, and those of all replicas and the idle ones are the node's."""
    plan, deeds = case
    floor = Fleet(plan)
    closed = closings(floor)
    cluster, killed, _ = on_machines(floor, deeds)
    requests_are_accounted_for(floor, closed)
    if plan.drain:
        everybody_has_left(floor)
    the_dead_do_nothing(floor, killed.died)
    end = floor.ledger.end_time
    usage = cluster.usage(end)
    lives: dict[int, list[tuple[float, float]]] = {}
    for interval in usage.nodes:  # a node that is repaired has several
        lives.setdefault(interval.node, []).append((interval.start, interval.end))
    had: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for replica in usage.replicas:
        for gpu in replica.gpus:
            had.setdefault((replica.node, gpu), []).append((replica.placed, replica.gone))
    idle = 0.0
    for node, spells in lives.items():
        for gpu in range(POOL.gpus):
            turns = sorted(had.pop((node, gpu), []))
            assert all(one[1] <= other[0] for one, other in pairwise(turns))
            assert all(any(start <= placed <= gone <= stop for start, stop in spells) for placed, gone in turns)
            idle += sum(stop - start for start, stop in spells) - sum(gone - placed for placed, gone in turns)
    assert had == {}
    assert usage.gpu_seconds + idle == pytest.approx(POOL.gpus * usage.node_seconds)
    for replica in usage.replicas:
        # What ran, ran while it had GPUs; but a node's loss is told to the data plane once it is noticed, and the step that was
        # in progress at the loss is counted to its end.
        until = max(killed.died.get(replica.replica, end), replica.gone)
        assert floor.ledger.busy[replica.replica] <= max(until - replica.placed, 0.0) or not replica.gpus


def test_outcomes_are_met() -> None:
    """On machines too, every outcome is drawn often."""
    seen: Counter[str] = Counter()

    @settings(RELAXED, max_examples=300, database=None, derandomize=True)
    @given(cases_with_machines())
    def collect(case: tuple[FleetPlan, Deeds]) -> None:
        floor = Fleet(case[0])
        _, killed, log = on_machines(floor, case[1])
        seen.update({OUTCOMES[outcome] for outcome in floor.ledger.outcome[: floor.rows]})
        seen.update({given[0] for given, _ in log})
        if killed.died:
            seen["died"] += 1

    collect()
    for name in (*OUTCOMES, "died", "scale", "place", "ready", "drain", "gone", "fail", "reclaim", "rollout"):
        assert seen[name] >= 3, f"{name}: {seen[name]} of 300"
