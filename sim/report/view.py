"""What is shown of a run or a comparison, in the terminal and on the page: one reading of the results for both."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from sim.observe.course import Course
    from sim.observe.explain import Explanation

__all__ = ["Break", "Decision", "Effect", "Fate", "Figure", "Log", "Option", "Samples", "Sensitivity", "Status", "View"]

Status = Literal["meets", "misses", "undecided"]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure and the half-width of its interval, None if there is none (one replication)."""

    value: float
    half_width: float | None = None


@dataclass(frozen=True, slots=True)
class Fate:
    """One objective of one workload (empty: of the whole run), and how an option fares by it.

    ``explained`` says in a sentence why it is missed or not decided; ``more`` replications might decide it, if that can be told.
    """

    workload: str
    metric: str
    target: float
    figure: Figure
    status: Status
    why: str = ""
    explained: str = ""
    more: int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Something that was decided, or happened to the fleet, at ``seconds``; ``where``: a replica, a machine; from which ``numbers``."""

    seconds: float
    kind: str
    where: str
    reason: str
    numbers: str


class Log(Protocol):
    """What happened in one replication of an option."""

    def decisions(self, most: int) -> tuple[list[Decision], dict[str, int]]:
        """The first ``most`` decisions, and how many of each kind there are."""
        ...

    def incidents(self, deployment: str) -> list[Decision]:
        """Faults, losses and rollouts that concern a deployment or the machines of all."""
        ...

    def arrivals(self, deployment: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Times in seconds and requests a second that came for a deployment, in equal stretches."""
        ...


class Samples(Protocol):
    """The requests and the timeline of an option, for plots."""

    def latency(self, name: str) -> npt.NDArray[np.float64]:
        """``ttft``, ``tpot`` or ``e2e`` of each request in seconds; NaN for those that have none."""
        ...

    @property
    def timeline(self) -> pd.DataFrame:
        """A row a replica and sample: ``replication``, ``t_s``, ``deployment``, ``replica``, ``waiting``, ``running``, ``kv_used``,
        ``kv_blocks``."""
        ...

    def arrivals(self) -> npt.NDArray[np.float64]:
        """When each request of :meth:`latency` came, seconds."""
        ...


@dataclass(frozen=True, slots=True)
class Option:
    """One option (or the run itself): figures over all requests and by workload, and the fate of every objective."""

    name: str
    overall: Mapping[str, Figure]
    workloads: Mapping[str, Mapping[str, Figure]]
    fates: tuple[Fate, ...] = ()
    replications: int = 1
    draws: int = 0
    """From the doubt of the profiles; the intervals include what they say."""
    warnings: tuple[str, ...] = ()
    samples: Samples | None = None
    """What the plots are drawn from; not needed for tables."""
    explanation: Explanation | None = None
    """Causes of the tails, requests not served, limits."""
    limits: tuple[str, ...] = ()
    """What limited each deployment, in a sentence."""
    course: Course | None = None
    log: Log | None = None

    @property
    def status(self) -> Status | None:
        """Meets all its objectives, misses one, or is not decided; None if there are none."""
        found = {fate.status for fate in self.fates}
        if not found:
            return None
        return "misses" if "misses" in found else "undecided" if "undecided" in found else "meets"

    def fate(self, workload: str | None, metric: str) -> Fate | None:
        """The objective on ``metric`` of ``workload``; if that is None of the whole run, or of the only workload there is."""
        if workload is None and len(self.workloads) > 1:
            workload = ""
        return next((fate for fate in self.fates if fate.metric == metric and workload in (None, fate.workload)), None)


@dataclass(frozen=True, slots=True)
class Effect:
    """How a figure changes when one ``parameter`` alone goes from what it is to ``low``, and to ``high`` (both as they are written).

    The changes are in the figure's own unit, with half-widths of the paired differences.
    """

    parameter: str
    low: str
    high: str
    at_low: Figure
    at_high: Figure


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What moves one figure: ``metric`` of ``workload`` (empty: of all requests) under ``option``, which is ``base`` as things stand.

    ``note`` says in a sentence how it was found.
    """

    metric: str
    base: Figure
    effects: tuple[Effect, ...]
    option: str = ""
    workload: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Break:
    """The load, as a multiple of the scenario's, at which ``option`` no longer keeps an objective: ``at`` with its half-width.

    None: it keeps it up to ``tried``, the largest load that was tried.
    """

    metric: str
    target: float
    at: Figure | None
    tried: float
    option: str = ""
    workload: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """A run or a comparison as it is shown. ``sensitivity`` and ``breaks`` are of studies, if there were any."""

    scenario: str
    question: str
    options: tuple[Option, ...]
    answer: str = ""
    winner: str | None = None
    notes: tuple[str, ...] = ()
    manifest: Mapping[str, Any] = field(default_factory=dict)
    confidence: float = 0.95
    sensitivity: tuple[Sensitivity, ...] = ()
    breaks: tuple[Break, ...] = ()

    @property
    def workloads(self) -> tuple[str, ...]:
        """Names of the workloads."""
        return tuple(dict.fromkeys(name for option in self.options for name in option.workloads))

    def targets(self) -> dict[tuple[str, str], float]:
        """The objectives: (workload, metric) to target, in the scenario's order."""
        return {(fate.workload, fate.metric): fate.target for option in self.options for fate in option.fates}

    @property
    def counted(self) -> str:
        """'6 replications', '6 to 10 replications', '1 replication and 10 draws of the calibration'."""
        runs, draws = ({getattr(option, name) for option in self.options} for name in ("replications", "draws"))
        text = _counted(runs, "replication")
        return f"{text} and {_counted(draws, 'draw')} of the calibration" if any(draws) else text

    def warnings(self) -> list[tuple[str, tuple[str, ...]]]:
        """Every warning once, with the options it is true of."""
        found: dict[str, list[str]] = {}
        for option in self.options:
            for text in option.warnings:
                found.setdefault(text, []).append(option.name)
        return [(text, tuple(names)) for text, names in found.items()]


def _counted(numbers: Set[int], what: str) -> str:
    """'1 draw', '3 draws', '3 to 5 draws'."""
    least, most = min(numbers), max(numbers)
    return f"{least if least == most else f'{least} to {most}'} {what}{'' if least == most == 1 else 's'}"
