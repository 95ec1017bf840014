"""One run of a study: replications of the scenario at a point, and what came out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from sim.errors import TwinferError

if TYPE_CHECKING:
    from sim.config import Scenario
    from sim.observe.objectives import Figures

__all__ = ["Done", "Job", "Outcome", "Task", "died", "in_a_line", "key_of", "key_of_unmade", "perform"]


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
    """What a worker gives back: figures by replication, or why there are none. The rest is as in :class:`Outcome`."""

    figures: Figures | None
    warmup_s: float = 0.0
    warnings: tuple[str, ...] = ()
    error: str | None = None
    manifest: Mapping[str, Any] = {}
    passing: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of a task. ``key`` names the run (:func:`key_of`; :func:`key_of_unmade` if the scenario could not be made).

    ``figures`` are None where it failed, and ``error`` says in a line why; with ``passing`` it might not fail another time: memory ran
    out, say. ``manifest`` says what it was made from (:func:`sim.experiment.manifest.manifest`).
    """

    task: Task
    key: str
    figures: Figures | None
    warmup_s: float = 0.0
    warnings: tuple[str, ...] = ()
    error: str | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)
    passing: bool = False

    @property
    def point(self) -> Mapping[str, Any]:
        """The changes of its task."""
        return self.task.changes

    @property
    def status(self) -> str:
        """``meets``, ``misses`` or ``undecided``: all objectives, any, neither; ``failed``; empty if there are no objectives."""
        if self.figures is None:
            return "failed"
        found = {standing.status for standing in self.figures.standings()}
        if not found:
            return ""
        return "misses" if "misses" in found else "undecided" if "undecided" in found else "meets"

    def at(self, confidence: float) -> Outcome:
        """The same with intervals of another confidence."""
        if self.figures is None:
            return self
        return replace(self, figures=replace(self.figures, confidence=confidence))


def key_of(job: Job) -> str:
    """SHA-256 of all that decides the outcome: the scenario's digest, which replications, the version of twinfer.

    How many replications the scenario asks for, and how sure its intervals are to be, do not count.
    """
    run = job.scenario.run.model_copy(update={"replications": 1, "precision": None, "confidence": 0.95})
    scenario = job.scenario.model_copy(update={"run": run}).digest()
    return _digest(
        scenario=scenario, replications=[job.first, job.count], warmup=job.warmup, draw=job.draw, times=job.times
    )


def key_of_unmade(base: str, task: Task) -> str:
    """SHA-256 of a task whose scenario cannot be made: of the digest of the scenario it was to change, and the task."""
    return _digest(base=base, **vars(task))


def _digest(**content: Any) -> str:
    from sim import __version__

    text = json.dumps({"twinfer": __version__, **content}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def perform(job: Job) -> Done:
    """Run a job. A failure is an answer: one point that cannot be run does not end a study."""
    try:
        return _measured(job)
    except TwinferError as error:
        return Done(None, error=in_a_line(error))
    except Exception as error:  # noqa: BLE001 - a study goes on; the point says what happened
        return Done(None, error=f"{type(error).__name__}: {in_a_line(error)}", passing=True)


def died(job: Job) -> Done:
    """What is known of a job that killed its worker, twice."""
    from sim.experiment.pool import DIED

    return Done(None, error=DIED, passing=True)


def in_a_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split())


def _measured(job: Job) -> Done:
    from sim.experiment.build import build, leaves_nothing_to_chance
    from sim.experiment.manifest import manifest
    from sim.experiment.replication import replicate
    from sim.observe.result import Result

    scenario = job.scenario
    doubtful = build(scenario).doubtful
    exact = leaves_nothing_to_chance(scenario)
    asked = range(job.first, job.first + job.count)
    if job.draw is not None:
        exact = False
        records = [replicate(scenario, number, number + job.draw, job.times) for number in asked]
        drawn = []
    else:
        records = [replicate(scenario, number, None, job.times) for number in (range(1) if exact else asked)]
        again = asked if doubtful else ()
        drawn = [replicate(scenario, 0 if exact else number, number, job.times) for number in again]
    made_from = manifest(scenario, len(records), exact=exact, draws=len(drawn))
    result = Result(scenario, records, made_from, drawn=drawn, warmup=job.warmup)
    return Done(result.figures, result.warmup_s, tuple(result.warnings), manifest=made_from)
