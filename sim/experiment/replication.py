"""One replication of a scenario, from the draw of its requests to its record."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sim.experiment.build import System, build, plan
from sim.experiment.elastic import Ran, fast, steps_of
from sim.experiment.sampler import Sampler

if TYPE_CHECKING:
    from sim.config import Scenario
    from sim.control.plan import FleetPlan
    from sim.observe.record import ReplicationRecord
    from sim.serving.ledger import Ledger

__all__ = ["replicate"]

_SAMPLES = 240  # on a timeline, when the scenario does not say how often


def replicate(scenario: Scenario, replication: int, draw: int | None = None, times: float = 1.0) -> ReplicationRecord:
    """Run replication number ``replication``; its outcome depends on nothing but the scenario and the numbers.

    ``draw`` is the number of a draw from the doubt of the profiles: the same requests, served in step times drawn from it.
    ``times`` multiplies those of all profiles.
    """
    from sim.experiment.facts import deployment_facts, pool_facts, workload_facts
    from sim.experiment.machines import at_start
    from sim.observe.record import ReplicationRecord, latest

    system = build(scenario)
    if draw is not None or times != 1.0:
        system = system.drawn(draw, times)
    drawn = plan(system, replication)
    horizon = _horizon(scenario, drawn)
    tables = [deployment.step for deployment in drawn.deployments]
    before = [table.outside for table in tables]
    ran = _run(system, drawn, horizon, replication, steps=scenario.run.steps and replication == 0 and draw is None)
    outside = [table.outside - count for table, count in zip(tables, before, strict=True)]
    ledger = ran.ledger
    deployments = deployment_facts(system, drawn.table)
    until = 0.0 if ran.usage is None or math.isinf(horizon) else horizon  # what is paid for is, whoever comes
    end = max(latest(ledger, deployments), until)
    gateway = ran.gateway
    return ReplicationRecord.of(
        replication,
        drawn.table,
        ledger,
        workloads=workload_facts(system),
        deployments=deployments,
        deployment_of=system.deployment_of,
        horizon=_window_end(scenario, drawn, ledger, horizon, end),
        timeline=ran.timeline,
        events=[*ran.events, *_extrapolations(system, outside), *_exhausted(scenario, drawn, ledger)],
        pools=pool_facts(system, at_start(system)),
        usage=None if ran.usage is None else ran.usage(end),
        tries=None if gateway is None else gateway.tries,
        began=None if gateway is None else gateway.began,
        sent=None if gateway is None else gateway.sent,
        until=until,
        steps=ran.steps,
    )


def _horizon(scenario: Scenario, drawn: FleetPlan) -> float:
    """When the last request may arrive: the scenario's duration, or the last of its requests if they are fewer (infinite: not known)."""
    if math.isfinite(drawn.horizon) and (drawn.closed_loops or not _limited(scenario, drawn)):
        return drawn.horizon
    arrivals = drawn.table.arrival  # NaN, in closed-loop rows, sorts last
    return float(arrivals[-1]) if len(arrivals) and not math.isnan(arrivals[-1]) else math.inf


def _limited(scenario: Scenario, drawn: FleetPlan) -> bool:
    """Whether ``run.requests`` ends the arrivals of every workload."""
    import numpy as np

    limit = scenario.run.requests
    counts = np.bincount(drawn.table.workload, minlength=len(scenario.workloads))
    return limit is not None and int(counts.min()) >= limit


def _window_end(scenario: Scenario, drawn: FleetPlan, ledger: Ledger, horizon: float, end: float) -> float:
    """``horizon``, or the ``end`` of closed loops whose users had no more requests to send before it."""
    if drawn.closed_loops and _limited(scenario, drawn) and ledger.issued >= len(drawn.table):
        return min(horizon, end)
    return horizon if math.isfinite(horizon) else end


def _run(system: System, drawn: FleetPlan, horizon: float, replication: int, *, steps: bool) -> Ran:
    scenario = system.scenario
    if drawn.gateway is not None:
        from sim.experiment.elastic import run

        return run(system, drawn, horizon, replication, _period(scenario, horizon), steps=steps)
    if scenario.run.mode == "reference":
        from sim.control import reference

        return Ran(reference.simulate(drawn))
    from simpy import Environment

    from sim.kernel.drive import drive

    fleet = fast(drawn, steps=steps)
    sampler = Sampler(fleet, _period(scenario, horizon))
    env = Environment()
    env.process(sampler.process(env))
    drive(env, fleet, math.inf if drawn.drain else drawn.horizon)
    return Ran(fleet.finish(), sampler.columns, steps=steps_of(fleet))


def _period(scenario: Scenario, horizon: float) -> float:
    """Seconds between samples of the timeline."""
    if scenario.run.sample_every is not None:
        return scenario.run.sample_every
    return horizon / _SAMPLES if math.isfinite(horizon) and horizon > 0.0 else 10.0


def _extrapolations(system: System, outside: list[int]) -> list[dict[str, object]]:
    """An event for each deployment whose profile was asked for more than was measured."""
    return [
        {
            "t_s": 0.0,
            "kind": "extrapolated",
            "deployment": placed.name,
            "reason": "steps priced outside what the profile measured",
            "steps": steps,
            "profile": placed.profile.name,
        }
        for placed, steps in zip(system.deployments, outside, strict=True)
        if steps
    ]


def _exhausted(scenario: Scenario, drawn: FleetPlan, ledger: Ledger) -> list[dict[str, object]]:
    """An event when closed-loop users ran out of drawn requests before the scenario's end: from then on they were idle."""
    if not drawn.closed_loops or scenario.run.requests is not None or ledger.issued < len(drawn.table):
        return []
    reason = "closed-loop users ran out of requests before the end: give run.requests, or a shorter duration"
    return [{"t_s": ledger.end_time, "kind": "exhausted", "reason": reason}]
