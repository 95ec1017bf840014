"""Hypothesis strategies of fleets with a gateway, and of what happens to their replicas; small, so that every rule is met often."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf, isfinite
from typing import Any

from hypothesis import strategies as st
from simpy import Environment, Event

from sim.control import fleet, registry
from sim.control.floor import Floor
from sim.control.plan import Cascade, Choice, FleetPlan, GatewayPlan, Terms
from sim.kernel.clock import on_grid
from sim.kernel.drive import drive
from sim.kernel.streams import generator
from sim.testing.strategies import TICK, fleet_plans

__all__ = ["Disturbance", "Script", "controlled_plans", "disturbances", "moments", "run"]

_ADMISSION: list[tuple[str, dict[str, Any]]] = [
    ("token-bucket", {"rate": 40.0, "burst": 2}),
    ("token-bucket", {"rate": 30.0, "burst": 1, "mode": "reserve"}),
    ("token-bucket", {"rate": 64.0, "burst": 1, "mode": "reserve", "max_wait": 0.1, "per": "tenant"}),
    ("token-bucket", {"rate": 2000.0, "burst": 60, "of": "tokens", "mode": "reserve"}),
    ("token-bucket", {"rate": 100.0, "burst": 20, "of": "tokens", "per": "model"}),
    ("envoy-local", {"max_tokens": 3, "fill_interval": 0.05, "tokens_per_fill": 2}),
    ("concurrency", {"limit": 3}),
    ("concurrency", {"limit": 1, "per": "tenant"}),
    (
        "envoy-adaptive",
        {"concurrency_update_interval": 0.02, "interval": 0.2, "request_count": 3, "min_concurrency": 1},
    ),
    ("vegas", {"initial_limit": 2, "max_concurrency": 8}),
    ("gradient2", {"initial_limit": 2, "min_limit": 1, "max_concurrency": 8}),
    ("aimd", {"initial_limit": 2, "min_limit": 1, "max_limit": 4, "timeout": 0.05}),
    ("priority-shedding", {"limit": 2, "shares": {"0": 0.5, "1": 0.25}}),
    ("priority-shedding", {"limit": 1, "shares": {"0": 0.5, "1": 0.25}}),
]
_POOLS: list[tuple[str, dict[str, Any]]] = [
    ("cheapest-first", {}),
    ("least-latency", {}),
    ("weighted", {"by": "capacity"}),
    ("by-length", {"threshold": 10, "pool": "deployment-0"}),
]


def _make(family: str, kind: str, parameters: dict[str, Any], seed: int) -> Any:
    return registry.make(family, kind, parameters, generator=generator(seed, 0, family))


def _make_all(makers: Sequence[Callable[[], Any]]) -> list[Any]:
    return [make() for make in makers]


def _seconds(most: int = 32) -> st.SearchStrategy[float]:
    """Whole ticks, which coincide with step ends, and any."""
    return st.one_of(st.integers(1, most).map(lambda ticks: ticks * TICK), st.floats(0.001, most * TICK))


@st.composite
def _terms(draw: st.DrawFn, seed: int) -> Terms:
    policies = []
    for place in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2]))):
        kind, parameters = draw(st.sampled_from(_ADMISSION))
        policies.append(partial(_make, "admission", kind, parameters, seed + place))
    outlier = None
    if draw(st.integers(0, 1)) == 0:
        parameters = {
            "consecutive_5xx": draw(st.integers(1, 2)),
            "interval": draw(_seconds(8)),
            "base_ejection_time": draw(_seconds(8)),
            "max_ejection_percent": draw(st.sampled_from([10.0, 50.0, 100.0, 100.0])),
            "always_eject_one_host": draw(st.booleans()),
            "healthy_panic_threshold": draw(st.sampled_from([0.0, 50.0])),
        }
        outlier = partial(_make, "outlier", "envoy", parameters, seed)
    return Terms(
        admission=partial(_make_all, policies),
        order=draw(st.sampled_from(["fifo", "priority", "fair"])),
        queue_limit=draw(st.sampled_from([None, None, None, 0, 1, 3])),
        queue_timeout=draw(st.one_of(_seconds(), st.just(4.0))),
        per_replica=draw(st.sampled_from([None, None, 1, 2, 4])),
        outlier=outlier,
        on_loss=draw(st.sampled_from(["fail", "retry", "migrate", "migrate", "migrate"])),
        resends=draw(st.sampled_from([0, 1, 3, 3])),
        connect_timeout=draw(_seconds(4)),
        overhead=draw(st.sampled_from([0.0, 0.0, TICK, on_grid(0.003)])),
        watched=draw(st.booleans()),
    )


@st.composite
def _client(draw: st.DrawFn) -> Callable[[], Any] | None:
    if draw(st.integers(0, 3)) == 0:
        return None

    def maybe(strategy: st.SearchStrategy[Any], of: int = 2) -> Any:
        return draw(strategy) if draw(st.integers(0, of - 1)) == 0 else None

    parameters: dict[str, Any] = {
        "timeout": maybe(_seconds()),
        "deadline": maybe(_seconds(64), 3),
        "patience": maybe(_seconds(), 4),
        "backoff": draw(
            st.sampled_from(
                [
                    {"kind": "constant", "seconds": 0.0},
                    {"kind": "constant", "seconds": 3 * TICK},
                    {"kind": "full-jitter", "base": 0.01, "cap": 0.2},
                    {"kind": "decorrelated-jitter", "base": 0.01, "cap": 0.2},
                ]
            )
        ),
        "retry_on": draw(
            st.sampled_from([["rejected", "failed", "timeout"]] * 3 + [["failed"], ["rejected", "timeout"]])
        ),
        "throttle": maybe(st.just({"max_tokens": 3, "token_ratio": 0.5}), 4),
        "budget": maybe(
            st.sampled_from(
                [
                    {"kind": "envoy", "min_retry_concurrency": 1},
                    {"kind": "finagle", "min_retries_per_sec": 1, "percent_can_retry": 0.3},
                    {"kind": "aws", "capacity": 20},
                ]
            ),
            3,
        ),
        "breaker": maybe(
            st.sampled_from(
                [
                    {"kind": "envoy", "max_requests": 4, "max_retries": 1},
                    {
                        "kind": "resilience4j",
                        "sliding_window_size": 4,
                        "minimum_number_of_calls": 2,
                        "wait_duration_in_open_state": 0.05,
                        "permitted_number_of_calls_in_half_open_state": 1,
                    },
                ]
            ),
            3,
        ),
    }
    if draw(st.integers(0, 2)) == 0:
        parameters |= {"hedge_after": draw(st.one_of(st.just(0.0), _seconds(8)))}
        parameters |= {"hedge_max_attempts": draw(st.integers(2, 3))}
    else:
        parameters |= {"max_attempts": draw(st.integers(1, 4))}
    given = {name: value for name, value in parameters.items() if value is not None}
    return partial(_make, "client", "default", given, 0)


@st.composite
def controlled_plans(
    draw: st.DrawFn, *, longest: int = 40, max_size: int = 16, large: bool = False, drained: bool | None = None
) -> FleetPlan:
    """A fleet of 0 to 4 replicas a deployment behind a gateway that does anything a gateway may. ``drained``: runs to its end."""
    plan = draw(fleet_plans(longest=longest, max_size=max_size, large=large))
    if drained is not None and plan.drain != drained:
        plan = replace(plan, drain=drained, horizon=plan.horizon if isfinite(plan.horizon) else 1.0)
    deployments = [
        replace(each, replicas=draw(st.sampled_from([each.replicas] * 3 + [0]))) for each in plan.deployments
    ]
    several = len(deployments) > 1
    everyone = range(len(deployments))
    workloads = range(len(plan.deployment_of))
    seed = draw(st.integers(0, 2**16))
    choices: list[Choice | None] = []
    cascades: list[Cascade | None] = []
    for workload in workloads:
        kind, parameters = draw(st.sampled_from(_POOLS))
        choice = Choice(list(everyone), partial(_make, "pools", kind, parameters, seed), [1.0, 3.0], [0.002, 0.001])
        choices.append(choice if several and draw(st.integers(0, 3)) == 0 else None)
        other = 1 - plan.deployment_of[workload]
        cascade = Cascade(other, draw(st.sampled_from([0.5, 1.0]))) if several else None
        cascades.append(cascade if draw(st.integers(0, 2)) == 0 else None)
    gateway = GatewayPlan(
        terms=[draw(_terms(seed + 10 * number)) for number in everyone],
        tenants=[draw(st.sampled_from(["acme", "bolt"])) for _ in workloads],
        models=[f"model-{plan.deployment_of[workload]}" for workload in workloads],
        clients=[draw(_client()) for _ in workloads],
        choices=choices,
        cascades=cascades,
        generator=partial(generator, seed, 0, "gateway"),
    )
    return replace(plan, deployments=deployments, gateway=gateway)


@dataclass(frozen=True)
class Disturbance:
    """Something that is done to the replicas at ``when``: ``what``, and ``which`` of those it can be done to (modulo their number).

    create, ready, close, kill; strike: kill the one with most requests; pace (steps take ``factor`` times as long), cut, restore; look.
    """

    when: float
    what: str
    which: int
    factor: float = 1.0


_DONE = ("create", "ready", "ready", "close", "close", "kill", "pace", "cut", "cut", "restore", "look", *["strike"] * 4)


def moments(plan: FleetPlan) -> st.SearchStrategy[float]:
    """Times in a run of the plan; many the very moments of its arrivals, first tokens and ends, when nothing disturbs it."""
    ledger = fleet.simulate(plan)
    times = {
        time for column in (ledger.arrival, ledger.first_token, ledger.end) for time in column if 0.0 <= time < inf
    }
    return st.one_of(
        st.sampled_from(sorted(times) or [0.0]),
        st.integers(0, 64).map(lambda ticks: ticks * TICK),
        st.floats(0.0, max(times, default=1.0)).map(on_grid),
    )


@st.composite
def disturbances(draw: st.DrawFn, plan: FleetPlan, most: int = 12) -> list[Disturbance]:
    """In order, many of them at one moment."""
    times = moments(plan)
    found = []
    for _ in range(draw(st.integers(1, most))):
        when = draw(times)
        for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
            factor = draw(st.sampled_from([0.5, 1.0, 3.0]))
            found.append(Disturbance(when, draw(st.sampled_from(_DONE)), draw(st.integers(0, 7)), factor))
    return sorted(found, key=lambda disturbance: disturbance.when)


class Script:
    """Does to a floor what a cluster would: replicas are created, become ready, are closed and, once drained, gone.

    ``said``: all that the floor told or was seen to be, in order. ``died``: when replicas were killed.
    """

    def __init__(self, env: Environment, floor: Floor, script: list[Disturbance], start: float) -> None:
        self.env = env
        self.floor = floor
        self.script = script
        self.start = start  # seconds from when somebody waits for a replica until there is one
        self.said: list[Any] = []
        self.died: dict[int, float] = {}
        self.fresh: list[int] = []  # created, not open
        self.open = list(floor.serving)
        self.closed: list[int] = []
        self.cut: list[int] = []

    def process(self) -> Generator[Event]:
        """The script, as a process."""
        for disturbance in self.script:
            yield self.env.timeout(disturbance.when - self.env.now)
            self.disturb(disturbance)

    def told(self, when: float, what: str, whom: int) -> None:
        """What the floor has to say."""
        self.said.append((self.env.now, when, what, whom))
        if what == "wanted":
            self.env.process(self._start(whom))
        elif whom in self.closed and whom % 3:  # others stay as they are
            self._kill(whom, "drained")

    def _start(self, deployment: int) -> Generator[Event]:
        number = self.floor.create(deployment)
        yield self.env.timeout(self.start)
        self._open(number)

    def _open(self, number: int) -> None:
        self.floor.open(number, self.env.now)
        self.open.append(number)

    def _kill(self, number: int, reason: str) -> None:
        for group in (self.fresh, self.open, self.closed, self.cut):
            if number in group:
                group.remove(number)
        self.died[number] = self.env.now
        self.said.append(("killed", number, self.floor.kill(number, self.env.now, reason)))

    def disturb(self, disturbance: Disturbance) -> None:
        """Do it, if there is anything to do it to."""
        now, what, floor = self.env.now, disturbance.what, self.floor
        among = {
            "create": list(range(len(floor.stations))),
            "ready": self.fresh,
            "close": self.open,
            "kill": self.fresh + self.open + self.closed,
            "strike": sorted(self.open, key=lambda number: -len(floor.held(number)))[:1],
            "pace": self.fresh + self.open + self.closed,
            "cut": [number for number in self.open + self.closed if number not in self.cut],
            "restore": self.cut,
            "look": floor.serving,
        }[what]
        if not among:
            return
        number = among[disturbance.which % len(among)]
        self.said.append((now, what, number))
        if what == "create":
            self.fresh.append(floor.create(number))
        elif what == "ready":
            self.fresh.remove(number)
            self._open(number)
        elif what == "close":
            self.open.remove(number)
            self.closed.append(number)
            floor.close(number, now)
        elif what in ("kill", "strike"):
            self._kill(number, "killed")
        elif what == "pace":
            floor.pace(number, disturbance.factor, now)
        elif what == "look":
            self.said += [(floor.look(each, now), floor.busy(each, now), floor.held(each)) for each in floor.serving]
        else:
            floor.cut(number, what == "cut", now)
            (self.cut.append if what == "cut" else self.cut.remove)(number)


def run(floor: Floor, script: list[Disturbance], start: float = 4 * TICK) -> Script:
    """Drive ``floor`` to its end while ``script`` happens to it."""
    env = Environment()
    done = Script(env, floor, script, start)
    env.process(done.process())
    drive(env, floor, inf if floor.plan.drain else floor.plan.horizon, done.told)
    return done
