"""Predicted against measured: how far a profile is off on a run, by figure and by load, and what may be decided with it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from calibration.intervals import mean_error
from calibration.replay import replay
from calibration.runs import RequestLog
from sim.errors import CatalogError, ProfileError

if TYPE_CHECKING:
    from sim.profiles import Profile

__all__ = ["FIGURES", "METRICS", "Error", "Group", "Validation", "group", "in_system", "validate"]

METRICS: Final = ("ttft", "tpot", "itl", "e2e")
FIGURES: Final = ("mean", "p50", "p90", "p99")
FEWEST: Final = 20
"""Requests below which there is nothing to compare: a mean of so few says more of them than of the profile."""
LATE: Final = 0.1
"""Seconds by which a load may be late without a word: beyond, the load was not the one that was asked for."""
GROUPS: Final = ("light", "medium", "heavy")

_QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99}

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Error:
    """One figure, in seconds as measured and as predicted. ``half_width`` of the 95 % interval of the error, where there is one;
    ``spread`` is how far the measured runs lie apart in it, relative to the mean of them."""

    measured: float
    predicted: float
    half_width: float | None = None
    spread: float | None = None

    @property
    def value(self) -> float:
        """predicted / measured - 1."""
        return self.predicted / self.measured - 1.0 if self.measured else math.nan

    def to_json(self) -> dict[str, float | None]:
        """For the command line."""
        return {
            "measured": self.measured,
            "predicted": self.predicted,
            "error": self.value,
            "half_width": self.half_width,
            "spread": self.spread,
        }


@dataclass(frozen=True)
class Group:
    """Some requests of the runs: the errors by metric and figure, and ``typical``, the median size of a single request's error.

    ``system`` is the range of the number of requests that were in the server when one of these was sent, itself not counted.
    """

    name: str
    requests: int
    system: tuple[int, int]
    errors: Mapping[str, Mapping[str, Error]]
    typical: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """For the command line."""
        return {
            "name": self.name,
            "requests": self.requests,
            "in_system": list(self.system),
            "errors": {
                metric: {name: one.to_json() for name, one in row.items()} for metric, row in self.errors.items()
            },
            "median_error_of_a_request": dict(self.typical),
        }


@dataclass(frozen=True)
class Validation:
    """A profile held against one run or several of the same requests. ``by_load`` is empty where the load was all one."""

    profile: str
    measured: tuple[RequestLog, ...]
    predicted: tuple[RequestLog, ...]
    whole: Group
    by_load: tuple[Group, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """For the command line."""
        from calibration.verdict import judgements, sentence

        return {
            "profile": self.profile,
            "against": [run.source for run in self.measured],
            "engine": self.predicted[0].about["engine"],
            "verdict": sentence(self),
            "judgements": judgements(self.whole),
            "whole": self.whole.to_json(),
            "by_load": [group.to_json() for group in self.by_load],
            "warnings": list(self.warnings),
        }


def validate(
    profile: Profile,
    runs: Sequence[RequestLog],
    *,
    engine: Mapping[str, Any],
    architecture: str | Path | None = None,
) -> Validation:
    """Replay each of ``runs`` with ``profile`` (as :func:`calibration.replay.replay` does) and compare.

    Several runs must be of the same requests; their figures are taken together, and their spread stands beside the error.
    Requests that failed are replayed as far as they got and not compared.

    :raises ProfileError: too few requests, runs of different requests, or of another model than the profile's.
    """
    warnings: list[str] = []
    for run in runs:
        _check(profile, run, architecture, warnings)
    for other in runs[1:]:
        _check_same(runs[0], other)
    predicted = [replay(profile, run, engine=engine, architecture=architecture) for run in runs]
    warnings += dict.fromkeys(text for guess in predicted for text in guess.about["warnings"])
    compared = [run.ok & guess.ok for run, guess in zip(runs, predicted, strict=True)]
    if not any(rows.any() for rows in compared):
        raise ProfileError(f"{runs[0].source or 'the run'}: no request of it fits the engine as it is set up")
    whole = group("all", runs, predicted, compared)
    itl = _itl(runs, predicted)
    return Validation(
        profile=profile.name,
        measured=tuple(runs),
        predicted=tuple(predicted),
        whole=replace(whole, errors=_in_order({**whole.errors, **itl})),
        by_load=tuple(_by_load(runs, predicted, compared)),
        warnings=tuple(warnings),
    )


def in_system(run: RequestLog) -> npt.NDArray[np.int64]:
    """How many of the run's requests were under way when each was sent, itself not counted; those that failed count for nothing."""
    before = np.empty(len(run), np.int64)
    order = np.argsort(run.sent, kind="stable")
    before[order] = np.cumsum(run.ok[order]) - run.ok[order]
    ends = np.sort((run.sent + run.e2e)[run.ok])
    return np.asarray(before - np.searchsorted(ends, run.sent, side="right"))


