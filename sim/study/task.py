"""One run of a study: replications of the scenario at a point, and what came out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from sim.errors import TwinferError

if TYPE_CHECKING:
    from sim.config import Scenario
    from sim.observe.objectives import Figures

__all__ = ["Done", "Job", "Outcome", "Task", "key_of", "perform"]


@dataclass(frozen=True)
class Task:
    """Replications ``first`` to ``first + count - 1`` of the scenario changed at a point.

    ``changes`` are values by path, as options and ``--set`` write them; the path ``option`` applies an option of the scenario before
    the rest. ``count`` None: as many as the changed scenario says. ``warmup`` in seconds; None: as the scenario says. With ``draw``
    replication r runs with step times of draw r + ``draw`` from the doubt of its profiles. ``times`` multiplies the step times of all
    profiles.
    """

    changes: Mapping[str, Any] = field(default_factory=dict)
    first: int = 0
    count: int | None = None
    warmup: float | None = None
    draw: int | None = None
    times: float = 1.0


@dataclass(frozen=True, slots=True)
class Job:
    """A task whose scenario has been made: what a worker gets."""

    scenario: Scenario
    first: int
    count: int
    warmup: float | None
    draw: int | None
    times: float = 1.0


class Done(NamedTuple):
    """What a worker gives back: figures by replication, or why there are none."""

    figures: Figures | None
    warmup_s: float = 0.0
    warnings: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of a task. ``key`` names the run (:func:`key_of`); empty if the scenario could not be made.

    ``figures`` are None where it failed, and ``error`` says in a line why.
    """

    task: Task
    key: str
    figures: Figures | None
    warmup_s: float = 0.0
    warnings: tuple[str, ...] = ()
    error: str | None = None

    @property
    def point(self) -> Mapping[str, Any]:
        """The changes of its task."""
        return self.task.changes


def key_of(job: Job) -> str:
    """SHA-256 of all that decides the outcome: the scenario's digest, which replications, the version of twinfer.

    How many replications the scenario asks for, and how sure its intervals are to be, do not count.
    """
    from sim import __version__

    run = job.scenario.run.model_copy(update={"replications": 1, "precision": None, "confidence": 0.95})
    content = {
        "twinfer": __version__,
        "scenario": job.scenario.model_copy(update={"run": run}).digest(),
        "replications": [job.first, job.count],
        "warmup": job.warmup,
        "draw": job.draw,
        "times": job.times,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def perform(job: Job) -> Done:
    """Run a job. A failure is an answer: one point that cannot be run does not end a study."""
    try:
        return _measured(job)
    except TwinferError as error:
        return Done(None, error=" ".join(str(error).splitlines()))
    except Exception as error:  # noqa: BLE001 - a study goes on; the point says what happened
        return Done(None, error=f"{type(error).__name__}: {' '.join(str(error).splitlines())}")


def _measured(job: Job) -> Done:
    from sim.experiment.build import build, leaves_nothing_to_chance
    from sim.experiment.replication import replicate
    from sim.observe.result import Result

    scenario = job.scenario
    system = build(scenario)
    exact = leaves_nothing_to_chance(scenario)
    asked = range(job.first, job.first + job.count)
    numbers = range(1) if exact else asked
    if job.draw is not None:
        exact, numbers = False, asked
        records = [replicate(scenario, number, number + job.draw, job.times) for number in numbers]
        drawn = []
    else:
        records = [replicate(scenario, number, None, job.times) for number in numbers]
        drawn = (
            [replicate(scenario, 0 if exact else number, number, job.times) for number in asked]
            if system.doubtful
            else []
        )
    about = {"exact": exact, "warnings": system.warnings}
    result = Result(scenario, records, about, drawn=drawn, warmup=job.warmup)
    return Done(result.figures, result.warmup_s, tuple(result.warnings))
