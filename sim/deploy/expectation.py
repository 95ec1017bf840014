"""The simulated figures that go with the files: checked to be of the very scenario that is deployed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sim.errors import ResultError, did_you_mean

if TYPE_CHECKING:
    from sim.config import Scenario
    from sim.observe.objectives import Estimate, Figures, Standing
    from sim.observe.result import Comparison, Result

__all__ = ["PREFIX", "Expectation", "shown", "unit"]

PREFIX = "twinfer.dev"
_EXPECT = f"expect.{PREFIX}"
_SHOWN = ("throughput_rps", "ttft_p50", "ttft_p99", "tpot_p50", "tpot_p99", "slo_attainment", "goodput_rps")
"""Of each workload, the load it was under first; beside these every metric that it has an objective for."""
_WHOLE = ("usd_per_hour", "replicas_mean")


@dataclass(frozen=True)
class Expectation:
    """Figures with intervals: ``workloads[name][metric]``, ``overall[metric]``, and how every objective fares. ``digest`` is the
    scenario's they are of, ``key`` what tells this result from others (the digest of its manifest); ``replications`` independent runs."""

    digest: str
    key: str
    overall: Mapping[str, Estimate]
    workloads: Mapping[str, Mapping[str, Estimate]]
    standings: tuple[Standing, ...]
    confidence: float
    replications: int

    @classmethod
    def of(cls, result: Result | Comparison, scenario: Scenario) -> Expectation:
        """The figures of ``scenario`` in ``result``: a run of it, or a comparison that has it among its options.

        Seed and number of replications may differ: they decide how well the figures are known, not what is deployed.

        :raises ResultError: it is of another scenario.
        """
        import hashlib

        from sim.observe.result import Comparison
        from sim.observe.store import text

        runs: Mapping[str, Result]
        runs = result.options if isinstance(result, Comparison) else {"": result}
        for run in runs.values():
            if run.manifest.get("scenario") in _digests(scenario, run.manifest):
                key = hashlib.sha256(text(run.manifest).encode()).hexdigest()
                return cls.of_figures(run.figures, scenario.digest(), key)
        raise ResultError(f"the run is not of this scenario: {_other(scenario, runs)}")

    @classmethod
    def of_figures(cls, figures: Figures, digest: str, key: str) -> Expectation:
        """Those of ``figures``, as studies have them; ``digest`` is that of the scenario they are of."""
        return cls(
            digest=digest,
            key=key,
            overall=figures.summary(),
            workloads={name: figures.summary(name) for name in figures.workloads},
            standings=tuple(figures.standings()),
            confidence=figures.confidence,
            replications=len(figures),
        )

    def check(self, scenario: Scenario) -> None:
        """ResultError unless it is of ``scenario``."""
        if self.digest != scenario.digest():
            raise ResultError(
                f"the figures are not of this scenario: they are of digest {self.digest[:10]}, its own is {scenario.digest()[:10]}"
            )

    def annotations(self, workloads: tuple[str, ...]) -> dict[str, str]:
        """Annotations for a deployment that serves ``workloads``: a figure each, ``value +/- half-width unit``."""
        found = {
            f"{PREFIX}/result": f"sha256:{self.key}",
            f"{PREFIX}/confidence": f"{self.confidence:g}",
            f"{PREFIX}/replications": str(self.replications),
        }
        several = len(workloads) > 1
        for workload in workloads:
            figures = self.workloads.get(workload, {})
            asked = [standing.metric for standing in self.standings if standing.workload == workload]
            for metric in dict.fromkeys((*_SHOWN, *asked)):
                if metric in figures:
                    name = f"{_plain(workload)}.{metric}" if several else metric
                    found[f"{_EXPECT}/{name}"] = shown(metric, figures[metric])
        for metric in _WHOLE:
            if metric in self.overall:
                found[f"{_EXPECT}/{metric}"] = shown(metric, self.overall[metric])
        return found


def _digests(scenario: Scenario, manifest: Mapping[str, object]) -> set[str]:
    own = {scenario.digest()}
    seed, replications = manifest.get("seed"), manifest.get("replications")
    if isinstance(seed, int) and isinstance(replications, int):
        run = scenario.run.model_copy(update={"seed": seed, "replications": replications})
        own.add(scenario.model_copy(update={"run": run}).digest())
    return own


def _other(scenario: Scenario, runs: Mapping[str, Result]) -> str:
    own = scenario.digest()[:10]
    if "" in runs:
        run = runs[""]
        option = run.manifest.get("option")
        name = f"{run.name}{f', option {option}' if option else ''}" or "another"
        return f"it is of {name}, digest {str(run.manifest.get('scenario'))[:10]}, and its digest is {own}"
    wanted = scenario.option or ""
    near = did_you_mean(wanted, runs) if wanted else ""
    said = f"of its options ({', '.join(runs)}) none has its digest, {own}"
    return said + (near if wanted not in runs else f"; option {wanted!r} was run with other values (--set?)")


def _plain(name: str) -> str:
    import re

    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-._")[:40] or "workload"


def shown(metric: str, estimate: Estimate) -> str:
    """``1.234 +/- 0.056 s``; without an interval only the value."""
    of = unit(metric)
    if estimate.value != estimate.value:
        return "none"
    digits = f"{estimate.value:.4g}"
    if estimate.half_width is None:
        return f"{digits}{of}, a single replication"
    half_width = estimate.half_width if estimate.half_width > 1e-9 * abs(estimate.value) else 0.0  # less is rounding
    return f"{digits} +/- {half_width:.2g}{of}"


def unit(metric: str) -> str:
    """Of a metric, with a space before it; empty for shares and counts."""
    head = metric.split("_", maxsplit=1)[0]
    if head in ("ttft", "tpot", "itl", "e2e", "queue"):
        return " s"
    return {"usd_per_hour": " USD/h", "goodput_rps": " requests/s", "throughput_rps": " requests/s"}.get(metric, "")
