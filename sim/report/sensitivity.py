"""What a sensitivity study found, as it is shown: its own page, and what it adds to the page of a run or comparison."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sim.report.format import label, unit_for
from sim.report.markup import Content, tag
from sim.report.shell import Section, picture, save, shell, table
from sim.report.view import Break, Effect, Figure, Sensitivity, View

if TYPE_CHECKING:
    from sim.report.charts import Reach
    from sim.report.plot import Plot
    from sim.study.sensitivity import SensitivityResult
    from sim.study.sensitivity.breaks import Crossing
    from sim.study.sensitivity.sobol import Index
    from sim.study.sensitivity.tornado import Effect as Found

__all__ = ["effects", "failures", "page", "studied", "write"]

PAGE = "sensitivity.html"


def effects(found: SensitivityResult) -> tuple[Sensitivity, ...]:
    """Its tornados, one a figure."""
    grouped: dict[tuple[str, str], list[Found]] = {}
    for effect in found.effects:
        grouped.setdefault((effect.workload, effect.metric), []).append(effect)
    note = (
        f"Each parameter alone, the others as they are; differences of {found.replications} replications on the same requests. "
        f"All intervals of a figure hold at once, at {found.confidence:.0%}."
    )
    return tuple(
        Sensitivity(metric, Figure(rows[0].base, rows[0].base_half), tuple(_bars(rows)), found.option, workload, note)
        for (workload, metric), rows in grouped.items()
    )


def _bars(rows: Iterable[Found]) -> Iterator[Effect]:
    """The two ends of a range in one; each choice by itself, against what there is."""
    ends: dict[str, dict[str, Found]] = {}
    nothing = Figure(0.0)
    for row in rows:
        if row.end == "choice":
            yield Effect(f"{row.label} {row.value}", "", _value(row), nothing, _change(row))
        else:
            ends.setdefault(row.parameter, {})[row.end] = row
    for pair in ends.values():
        low, high = pair["low"], pair["high"]
        yield Effect(low.label, _value(low), _value(high), _change(low), _change(high))


def _value(row: Found) -> str:
    return f"{row.value}: cannot be run" if row.error else row.value


def _change(row: Found) -> Figure:
    return Figure(row.change, row.half_width) if math.isfinite(row.change) else Figure(0.0)


def failures(found: SensitivityResult) -> tuple[Break, ...]:
    """The load at which each objective fails."""
    return tuple(
        Break(
            crossing.metric,
            crossing.target,
            None if crossing.at is None else Figure(crossing.at, crossing.half_width),
            crossing.tried,
            found.option,
            crossing.workload,
        )
        for crossing in found.crossings
        if crossing.kind == "objective" and not (crossing.at is None and crossing.below)
    )


def studied(view: View, directory: Path) -> View:
    """``view`` with what a sensitivity study left in ``directory``, if it is of the same scenario; else with a note, or as it is."""
    from sim.study.sensitivity import SensitivityResult
    from sim.study.sensitivity.result import FILE

    if not (directory / FILE).is_file():
        return view
    found = SensitivityResult.load(directory)
    digests = [part.get("scenario") for part in (view.manifest, *view.manifest.values()) if isinstance(part, dict)]
    if found.digest not in digests:
        note = f"{FILE} is of another scenario, or of other settings of it: it is not shown."
        return replace(view, notes=(*view.notes, note))
    # a single run has the name of its file, whatever option it is
    option = found.option if len(view.options) > 1 else ""
    return replace(
        view,
        sensitivity=tuple(replace(one, option=option) for one in effects(found)),
        breaks=tuple(replace(one, option=option) for one in failures(found)),
    )


def page(found: SensitivityResult) -> str:
    """The study as a page of its own."""
    from sim.report.risks import sensitivity

    name = f"{found.scenario}, {found.option}" if found.option else found.scenario
    view = View(name, found.question, (), confidence=found.confidence, sensitivity=effects(found))
    sections: list[Section] = []
    if found.crossings:
        sections.append(Section("breaks", "What breaks first", _crossings(found.crossings, "load")))
    sections += sensitivity(view)
    if found.indices:
        sections.append(Section("sobol", "Shares of the variance", _indices(found)))
    if found.margins or found.shares:
        parts = [*_crossings(found.margins, "step_times"), _shares(found)]
        sections.append(Section("profile", "How wrong the profile may be", parts))
    lead: list[Content] = [tag("p", sentence) for sentence in (*found.summary, *found.notes)]
    return shell(f"Sensitivity of {name}", sections, eyebrow=found.question, lead=lead)


def write(found: SensitivityResult, directory: Path) -> Path:
    """``sensitivity.html`` in ``directory``. ResultError if it cannot be written."""
    path = directory / PAGE
    save(page(found), path)
    return path


def _called(workload: str, metric: str, several: bool) -> str:
    return f"{workload} {label(metric)}" if workload and several else label(metric)


_ALONG = {
    "load": ("Load at which each objective or limit fails", "times the scenario's load"),
    "step_times": ("Step times with which each objective fails", "times what the profile says"),
}


def _crossings(crossings: Iterable[Crossing], along: str) -> list[Content]:
    from sim.report.charts import Reach, reaches

    found = list(crossings)
    if not found:
        return []
    several = len({one.workload for one in found if one.kind == "objective"}) > 1
    title, axis = _ALONG[along]
    reach, rows, said = [], [], []
    for one in found:
        name = _called(one.workload, one.metric, several) if one.kind == "objective" else one.name
        half = one.half_width or 0.0
        if one.at is not None:
            reach.append(Reach(name, one.at, max(one.at - half, 0.0), one.at + half))
            text = f"{one.at:.2f}" + (f" ± {half:.2f}" if half else "")
            said.append(f"{name} at {text}")
        elif one.beyond:
            reach.append(Reach(name, one.tried, one.tried, one.tried, open=True))
            text = f"in {len(one.each) - one.beyond} of {len(one.each)} replications, up to {one.tried:.2f}"
            said.append(f"{name} {text}")
        else:
            text = f"below {one.least:.2f} in {one.below} of {len(one.each)} replications"
        unit = unit_for(one.metric, [one.target])
        limit = f"{one.target * unit.factor:,.6g}{unit.suffix or f' {unit.name}'}"
        rows.append([name, one.kind, limit, text, f"{one.first} of {len(one.each)}"])
    plot = reaches(
        f"along-{along}",
        title,
        f"{axis.capitalize()}; dashed: as it is. {'; '.join(said)}.",
        reach,
        axis=axis,
        now=1.0,
        said=lambda value: f"{value:.3g}",
    )
    heads = ("what", "kind", "limit", f"fails at, {axis}", "first to fail")
    return [picture(plot, "wide") if reach else None, table(title, heads, rows)]


def _indices(found: SensitivityResult) -> list[Content]:
    several = len({index.workload for index in found.indices}) > 1
    content: list[Content] = []
    for number, spread in enumerate(found.spreads):
        own = [one for one in found.indices if (one.workload, one.metric) == (spread.workload, spread.metric)]
        name, unit = _called(spread.workload, spread.metric, several), unit_for(spread.metric, [spread.mean])
        noise = "not known from one replication" if math.isnan(spread.noise) else f"{spread.noise:.1%}"
        content.append(
            tag(
                "p",
                f"{name}: {unit.value(spread.mean)} {unit.name} on average over the ranges, standard deviation "
                f"{unit.value(spread.deviation)}; {spread.points} points. Part of its variance that is chance: {noise}.",
            )
        )
        content.append(picture(_index_plot(number, name, own), "wide"))
        rows = [[one.label, one.over, _pm(one.first, one.first_half), _pm(one.total, one.total_half)] for one in own]
        heads = ("parameter", "over", "alone", "with interactions")
        content.append(table(f"Shares of the variance of {name}", heads, rows))
    return content


def _index_plot(number: int, name: str, own: Iterable[Index]) -> Plot:
    from sim.report.charts import reaches

    rows = [_share(one) for one in own if math.isfinite(one.total)]
    said = "; ".join(f"{row.name} {row.value:.2f}" for row in sorted(rows, key=lambda row: -row.value))
    return reaches(
        f"sobol-{number}", f"What the variance of {name} comes from", f"Total Sobol index of each parameter. {said}.", rows,
        axis="share of the variance, interactions included", said=lambda value: f"{value:.2g}",
    )  # fmt: skip


def _share(index: Index) -> Reach:
    """A total of a few rows may be estimated below 0 or above 1; it is shown as the nearest share, its interval as of shares."""
    from sim.report.charts import Reach

    low, value, high = (
        min(max(number, 0.0), 1.0)
        for number in (index.total - index.total_half, index.total, index.total + index.total_half)
    )
    return Reach(index.label, value, low, high)


def _pm(value: float, half: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f} ± {half:.2f}"


def _shares(found: SensitivityResult) -> Content:
    if not found.shares:
        return None
    rows = [
        [
            share.option or found.scenario,
            label(share.metric) if share.metric else "cheapest that keeps all objectives",
            "yes" if share.nominal else "no",
            f"{share.held} of {share.draws}",
            f"{share.low:.0%} to {share.high:.0%}",
        ]
        for share in found.shares
    ]
    heads = ("option", "keeps", "with the profile as it is", "draws", f"share, {found.confidence:.0%} interval")
    return table("Draws from the doubt of the profiles in which the verdict holds", heads, rows)
