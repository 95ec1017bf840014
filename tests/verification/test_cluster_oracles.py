"""Replicas that come, go and fail agree with queueing theory: cold starts, crashes, machines that are repaired.

How stations are built: :mod:`tests.verification.stations`, and how they are switched on and off: :mod:`tests.verification.pools`. Theory
is to be in the 99.9 % interval of independent replications of fixed seeds. Run as a script it prints the table of the long studies.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp

import numpy as np
import pytest
from simpy import Environment

from sim.control import faults
from sim.control.cluster.cluster import Cluster
from sim.control.cluster.distribution import Exponential, Fixed, LogNormal
from sim.control.cluster.plans import PoolPlan, ReplicaPlan, Start
from sim.control.faults import FaultPlan
from sim.control.fleet import Fleet
from sim.control.operator import Operator
from sim.control.plan import FleetPlan
from sim.kernel.drive import drive
from sim.kernel.streams import generator
from sim.theory import (
    MachineRepair,
    MG1Setup,
    MM1Breakdowns,
    MM1Setup,
    MMInfSetup,
    MMkSetup,
)
from tests.verification.pools import Polled, busy, elastic, mean, shares, silent, starting
from tests.verification.stations import (
    LONG,
    SHORT,
    WARM,
    Figure,
    Ran,
    Size,
    agree,
    exponential,
    figures,
    plan,
    poisson,
    table,
)

# cold starts


def setup_one(size: Size) -> list[Figure]:
    """A deployment that scales between 0 and 1, its start exponential and constant."""
    theory, fixed = MM1Setup(0.5, 1.0, 3.0), MG1Setup(0.5, 1.0, 1.0, 3.0, 9.0)
    end = 5000.0 * size.scale

    def study(replication: int) -> list[float]:
        random = generator(9, replication, "M/M/1/setup")
        ran, usage = elastic(
            plan(random, poisson(random, 0.5, end), exponential, 1, replicas=0), 1, Exponential(3.0), replication, WARM, end
        )  # fmt: skip
        off = shares([(item.created, item.gone) for item in usage.replicas], WARM, end)[0]
        other, _ = elastic(
            plan(random, poisson(random, 0.5, end), exponential, 1, replicas=0), 1, Fixed(3.0), replication, WARM, end
        )  # fmt: skip
        return [ran.stay.mean(), off, other.stay.mean()]

    return figures(
        {
            "M/M/1/setup, response": theory.response,
            "M/M/1/setup, share of time off": theory.off,
            "M/M/1 with a constant start, response": fixed.response,
        },
        study,
        size.replications,
    )


def setup_polled(size: Size) -> list[Figure]:
    """The same through the operator: an autoscaler that looks every half service."""
    rate, setup, period = 0.5, 3.0, 0.5
    end = 4000.0 * size.scale
    # The start waits for the next look: U = period - u, u exponential but below the period. With probability q the next request comes
    # before the look that would have switched the server off (a service ends anywhere between two looks).
    grid = (np.arange(20_000) + 0.5) / 20_000 * period
    weight = np.exp(-rate * grid)
    until = period - grid
    first, second = float(until @ weight / weight.sum()), float(until**2 @ weight / weight.sum())
    q = 1.0 + np.expm1(-rate * period) / (rate * period)
    z, square = (1.0 - q) * (setup + first), (1.0 - q) * (2.0 * setup**2 + 2.0 * setup * first + second)

    def study(replication: int) -> list[float]:
        random = generator(10, replication, "polled")
        given = plan(random, poisson(random, rate, end), exponential, 1, replicas=0)
        ran, _ = elastic(given, 1, Exponential(setup), replication, WARM, end, Polled(1, period))
        return [ran.stay.mean()]

    return figures(
        {"M/M/1/setup looked at every 0.5, response": MG1Setup(rate, 1.0, 1.0, z, square).response},
        study,
        size.replications,
    )


def setup_many(size: Size) -> list[Figure]:
    """At most four servers; then at most twenty, which is as many as are wanted but for two moments in a million."""
    four, free = MMkSetup(2.5, 1.0, 2.0, 4), MMInfSetup(3.0, 1.0, 2.0)
    end = 600.0 * size.scale

    def study(replication: int) -> list[float]:
        random = generator(11, replication, "M/M/k/setup")
        ran, usage = elastic(
            plan(random, poisson(random, 2.5, end), exponential, 4, replicas=0), 4, Exponential(2.0), replication, WARM, end
        )  # fmt: skip
        all_of_them, wide = elastic(
            plan(random, poisson(random, 3.0, end), exponential, 20, replicas=0), 20, Exponential(2.0), replication, WARM, end
        )  # fmt: skip
        on, coming = shares(busy(wide), WARM, end), shares(starting(wide), WARM, end)
        return [
            ran.wait.mean(),
            mean(shares(starting(usage), WARM, end)),
            all_of_them.wait.mean(),
            mean(on),
            float(on @ np.arange(len(on)) ** 2) - mean(on) ** 2,
            coming[0],
            coming[2],
        ]

    return figures(
        {
            "M/M/4/setup, wait": four.wait,
            "M/M/4/setup, starting": four.number_starting,
            "M/M/∞/setup, wait": free.wait,
            "M/M/∞/setup, on": 3.0,
            "M/M/∞/setup, variance of those on": 3.0,
            "M/M/∞/setup, P(none starts)": free.starting(0),
            "M/M/∞/setup, P(two start)": free.starting(2),
        },
        study,
        size.replications,
    )


# failures


def breaking(
    given: FleetPlan, pool: PoolPlan, replicas: ReplicaPlan, fault: FaultPlan, replication: int
) -> tuple[Environment, Fleet, Cluster]:
    """A cluster whose replicas are there at the start, with a fault."""
    env, plane = Environment(), Fleet(given)

    def streams(name: str) -> np.random.Generator:
        return generator(13, replication, name)

    cluster = Cluster(env, plane, [pool], [replicas], streams, silent)
    cluster.start()
    faults.start(env, cluster, plane, Operator(env, plane, cluster, [None]), [fault], streams, silent)
    return env, plane, cluster


def repair(size: Size) -> list[Figure]:
    """Four replicas that crash and start again; four machines that fail and come back, with a replica on each."""
    up, down, end = 8.0, 2.0, 2000.0 * size.scale
    theory = MachineRepair(4, up, down)
    when = faults.Renewal(up)  # a Poisson process, in which what strikes who is down is lost
    crash = faults.ReplicaCrash(name="crash", when=when)
    # a lognormal of mean ``down``: the repair's distribution does not matter
    fail = faults.NodeFailure(name="fail", when=when, repair=LogNormal(down * exp(-0.125), 0.5), detected_after=0.0)
    cold = Start(before={"process": Exponential(down)}, readiness_period=0.0)
    cases: list[tuple[FaultPlan, ReplicaPlan]] = [
        (crash, ReplicaPlan("server", "pool", 4, start=cold, backoff=0.0)),
        (fail, ReplicaPlan("server", "pool", 4, start=Start(readiness_period=0.0))),
    ]

    def study(replication: int) -> list[float]:
        found: list[float] = []
        for fault, replicas in cases:
            given = plan(generator(12, replication, "repair"), np.zeros(0), exponential, 4, replicas=0)
            pool = PoolPlan("pool", gpus=1, nodes=4, toleration=1e9)
            env, _, cluster = breaking(given, pool, replicas, fault, replication)
            env.run(end)
            share = shares(busy(cluster.usage(end)), WARM, end)
            found += [mean(share), share[4], share[2]]
        return found

    return figures(
        {
            f"4 {what}, {name}": value
            for what in ("replicas that crash", "machines that fail")
            for name, value in (
                ("number up", 4 * theory.availability),
                ("P(all up)", theory.probability(4)),
                ("P(two up)", theory.probability(2)),
            )
        },
        study,
        size.replications,
    )


def breakdowns(size: Size) -> list[Figure]:
    """One replica that crashes; what it has generated is kept, and goes on when it is back."""
    end = 4000.0 * size.scale
    theory = MM1Breakdowns(0.45, 1.0, 8.0, 2.0)
    crash = faults.ReplicaCrash(name="crash", when=faults.Renewal(8.0))
    cold = Start(before={"process": Exponential(2.0)}, readiness_period=0.0)

    def study(replication: int) -> list[float]:
        random = generator(16, replication, "breakdowns")
        given = plan(random, poisson(random, 0.45, end), exponential, 1, replicas=0, migrate=True)
        server = ReplicaPlan("server", "pool", 1, start=cold, backoff=0.0)
        env, plane, cluster = breaking(given, PoolPlan("pool", gpus=1, nodes=1), server, crash, replication)
        drive(env, plane, float("inf"), cluster.told)
        ledger = plane.finish()
        assert plane.gateway is not None
        ran = Ran(ledger, plane.gateway, len(given.table.arrival), WARM, end)
        assert ran.ok.all()
        return [ran.stay.mean()]

    return figures({"M/M/1 with breakdowns, response": theory.response}, study, size.replications)


STUDIES: dict[str, Callable[[Size], list[Figure]]] = {
    study.__name__: study for study in (setup_one, setup_polled, setup_many, repair, breakdowns)
}


@pytest.mark.parametrize("name", STUDIES)
def test_theory_is_in_the_intervals(name: str) -> None:
    agree(STUDIES[name](SHORT), SHORT.within)


@pytest.mark.verify
@pytest.mark.parametrize("name", STUDIES)
def test_theory_is_in_narrow_intervals(name: str) -> None:
    agree(STUDIES[name](LONG), LONG.within)


if __name__ == "__main__":
    print("| | theory | simulated |\n|---|---|---|")
    for every in STUDIES.values():
        print(table(every(LONG)), flush=True)
