"""What a fleet simulation is told: the requests, the replicas that serve them, what stands before them, and who re-issues what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sim.perf.steptable import StepTable
from sim.serving.settings import EngineSettings

if TYPE_CHECKING:
    import numpy as np

    from sim.control.clients.client import Client
    from sim.control.clients.outliers import OutlierDetection
    from sim.control.limits.ask import AdmissionPolicy
    from sim.control.router import Router
    from sim.control.routing.pools import PoolRouter
    from sim.workload.table import RequestTable

__all__ = ["Cascade", "Choice", "ClosedLoop", "DeploymentPlan", "FleetPlan", "GatewayPlan", "Terms"]


@dataclass(frozen=True)
class DeploymentPlan:
    """``replicas`` equal replicas, open from the start, behind one router. ``router()`` makes a fresh router in its initial state."""

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
class Terms:
    """What stands before one deployment. ``admission()`` makes its policies anew, in order; ``order`` says who is next in line
    (:func:`sim.control.limits.line.line`).

    Requests wait while no replica can take them: at most ``queue_limit`` of them (None: no limit), each for at most
    ``queue_timeout`` seconds. A replica is given at most ``per_replica`` requests at a time (None: all). ``on_loss``: what becomes of
    requests in a replica that is lost ('fail', 'retry': sent again, 'migrate': what has been generated is kept), at most ``resends``
    times each. A connection to a replica that cannot be reached fails after ``connect_timeout`` seconds. ``overhead``: seconds by
    which the engine's clock is late behind the clients'. ``watched``: somebody wants to know latencies as they happen.
    """

    admission: Callable[[], Sequence[AdmissionPolicy]]
    order: Literal["fifo", "priority", "fair"] = "fifo"
    queue_limit: int | None = None
    queue_timeout: float = 600.0
    per_replica: int | None = None
    outlier: Callable[[], OutlierDetection] | None = None
    on_loss: str = "fail"
    resends: int = 3
    connect_timeout: float = 5.0
    overhead: float = 0.0
    watched: bool = False


@dataclass(frozen=True)
class Choice:
    """A workload that several deployments can serve: ``router()`` chooses among ``deployments`` (numbers); price in dollars an hour and
    pace in seconds a token, of one replica of each."""

    deployments: Sequence[int]
    router: Callable[[], PoolRouter]
    usd_per_hour: Sequence[float]
    seconds_per_token: Sequence[float]


@dataclass(frozen=True)
class Cascade:
    """Of the answers of a workload's own deployment, a ``share`` is not good enough: the request goes on to deployment ``to``."""

    to: int
    share: float


@dataclass(frozen=True)
class GatewayPlan:
    """What stands between clients and replicas.

    By deployment its ``terms``; by workload tenant, model, ``clients`` (None: they wait for as long as it takes and never try
    again), ``choices`` and ``cascades`` (None: no such thing). ``generator`` is for jitter and escalations.
    """

    terms: Sequence[Terms]
    tenants: Sequence[str]
    models: Sequence[str]
    clients: Sequence[Callable[[], Client] | None]
    choices: Sequence[Choice | None]
    cascades: Sequence[Cascade | None]
    generator: Callable[[], np.random.Generator]


@dataclass(frozen=True)
class FleetPlan:
    """One replication, ready to run.

    ``deployment_of[w]`` is the deployment that serves workload ``w``. No closed-loop row is issued at or after ``horizon``.
    With ``drain`` the simulation goes on until every request has ended, otherwise it stops at ``horizon``, and what has not
    ended is unfinished. At time 0 closed-loop users issue their first rows, in the order of ``closed_loops``. Without a ``gateway``
    clients wait for as long as it takes, and every replica is there from the beginning to the end.
    """

    table: RequestTable
    deployments: Sequence[DeploymentPlan]
    deployment_of: Sequence[int]
    closed_loops: Sequence[ClosedLoop] = ()
    horizon: float = float("inf")
    drain: bool = True
    gateway: GatewayPlan | None = None
