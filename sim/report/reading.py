"""From a Result or a Comparison to what is shown of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sim.report.log import ResultLog
from sim.report.view import Fate, Figure, Option, View

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from sim.observe import Comparison, Estimate, Result

__all__ = ["view_of"]


@dataclass(frozen=True)
class ResultSamples:
    """The requests and the timeline of a result, for its plots."""

    result: Result

    def latency(self, name: str) -> npt.NDArray[np.float64]:
        """``ttft``, ``tpot`` or ``e2e`` of the requests after the warm-up, seconds; NaN for those that were not served."""
        table = self.result.table("requests")
        arrival = table.column("arrival_s").to_numpy()
        counted: npt.NDArray[np.float64] = table.column(f"{name}_s").to_numpy()[arrival >= self.result.warmup_s]
        return counted

    def arrivals(self) -> npt.NDArray[np.float64]:
        """When they came, seconds."""
        arrival: npt.NDArray[np.float64] = self.result.table("requests").column("arrival_s").to_numpy()
        return arrival[arrival >= self.result.warmup_s]

    @property
    def timeline(self) -> pd.DataFrame:
        """A row a replica and sample."""
        return self.result.timeline


def view_of(found: Result | Comparison) -> View:
    """What is shown of a run (one option) or a comparison."""
    from sim.observe import Comparison

    if not isinstance(found, Comparison):
        return _view(found, {"": found})
    return _view(found, found.options, answer=found.verdict.sentence, winner=found.verdict.winner)


def _view(found: Result | Comparison, results: Mapping[str, Result], **said: Any) -> View:
    name = found.name.removesuffix(".yaml").removesuffix(".yml") or "scenario"
    first = next(iter(results.values()))
    return View(
        scenario=name,
        question=found.question,
        options=tuple(_option(option or name, result) for option, result in results.items()),
        manifest=_provenance(dict(found.manifest), results, found.warmup_s),
        confidence=first.figures.confidence,
        notes=("Intervals include the calibration's doubt.",) if any(one.draws for one in results.values()) else (),
        **said,
    )


def _option(name: str, result: Result) -> Option:
    from sim.observe.explain import explain_limit

    explanation = result.explanation
    return Option(
        name=name,
        overall=_figures(result.summary),
        workloads={workload: _figures(figures) for workload, figures in result.workloads.items()},
        fates=tuple(
            Fate(
                standing.workload,
                standing.metric,
                standing.target,
                _figure(standing.estimate),
                standing.status,
                standing.why,
                explained,
                standing.more,
            )
            for standing, explained in zip(result.objectives, result.explained, strict=True)
        ),
        replications=result.replications,
        draws=result.draws,
        warnings=tuple(result.warnings),
        samples=ResultSamples(result),
        explanation=explanation,
        limits=tuple(explain_limit(limit) for limit in explanation.limits),
        course=result.course,
        log=ResultLog(result),
    )


def _figures(estimates: Mapping[str, Estimate]) -> dict[str, Figure]:
    return {name: _figure(estimate) for name, estimate in estimates.items()}


def _figure(estimate: Estimate) -> Figure:
    return Figure(estimate.value, estimate.half_width)


def _provenance(own: dict[str, Any], results: Mapping[str, Result], warmup_s: float) -> dict[str, Any]:
    """What made the results: what all options share once, the rest by option; the checksum is of all their manifests."""
    # a saved manifest comes back sorted: shown sorted, it is the same page before and after
    manifests = {name: dict(sorted(result.manifest.items())) for name, result in results.items()}
    text = json.dumps([own, manifests], sort_keys=True, default=str)
    answer: dict[str, Any] = {
        "manifest sha256": hashlib.sha256(text.encode()).hexdigest(),
        "warm-up": f"{warmup_s:g} s",
    }
    left = {"option", "warnings"}
    apart = {name: {key: value for key, value in one.items() if key not in left} for name, one in manifests.items()}
    shared = _shared(list(apart.values()))
    answer |= {key: value for key, value in (shared | own).items() if key not in left}
    for name, manifest in apart.items():
        rest = _less(manifest, shared)
        if rest:
            answer[name] = rest
    return answer


def _shared(found: list[dict[str, Any]]) -> dict[str, Any]:
    """What all have in common, down to single values."""
    first, common = found[0], {}
    for key, value in first.items():
        others = [one.get(key) for one in found]
        if all(other == value for other in others):
            common[key] = value
        elif all(isinstance(other, dict) for other in others):
            inner = _shared([dict(other) for other in others if other is not None])
            common |= {key: inner} if inner else {}
    return common


def _less(found: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    """What is not shared."""
    rest = {}
    for key, value in found.items():
        if key not in shared:
            rest[key] = value
        elif value != shared[key]:
            rest[key] = _less(value, shared[key])
    return rest
