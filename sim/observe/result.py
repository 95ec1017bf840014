"""What a simulation returns: Result, one scenario; Comparison, every option of one, on the same requests."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.errors import ResultError
from sim.observe import store
from sim.observe.course import Course
from sim.observe.explain import Explanation, explain_limit
from sim.observe.metrics import measure
from sim.observe.objectives import WHOLE_RUN, Estimate, Figures, Standing
from sim.observe.verdict import Pair, Verdict, decide
from sim.observe.warmup import common_start_up, remarks, scenario_warmup
from sim.observe.words import nested

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from sim.observe.record import ReplicationRecord

__all__ = ["Comparison", "Result", "load"]

_TABLES = ("requests", "timeline", "events")


class Result:
    """One scenario, simulated.

        result = Result(scenario=scenario, records=[record, ...], manifest={...})
        result.summary["ttft_p99"].value, result.summary["ttft_p99"].half_width
        result.requests            # a DataFrame, columns of sim.observe.tables.REQUESTS

    ``scenario`` is a ``sim.config.Scenario`` (read: ``run.warmup``, ``run.confidence``, ``question``, ``path``, ``budget``, and the
    arrivals when the warm-up is left open). ``records`` are its replications, in order. ``manifest`` says what made it: nothing in it may
    depend on when or where; with ``{"exact": True}`` nothing of the run is left to chance, so that a single replication
    decides; its "warnings" and ``warnings`` are sentences for the user. ``drawn`` are the replications anew (an exact one as often
    as there are draws), each with step times drawn from the doubt of the profiles: they widen intervals and move no value.
    ``warmup`` in seconds overrides what the scenario says.

    Warm-up ``auto`` is the end of the start-up by MSER-5 (:func:`sim.observe.warmup.start_up`), one for all replications; if no
    steady state shows, nothing is left out and a warning says so. In a result that was loaded from a directory
    ``records`` is empty and ``scenario`` is None.
    """

    def __init__(
        self,
        scenario: Any,
        records: Sequence[ReplicationRecord],
        manifest: Mapping[str, Any] | None = None,
        *,
        drawn: Sequence[ReplicationRecord] = (),
        warnings: Sequence[str] = (),
        warmup: float | None = None,
    ) -> None:
        if not records:
            raise ValueError("records: at least one replication")
        self.scenario = scenario
        self.records = list(records)
        self.drawn = list(drawn)
        self.manifest: dict[str, Any] = dict(manifest or {})
        self._given_warnings = [*self.manifest.get("warnings", ()), *warnings]
        self._tables: dict[str, pa.Table] = {}
        self._from: dict[str, Any] = {}
        found = list[str]()
        if warmup is None:
            warmup = scenario_warmup(scenario)
        self.warmup_s = common_start_up(self.records, found) if warmup is None else float(warmup)
        self.warnings = self._given_warnings + found + remarks(self.records, self.warmup_s)
        exact = bool(self.manifest.get("exact"))
        figures = _figures(self.records, self.warmup_s, scenario, exact)
        self.figures = (
            replace(figures, drawn=_figures(self.drawn, self.warmup_s, scenario, exact=False)) if drawn else figures
        )

    @property
    def question(self) -> str:
        """What the scenario was to answer; empty if it does not say."""
        return str(self._from["question"] if self._from else getattr(self.scenario, "question", None) or "")

    @property
    def name(self) -> str:
        """The file name of the scenario; empty if it was made in Python."""
        if self._from:
            return str(self._from["scenario"])
        path = getattr(self.scenario, "path", None)
        return Path(path).name if path else ""

    @property
    def replications(self) -> int:
        """How many independent runs."""
        return len(self.figures)

    @property
    def draws(self) -> int:
        """How many draws from the doubt of the profiles the intervals include; 0: it is not in them."""
        return 0 if self.figures.drawn is None else len(self.figures.drawn)

    @cached_property
    def summary(self) -> dict[str, Estimate]:
        """Every figure of all requests together, by flat name (``ttft_p99``)."""
        return self.figures.summary()

    @cached_property
    def workloads(self) -> dict[str, dict[str, Estimate]]:
        """The figures of each workload by name: latencies, rates and counts; ITL only if it is the only workload."""
        return {name: self.figures.summary(name) for name in self.figures.workloads}

    @cached_property
    def objectives(self) -> list[Standing]:
        """How every objective of every workload, and the budget, fares."""
        return self.figures.standings()

    @cached_property
    def explanation(self) -> Explanation:
        """What the tail of every objective spent its time on, what became of requests that were not served, what limited throughput."""
        if self._from:
            return Explanation.from_json(self._from)
        figures = self.figures
        return Explanation.of(self.records, self.objectives, self.warmup_s, figures.confidence, figures.exact)

    @property
    def explained(self) -> list[str]:
        """For each of ``objectives`` why it is not met, in a sentence; empty if it is."""
        return self.explanation.sentences(self.objectives, self.summary.get("idle_share"))

    @cached_property
    def course(self) -> Course:
        """Replicas over time, their starts, and the bill of each pool."""
        if self._from:
            return Course.from_json(self._from["course"])
        return Course.of(self.records, self.figures.confidence, self.figures.exact)

    @property
    def why(self) -> list[str]:
        """A sentence for each objective that is not met, and one for each deployment: what limited it."""
        missed = [sentence for sentence in self.explained if sentence]
        return [*missed, *(explain_limit(limit) for limit in self.explanation.limits)]

    @property
    def requests(self) -> pd.DataFrame:
        """A row a request and replication (:data:`sim.observe.tables.REQUESTS`)."""
        return self.table("requests").to_pandas()

    @property
    def timeline(self) -> pd.DataFrame:
        """A row a replica and sample (:data:`sim.observe.tables.TIMELINE`)."""
        return self.table("timeline").to_pandas()

    @property
    def events(self) -> pd.DataFrame:
        """A row a decision (:data:`sim.observe.tables.EVENTS`)."""
        return self.table("events").to_pandas()

    @property
    def steps(self) -> pd.DataFrame:
        """A row a step of the first replication (:data:`sim.observe.tables.STEPS`); empty unless ``run.steps`` asked for them."""
        return self.table("steps").to_pandas()

    def table(self, name: str) -> pa.Table:
        """``requests``, ``timeline``, ``events`` or ``steps`` as an Arrow table; made when first asked for."""
        from sim.observe import tables

        if name not in self._tables:
            self._tables[name] = getattr(tables, name)(self.records)
        return self._tables[name]

    def at_warmup(self, warmup: float) -> Result:
        """The same replications with the first ``warmup`` seconds left out. ResultError without their records."""
        if warmup == self.warmup_s:
            return self
        if not self.records:
            raise ResultError(
                f"{self.name or 'result'}: was loaded, so its warm-up of {self.warmup_s:g} s cannot become {warmup:g} s"
            )
        own = self._given_warnings[len(self.manifest.get("warnings", ())) :]
        return Result(self.scenario, self.records, self.manifest, drawn=self.drawn, warnings=own, warmup=warmup)

    def to_json(self, out: str | os.PathLike[str] | None = None) -> dict[str, Any]:
        """Everything ``twinfer run --json`` prints; null for what is not a number. ``out`` is the directory it was saved to."""
        place = None if out is None else os.fspath(out)
        return store.plain_object(self._summary_json() | {"manifest": self.manifest, "out": place})

    def _summary_json(self) -> dict[str, Any]:
        return {
            "scenario": self.name,
            "question": self.question,
            "options": None,
            "replications": self.replications,
            "warmup_s": self.warmup_s,
            "confidence": self.figures.confidence,
            "summary": nested(self.summary),
            "workloads": {name: nested(figures) for name, figures in self.workloads.items()},
            "objectives": [standing.to_json() for standing in self.objectives],
            **self.explanation.to_json(),
            "why": self.why,
            "course": self.course.to_json(),
            "warnings": self.warnings,
        }

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Write the run directory (see :mod:`sim.observe.store`) and return its path. ResultError if it cannot be written."""
        summary = self._summary_json() | {"kind": "run", "format": store.FORMAT, "figures": self.figures.to_json()}
        files: dict[str, Any] = {"manifest.json": self.manifest, store.SUMMARY: summary}
        kept = (*_TABLES, "steps") if len(self.table("steps")) else _TABLES
        return store.write(directory, files | {f"{name}.parquet": self.table(name) for name in kept})

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> Result:
        """The result saved in ``directory``, without records. ResultError if anything is missing or malformed."""
        from sim.observe import tables

        summary = store.read_summary(directory, "run")
        folder = Path(directory)
        result = cls.__new__(cls)
        result.records = []
        result.drawn = []
        result.manifest = store.read_json(folder / "manifest.json")
        result.scenario = None
        result._tables = {
            name: store.read_table(folder / f"{name}.parquet", getattr(tables, name.upper()))
            for name in (*_TABLES, "steps")
            if name in _TABLES or (folder / f"{name}.parquet").exists()
        }
        try:
            result.figures = Figures.from_json(summary["figures"], float(summary["confidence"]))
            result.warmup_s = float(summary["warmup_s"])
            result.warnings = result._given_warnings = [str(warning) for warning in summary["warnings"]]
            result._from = {"scenario": str(summary["scenario"]), "question": str(summary["question"])}
            result._from |= {name: summary.get(name, ()) for name in ("causes", "unserved", "limits", "course")}
            result.to_json()  # figures that cannot be read show up here, not where they are first used
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ResultError(f"{folder / store.SUMMARY}: is not as twinfer writes it: {error!r}") from error
        return result

    def __repr__(self) -> str:
        return f"<Result {self.name or 'scenario'}: {self.replications} replications, warm-up {self.warmup_s:g} s>"

    def _repr_html_(self) -> str:
        from sim.observe.display import result_html

        return result_html(self)


