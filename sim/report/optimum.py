"""optimize.html: the answer of an optimisation, what was ruled out and why, and what trades for what."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.report.format import label, metric, unit_for
from sim.report.markup import tag
from sim.report.plot import Plot, log_y
from sim.report.shell import Section, pictures, save, shell, table
from sim.study.optimizing.figures import sign
from sim.study.optimizing.words import named, names

if TYPE_CHECKING:
    import pandas as pd

    from sim.study.optimizing import Optimum

__all__ = ["fronts", "html", "known", "ordered", "write"]

_ROWS = 40
_ORDER = ("winner", "meets", "undecided", "misses", "not cheaper", "explored", "assumed", "failed", "not looked at")
_MARKS = {
    "winner": ("*", "s2"),
    "meets": ("o", "s2"),
    "not cheaper": ("o", "s0"),
    "undecided": ("D", "s1"),
    "misses": ("X", "s5"),
}


def write(found: Optimum, directory: Path) -> Path:
    """Write optimize.html into ``directory`` and return its path. ResultError if it cannot be written."""
    place = directory / "optimize.html"
    save(html(found), place)
    return place


def html(found: Optimum) -> str:
    """The page."""
    sections = []
    if found.figures is not None:
        sections.append(Section("winner", "The winner", (_winner(found), _objectives(found))))
    front = found.pareto
    if len(found.aims) > 1 and len(front) > 1:
        says = (
            "No other point that was looked at is as good as these in every one of the figures and better in one. Points that were ruled "
            "out by their cost were not looked at, and have no place here; method nsga2 looks for the front itself."
        )
        sections.append(
            Section("pareto", "What trades for what", (tag("p", says), pictures(fronts(found)), _front(found)))
        )
    sections.append(Section("points", "What was looked at", (tag("p", found.effort), _points(found))))
    if found.notes:
        sections.append(Section("notes", "Notes", tag("ul", *(tag("li", note) for note in found.notes))))
    sections.append(Section("method", "How sure, and why", tag("p", _method(found))))
    question = found.scenario.question or "Which configuration is the cheapest that meets the objectives?"
    return shell(question, sections, eyebrow="twinfer optimize", lead=tag("p", found.sentence, class_="verdict"))


def _winner(found: Optimum) -> Any:
    return table(
        "Changes of the winner", ("path", "value"), [(path, str(value)) for path, value in (found.winner or {}).items()]
    )


def _objectives(found: Optimum) -> Any:
    rows = []
    assert found.figures is not None
    for one in found.figures.standings():
        unit = unit_for(one.metric, [one.target])
        name = label(one.metric) if not one.workload else f"{one.workload}: {label(one.metric)}"
        value = unit.both(one.estimate.value, one.estimate.half_width)
        rows.append((name, f"{value} {unit.name}", f"{unit.value(one.target)} {unit.name}", one.status))
    return table("Objectives of the winner", ("objective", "measured", "target", "status"), rows)


def _points(found: Optimum) -> Any:
    rows = ordered(found)
    paths = list(found.search.candidates[0].point)
    short = names(paths)
    figures = [column for column in rows.columns if f"{column}_half_width" in rows.columns]
    units = {column: unit_for(column.rpartition(".")[2], rows[column].tolist()) for column in figures}
    heads = [*(short[path] for path in paths), "status", "replications"]
    heads += [f"{label(column)}, {units[column].name}".rstrip(", ") for column in figures] + ["why"]
    cells = [
        [
            *(str(row[path]) for path in paths),
            row["status"],
            f"{row['replications']:,}",
            *(units[c].both(known(row[c]), known(row[f"{c}_half_width"])) for c in figures),
            row["why"],
        ]
        for row in rows.head(_ROWS).to_dict("records")
    ]
    said = table("Points, what came of them and why", heads, cells)
    if len(rows) <= _ROWS:
        return said
    return (said, tag("p", f"{len(rows) - _ROWS:,} more are in points.parquet."))


def ordered(found: Optimum) -> pd.DataFrame:
    """The table, the winner first, then what was close; of each kind the cheapest first."""
    rows = found.table
    order = rows["status"].map({status: number for number, status in enumerate(_ORDER)})
    cost = found.search.goal.minimize
    return rows.assign(_order=order).sort_values(["_order", cost], kind="stable").drop(columns="_order")


def _front(found: Optimum) -> Any:
    front = found.pareto
    paths = list(found.search.candidates[0].point)
    units = {aim: unit_for(aim, front[aim].tolist()) for aim in found.aims}
    short = names(paths)
    rows = [
        [
            *(str(row[path]) for path in paths),
            row["status"],
            *(units[aim].both(known(row[aim]), known(row[f"{aim}_half_width"])) for aim in found.aims),
        ]
        for row in front.to_dict("records")
    ]
    heads = [*(short[path] for path in paths), "status", *(f"{label(aim)}, {units[aim].name}" for aim in found.aims)]
    return table("Pareto front", heads, rows)


def fronts(found: Optimum) -> list[Plot]:
    """The first of the aims against each of the others: all points, their intervals, and the front."""
    first, *others = found.aims
    return [_plot(found, first, other) for other in others]


def _plot(found: Optimum, across: str, up: str) -> Plot:
    rows = found.table[found.table["replications"] > 0]
    front = found.pareto
    x_unit, y_unit = unit_for(across, rows[across].tolist()), unit_for(up, rows[up].tolist())
    values = [value for value in rows[up].tolist() if value > 0.0]
    steep = metric(up).unit == "time" and bool(values) and max(values) > 30.0 * min(values)

    def paint(axes: Any, colours: Any) -> None:
        edge = _stairs(front[across].tolist(), front[up].tolist(), sign(across), sign(up))
        axes.plot(
            [x * x_unit.factor for x, _ in edge], [y * y_unit.factor for _, y in edge],
            color=colours["muted"], linestyle=(0, (4, 2)), linewidth=1.2, zorder=1, label="Pareto front",
        )  # fmt: skip
        for status in dict.fromkeys(rows["status"]):
            some = rows[rows["status"] == status]
            marker, colour = _MARKS.get(status, (".", "s7"))
            axes.errorbar(
                some[across] * x_unit.factor, some[up] * y_unit.factor,
                xerr=_reach(some[f"{across}_half_width"], x_unit.factor), yerr=_reach(some[f"{up}_half_width"], y_unit.factor),
                fmt=marker, markersize=11 if status == "winner" else 5, color=colours[colour], elinewidth=0.8, zorder=3, label=status,
            )  # fmt: skip
        axes.set_xlabel(f"{label(across)}, {x_unit.name}")
        axes.set_ylabel(f"{label(up)}, {y_unit.name}")
        if steep:
            log_y(axes, min(values), max(values))
        if metric(up).unit == "share":  # an interval may reach beyond what a share can be
            bottom, top = axes.get_ylim()
            axes.set_ylim(max(bottom, -2.0), min(top, 102.0))
        axes.figure.legend(loc="outside upper left", fontsize=8.5, ncols=4)

    best = ", ".join(named(point) for point in front[list(found.search.candidates[0].point)].head(4).to_dict("records"))
    said = f"{label(up)} against {label(across)} of {len(rows)} points, with intervals. On the front: {best}"
    return Plot(
        f"front-{up.replace('_', '-')}",
        f"{label(across)} and {label(up)}",
        f"{said}{', and others' if len(front) > 4 else ''}.",
        paint,
    )


def _stairs(across: Sequence[float], up: Sequence[float], x_sign: float, y_sign: float) -> list[tuple[float, float]]:
    """The front of these two figures alone, as the corners of a line."""
    best = math.inf
    corners: list[tuple[float, float]] = []
    for x, y in sorted(zip(across, up, strict=True), key=lambda pair: (x_sign * pair[0], y_sign * pair[1])):
        if y_sign * y < best:
            if corners:
                corners.append((x, corners[-1][1]))
            corners.append((x, y))
            best = y_sign * y
    return corners


def _reach(half: pd.Series, factor: float) -> Any:
    return half.fillna(0.0).to_numpy() * factor


def known(value: float) -> float | None:
    """A cell of the table; None for one that is empty."""
    return None if math.isnan(value) else value


def _method(found: Optimum) -> str:
    goal = found.search.goal
    dearer = f"{goal.tolerance * 100:g} %"
    text = (
        f"Method {found.method}. All points saw the same requests, replication by replication. The chance that the winner misses an "
        f"objective, or that a configuration which meets all of them and is cheaper by more than {dearer} was ruled out, is at most "
        f"{100 * (1 - goal.confidence):g} % in all, however often the tests were looked at: evidence is a likelihood ratio that may be "
        "looked at at any time, shared out among decisions by Bonferroni. Figures of a replication are taken as normal."
    )
    if any(one.assumed for one in found.search.candidates):
        text += (
            f" It is taken that {found.search.order.says} can only help: points marked assumed have less than one that misses. Where what "
            "was simulated contradicts that, nothing is taken for granted, and the notes say so."
        )
    if found.explored:
        text += " This holds of the finalists, which were simulated anew; the others were only explored."
    return text
