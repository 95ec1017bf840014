"""What a sweep found, as it is shown: columns that people read, and sweep.html with a curve or heat maps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.config.space import amount
from sim.errors import ResultError, did_you_mean
from sim.observe.objectives import WHOLE_RUN, Estimate
from sim.report.format import Unit, label, unit_for
from sim.report.markup import Markup, tag
from sim.report.shell import Section, pictures, save, shell, table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sim.report.plot import Colours, Plot
    from sim.study.sweep import SweepResult
    from sim.study.task import Outcome

__all__ = ["MARKS", "PAGE", "Column", "columns", "page", "plots", "short_paths", "write"]

PAGE = "sweep.html"
MARKS = {"meets": "", "misses": " ✗", "undecided": " ?"}
_USUAL = ("slo_attainment", "usd_per_hour", "usd_per_1m_tokens")
_ROWS = 200
_PLOTS = 4


@dataclass(frozen=True)
class Column:
    """A figure of one workload, or of all requests (``workload`` is None), with its unit and the objective on it.

    ``whose``: the workload whose objective that is; None: there is none. ``target`` is None where it varies from point to point.
    """

    metric: str
    workload: str | None
    unit: Unit
    target: float | None = None
    whose: str | None = None

    @property
    def title(self) -> str:
        """``TTFT p99``, or ``chat: TTFT p99``."""
        return f"{self.workload}: {label(self.metric)}" if self.workload else label(self.metric)

    def estimate(self, outcome: Outcome) -> Estimate | None:
        """The figure of a point; None if it failed."""
        figures = outcome.figures
        return None if figures is None else figures.estimate(self.metric, self.workload)

    def status(self, outcome: Outcome) -> str:
        """How its objective fares there; empty without one."""
        if outcome.figures is None or self.whose is None:
            return ""
        standings = outcome.figures.standings()
        return next((s.status for s in standings if (s.workload, s.metric) == (self.whose, self.metric)), "")


def columns(found: SweepResult, metrics: Sequence[str] = ()) -> list[Column]:
    """``metrics`` (``ttft_p99``, or ``chat.ttft_p99`` of one workload); without any, those with objectives and what they cost.

    ResultError for a figure that there is not.
    """
    many = len(found.workloads) > 1
    asked: list[tuple[str | None, str]]
    if metrics:
        asked = [_asked(found, name) for name in metrics]
    else:
        asked = [(workload if many and workload != WHOLE_RUN else None, metric) for workload, metric in found.targets]
        asked += [(None, name) for name in _USUAL if name in found.metrics]
    answer = []
    for workload, metric in dict.fromkeys(asked):
        values = [
            estimate.value
            for outcome in found.outcomes
            if (estimate := Column(metric, workload, Unit("")).estimate(outcome)) is not None
        ]
        owners = [workload] if workload is not None else [WHOLE_RUN, *([] if many else found.workloads)]
        whose = next((owner for owner in owners if (owner, metric) in found.targets), None)
        target = None if whose is None else found.targets[whose, metric]
        answer.append(Column(metric, workload, unit_for(metric, values), target, whose))
    return answer


def _asked(found: SweepResult, name: str) -> tuple[str | None, str]:
    workloads = {w: rows[0] for o in found.outcomes if o.figures for w, rows in o.figures.workloads.items()}
    workload, _, metric = name.rpartition(".")
    known = found.metrics if not workload else list(workloads.get(workload, ()))
    if metric not in known:
        every = [*found.metrics, *(f"{w}.{m}" for w, row in workloads.items() for m in row)]
        raise ResultError(f"metric: {name!r} is not a figure of this sweep{did_you_mean(name, every)}")
    return workload or None, metric


def short_paths(paths: Sequence[str]) -> dict[str, str]:
    """Each path by as few of its last names as tell it from the others."""
    answer = {}
    for path in paths:
        parts = path.split(".")
        ends = (".".join(parts[-count:]) for count in range(1, len(parts) + 1))
        answer[path] = next((end for end in ends if sum(p == end or p.endswith(f".{end}") for p in paths) == 1), path)
    return answer


def write(found: SweepResult, directory: Path) -> Path:
    """Write sweep.html. ResultError if it cannot be written."""
    path = directory / PAGE
    save(page(found), path)
    return path


def page(found: SweepResult) -> str:
    """The whole page."""
    counts = {status: sum(o.status == status for o in found.outcomes) for status in ("meets", "undecided", "misses")}
    said = {
        "meets": ("meets every objective", "meet every objective"),
        "undecided": ("is not decided", "are not decided"),
        "misses": ("misses one", "miss one"),
    }
    words = [f"{count:,} {said[status][count != 1]}" for status, count in counts.items() if count]
    if found.failed:
        words.append(f"{len(found.failed):,} could not be run")
    lead = [
        tag(
            "p",
            f"{len(found):,} point{'' if len(found) == 1 else 's'}{': ' + ', '.join(words) if words else ''}. {_best(found)}",
        )
    ]
    drawn = plots(found)
    sections = [Section("pictures", "Over the space", pictures(drawn))] if drawn else []
    sections.append(Section("points", "Points, best first", [_table(found), _more(found)]))
    if found.failed:
        rows = [[_named(found, o), str(o.error)] for o in found.failed[:_ROWS]]
        sections.append(Section("failed", "Points that cannot be run", table("Failed points", ["point", "why"], rows)))
    return shell(
        found.question or found.name or "A sweep", sections, eyebrow=f"twinfer sweep · {found.name}", lead=lead
    )


def _best(found: SweepResult) -> str:
    best = found.best
    if best is None:
        return "No point meets every objective for sure." if found.targets else ""
    price = best.figures.estimate("usd_per_hour") if best.figures is not None else None
    cost = f", at {Unit('$').value(price.value)} $/h" if price is not None and not math.isnan(price.value) else ""
    return f"The cheapest that does is {_named(found, best)}{cost}."


def _named(found: SweepResult, outcome: Outcome) -> str:
    names = short_paths(found.paths)
    return ", ".join(f"{names[path]} {outcome.point.get(path, '–')}" for path in found.paths)


def _table(found: SweepResult) -> Markup:
    shown = columns(found)
    heads = [*found.paths, *([column.title, tag("small", column.unit.name)] for column in shown)]
    rows = []
    for outcome in [o for o in found.ranked if o.figures is not None][:_ROWS]:
        cells: list[Any] = [str(outcome.point.get(path, "–")) for path in found.paths]
        for column in shown:
            estimate, status = column.estimate(outcome), column.status(outcome)
            if estimate is not None:
                cells.append([
                    tag("span", column.unit.value(estimate.value) + MARKS.get(status, ""), class_=status or None),
                    tag("span", column.unit.half_width(estimate.half_width, estimate.value), class_="half"),
                ])  # fmt: skip
        rows.append(cells)
    return table("Points of the sweep, best first", heads, rows, words=False)


def _more(found: SweepResult) -> Markup | None:
    over = len(found) - len(found.failed) - _ROWS
    return tag("p", f"{over:,} more are in the store: twinfer sweep export.", class_="muted") if over > 0 else None


# --- plots


def plots(found: SweepResult) -> list[Plot]:
    """A curve a figure over one numeric dimension; heat maps over two, one of them numeric; else nothing."""
    ran = [outcome for outcome in found.outcomes if outcome.figures is not None]
    varied = [path for path in found.paths if len({str(o.point.get(path)) for o in ran}) > 1]
    numeric = [path for path in varied if all(amount(o.point.get(path)) is not None for o in ran)]
    shown = columns(found)[:_PLOTS]
    if len(varied) == 1 and numeric:
        return [_curve(found, ran, varied[0], column) for column in shown]
    if len(varied) == 2 and numeric:
        across = numeric[-1]
        (down,) = (path for path in varied if path != across)
        made = (_heat(found, ran, across, down, column) for column in shown)
        return [plot for plot in made if plot is not None]
    return []


def _curve(found: SweepResult, ran: Sequence[Outcome], path: str, column: Column) -> Plot:
    from sim.report.plot import Plot, log_y

    points = sorted(
        (amount(o.point[path]) or 0.0, estimate.value, estimate.half_width or 0.0, column.status(o))
        for o in ran
        if (estimate := column.estimate(o)) is not None and not math.isnan(estimate.value)
    )
    name = short_paths(found.paths)[path]
    unit = column.unit
    said = f"{column.title} at {len(points)} values of {path}: from {_said(unit, points[0][1])} to {_said(unit, points[-1][1])}."

    def paint(axes: Axes, colours: Colours) -> None:
        x = [point[0] for point in points]
        y = [point[1] * unit.factor for point in points]
        axes.errorbar(
            x, y, yerr=[point[2] * unit.factor for point in points], color=colours["s0"], marker="o", markersize=4.5, capsize=3
        )  # fmt: skip
        if column.target is not None:
            axes.axhline(column.target * unit.factor, color=colours["muted"], linestyle=(0, (3, 2)), linewidth=1.0)
            axes.annotate(
                f"objective {_said(unit, column.target)}", (1.0, column.target * unit.factor), xycoords=("axes fraction", "data"),
                xytext=(-3, 3), textcoords="offset points", ha="right", fontsize=8.5, color=colours["muted"],
            )  # fmt: skip
        if y and min(y) > 0.0 and max(y) > 30.0 * min(y):
            log_y(axes, min(y), max(y))
        axes.set_xlabel(name)
        axes.set_ylabel(unit.name)

    return Plot(f"sweep-{_identity(column)}", f"{column.title} over {name}", said, paint)


def _heat(found: SweepResult, ran: Sequence[Outcome], across: str, down: str, column: Column) -> Plot | None:
    """None if the points are no grid, or the figure is the same everywhere."""
    from matplotlib.ticker import MaxNLocator

    from sim.report.charts import CELLS, heat

    places = {str(o.point[across]): amount(o.point[across]) or 0.0 for o in ran}
    x = sorted(set(places.values()))
    rows = sorted(
        {str(o.point[down]) for o in ran}, key=lambda text: (amount(text) is None, -(amount(text) or 0.0), text)
    )
    if len(x) * len(rows) > min(2 * len(ran), CELLS):
        return None
    values = [[math.nan] * len(x) for _ in rows]
    for outcome in ran:
        estimate = column.estimate(outcome)
        if estimate is not None:
            row, at = rows.index(str(outcome.point[down])), x.index(places[str(outcome.point[across])])
            values[row][at] = estimate.value
    known = [value for row in values for value in row if not math.isnan(value)]
    if not known or max(known) - min(known) <= 1e-6 * max(known):
        return None
    # bounds_of leaves out what is 0, which here is a value: no request that met its objectives
    bounds = (
        None
        if min(known) > 0.0
        else [tick for tick in MaxNLocator(6).tick_values(0.0, max(known)) if tick <= max(known)]
    )
    names = short_paths(found.paths)
    inner = [(low + high) / 2.0 for low, high in pairwise(x)]
    edges = [2.0 * x[0] - inner[0], *inner, 2.0 * x[-1] - inner[-1]]
    objective = f" The objective is {_said(column.unit, column.target)} at most." if column.target is not None else ""
    said = (
        f"{column.title} by {down} (rows) and {across} (columns): from {_said(column.unit, min(known))} to "
        f"{_said(column.unit, max(known))}.{objective}"
    )
    return heat(
        f"sweep-{_identity(column)}", f"{column.title}: {names[down]} and {names[across]}", said, edges, None, values,
        x_label=names[across], rows=rows, what=f"{column.title}{f', {column.unit.name}' if column.unit.name else ''}",
        said=column.unit.value, bounds=bounds,
    )  # fmt: skip


def _identity(column: Column) -> str:
    text = f"{column.workload or 'all'}-{column.metric}"
    return "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in text)


def _said(unit: Unit, value: float) -> str:
    return unit.value(value) if unit.suffix or not unit.name else f"{unit.value(value)} {unit.name}"


def failures(found: SweepResult, most: int) -> Iterator[str]:
    """Why points could not be run, the first ``most`` of them."""
    for outcome in found.failed[:most]:
        yield f"{_named(found, outcome)}: {outcome.error}"
    if len(found.failed) > most:
        yield f"and {len(found.failed) - most:,} more"
