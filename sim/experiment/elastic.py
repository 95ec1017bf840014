"""A replication whose replicas come and go: data plane, gateway, cluster, autoscalers and faults on one clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from sim.experiment.control import autoscalers
from sim.experiment.machines import plans
from sim.experiment.sampler import Sampler

if TYPE_CHECKING:
    from sim.control.cluster.usage import Usage
    from sim.control.fleet import Fleet
    from sim.control.floor import Floor
    from sim.control.gateway import Gateway
    from sim.control.plan import FleetPlan
    from sim.experiment.build import System
    from sim.serving.ledger import Ledger

__all__ = ["Events", "Ran", "run"]


@dataclass
class Ran:
    """What a run leaves: its ledger, the samples of its timeline, its decisions, and what stood before replicas that came and went."""

    ledger: Ledger
    timeline: dict[str, list[float]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    gateway: Gateway | None = None
    usage: Callable[[float], Usage] | None = None
    """Who had which machine, as of a moment."""
    steps: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Columns of :class:`sim.serving.recorded.StepLog`, if they were asked for."""


class Events:
    """The log of decisions (:class:`sim.control.cluster.plane.Log`)."""

    def __init__(self, floor: Floor) -> None:
        self.floor = floor
        self.rows: list[dict[str, Any]] = []

    def __call__(
        self, kind: str, now: float, reason: str, /, *, deployment: str = "", replica: int = -1, **numbers: object
    ) -> None:
        """Write one down. ``replica`` is a number in the fleet; written is its number within the deployment."""
        from sim.observe.store import plain_object

        row: dict[str, Any] = {"t_s": float(now), "kind": kind, "reason": reason, "deployment": deployment}
        if replica >= 0:
            row["replica"] = self.floor.ordinal[replica]
            row["deployment"] = self.floor.owner[replica].plan.name
        self.rows.append(row | plain_object(numbers))


def fast(drawn: FleetPlan, *, steps: bool) -> Fleet:
    """The fast fleet; with ``steps`` one that notes them."""
    if steps:
        from sim.control.recorded import RecordedFleet

        return RecordedFleet(drawn)
    from sim.control.fleet import Fleet

    return Fleet(drawn)


def steps_of(fleet: Floor) -> Mapping[str, Sequence[float]]:
    """What a fleet has noted of its steps; nothing if it was not asked to."""
    from sim.control.recorded import RecordedFleet

    return fleet.steps.columns if isinstance(fleet, RecordedFleet) else {}


def run(system: System, drawn: FleetPlan, horizon: float, replication: int, period: float, *, steps: bool) -> Ran:
    """Run it to its end. SimulationError when the replicas there are at the start do not fit the machines."""
    from simpy import Environment

    from sim.config.outages import plans as plans_of_faults
    from sim.control.cluster.cluster import Cluster
    from sim.control.faults import start as start_faults
    from sim.control.operator import Operator
    from sim.control.reference import ReferenceFleet
    from sim.kernel.drive import drive
    from sim.kernel.streams import generator

    scenario = system.scenario
    slow = scenario.run.mode == "reference"
    fleet: Fleet | ReferenceFleet = ReferenceFleet(drawn) if slow else fast(drawn, steps=steps)
    events = Events(fleet)
    env = Environment()
    pools, replicas = plans(system)
    streams = partial(generator, scenario.run.seed, replication)
    cluster = Cluster(env, fleet, pools, replicas, streams, events)
    grows = {pool.name: pool.growth is not None for pool in scenario.cluster.pools}
    cold_starts = [
        cluster.cold_start(number, provision=grows[deployment.pool])
        for number, deployment in enumerate(scenario.deployments)
    ]
    operator = Operator(env, fleet, cluster, autoscalers(system, replication, drawn.table, cold_starts))
    cluster.start()
    operator.start()
    start_faults(env, cluster, fleet, operator, plans_of_faults(scenario.faults), streams, events)
    sampler = Sampler(fleet, period)
    env.process(sampler.process(env))
    drive(env, fleet, math.inf if drawn.drain else drawn.horizon, operator.told)
    ledger = fleet.finish()
    return Ran(ledger, sampler.columns, events.rows, fleet.gateway, cluster.usage, steps_of(fleet))
