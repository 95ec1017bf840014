"""Many scenarios: points of a space, run by workers, kept in a store; what is found from them.

    study = Study(sim.load("scenario.yaml"))
    for outcome in study.evaluate(Task({"deployments.chat.replicas": n}) for n in range(1, 9)):
        print(outcome.point, outcome.figures.estimate("ttft_p99"))

task       a run: replications of the scenario at a point, and its outcome
study      tasks spread over workers, results in order
points     the points of a sweep: grid, random, Latin hypercube, Sobol
store      a folder of runs, one file each
sweep      `sim.sweep` and `twinfer sweep`
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.study.study import Study
    from sim.study.task import Outcome, Task

_HOMES = {"Outcome": "task", "Study": "study", "Task": "task"}

__all__ = ["Outcome", "Study", "Task"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
