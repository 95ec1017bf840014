"""Deployments set up as textbook stations behind the gateway, and figures of them: what theory says beside what was simulated.

A replica that takes one request at a time, with steps of one tick and prompts of one token, serves for as many ticks as there are
output tokens, from the moment it is given the request: times are not shifted to a step's beginning. Only the drawn service
times are rounded, to ticks of a thousandth of their mean. All times are in mean services.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.control import fleet, registry
from sim.control.clients.client import Client
from sim.control.gateway import Gateway
from sim.control.limits.ask import AdmissionPolicy
from sim.control.plan import DeploymentPlan, FleetPlan, GatewayPlan, Terms
from sim.kernel.clock import TICKS_PER_SECOND, on_grid
from sim.kernel.streams import generator
from sim.serving.ledger import OK, REJECTED, TIMEOUT, Ledger
from sim.serving.settings import EngineSettings
from sim.stats.intervals import Interval, t_interval
from sim.testing.tables import constant_step_table, request_table

__all__ = [
    "LONG",
    "SERVICE",
    "SHORT",
    "TICK",
    "WARM",
    "Draw",
    "Figure",
    "Ran",
    "Size",
    "agree",
    "constant",
    "exponential",
    "figures",
    "hyperexponential",
    "plan",
    "poisson",
    "run",
    "table",
]

Floats = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]

TICKS = 1000
TICK = on_grid(1.0 / TICKS)
SERVICE = TICKS * TICK
CONFIDENCE = 0.999


@dataclass(frozen=True)
class Size:
    """``scale`` multiplies the length of runs, which is a study's own; ``within``: the widest half interval, of theory."""

    replications: int
    scale: float
    within: float


SHORT = Size(12, 1.0, 0.2)
LONG = Size(30, 6.0, 0.05)

WARM = 60.0  # mean services left out at the start of each run


@dataclass(frozen=True)
class Figure:
    """``interval``: of the mean over replications, at 99.9 %."""

    name: str
    theory: float
    interval: Interval

    def __str__(self) -> str:
        return f"| {self.name} | {self.theory:.4f} | {self.interval.mean:.4f} ± {self.interval.half_width:.4f} |"


def figures(theory: dict[str, float], study: Callable[[int], Sequence[float]], replications: int) -> list[Figure]:
    """``study(replication)`` gives one value for each name, in order."""
    values = np.array([study(replication) for replication in range(replications)])
    assert values.shape == (replications, len(theory))
    return [
        Figure(name, truth, t_interval(values[:, column], CONFIDENCE))
        for column, (name, truth) in enumerate(theory.items())
    ]


def agree(found: Sequence[Figure], within: float) -> None:
    """Theory is in every interval, and none is wider than ``within`` of it: wide ones hold anything."""
    wrong = [figure for figure in found if not figure.interval.holds(figure.theory)]
    wide = [figure for figure in found if figure.interval.half_width > within * abs(figure.theory)]
    assert not wrong, "theory is outside: " + "; ".join(map(str, wrong))
    assert not wide, f"wider than {within:g} of theory: " + "; ".join(map(str, wide))


def exponential(random: np.random.Generator, count: int) -> Floats:
    """Mean 1."""
    return random.exponential(1.0, count)


def constant(random: np.random.Generator, count: int) -> Floats:
    """Always 1."""
    return np.ones(count)


def hyperexponential(random: np.random.Generator, count: int) -> Floats:
    """Mean 1, variance 4: two exponentials of balanced means."""
    share = 0.5 * (1.0 + np.sqrt(3.0 / 5.0))
    fast = random.random(count) < share
    return random.exponential(1.0, count) * np.where(fast, 0.5 / share, 0.5 / (1.0 - share))


def poisson(random: np.random.Generator, rate: float, end: float, start: float = 0.0) -> Floats:
    """Arrivals from ``start`` to ``end``, on the time grid."""
    times = np.sort(random.uniform(start, end, random.poisson(rate * (end - start))))
    return np.round(times * TICKS_PER_SECOND) / TICKS_PER_SECOND