def _check(profile: Profile, run: RequestLog, architecture: str | Path | None, warnings: list[str]) -> None:
    from sim import catalog

    name = run.source or "the run"
    served = int(run.ok.sum())
    if served < FEWEST:
        raise ProfileError(
            f"{name}: {served} of its {len(run)} requests were served; at least {FEWEST} are needed to compare"
        )
    if served < len(run):
        warnings.append(f"{name}: {len(run) - served} of {len(run)} requests failed: they are not compared")
    late = float(run.about.get("latest_s", 0.0))
    if late > LATE:
        warnings.append(f"{name}: requests were sent up to {late:.2g} s late: what sent them was short of time")
    if not np.isfinite(run.ttft[run.ok]).any():
        warnings.append(f"{name}: has no times of first tokens: only E2E is compared")
    said = run.about.get("model")
    try:
        theirs, ours = catalog.model(str(said)), catalog.model(str(architecture or profile.model))
    except CatalogError:
        return  # a name of the server's own says nothing
    if theirs.name != ours.name:
        raise ProfileError(f"{name}: is a run of {said}, the profile {profile.name} is of {ours.name}")


def _check_same(first: RequestLog, other: RequestLog) -> None:
    same = len(first) == len(other) and np.array_equal(first.prompt, other.prompt)
    both = first.ok & other.ok if same else None
    if both is None or not np.array_equal(first.output[both], other.output[both]):
        raise ProfileError(
            f"{other.source}: has other requests than {first.source}; only runs of the same requests show an engine's own spread"
        )


def _times(log: RequestLog, metric: str, rows: Flags) -> Floats:
    return np.asarray(getattr(log, metric)[rows], np.float64)


def group(
    name: str, runs: Sequence[RequestLog], predicted: Sequence[RequestLog], rows: Sequence[npt.NDArray[np.bool_]]
) -> Group:
    """Predicted against measured for the requests ``rows`` of each run, all runs together. Inter-token latencies are left out."""
    errors: dict[str, dict[str, Error]] = {}
    typical = {}
    for metric in ("ttft", "tpot", "e2e"):
        known = [
            chosen & np.isfinite(getattr(run, metric)) & np.isfinite(getattr(guess, metric))
            for run, guess, chosen in zip(runs, predicted, rows, strict=True)
        ]
        each = [_times(run, metric, chosen) for run, chosen in zip(runs, known, strict=True)]
        theirs = np.concatenate(each)
        if not len(theirs):
            continue
        ours = np.concatenate([_times(guess, metric, chosen) for guess, chosen in zip(predicted, known, strict=True)])
        spreads = _spreads([_figures(one) for one in each if len(one)])
        errors[metric] = {
            figure: Error(
                was, would, mean_error(theirs, ours).half_width if figure == "mean" else None, spreads.get(figure)
            )
            for (figure, was), would in zip(_figures(theirs).items(), _figures(ours).values(), strict=True)
        }
        typical[metric] = float(np.median(np.abs(ours / theirs - 1.0)))
    met = np.concatenate([in_system(run)[chosen] for run, chosen in zip(runs, rows, strict=True)])
    return Group(name, len(met), (int(met.min()), int(met.max())), errors, typical)


def _figures(values: Floats) -> dict[str, float]:
    return {"mean": float(values.mean())} | {
        name: float(np.quantile(values, probability)) for name, probability in _QUANTILES.items()
    }


def _spreads(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """How far the runs lie apart in each figure, relative to their mean; nothing for one run."""
    if len(runs) < 2:
        return {}
    values = {figure: [run[figure] for run in runs] for figure in FIGURES}
    return {figure: (max(found) - min(found)) / float(np.mean(found)) for figure, found in values.items()}


def _itl(runs: Sequence[RequestLog], predicted: Sequence[RequestLog]) -> dict[str, dict[str, Error]]:
    """Errors of inter-token latencies, where every run has the times of its tokens."""
    gaps = [run.itl for run in runs]
    known = [one for one in gaps if one is not None and len(one)]
    if len(known) < len(runs):
        return {}
    theirs = _figures(np.concatenate(known))
    spreads = _spreads([_figures(one) for one in known])
    return {
        "itl": {
            figure: Error(
                theirs[figure],
                float(np.mean([guess.about["itl"][figure] for guess in predicted])),
                spread=spreads.get(figure),
            )
            for figure in FIGURES
        }
    }


def _in_order(errors: Mapping[str, Mapping[str, Error]]) -> dict[str, Mapping[str, Error]]:
    return {metric: errors[metric] for metric in METRICS if metric in errors}


def _by_load(runs: Sequence[RequestLog], predicted: Sequence[RequestLog], compared: Sequence[Flags]) -> list[Group]:
    """The requests in thirds by how many others they met; those that met as many stay together."""
    loads = [in_system(run) for run in runs]
    met = np.concatenate([load[rows] for load, rows in zip(loads, compared, strict=True)])
    cuts = np.quantile(met, [1 / 3, 2 / 3])
    third = [np.searchsorted(cuts, load, side="left") for load in loads]
    groups = []
    for number, name in enumerate(GROUPS):
        rows = [chosen & (part == number) for chosen, part in zip(compared, third, strict=True)]
        if any(chosen.any() for chosen in rows):
            groups.append(group(name, runs, predicted, rows))
    return groups if len(groups) > 1 else []
