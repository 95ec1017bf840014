"""What a fleet simulation is told: the requests, the replicas that serve them, and who re-issues what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sim.perf.steptable import StepTable
from sim.serving.settings import EngineSettings

if TYPE_CHECKING:
    from sim.control.router import Router
    from sim.workload.table import RequestTable

__all__ = ["ClosedLoop", "DeploymentPlan", "FleetPlan"]


@dataclass(frozen=True)
class DeploymentPlan:
    """``replicas`` equal replicas behind one router. ``router()`` makes a fresh router in its initial state."""

    name: str
    replicas: int
    settings: EngineSettings
    step: StepTable
    router: Callable[[], Router]


@dataclass(frozen=True)
class ClosedLoop:
    """``users`` of workload number ``workload``: each issues the workload's next row ``think`` seconds after its last one ended, as
    the engine's clock has it: what a request takes outside of the engine is in it."""

    workload: int
    users: int
    think: float = 0.0


@dataclass(frozen=True)
class FleetPlan:
    """One replication, ready to run.

    ``deployment_of[w]`` is the deployment that serves workload ``w``. No closed-loop row is issued at or after ``horizon``.
    With ``drain`` the simulation goes on until every request has ended, otherwise it stops at ``horizon``, and what has not
    ended is unfinished. At time 0 closed-loop users issue their first rows, in the order of ``closed_loops``.
    """

    table: RequestTable
    deployments: Sequence[DeploymentPlan]
    deployment_of: Sequence[int]
    closed_loops: Sequence[ClosedLoop] = ()
    horizon: float = float("inf")
    drain: bool = True