def plan(
    random: np.random.Generator,
    arrivals: Floats,
    draw: Draw,
    servers: int,
    *,
    replicas: int | None = None,
    seats: int = 1,
    admission: Callable[[], Sequence[AdmissionPolicy]] = tuple,
    queue_limit: int | None = None,
    queue_timeout: float = 1e6,
    per_replica: int | None = 1,
    client: Callable[[], Client] | None = None,
    tenants: Sequence[str] = ("tenant",),
    fair: bool = False,
    migrate: bool = False,
) -> FleetPlan:
    """``servers`` replicas of ``seats`` behind a line in order of arrival, or a ``fair`` one. ``replicas`` of them are there at the start
    (default: all). Request i is of tenant i modulo their number. ``migrate``: what a lost replica has done is kept."""
    budget = 100_000 if migrate else seats  # so that what was kept is read in one step
    settings = EngineSettings(
        max_num_seqs=seats,
        max_num_batched_tokens=budget,
        kv_blocks=1 + 1000 * seats,
        max_model_len=1_000_000,
        block_size=1024,
    )
    server = DeploymentPlan(
        name="server",
        replicas=servers if replicas is None else replicas,
        settings=settings,
        step=constant_step_table(TICK, seats, budget),
        router=lambda: registry.router("least-outstanding", {}, generator(0, 0, "router")),
    )
    terms = Terms(
        admission,
        order="fair" if fair else "fifo",
        queue_limit=queue_limit,
        queue_timeout=queue_timeout,
        per_replica=per_replica,
        on_loss="migrate" if migrate else "fail",
        resends=1_000_000,
    )
    count = len(arrivals)
    ticks = np.maximum(np.rint(draw(random, count) * TICKS), 1.0).astype(np.int64)
    seed = int(random.integers(2**62))
    kinds = len(tenants)
    none = [None] * kinds
    gateway = GatewayPlan(
        [terms], tenants, ["model"] * kinds, [client] * kinds, none, none, lambda: np.random.default_rng(seed)
    )
    requests = request_table(
        arrivals.tolist(), [1] * count, ticks.tolist(), workload=[row % kinds for row in range(count)]
    )
    return FleetPlan(requests, [server], [0] * kinds, gateway=gateway)


class Ran:
    """Columns of the requests that came from ``start`` on; ``span``: for how long they came."""

    def __init__(self, ledger: Ledger, gateway: Gateway, requests: int, start: float, end: float) -> None:
        arrival = np.array(ledger.arrival[:requests])
        since = arrival >= start
        self.span = end - start
        self.arrival = arrival[since]
        self.stay: Floats = np.array(ledger.end[:requests])[since] - self.arrival
        self.wait: Floats = np.array(ledger.scheduled[:requests])[since] - self.arrival
        outcome = np.array(ledger.outcome[:requests])[since]
        self.ok = outcome == OK
        self.rejected = outcome == REJECTED
        self.late = outcome == TIMEOUT
        tries = np.ones(requests)
        for request, count in gateway.tries.items():
            tries[request] = count
        self.tries: Floats = tries[since]

    @property
    def number(self) -> float:
        """Mean number in the system: the stays of those who come in a span, over the span, have that expectation."""
        return float(self.stay.sum()) / self.span


def run(given: FleetPlan, start: float, end: float) -> Ran:
    """Run it to the end of its requests, and look at those from ``start`` to ``end``, when they stop coming."""
    plane = fleet.Fleet(given)
    while plane.advance(float("inf")) and plane.notices:
        plane.notices.clear()
    ledger = plane.finish()
    assert plane.gateway is not None
    return Ran(ledger, plane.gateway, len(given.table.arrival), start, end)


def table(found: Sequence[Figure]) -> str:
    """Figures as rows of Markdown."""
    return "\n".join(map(str, found))
