"""The replica, set up as a textbook server, agrees with queueing theory.

With a step that always takes one tick, a prompt of one token and a cache that is never full, a request holds one of
``max_num_seqs`` places for as many ticks as it has output tokens: a queue with that many servers. Service times are drawn as
real numbers and rounded to ticks of a thousandth of their mean, which moves no mean by more than 0.05 %.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import numpy as np
import numpy.typing as npt
import pytest

from sim.control import fleet, reference, registry
from sim.control.plan import DeploymentPlan, FleetPlan
from sim.kernel.clock import TICKS_PER_SECOND, on_grid
from sim.kernel.streams import generator
from sim.serving.ledger import Ledger
from sim.serving.settings import EngineSettings
from sim.stats.intervals import Interval, t_interval
from sim.testing.tables import constant_step_table, request_table
from sim.theory import MD1, MG1, MM1, MMc

Floats = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]

TICKS = 1000
TICK = on_grid(1.0 / TICKS)
SERVICE = TICKS * TICK  # seconds, the mean of every service time below


def exponential(random: np.random.Generator, count: int) -> Floats:
    return random.exponential(SERVICE, count)


def constant(random: np.random.Generator, count: int) -> Floats:
    return np.full(count, SERVICE)


def hyperexponential(random: np.random.Generator, count: int) -> Floats:
    """Two exponentials of balanced means, squared coefficient of variation 4."""
    share = 0.5 * (1.0 + sqrt(3.0 / 5.0))
    fast = random.random(count) < share
    return random.exponential(1.0, count) * np.where(fast, SERVICE / (2.0 * share), SERVICE / (2.0 * (1.0 - share)))


def plan(random: np.random.Generator, rate: float, draw: Draw, servers: int, customers: int) -> FleetPlan:
    gaps = np.round(random.exponential(1.0 / rate, customers) * TICKS_PER_SECOND) / TICKS_PER_SECOND
    ticks = np.maximum(np.rint(draw(random, customers) / TICK), 1.0).astype(np.int64)
    settings = EngineSettings(
        max_num_seqs=servers,
        max_num_batched_tokens=servers,
        kv_blocks=1 + 1000 * servers,
        max_model_len=1_000_000,
        block_size=1024,
    )
    server = DeploymentPlan(
        name="server",
        replicas=1,
        settings=settings,
        step=constant_step_table(TICK, servers, servers),
        router=lambda: registry.router("round-robin", {}, generator(0, 0, "router")),
    )
    return FleetPlan(
        table=request_table(np.cumsum(gaps).tolist(), [1] * customers, ticks.tolist()),
        deployments=[server],
        deployment_of=[0],
    )


def waits_and_responses(ledger: Ledger, warmup: int) -> tuple[Floats, Floats]:
    arrival = np.array(ledger.arrival)[warmup:]
    return np.array(ledger.scheduled)[warmup:] - arrival, np.array(ledger.end)[warmup:] - arrival


def study(
    name: str, rate: float, draw: Draw, servers: int, *, replications: int = 12, customers: int = 12_000
) -> tuple[Interval, Interval, list[Floats]]:
    """Mean wait, mean response, and every response time, over independent replications."""
    waits, responses, every = [], [], []
    for replication in range(replications):
        random = generator(2026, replication, name)
        ledger = fleet.simulate(plan(random, rate, draw, servers, customers))
        wait, response = waits_and_responses(ledger, warmup=customers // 12)
        waits.append(wait.mean())
        responses.append(response.mean())
        every.append(response)
    return t_interval(waits), t_interval(responses), every


def test_m_m_1() -> None:
    theory = MM1(0.7, SERVICE)
    wait, response, every = study("M/M/1", 0.7, exponential, 1)
    assert wait.holds(theory.wait)
    assert response.holds(theory.response)
    assert wait.half_width < 0.1 * theory.wait
    assert t_interval([np.quantile(times, 0.95) for times in every]).holds(theory.response_quantile(0.95))


@pytest.mark.parametrize("servers", [2, 5])
def test_m_m_c(servers: int) -> None:
    theory = MMc(0.75 * servers, SERVICE, servers)
    wait, response, _ = study(f"M/M/{servers}", 0.75 * servers, exponential, servers)
    assert wait.holds(theory.wait)
    assert response.holds(theory.response)
    assert wait.half_width < 0.1 * theory.wait


def test_m_d_1() -> None:
    theory = MD1(0.7, SERVICE)
    wait, response, _ = study("M/D/1", 0.7, constant, 1)
    assert wait.holds(theory.wait)
    assert response.holds(theory.response)
    assert wait.half_width < 0.1 * theory.wait


def test_m_g_1() -> None:
    theory = MG1(0.6, SERVICE, 4.0)
    wait, response, _ = study("M/G/1", 0.6, hyperexponential, 1, customers=24_000)
    assert wait.holds(theory.wait)
    assert response.holds(theory.response)
    assert wait.half_width < 0.1 * theory.wait


def test_the_reference_serves_the_same_queue() -> None:
    """One M/M/2 queue through both, customer by customer."""
    case = plan(generator(2026, 0, "both"), 1.5, exponential, 2, 60)
    fast, slow = fleet.simulate(case), reference.simulate(case)
    assert fast.scheduled == slow.scheduled
    assert fast.end == slow.end


def test_littles_law_holds_to_the_last_bit() -> None:
    """The time integral of the number in the system is the sum of the times in the system: exactly, on the time grid."""
    ledger = fleet.simulate(plan(generator(2026, 0, "Little"), 0.7, exponential, 1, 5_000))
    assert ledger.area == sum(end - arrival for end, arrival in zip(ledger.end, ledger.arrival, strict=True))
    assert ledger.busy[0] == sum(ledger.steps) * TICK


def coverage(experiments: int, replications: int, customers: int, warmup: int) -> float:
    """The share of 95 % intervals of the mean wait in an M/M/1 queue that hold the true one."""
    truth = MM1(0.5, SERVICE).wait
    held = 0
    for experiment in range(experiments):
        means = []
        for replication in range(replications):
            random = generator(experiment, replication, "coverage")
            ledger = fleet.simulate(plan(random, 0.5, exponential, 1, customers))
            means.append(waits_and_responses(ledger, warmup)[0].mean())
        held += t_interval(means).holds(truth)
    return held / experiments


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """A smaller form of the study below: the bound is three standard errors (0.022 each) below 0.95."""
    assert coverage(100, 10, 300, 100) >= 0.95 - 3 * 0.022


@pytest.mark.verify
def test_95_percent_intervals_hold_the_truth_in_93_to_97_percent_of_1000_experiments() -> None:
    assert 0.93 <= coverage(1000, 10, 1_000, 100) <= 0.97
