"""What is shown of a run or a comparison, in the terminal and on the page: one reading of the results for both."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

__all__ = ["Fate", "Figure", "Option", "Samples", "Status", "View"]

Status = Literal["meets", "misses", "undecided"]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure and the half-width of its interval, None if there is none (one replication)."""

    value: float
    half_width: float | None = None


@dataclass(frozen=True, slots=True)
class Fate:
    """One objective of one workload, and how an option fares by it."""

    workload: str
    metric: str
    target: float
    figure: Figure
    status: Status
    why: str = ""


class Samples(Protocol):
    """The requests and the timeline of an option, for plots."""

    def latency(self, name: str) -> npt.NDArray[np.float64]:
        """``ttft``, ``tpot`` or ``e2e`` of each request in seconds; NaN for those that have none."""
        ...

    @property
    def timeline(self) -> pd.DataFrame:
        """A row a replica and sample: ``replication``, ``t_s``, ``waiting``, ``running``."""
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

    @property
    def status(self) -> Status | None:
        """Meets all its objectives, misses one, or is not decided; None if there are none."""
        found = {fate.status for fate in self.fates}
        if not found:
            return None
        return "misses" if "misses" in found else "undecided" if "undecided" in found else "meets"

    def fate(self, workload: str | None, metric: str) -> Fate | None:
        """The objective on ``metric`` of ``workload``; of any workload if that is None and there is only one."""
        if workload is None and len(self.workloads) > 1:
            return None
        return next((fate for fate in self.fates if fate.metric == metric and workload in (None, fate.workload)), None)


@dataclass(frozen=True, slots=True)
class View:
    """A run or a comparison as it is shown."""

    scenario: str
    question: str
    options: tuple[Option, ...]
    answer: str = ""
    winner: str | None = None
    notes: tuple[str, ...] = ()
    manifest: Mapping[str, Any] = field(default_factory=dict)
    confidence: float = 0.95

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
