"""Who says what a point costs and how it does: a scenario that is simulated, or anything else with known answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from sim.observe.objectives import Figures
from sim.study.task import Outcome, Task

if TYPE_CHECKING:
    from sim.study.study import Study

__all__ = ["Ask", "Evaluator", "Measured", "Point", "Simulations", "joined"]

Point = Mapping[str, Any]
"""Values by path: what a configuration changes."""

PRICE = "usd_per_hour"

_TOGETHER = 2  # replications of a task, where there are more to share out


@dataclass(frozen=True, slots=True)
class Ask:
    """Replications ``first`` to ``first + count - 1`` of ``point``. ``warmup`` in seconds; None: as the scenario says."""

    point: Point
    first: int
    count: int
    warmup: float | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of an ask: figures of its replications, or why there are none."""

    figures: Figures | None
    warmup: float | None = None
    error: str | None = None


class Evaluator(Protocol):
    """Replication r of all points sees the same random numbers; different replications are independent."""

    def price(self, point: Point) -> float | None:
        """What is to be minimised, if it is known without a simulation. TwinferError if the point cannot be."""
        ...

    def measure(self, asks: Sequence[Ask]) -> Iterator[Measured]:
        """What comes of each ask, in their order."""
        ...


class Simulations:
    """Points of a study's scenario, all with the same ``settings``; ``minimize`` is the figure that should be small."""

    def __init__(self, study: Study, minimize: str, settings: Point | None = None) -> None:
        self.study = study
        self.minimize = minimize
        self.settings = settings or {}

    def price(self, point: Point) -> float | None:
        """Dollars an hour of a fleet that neither grows nor breaks; of anything else the simulation has to tell."""
        from sim.experiment.build import build
        from sim.experiment.control import controlled

        scenario = self.study.scenario.with_changes({**self.settings, **point})
        billed = any(pool.billing.model_fields_set for pool in scenario.cluster.pools if pool.billing is not None)
        if self.minimize != PRICE or billed or controlled(scenario):
            return None
        return sum(placed.usd_per_hour for placed in build(scenario).deployments)

    def measure(self, asks: Sequence[Ask]) -> Iterator[Measured]:
        """Simulated by the study's workers, who share the replications of a point, once it is known what warm-up they all have."""
        parts = [_parts(ask) for ask in asks]
        tasks = [
            Task({**self.settings, **ask.point}, first, count, ask.warmup)
            for ask, some in zip(asks, parts, strict=True)
            for first, count in some
        ]
        waiting = iter(parts)
        done: list[Outcome] = []
        count = 0
        for outcome in self.study.evaluate(tasks):
            count = count if done else len(next(waiting))
            done.append(outcome)
            if len(done) == count:
                yield _together(done)
                done = []


def _together(done: Sequence[Outcome]) -> Measured:
    """What came of the tasks of one ask."""
    figures = None
    for outcome in done:
        if outcome.figures is None:
            return Measured(None, outcome.warmup_s, outcome.error)
        figures = joined(figures, outcome.figures)
    return Measured(figures, done[0].warmup_s)


def _parts(ask: Ask) -> list[tuple[int, int]]:
    """First replication and count of each task."""
    most = ask.count if ask.warmup is None else _TOGETHER
    return [
        (first, min(most, ask.first + ask.count - first)) for first in range(ask.first, ask.first + ask.count, most)
    ]


def joined(figures: Figures | None, more: Figures) -> Figures:
    """The figures of replications, and of those that followed them."""
    if figures is None or figures.exact:  # of which the first says all; what it has of draws is enough
        return more if figures is None else figures
    drawn = None if figures.drawn is None or more.drawn is None else joined(figures.drawn, more.drawn)
    return replace(
        figures,
        overall=[*figures.overall, *more.overall],
        workloads={name: [*rows, *more.workloads[name]] for name, rows in figures.workloads.items()},
        drawn=drawn,
    )
