"""The gateway and its clients, by hand: every engine step takes one second, so a request of n output tokens takes n seconds once it
has begun, and every time below can be added up on paper. Each case runs in the fast fleet and in the reference."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from math import inf, nan
from typing import Any

import numpy as np
import pytest
from simpy import Environment, Event

from sim.control.clients.client import Client
from sim.control.clients.outliers import OutlierDetection
from sim.control.fleet import Fleet
from sim.control.floor import Floor
from sim.control.gateway import Gateway
from sim.control.limits.policies import ConcurrencyLimit, TokenBucket
from sim.control.plan import Cascade, Choice, ClosedLoop, DeploymentPlan, FleetPlan, GatewayPlan, Terms
from sim.control.reference import ReferenceFleet
from sim.control.routers import RoundRobin
from sim.control.routing.pools import LeastLatency
from sim.kernel.drive import drive
from sim.serving.ledger import FAILED, OK, REJECTED, TIMEOUT, Ledger
from sim.serving.settings import EngineSettings
from sim.testing.tables import constant_step_table, request_table

ENGINE = EngineSettings(
    max_num_seqs=8, max_num_batched_tokens=64, kv_blocks=100, max_model_len=100, async_scheduling=False
)
CONSTANT = {"kind": "constant", "seconds": 1.0}

Done = tuple[float, Callable[[Floor, float], object]]
"""When, and what is done to the floor then."""


@dataclass
class World:
    """What a case is about; requests are (arrival, prompt tokens, output tokens)."""

    requests: Sequence[tuple[float, int, int]]
    terms: Terms = field(default_factory=lambda: Terms(list))
    replicas: int = 1
    client: Callable[[], Client] | None = None
    engine: EngineSettings = ENGINE
    done: Sequence[Done] = ()
    workload: Sequence[int] | None = None
    priority: Sequence[int] | None = None
    cascade: Cascade | None = None
    choice: Choice | None = None
    other: Terms | None = None  # of a second deployment, like the first
    loop: ClosedLoop | None = None

    def plan(self) -> FleetPlan:
        table = request_table(
            [arrival for arrival, _, _ in self.requests],
            [prompt for _, prompt, _ in self.requests],
            [output for _, _, output in self.requests],
            workload=self.workload,
            priority=self.priority,
        )
        workloads = 1 + max(self.workload or [0])
        terms = [self.terms] if self.other is None else [self.terms, self.other]
        step = constant_step_table(1.0, self.engine.max_num_seqs, self.engine.max_num_batched_tokens)
        return FleetPlan(
            table,
            [DeploymentPlan(f"d{i}", self.replicas, self.engine, step, RoundRobin) for i in range(len(terms))],
            [0] * workloads,
            [] if self.loop is None else [self.loop],
            gateway=GatewayPlan(
                terms=terms,
                tenants=["a", "b"][:workloads],
                models=["m"] * workloads,
                clients=[self.client] * workloads,
                choices=[self.choice] * workloads,
                cascades=[self.cascade] * workloads,
                generator=lambda: np.random.default_rng(1),
            ),
        )


@dataclass
class Ran:
    """What came of it."""

    floor: Floor
    ledger: Ledger
    gateway: Gateway
    told: list[tuple[float, str, int]]

    @property
    def ends(self) -> list[float]:
        return self.ledger.end[: self.floor.rows]

    @property
    def outcomes(self) -> list[int]:
        return self.ledger.outcome[: self.floor.rows]

    @property
    def attempts(self) -> list[float]:
        """When attempts of clients that have policies, and what gateways send again, were sent."""
        return self.ledger.arrival[self.floor.rows :]

    @property
    def client(self) -> Client:
        client = self.gateway.callers.clients[0]
        assert client is not None
        return client


Run = Callable[[World], Ran]


@pytest.fixture(params=[Fleet, ReferenceFleet], ids=["fast", "reference"])
def run(request: pytest.FixtureRequest) -> Run:
    def carry_out(world: World) -> Ran:
        floor: Floor = request.param(world.plan())
        env = Environment()
        told: list[tuple[float, str, int]] = []

        def script() -> Generator[Event, Any, None]:
            for when, do in world.done:
                yield env.timeout(when - env.now)
                do(floor, when)

        env.process(script())
        drive(env, floor, inf, lambda when, what, whom: told.append((when, what, whom)))
        ledger = floor.finish()
        gateway = floor.gateway
        assert gateway is not None
        assert (gateway.open, gateway.attempts, gateway.waiting, gateway.inflight) == (
            0, {}, {}, [0] * len(gateway.inflight),
        )  # fmt: skip
        for client in gateway.callers.clients:
            assert client is None or (client.active, client.retrying) == (0, 0)
        return Ran(floor, ledger, gateway, told)

    return carry_out


def terms(**given: Any) -> Terms:
    return Terms(**({"admission": list} | given))


def client(**given: Any) -> Callable[[], Client]:
    return lambda: Client(**given)


def kill(replica: int) -> Callable[[Floor, float], object]:
    return lambda floor, now: floor.kill(replica, now, "killed")


def kill_its_replica(floor: Floor, now: float) -> None:
    """The replica that the last attempt was sent to."""
    floor.kill(floor.ledger.replica[-1], now, "killed")


def cut(replica: int, on: bool = True) -> Callable[[Floor, float], object]:
    return lambda floor, now: floor.cut(replica, on, now)


def close(replica: int) -> Callable[[Floor, float], object]:
    return lambda floor, now: floor.close(replica, now)


def grow(floor: Floor, now: float) -> None:
    floor.open(floor.create(0), now)


# clients


@pytest.mark.parametrize(
    ("timeout", "overhead", "outcome", "end"),
    [
        (3.0, 0.0, OK, 3.0),  # answered at the very moment at which it would have given up
        (2.75, 0.0, TIMEOUT, 2.75),
        (3.0, 0.5, TIMEOUT, 2.5),  # sent half a second before the engine had it
        (3.5, 0.5, OK, 3.0),
    ],
)
def test_timeout(run: Run, timeout: float, overhead: float, outcome: int, end: float) -> None:
    ran = run(World([(0.0, 1, 3)], terms(overhead=overhead), client=client(timeout=timeout)))
    assert (ran.outcomes, ran.ends) == ([outcome], [end])
    assert ran.ledger.reason == ({} if outcome == OK else {0: "timeout"})
    assert ran.ledger.busy == [3.0]  # the step in progress goes on


def test_retry_comes_after_pause_and_overhead(run: Run) -> None:
    """Given up at 0 - 0.25 + 2 = 1.75; a pause of 1 s, and 0.25 s on the way: the engine has the second attempt at 3."""
    policy = client(timeout=2.0, max_attempts=2, backoff=CONSTANT)
    ran = run(World([(0.0, 1, 10)], terms(overhead=0.25), client=policy))
    assert ran.attempts == [0.0, 3.0]
    assert (ran.outcomes, ran.ends, ran.ledger.reason) == ([TIMEOUT], [4.75], {0: "timeout"})
    assert (ran.gateway.tries, ran.gateway.began, ran.gateway.sent) == ({0: 2}, {0: 3.0}, {0: 3.0})
    assert ran.ledger.busy == [4.0]  # steps 0-1, 1-2, 3-4 and 4-5
    assert ran.ledger.end_time == 5.0


def test_deadline_spans_all_attempts(run: Run) -> None:
    def policy(deadline: float) -> Callable[[], Client]:
        return client(timeout=2.0, deadline=deadline, max_attempts=9, backoff=CONSTANT)

    ran = run(World([(0.0, 1, 10)], client=policy(4.0)))
    assert (ran.attempts, ran.outcomes, ran.ends, ran.ledger.reason) == ([0.0, 3.0], [TIMEOUT], [4.0], {0: "deadline"})
    ran = run(World([(0.0, 1, 10)], client=policy(2.5)))  # the second would be sent at 3: too late, so not at all
    assert (ran.attempts, ran.outcomes, ran.ends, ran.ledger.reason) == ([0.0], [TIMEOUT], [2.0], {0: "timeout"})
    ran = run(
        World([(0.0, 1, 10)], client=lambda: Client(deadline=2.5, timeout=2.0, max_attempts=2, backoff="constant"))
    )
    assert (ran.attempts, ran.ends, ran.ledger.reason) == ([0.0, 2.0], [2.5], {0: "deadline"})  # no pause by default


def test_user_leaves_who_sees_no_token_in_time(run: Run) -> None:
    one_seat = EngineSettings(1, 64, 100, 100, async_scheduling=False)
    ran = run(World([(0.0, 1, 10), (1.0, 1, 1), (8.0, 1, 1)], client=client(patience=3.0), engine=one_seat))
    assert ran.outcomes == [OK, TIMEOUT, OK]  # the first has had a token since 1, the last gets one at 11
    assert ran.ends == [10.0, 4.0, 11.0]
    assert ran.ledger.reason == {1: "abandoned"}


def test_hedge_that_is_answered_first(run: Run) -> None:
    """The first copy is on a replica ten times slower; the second goes to the other at 1 + 3 and is answered at 6."""
    slow: Done = (0.5, lambda floor, now: floor.pace(0, 10.0, now))
    ran = run(World([(1.0, 1, 2)], replicas=2, client=client(hedge_after=3.0), done=[slow]))
    assert (ran.outcomes, ran.ends, ran.attempts) == ([OK], [6.0], [1.0, 4.0])
    assert (ran.ledger.replica[0], ran.ledger.first_token[0]) == (1, 5.0)
    assert (ran.gateway.tries, ran.gateway.began, ran.gateway.sent) == ({0: 2}, {0: 4.0}, {0: 4.0})
    assert ran.ledger.busy == [10.0, 2.0]  # the step that the loser was in goes on to 11
    assert ran.ledger.outcome[1] != OK


def test_copies_answered_at_the_same_moment(run: Run) -> None:
    ran = run(World([(1.0, 1, 2)], replicas=2, client=client(hedge_after=0.0)))
    assert (ran.outcomes, ran.ends, ran.ledger.replica[0], ran.gateway.tries) == ([OK], [3.0], 0, {0: 2})
    assert ran.ledger.busy == [2.0, 2.0]


def test_failure_brings_the_next_copy_forward_and_moves_those_after_it(run: Run) -> None:
    """gRPC A6: due at 5 and 10; the first fails at 1, so the second goes at 1 and the third at 1 + 5."""
    policy = client(hedge_after=5.0, hedge_max_attempts=3)
    ran = run(World([(0.0, 1, 20)], replicas=3, client=policy, done=[(1.0, kill(0))]))
    assert ran.attempts == [0.0, 1.0, 6.0]
    assert (ran.outcomes, ran.ends) == ([OK], [21.0])


def test_copies_lost_with_one_replica(run: Run) -> None:
    """Both copies are in the replica that dies; the gateway sends both again to the one that comes then."""
    policy = client(hedge_after=1.0)
    ran = run(World([(0.0, 1, 4)], terms(on_loss="retry"), client=policy, done=[(2.5, kill(0)), (3.0, grow)]))
    assert ran.attempts == [0.0, 1.0, 2.5, 2.5]
    assert (ran.outcomes, ran.ends, ran.gateway.tries) == ([OK], [7.0], {0: 2})
    assert ran.gateway.sent == {0: 3.0}


def test_failure_that_is_not_tried_again_ends_the_copies_too(run: Run) -> None:
    policy = client(hedge_after=1.0, retry_on=["timeout"])
    ran = run(World([(0.0, 1, 4)], client=policy, done=[(2.5, kill(0))]))
    assert (ran.outcomes, ran.ends, ran.gateway.tries) == ([FAILED], [2.5], {0: 2})
    assert ran.floor.stations[0].inside == 0


def test_closed_loop_goes_on_after_a_failure(run: Run) -> None:
    """Given up at 2, another second of thought; the third request follows likewise."""
    loop = ClosedLoop(0, users=1, think=1.0)
    ran = run(World([(nan, 1, 9), (nan, 1, 9), (nan, 1, 1)], client=client(timeout=2.0), loop=loop))
    assert ran.ledger.arrival[:3] == [0.0, 3.0, 6.0]
    assert (ran.outcomes, ran.ends) == ([TIMEOUT, TIMEOUT, OK], [2.0, 5.0, 7.0])


def test_breaker_of_the_client_ends_a_request_before_it_is_sent(run: Run) -> None:
    policy = client(breaker={"kind": "envoy", "max_requests": 1})
    ran = run(World([(0.0, 1, 5), (1.0, 1, 5), (5.0, 1, 1)], client=policy))
    assert ran.outcomes == [OK, REJECTED, REJECTED]  # at 5 the answer has not been seen yet: arrivals come first
    assert ran.ledger.reason == {1: "circuit breaker open", 2: "circuit breaker open"}
    assert ran.ends == [5.0, 1.0, 5.0]


# admission and the line


def test_reservations_wait_for_their_token(run: Run) -> None:
    def bucket(**more: Any) -> list[TokenBucket]:
        return [TokenBucket(rate=1.0, burst=1, mode="reserve", **more)]

    three = [(0.0, 1, 1)] * 3
    ran = run(World(three, terms(admission=bucket)))
    assert (ran.ends, ran.gateway.sent) == ([1.0, 2.0, 3.0], {1: 1.0, 2: 2.0})
    ran = run(World(three, terms(admission=lambda: bucket(max_wait=1.0))))
    assert (ran.outcomes, ran.ends) == ([OK, OK, REJECTED], [1.0, 2.0, 0.0])
    assert ran.ledger.reason == {2: "rate limit"}


def test_refusal_behind_a_reservation_gives_it_back(run: Run) -> None:
    """A token every 2 s. The second has its at 2 and is refused by the policy behind, as the first is inside until 3; so there is one for
    the third at 3.25, which would else have had to wait until 4."""

    def both() -> list[Any]:
        return [TokenBucket(rate=0.5, burst=1, mode="reserve"), ConcurrencyLimit(limit=1)]

    ran = run(World([(0.0, 1, 3), (0.0, 1, 1), (3.25, 1, 1)], terms(admission=both)))
    assert (ran.outcomes, ran.ends) == ([OK, REJECTED, OK], [3.0, 2.0, 4.25])
    assert ran.ledger.reason == {1: "concurrency limit"}


def test_who_gives_up_while_a_reservation_is_pending_cancels_it(run: Run) -> None:
    """The second would be let in at 1 and leaves at 0.5; its token goes to the third, which would else have had to wait until 2."""
    bucket = terms(admission=lambda: [TokenBucket(rate=1.0, burst=1, mode="reserve")])
    ran = run(World([(0.0, 1, 1), (0.0, 1, 1), (0.75, 1, 1)], bucket, client=client(timeout=0.5)))
    assert ran.ends == [0.5, 0.5, 1.25]
    assert ran.gateway.sent == {2: 1.0}


def test_line_has_a_limit_and_a_timeout(run: Run) -> None:
    """Nobody is there until 5.5. The first has waited 5 s by then, the second since 1; two more found the line full."""
    world = World(
        [(0.0, 1, 1), (1.0, 1, 1), (2.0, 1, 1), (3.0, 1, 1)],
        terms(queue_limit=2, queue_timeout=5.0),
        replicas=0,
        done=[(5.5, grow)],
    )
    ran = run(world)
    assert ran.outcomes == [TIMEOUT, OK, REJECTED, REJECTED]
    assert ran.ends == [5.0, 6.5, 2.0, 3.0]
    assert ran.ledger.reason == {0: "waited too long at the gateway", 2: "queue full", 3: "queue full"}
    assert ran.told == [(0.0, "wanted", 0)]
    assert ran.gateway.sent == {1: 5.5}


def test_line_times_out_after_what_happens_at_that_moment(run: Run) -> None:
    """The only seat is free at the very moment at which the next has waited long enough: step ends come first, but so does the line's
    timeout, which was set before the dispatch was."""
    ran = run(World([(0.0, 1, 2), (0.0, 1, 1)], terms(per_replica=1, queue_timeout=2.0)))
    assert ran.outcomes == [OK, TIMEOUT]
    assert ran.ends == [2.0, 2.0]


def test_per_replica_limit(run: Run) -> None:
    ran = run(World([(0.0, 1, 2)] * 3, terms(per_replica=1)))
    assert (ran.ends, ran.gateway.sent) == ([2.0, 4.0, 6.0], {1: 2.0, 2: 4.0})
    ran = run(World([(0.0, 1, 2)] * 3, terms(per_replica=1), replicas=2))
    assert (ran.ends, ran.ledger.replica) == ([2.0, 2.0, 4.0], [0, 1, 0])


@pytest.mark.parametrize(
    ("order", "ends"),
    [
        ("fifo", [1.0, 2.0, 3.0, 4.0]),
        ("priority", [1.0, 4.0, 2.0, 3.0]),
        # a was served 1 prompt token and 1 output token at 2: 3. b came to an empty line and was lifted to what a had then: 1
        ("fair", [1.0, 3.0, 4.0, 2.0]),
    ],
)
def test_order_of_the_line(run: Run, order: str, ends: list[float]) -> None:
    world = World(
        [(0.0, 1, 1)] * 4, terms(per_replica=1, order=order), workload=[0, 0, 0, 1], priority=[0, 2, 0, 1]
    )  # fmt: skip
    assert run(world).ends == ends


# replicas that are lost


def test_lost_requests_fail(run: Run) -> None:
    ran = run(World([(0.0, 1, 5)], replicas=2, done=[(2.5, kill(0))]))
    assert (ran.outcomes, ran.ends, ran.ledger.reason) == ([FAILED], [2.5], {0: "killed"})
    assert ran.ledger.end_time == 2.5


def test_clients_try_lost_requests_again(run: Run) -> None:
    policy = client(max_attempts=2, backoff=CONSTANT)
    ran = run(World([(0.0, 1, 5)], replicas=2, client=policy, done=[(2.5, kill(0))]))
    assert (ran.outcomes, ran.ends, ran.attempts) == ([OK], [8.5], [0.0, 3.5])
    assert (ran.gateway.tries, ran.gateway.began) == ({0: 2}, {0: 3.5})


def test_gateways_send_lost_requests_again(run: Run) -> None:
    ran = run(World([(0.0, 1, 5)], terms(on_loss="retry"), replicas=2, done=[(2.5, kill(0))]))
    assert (ran.outcomes, ran.ends, ran.ledger.first_token[0]) == ([OK], [7.5], 3.5)
    assert (ran.gateway.tries, ran.gateway.began, ran.gateway.sent) == ({}, {0: 2.5}, {0: 2.5})
    ran = run(World([(0.0, 1, 5)], terms(on_loss="retry", resends=0), replicas=2, done=[(2.5, kill(0))]))
    assert (ran.outcomes, ran.ends) == ([FAILED], [2.5])


@pytest.mark.parametrize(
    ("kills", "end", "generated", "gaps"),
    [
        ([(2.5, kill(0))], 5.5, [2], 1.5),  # tokens at 1, 2, then 3.5, 4.5, 5.5
        ([(2.0, kill(0))], 5.0, [2], 0.0),  # the step that ends then has ended; tokens at 1, 2, 3, 4, 5
        ([(2.5, kill(0)), (4.0, kill_its_replica)], 6.0, [2, 3], 3.0),  # at 1, 2, 3.5, then 5 and 6
        ([(2.5, cut(0))], 5.5, [2], 1.5),  # cut off is as good as lost
    ],
)
def test_generated_tokens_migrate(
    run: Run, kills: Sequence[Done], end: float, generated: list[int], gaps: float
) -> None:
    ran = run(World([(0.0, 1, 5)], terms(on_loss="migrate"), replicas=3, done=kills))
    ledger = ran.ledger
    assert (ran.outcomes, ran.ends) == ([OK], [end])
    assert (ledger.scheduled[0], ledger.first_token[0]) == (0.0, 1.0)
    assert ran.floor.prompt == [1, *(1 + had for had in generated)]
    assert ran.floor.output == [5, *(5 - had for had in generated)]
    assert sum(ledger.itl.counts) == 4  # one between any two tokens
    assert ledger.itl.total == end - 1.0
    of_gap = np.searchsorted(ledger.itl.edges, 1.5, side="right") - 1
    assert ledger.itl.counts[of_gap] == gaps / 1.5
    assert (ran.gateway.began, ran.gateway.sent) == ({}, {})


def test_nothing_migrates_before_the_first_token(run: Run) -> None:
    ran = run(World([(0.0, 1, 5)], terms(on_loss="migrate"), replicas=2, done=[(0.5, kill(0))]))
    assert (ran.ends, ran.ledger.first_token[0], ran.ledger.scheduled[0]) == ([5.5], 1.5, 0.5)
    assert (ran.floor.prompt, ran.gateway.began) == ([1, 1], {0: 0.5})


def test_client_retry_starts_anew_after_migrations(run: Run) -> None:
    """Two tokens migrate at 2.5; the next replica is lost too, and the gateway sends nothing again any more: the client does."""
    policy = client(max_attempts=2, backoff=CONSTANT)
    done = [(2.5, kill(0)), (4.0, kill_its_replica)]
    ran = run(World([(0.0, 1, 5)], terms(on_loss="migrate", resends=1), replicas=3, client=policy, done=done))
    assert (ran.attempts, ran.floor.prompt, ran.ends) == ([0.0, 2.5, 5.0], [1, 1, 3, 1], [10.0])
    assert (ran.ledger.first_token[0], ran.gateway.began) == (6.0, {0: 5.0})


def test_clients_clock_runs_on_while_the_gateway_sends_again(run: Run) -> None:
    done = [(1.5, kill(0)), (2.5, kill_its_replica)]
    ran = run(World([(0.0, 1, 9)], terms(on_loss="retry"), replicas=3, client=client(timeout=4.0), done=done))
    assert (ran.outcomes, ran.ends, ran.attempts) == ([TIMEOUT], [4.0], [0.0, 1.5, 2.5])


def test_replica_that_cannot_be_reached(run: Run) -> None:
    """What is in it fails at once, what is sent there after 5 s, until it can be reached again."""
    world = World(
        [(0.0, 1, 5), (3.0, 1, 1), (10.0, 1, 1)],
        terms(connect_timeout=5.0),
        done=[(2.0, cut(0)), (9.0, cut(0, False))],
    )
    ran = run(world)
    assert (ran.outcomes, ran.ends) == ([FAILED, FAILED, OK], [2.0, 8.0, 11.0])
    assert ran.ledger.reason == {0: "unreachable", 1: "unreachable"}


def test_line_moves_on_when_a_replica_is_cut_off(run: Run) -> None:
    """Its only seat is free again, so the next is sent there, to no avail: it fails a second later."""
    world = World([(0.0, 1, 9), (0.0, 1, 1)], terms(per_replica=1, connect_timeout=1.0), done=[(2.0, cut(0))])
    ran = run(world)
    assert (ran.outcomes, ran.ends) == ([FAILED, FAILED], [2.0, 3.0])


def test_replica_that_closes_serves_what_it_has(run: Run) -> None:
    ran = run(World([(0.0, 1, 3), (2.0, 1, 1), (6.0, 1, 1)], replicas=2, done=[(1.0, close(0))]))
    assert (ran.ends, ran.ledger.replica) == ([3.0, 3.0, 7.0], [0, 1, 1])
    assert ran.told == [(3.0, "drained", 0)]
    assert ran.floor.stations[0].away == {0: (0, 0)}


def test_closed_replica_that_has_drained_can_be_killed(run: Run) -> None:
    ran = run(World([(0.0, 1, 3), (6.0, 1, 1)], replicas=2, done=[(1.0, close(0)), (5.0, kill(0))]))
    station = ran.floor.stations[0]
    assert (station.ready, station.away, station.eligible, ran.ends) == (1, {}, [1], [3.0, 7.0])


# outlier detection, choices and cascades


def detection(**given: Any) -> Callable[[], OutlierDetection]:
    settings = {"consecutive_5xx": 1, "interval": 10.0, "base_ejection_time": 10.0, "max_ejection_percent": 50.0}
    return lambda: OutlierDetection(**(settings | given))


def test_replica_that_fails_is_avoided_for_a_while(run: Run) -> None:
    """Ejected at 0.5; the tick at 10 finds 9.5 s passed, the one at 20 brings it back. Round robin goes on from replica 1."""
    world = World(
        [(0.0, 1, 1), (5.0, 1, 1), (12.0, 1, 1), (21.0, 1, 1), (23.0, 1, 1)],
        terms(outlier=detection()),
        replicas=2,
        done=[(0.5, cut(0)), (1.0, cut(0, False))],
    )
    ran = run(world)
    assert ran.outcomes == [FAILED, OK, OK, OK, OK]
    assert ran.ledger.replica[1:3] == [1, 1]
    assert sorted(ran.ledger.replica[3:]) == [0, 1]


def test_replica_that_is_avoided_can_close_and_is_not_brought_back(run: Run) -> None:
    world = World(
        [(0.0, 1, 1), (5.0, 1, 1), (21.0, 1, 1), (41.0, 1, 1)],
        terms(outlier=detection()),
        replicas=3,
        done=[(0.5, cut(0)), (1.0, cut(0, False)), (2.0, close(0)), (30.0, kill(0))],
    )
    ran = run(world)
    assert 0 not in ran.ledger.replica[1:]
    assert (ran.floor.stations[0].ready, ran.floor.stations[0].eligible) == (2, [1, 2])


def test_panic_when_too_few_are_left(run: Run) -> None:
    """One of two is ejected; when the other closes, all that there are are ejected, so nobody is avoided."""
    world = World(
        [(0.0, 1, 1), (3.0, 1, 1)],
        terms(outlier=detection()),
        replicas=2,
        done=[(0.5, cut(0)), (1.0, cut(0, False)), (2.0, close(1))],
    )
    ran = run(world)
    assert (ran.outcomes, ran.ledger.replica[1]) == ([FAILED, OK], 0)


def test_outlier_detection_ends_with_the_run(run: Run) -> None:
    ran = run(World([(0.0, 1, 1)], terms(outlier=detection())))
    assert ran.ledger.end_time == 1.0


def test_cascade_goes_on_to_the_other_deployment(run: Run) -> None:
    """Answered at 2, seen half a second later, answered again two steps after that."""
    ran = run(World([(0.0, 1, 2)], terms(overhead=0.5), cascade=Cascade(1, 1.0), other=terms()))
    assert (ran.outcomes, ran.ends, ran.attempts) == ([OK], [4.5], [0.0, 2.5])
    assert (ran.ledger.replica[0], ran.ledger.first_token[0], ran.gateway.tries) == (1, 3.5, {0: 2})


def test_each_stage_of_a_cascade_is_hedged_anew(run: Run) -> None:
    """Copies at 0 and 1; the first is answered at 2, and at once two more go to the other deployment, at 2 and 3."""
    world = World([(0.0, 1, 2)], replicas=2, cascade=Cascade(1, 1.0), other=terms(), client=client(hedge_after=1.0))
    ran = run(world)
    assert (ran.outcomes, ran.ends, ran.attempts) == ([OK], [4.0], [0.0, 1.0, 2.0, 3.0])
    assert ran.gateway.tries == {0: 4}


def test_migrated_answer_escalates_as_a_whole(run: Run) -> None:
    world = World(
        [(0.0, 1, 4)], terms(on_loss="migrate"), replicas=2, cascade=Cascade(1, 1.0), other=terms(), done=[(2.5, kill(0))]
    )  # fmt: skip
    ran = run(world)
    assert (ran.floor.prompt, ran.floor.output) == ([1, 1, 3, 1], [4, 4, 2, 4])
    assert (ran.outcomes, ran.ends, ran.ledger.first_token[0]) == ([OK], [8.5], 5.5)


def test_line_of_the_deployment_that_was_chosen(run: Run) -> None:
    """Both deployments have nobody; the request waits for the first, as it is served by neither any sooner, and gives up there."""
    choice = Choice([1, 0], LeastLatency, [1.0, 1.0], [1.0, 1.0])
    ran = run(World([(0.0, 1, 1)], terms(queue_timeout=3.0), replicas=0, choice=choice, other=terms(queue_timeout=2.0)))
    assert (ran.outcomes, ran.ends, ran.told) == ([TIMEOUT], [2.0], [(0.0, "wanted", 1)])
    assert [station.inside for station in ran.floor.stations] == [0, 0]


def test_retry_chooses_again(run: Run) -> None:
    """By tokens: the first goes to deployment 0 (10), the second to 1 (21), the third to 0 (16 against 27). When the first has given up and
    tries again at 2, 0 has the third (6) and 1 has nothing any more."""
    choice = Choice([0, 1], LeastLatency, [1.0, 1.0], [1.0, 1.0])
    policy = client(timeout=2.0, max_attempts=2, backoff="constant")
    ran = run(World([(0.0, 1, 9), (0.0, 20, 1), (0.5, 1, 5)], choice=choice, other=terms(), client=policy))
    assert (ran.attempts[3], ran.ledger.replica[3:7]) == (2.0, [0, 1, 0, 1])
    assert (ran.outcomes[0], ran.ledger.replica[0]) == (TIMEOUT, 1)
