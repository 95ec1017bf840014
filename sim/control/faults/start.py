"""Starting what is to go wrong: one process a fault."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from sim.control.faults import breakage, disturbance, rollout, spot
from sim.control.faults.ailments import Ailments
from sim.control.faults.plans import (
    FaultPlan,
    GpuFailure,
    MetricsOutage,
    NodeFailure,
    Partition,
    ReplicaCrash,
    Rollout,
    Slowdown,
    SpotReclaim,
)
from sim.control.faults.scene import Scene, Watched
from sim.errors import SimulationError

if TYPE_CHECKING:
    from simpy import Environment, Event

    from sim.control.cluster.cluster import Cluster
    from sim.control.cluster.plane import DataPlane, Log
    from sim.control.faults.times import Streams

__all__ = ["start"]


def start(
    env: Environment,
    cluster: Cluster,
    plane: DataPlane,
    operator: Watched,
    faults: Sequence[FaultPlan],
    streams: Streams,
    log: Log,
) -> Scene:
    """Begin them all, before the run and after :meth:`Cluster.start`. ``plane`` is the one that ``cluster`` was given; from now on the
    cluster talks to it through :class:`~sim.control.faults.ailments.Ailments`. Streams are called ``fault/<name>...``.

    Processes only wait: where a run ends when its plane has nothing left (:func:`sim.kernel.drive.drive`), none keeps it up.

    :raises SimulationError: a pool or deployment is not there, or two faults have the same name.
    """
    names = [plan.name for plan in faults]
    for name in names:
        if names.count(name) > 1:
            raise SimulationError(f"faults: {name!r} is the name of {names.count(name)} of them; names must differ")
    ailments = Ailments(plane, cluster)
    cluster.plane = ailments
    scene = Scene(env, cluster, ailments, operator, streams, log)
    for plan in faults:
        env.process(_process(scene, plan))
    return scene


def _process(scene: Scene, plan: FaultPlan) -> Generator[Event, Any, None]:
    match plan:
        case GpuFailure():
            return breakage.fail_gpu(scene, plan)
        case NodeFailure():
            return breakage.fail_node(scene, plan)
        case ReplicaCrash():
            return breakage.crash(scene, plan)
        case Slowdown():
            return disturbance.slow(scene, plan)
        case Partition():
            return disturbance.partition(scene, plan)
        case SpotReclaim():
            return spot.reclaim(scene, plan)
        case Rollout():
            return rollout.roll_out(scene, plan)
        case MetricsOutage():
            return disturbance.blind(scene, plan)
        case _:
            return breakage.lose_zone(scene, plan)
