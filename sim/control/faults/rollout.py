"""Rolling updates, good and bad, and the way back."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from sim.control.cluster.distribution import Fixed
from sim.control.cluster.replica import Generation, Group
from sim.control.faults.plans import Rollout
from sim.control.faults.scene import Scene
from sim.kernel.clock import on_grid

if TYPE_CHECKING:
    from simpy import Event

    from sim.control.cluster.plans import Start

__all__ = ["complete", "progressed", "roll_out"]

_NEVER: Final = 1e9  # seconds: past the end of any run


def roll_out(scene: Scene, plan: Rollout) -> Generator[Event, Any, None]:
    """A new version; watched until it is complete, stuck, or taken back."""
    return _roll_out(scene, plan, scene.group(plan.deployment))


def _roll_out(scene: Scene, plan: Rollout, group: Group) -> Generator[Event, Any, None]:
    yield scene.until(plan.at)
    begun, before = scene.now, group.generations[-1]
    number = scene.cluster.replace(
        group.number,
        f"{plan.name}: a new version",
        start=_start(plan, group, before),
        pace=before.pace * plan.pace,
        max_surge=plan.max_surge,
        max_unavailable=plan.max_unavailable,
    )
    if plan.rollback_after is not None:
        scene.after(plan.rollback_after, lambda: _undo(scene, plan, group, number, "it is taken back"))
    deadline = on_grid(plan.progress_deadline)
    while group.generation == number:
        if complete(group, number):
            seconds = max(replica.ready_since for replica in group.counted) - begun if group.counted else 0.0
            _say(scene, plan, group, number, "complete", seconds=seconds)
            return
        due = progressed(group, number, begun) + deadline
        if due <= scene.now:
            _say(scene, plan, group, number, f"no progress for {deadline:g} s", deadline=deadline)
            if plan.rollback_on_deadline:
                _undo(scene, plan, group, number, "its progress deadline passed")
            return
        yield scene.until(due)


def _start(plan: Rollout, group: Group, before: Generation) -> Start:
    start = before.start
    if plan.new_image:
        start = replace(start, image=f"{start.image or group.plan.name}@{group.generation + 1}")
    return start if plan.ready else replace(start, after={**start.after, "never ready": Fixed(_NEVER)})


def complete(group: Group, generation: int) -> bool:
    """Whether all replicas are of that generation, and ready."""
    counted = group.counted
    fresh = all(replica.generation == generation and replica.seems_ready for replica in counted)
    return fresh and len(counted) >= group.target


def progressed(group: Group, generation: int, begun: float) -> float:
    """When the update last came on: began, got a replica of the new version, or one of them got ready
    (kubernetes/kubernetes, pkg/controller/deployment/util/deployment_util.go, DeploymentProgressing; that old ones went follows)."""
    new = [replica for replica in group.counted if replica.generation == generation]
    times = [begun, *(replica.created for replica in new), *(replica.ready_since for replica in new)]
    return max(time for time in times if time == time)


def _undo(scene: Scene, plan: Rollout, group: Group, number: int, reason: str) -> None:
    """Back to the version before. What still runs of it stays, as Kubernetes takes up the old ReplicaSet again."""
    if group.generation != number:
        return
    before = group.generations[number - 1]
    for replica in group.replicas:
        if replica.generation == number - 1:
            replica.generation = number + 1  # that it is to be in a moment
    _say(scene, plan, group, number, f"rolled back: {reason}")
    scene.cluster.replace(
        group.number,
        f"{plan.name}: {reason}",
        start=before.start,
        pace=before.pace,
        max_surge=plan.max_surge,
        max_unavailable=plan.max_unavailable,
    )


def _say(scene: Scene, plan: Rollout, group: Group, number: int, reason: str, **numbers: Any) -> None:
    scene.log(
        "rollout", scene.now, reason, deployment=group.plan.name, fault=plan.name, generation=number, **numbers
    )  # fmt: skip
