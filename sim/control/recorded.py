"""A fleet whose replicas write down their steps; else as :class:`sim.control.fleet.Fleet`, and its ledger is the same."""

from __future__ import annotations

from sim.control.fleet import Fleet
from sim.control.plan import FleetPlan
from sim.control.station import Station
from sim.serving.recorded import RecordedReplica, StepLog

__all__ = ["RecordedFleet"]


class RecordedFleet(Fleet):
    """``steps`` is the log of all replicas."""

    def __init__(self, plan: FleetPlan) -> None:
        self.steps = StepLog()
        super().__init__(plan)

    def make(self, number: int, station: Station) -> None:
        replica = RecordedReplica(number, station.plan.settings, station.plan.step, self.ledger, self.steps)
        self.replicas.append(replica)
