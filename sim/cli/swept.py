"""The table of a sweep for people: a row a point, best first, what meets and misses marked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from sim.report.sweep import MARKS, Column, columns, short_paths

if TYPE_CHECKING:
    from rich.console import Console

    from sim.study.sweep import SweepResult
    from sim.study.task import Outcome

__all__ = ["show_sweep"]

STYLES = {"misses": "bold red", "undecided": "yellow"}


def show_sweep(found: SweepResult, console: Console, metrics: Sequence[str], sort: str | None, limit: int) -> None:
    """The first ``limit`` points by ``sort`` (a figure; ``-figure``: most first), or best first. ResultError for unknown figures."""
    shown = columns(found, metrics)
    ran = [outcome for outcome in found.ranked if outcome.figures is not None]
    if sort is not None:
        (by,) = columns(found, [sort.removeprefix("-")])
        ran.sort(key=lambda outcome: _by(by, outcome, sort.startswith("-")))
    if found.question:
        console.print(Text(found.question, style="bold"))
    names = short_paths(found.paths)
    confidence = next((o.figures.confidence for o in ran if o.figures is not None), 0.95)
    points = f"{len(found):,} point{'' if len(found) == 1 else 's'}"
    console.print(Text(f"{found.name}: {points}, ± is the {confidence:.0%} interval's half-width", style="dim"))
    if ran:
        console.print()
        console.print(_table(found, shown, ran[:limit], names))
    statuses = {column.status(outcome) for outcome in ran for column in shown}
    said = {"misses": "✗ misses its objective", "undecided": "? the interval holds the objective: not decided"}
    legend = [text for status, text in said.items() if status in statuses]
    short = [f"{name} = {path}" for path, name in names.items() if name != path]
    hidden = [f"{len(ran) - limit:,} more points"] if len(ran) > limit else []
    for line in ("; ".join(legend), "; ".join(short), *hidden):
        if line:
            console.print(Text(line, style="dim"))
    if found.targets:
        best = found.best
        console.print()
        if best is None:
            console.print(Text("No point meets every objective for sure.", style="bold"))
        else:
            where = ", ".join(f"{names[path]} {best.point.get(path, '–')}" for path in found.paths)
            console.print(Text(f"The cheapest point that meets every objective: {where}.", style="bold"))


def _by(column: Column, outcome: Outcome, most: bool) -> tuple[bool, float]:
    estimate = column.estimate(outcome)
    value = math.nan if estimate is None else estimate.value
    return math.isnan(value), -value if most else value


def _table(found: SweepResult, shown: Sequence[Column], ran: Sequence[Outcome], names: dict[str, str]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1), header_style="bold")
    for path in found.paths:
        table.add_column(names[path], justify="right", overflow="fold")
    for column in shown:
        target = "" if column.target is None else f"\n≤{column.unit.value(column.target)}"
        table.add_column(Text(f"{column.title}\n{column.unit.name}{target}"), justify="right", no_wrap=True)
    for outcome in ran:
        cells = [Text(str(outcome.point.get(path, "–"))) for path in found.paths]
        for column in shown:
            estimate, status = column.estimate(outcome), column.status(outcome)
            if estimate is None:
                cells.append(Text("–"))
                continue
            width = column.unit.half_width(estimate.half_width, estimate.value)
            text = f"{column.unit.value(estimate.value)}{MARKS.get(status, '')}"
            cells.append(
                Text(text, style=STYLES.get(status, "")) + Text(f" {width}" if width else "", style="not bold dim")
            )
        table.add_row(*cells)
    return table