class Comparison:
    """The options of a scenario, simulated on the same requests.

        comparison = Comparison(options={"two": result, "four": result})
        comparison.verdict.sentence

    ``options`` maps names to Results with as many replications each: replication r of one saw the requests of replication r of
    the others. They are all read at one warm-up, the longest any of them needs, so that the pairs stay pairs. ``question`` and
    ``name`` are those of the first option unless given.
    """

    def __init__(
        self,
        options: Mapping[str, Result],
        manifest: Mapping[str, Any] | None = None,
        *,
        question: str | None = None,
        name: str | None = None,
    ) -> None:
        if not options:
            raise ValueError("options: at least one")
        warmup = max(result.warmup_s for result in options.values())
        self.options = {option: result.at_warmup(warmup) for option, result in options.items()}
        self.manifest: dict[str, Any] = dict(manifest or {})
        first = next(iter(self.options.values()))
        self.question = first.question if question is None else question
        self.name = first.name if name is None else name
        self.warmup_s = warmup

    @cached_property
    def _decided(self) -> tuple[Verdict, list[Pair]]:
        return decide({name: result.figures for name, result in self.options.items()})

    @property
    def verdict(self) -> Verdict:
        """Which option to take (see :func:`sim.observe.verdict.decide`)."""
        return self._decided[0]

    @property
    def pairs(self) -> list[Pair]:
        """Every other option against the verdict's baseline, Holm-adjusted."""
        return self._decided[1]

    @property
    def warnings(self) -> list[str]:
        """The warnings of all options, each with the options it concerns."""
        concerned: dict[str, list[str]] = {}
        for name, result in self.options.items():
            for warning in result.warnings:
                concerned.setdefault(warning, []).append(name)
        everyone = len(self.options)
        return [text if len(names) == everyone else f"{', '.join(names)}: {text}" for text, names in concerned.items()]

    def table(self, metrics: Sequence[str] | None = None) -> pd.DataFrame:
        """A row an option; columns (metric, "value") and (metric, "half_width"), of ``metrics`` or of all."""
        import pandas as pd

        rows = {}
        for name, result in self.options.items():
            chosen = result.summary if metrics is None else {metric: result.summary[metric] for metric in metrics}
            rows[name] = {
                (metric, part): getattr(estimate, part)
                for metric, estimate in chosen.items()
                for part in ("value", "half_width")
            }
        frame = pd.DataFrame.from_dict(rows, orient="index", dtype=float)
        frame.columns = pd.MultiIndex.from_tuples(frame.columns, names=["metric", ""])
        return frame.rename_axis(index="option")

    def to_json(self, out: str | os.PathLike[str] | None = None) -> dict[str, Any]:
        """Everything ``twinfer compare --json`` prints: ``options`` holds what a run of each would, less manifest and out."""
        place = None if out is None else os.fspath(out)
        return store.plain_object(self._summary_json() | {"manifest": self.manifest, "out": place})

    def _summary_json(self) -> dict[str, Any]:
        return {
            "scenario": self.name,
            "question": self.question,
            "options": {name: result._summary_json() for name, result in self.options.items()},
            "order": list(self.options),
            "warmup_s": self.warmup_s,
            "verdict": self.verdict.to_json(),
            "pairs": [pair.to_json() for pair in self.pairs],
            "warnings": self.warnings,
        }

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Write the directory of the comparison, a run directory an option inside, and return its path."""
        summary = self._summary_json() | {"kind": "comparison", "format": store.FORMAT}
        folder = store.write(directory, {"manifest.json": self.manifest})
        for name, result in self.options.items():
            result.save(store.option_directory(folder, name))
        return store.write(folder, {"manifest.json": self.manifest, store.SUMMARY: summary})

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> Comparison:
        """The comparison saved in ``directory``. ResultError if anything is missing or malformed."""
        summary = store.read_summary(directory, "comparison")
        folder = Path(directory)
        manifest = store.read_json(folder / "manifest.json")
        names, question, name = summary.get("order"), summary.get("question"), summary.get("scenario")
        if not isinstance(names, list) or not names or not all(isinstance(option, str) for option in names):
            raise ResultError(f"{folder / store.SUMMARY}: 'order' names no options")
        options = {option: Result.load(store.option_directory(folder, option)) for option in names}
        return cls(options, manifest, question=str(question or ""), name=str(name or ""))

    def __repr__(self) -> str:
        return f"<Comparison of {', '.join(self.options)}: {self.verdict.sentence}>"

    def _repr_html_(self) -> str:
        from sim.observe.display import comparison_html

        return comparison_html(self)


def load(directory: str | os.PathLike[str]) -> Result | Comparison:
    """Whichever of the two ``directory`` holds. ResultError if neither."""
    kind = store.read_summary(directory)["kind"]
    return Result.load(directory) if kind == "run" else Comparison.load(directory)


def _figures(records: Sequence[ReplicationRecord], warmup: float, scenario: Any, exact: bool) -> Figures:
    measures = [measure(record, warmup) for record in records]
    workloads = records[0].workloads
    objectives = {w.name: dict(w.objectives) for w in workloads if w.objectives}
    budget = getattr(scenario, "budget", None)
    if budget is not None:
        objectives[WHOLE_RUN] = dict(budget.objectives)
    return Figures(
        overall=[m.overall for m in measures],
        workloads={w.name: [m.workloads[w.name] for m in measures] for w in workloads},
        objectives=objectives,
        confidence=float(getattr(getattr(scenario, "run", None), "confidence", None) or 0.95),
        exact=exact,
    )
