"""The answer of an optimisation: what to take, how sure that is, what was ruled out and why, and what was spent."""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.atomic import replacing
from sim.display import html_table
from sim.errors import ResultError
from sim.observe.objectives import WHOLE_RUN
from sim.observe.store import plain, write
from sim.observe.words import number
from sim.study.optimizing.candidate import Candidate
from sim.study.optimizing.figures import sign
from sim.study.optimizing.search import FIRST, Search
from sim.study.optimizing.words import answer, fate, names, reason

if TYPE_CHECKING:
    import pandas as pd

    from sim.config import Scenario
    from sim.observe.objectives import Figures

__all__ = ["Optimum"]

_SHOWN = 12


@dataclass(frozen=True)
class Optimum:
    """What :func:`sim.optimize` returns.

    ``search`` holds the points something is claimed of; ``explored`` those that a sampler looked at before. ``method`` is the one that
    was used. ``exhaustive``: replications that as many of each point as the scenario says would have taken; None if points cannot
    be listed.
    """

    scenario: Scenario
    search: Search
    method: str
    aims: tuple[str, ...]
    explored: Sequence[Candidate] = ()
    exhaustive: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def winner(self) -> dict[str, Any] | None:
        """The changes of the cheapest configuration that meets the objectives; None if none does for sure."""
        found = self.search.winner
        return None if found is None else dict(found.point)

    @property
    def figures(self) -> Figures | None:
        """The winner's figures."""
        found = self.search.winner
        return None if found is None else found.figures

    @property
    def confidence(self) -> float:
        """How sure all that is claimed is, taken together."""
        return self.search.goal.confidence

    @property
    def decided(self) -> bool:
        """Whether nothing is open: more replications would not change the answer."""
        return not self.search.open()

    @property
    def spent(self) -> int:
        """Replications that were run."""
        return self.search.spent

    @property
    def notes(self) -> list[str]:
        """What else should be known, a sentence each."""
        return list(self.search.notes)

    @cached_property
    def sentence(self) -> str:
        """The answer in words."""
        return answer(self.search, method=self.method)

    @property
    def effort(self) -> str:
        """What it took, in words."""
        every = (*self.search.candidates, *self.explored)
        looked = len({repr(one.point) for one in every if one.figures is not None})
        text = f"{self.spent:,} replications of {looked:,} point{'' if looked == 1 else 's'}"
        if self.exhaustive is None:
            return f"{text}."
        each = self.exhaustive // max(len(self.search.candidates), 1)
        return f"{text}; {each:,} of each of {len(self.search.candidates):,} would have been {self.exhaustive:,}."

    @property
    def winner_scenario(self) -> Scenario | None:
        """The scenario with the winner's changes."""
        found = self.winner
        return None if found is None else self.scenario.with_changes({**self.settings, **found})

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row for each point: its values, how it came out and why, replications, and figures with half-widths."""
        import pandas as pd

        winner = self.search.winner
        rows = [self._row(one, fate(one, winner), reason(one, winner, self.search)) for one in self.search.candidates]
        rows += [self._row(one, "failed" if one.figures is None else "explored", one.why) for one in self.explored]
        return pd.DataFrame(rows)

    @cached_property
    def pareto(self) -> pd.DataFrame:
        """The points that no other one betters in all of ``aims``, among those that were looked at, by the first of them."""
        seen = [one for one in (*self.search.candidates, *self.explored) if one.replications >= FIRST or _exact(one)]
        values = [[sign(aim) * _mean(one, aim) for aim in self.aims] for one in seen]
        front = [number for number, mine in enumerate(values) if not any(_betters(other, mine) for other in values)]
        front.sort(key=lambda number: (values[number], number))
        import pandas as pd

        winner = self.search.winner
        rows = []
        for place in front:
            one = seen[place]
            row: dict[str, Any] = {**one.point, "status": fate(one, winner), "replications": one.replications}
            for aim in self.aims:
                row |= _cells(one, aim, None, aim)
            rows.append(row)
        return pd.DataFrame(rows)

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        goal = self.search.goal
        found: dict[str, Any] = plain(
            {
                "kind": "optimum",
                "scenario": self.scenario.digest(),
                "method": self.method,
                "minimize": goal.minimize,
                "confidence": goal.confidence,
                "tolerance": goal.tolerance,
                "winner": self.winner,
                "cost": None if self.search.winner is None else self.search.cost(self.search.winner),
                "sentence": self.sentence,
                "decided": self.decided,
                "replications": {"spent": self.spent, "most": goal.budget, "exhaustive": self.exhaustive},
                "notes": self.notes,
                "objectives": [] if self.figures is None else [one.to_json() for one in self.figures.standings()],
                "points": self.table.to_dict("records"),
                "pareto": self.pareto.to_dict("records"),
            }
        )
        return found

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Write optimum.json, points.parquet and, if there is a winner, winner.yaml, each whole or not at all. ResultError if it
        cannot be written."""
        import pyarrow as pa

        from sim.study.optimizing.winner import written

        folder = Path(directory)
        table = self.table.copy()
        for path in {path for one in (*self.search.candidates, *self.explored) for path in one.point}:
            kinds = set(table[path].map(type))
            if len(kinds) > 1 or kinds & {dict, list}:
                table[path] = table[path].map(str)
        write(
            folder,
            {"points.parquet": pa.Table.from_pandas(table, preserve_index=False), "optimum.json": self.to_json()},
        )
        place = folder / "winner.yaml"
        try:
            scenario = self.winner_scenario
            if scenario is None:
                place.unlink(missing_ok=True)
            else:
                with replacing(place) as scratch:
                    scratch.write_text(written(scenario, folder, self.sentence), encoding="utf-8")
        except OSError as error:
            raise ResultError(f"{place}: cannot be written: {error.strerror or error}") from error
        return folder

    def __repr__(self) -> str:
        return f"<Optimum: {self.sentence}>"

    def _repr_html_(self) -> str:
        table = self.table
        short = names(path for path in self.search.candidates[0].point)
        columns = [column for column in table.columns if not column.endswith("_half_width")]
        shown = table[table["status"] != "not looked at"].head(_SHOWN)
        rows = [[short.get(column, column) for column in columns]]
        rows += [[_cell(value) for value in row] for row in shown[columns].itertuples(index=False)]
        more = f"<p>{len(table) - len(shown):,} more in <code>.table</code></p>" if len(table) > len(shown) else ""
        said = f"<p><strong>{html.escape(self.sentence)}</strong> {html.escape(self.effort)}</p>"
        return f"{said}{html_table(rows)}{more}"

    def _row(self, one: Candidate, status: str, why: str) -> dict[str, Any]:
        cost = self.search.goal.minimize
        row: dict[str, Any] = {**one.point, "status": status, "replications": one.replications, "why": why}
        row[cost] = one.cost(cost)
        for column, (workload, metric) in self._watched.items():
            row |= _cells(one, metric, workload, column)
        return row

    @cached_property
    def _watched(self) -> dict[str, tuple[str | None, str]]:
        """Columns of the table: what objectives are on, what should be small, then what the Pareto front is of."""
        columns: dict[str, tuple[str | None, str]] = {}
        first = next((one.figures for one in self.search.candidates if one.figures is not None), None)
        if first is not None:
            many = len(first.workloads) > 1
            for workload, objectives in first.objectives.items():
                for metric in objectives:
                    alone = workload == WHOLE_RUN or not many or metric.startswith("itl")
                    columns[metric if alone else f"{workload}.{metric}"] = (None if alone else workload, metric)
        return columns | {aim: (None, aim) for aim in (self.search.goal.minimize, *self.aims) if aim not in columns}


def _exact(one: Candidate) -> bool:
    return one.figures is not None and one.figures.exact


def _mean(one: Candidate, metric: str) -> float:
    return float("nan") if one.figures is None else one.figures.estimate(metric).value


def _cells(one: Candidate, metric: str, workload: str | None, column: str) -> dict[str, float]:
    """The figure and its half-width; NaN where there is none."""
    nothing = float("nan")
    if one.figures is None:
        return {column: one.cost(metric) if metric == "usd_per_hour" else nothing, f"{column}_half_width": nothing}
    estimate = one.figures.estimate(metric, workload)
    half = nothing if estimate.half_width is None else estimate.half_width
    rounding = half < 1e-12 * abs(estimate.value)  # of equal floats that were added up
    return {column: estimate.value, f"{column}_half_width": 0.0 if rounding else half}


def _betters(other: Sequence[float], mine: Sequence[float]) -> bool:
    """Whether it is nowhere worse and somewhere better; what is not known is no better."""
    pairs = list(zip(other, mine, strict=True))
    if any(one != one for one, _ in pairs):
        return False
    return all(not one > two for one, two in pairs) and any(one < two or two != two for one, two in pairs)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if value != value else number(value, 4)
    return str(value)
