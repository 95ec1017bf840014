"""Numbers more of which is taken never to keep a workload from its objectives: those that are named, or replicas where that is safe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sim.config.paths import steps_of
from sim.config.space import OPTION, Dimension, amounts
from sim.errors import TwinferError, did_you_mean

if TYPE_CHECKING:
    from sim.config import Scenario

__all__ = ["NONE", "monotone"]

NONE = "none"


def monotone(scenario: Scenario, space: Mapping[str, Dimension], given: Sequence[str] | None) -> tuple[str, ...]:
    """The paths of ``space``, all of whose values are listed, that are ``given``; None: those of replicas that nobody scales.

    TwinferError for a path that does not vary, or is no number.
    """
    if isinstance(given, str):
        given = [given]
    if given is None:
        return tuple(
            path for path, each in space.items() if amounts(each.grid()) is not None and _plain(scenario, path, space)
        )
    wanted = [] if list(given) == [NONE] else list(dict.fromkeys(given))
    for path in wanted:
        if path not in space:
            raise TwinferError(
                f"monotone: {path!r} is none of the paths that vary: {', '.join(space)}, or {NONE}{did_you_mean(str(path), space)}"
            )
        if amounts(space[path].grid()) is None:
            raise TwinferError(f"monotone: the values of {path} are not numbers in one unit, more of which could help")
    return tuple(wanted)


def _plain(scenario: Scenario, path: str, space: Mapping[str, Dimension]) -> bool:
    """Whether ``path`` is the replicas of a deployment that has no autoscaler, and sends no requests on to others."""
    tree = scenario._source()
    steps = [] if path == OPTION else steps_of(tree, path)
    if len(steps) != 3 or steps[0] != "deployments" or steps[2] != "replicas":
        return False
    others = [steps_of(tree, other) for other in space if other != OPTION]
    if any(other[:1] == ["workloads"] or (other[:2] == steps[:2] and other[2:3] == ["autoscaler"]) for other in others):
        return False
    name = scenario.deployments[int(steps[1])].name
    options = space[OPTION].grid() if OPTION in space else [None]
    return all(_alone(scenario if option is None else scenario.with_option(option), name) for option in options)


def _alone(scenario: Scenario, name: str) -> bool:
    scaled: list[Any] = [one.autoscaler for one in scenario.deployments if one.name == name]
    return scaled == [None] and not any(workload.cascade or workload.deployments for workload in scenario.workloads)
