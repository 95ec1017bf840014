"""The tables of ``run`` and ``compare``: good at 100 columns, in two blocks where they would not fit, plain when piped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sim.report.format import METRICS, Unit, label, metric, unit_for
from sim.report.view import Fate, Figure, Option, View

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["show_comparison", "show_run"]

LATENCY = ("ttft_p50", "ttft_p99", "tpot_p50", "tpot_p99", "e2e_p99")
SERVICE = ("goodput_rps", "slo_attainment", "gpu_utilization", "usd_per_1m_tokens")
RESOURCES = (
    ("throughput_rps", "goodput_rps", "slo_attainment", "output_tokens_per_s"),
    ("gpu_utilization", "batch_mean", "kv_usage_mean", "kv_usage_peak", "preemptions_per_request"),
    ("usd_per_hour", "usd_per_1m_tokens", "usd_per_1m_output_tokens", "gpu_hours", "cost_usd"),
)
MARKS = {"meets": " ", "misses": "✗", "undecided": "?"}
STYLES = {"meets": "", "misses": "bold red", "undecided": "yellow"}


def show_comparison(view: View, console: Console) -> None:
    """The question, options × figures with their half-widths, what the marks mean, the verdict."""
    _heading(view, console)
    extra = {name for _, name in view.targets()} - {*LATENCY, *SERVICE}
    latency = sorted({*LATENCY, *(name for name in extra if metric(name).unit == "time")}, key=list(METRICS).index)
    service = [*sorted(extra.difference(latency)), *SERVICE]
    whole = (_comparison(view, [*latency, *service], room) for room in (24, 18, 14))
    fitting = next((table for table in whole if _fits(table, console)), None)
    for table in [fitting] if fitting is not None else [_comparison(view, part, 24) for part in (latency, service)]:
        console.print()
        console.print(table)
    console.print()
    _legend(view, console)
    if view.answer:
        first, stop, rest = view.answer.partition(". ")
        console.print(Text(first + stop, style="bold") + Text(rest, style="not bold"))
    for option in view.options:
        for text in (fate.explained for fate in option.fates if fate.status == "misses" and fate.explained):
            console.print(Text.assemble(("why  ", "bold"), (f"{option.name}: ", "bold"), text))
    _warnings(view, console)


def show_run(view: View, console: Console) -> None:
    """The question, latencies of each workload, resources and cost, objectives, warnings."""
    _heading(view, console)
    (option,) = view.options
    groups = list(option.workloads.items())
    if len(groups) > 1:
        groups.insert(0, ("all requests", option.overall))
    for name, figures in groups:
        count = figures.get("requests")
        console.print(
            Text(f"{name}", style="bold")
            + Text(
                f"  {count.value:,.0f} request{'' if count.value == 1 else 's'} a replication"
                if count is not None
                else "",
                style="not bold dim",
            )
        )
        console.print(_latencies(figures, one_line=console.width >= 96))
        console.print()
    abreast = _resources(option, RESOURCES)
    grids = [abreast] if _fits(abreast, console) else [_resources(option, (names,)) for names in RESOURCES]
    for grid in grids:
        console.print(Padding(grid, (0, 0, 0, 1)))
    console.print()
    for fate in option.fates:
        console.print(_fate(fate, many=len(option.workloads) > 1))
    for text in (*(fate.explained for fate in option.fates if fate.explained), *option.limits):
        console.print(Text.assemble(("why  ", "bold"), text))
    _warnings(view, console)


def _fits(table: Table, console: Console) -> bool:
    return Measurement.get(console, console.options.update(width=10_000), table).maximum <= console.width


def _resources(option: Option, columns: Sequence[Sequence[str]]) -> Table:
    """Names and figures, a column of them for each of ``columns``."""
    grid = Table.grid(padding=(0, 2))
    cells = [[_named(name, option.overall) for name in names if name in option.overall] for names in columns]
    for _ in columns:
        grid.add_column(no_wrap=True, min_width=11)
        grid.add_column(no_wrap=True)
    for index in range(max(map(len, cells), default=0)):
        row = [column[index] if index < len(column) else ("", "") for column in cells]
        grid.add_row(*(part for pair in row for part in pair))
    return grid


def _heading(view: View, console: Console) -> None:
    if view.question:
        console.print(Text(view.question, style="bold"))
    none = all(option.replications == 1 and not option.draws for option in view.options)
    said = "no intervals" if none else f"± is the {view.confidence:.0%} interval's half-width"
    console.print(Text(f"{view.scenario}: {view.counted}{':' if none else ','} {said}", style="dim"))
    for text in view.notes:
        console.print(Text(text, style="dim"))


def _comparison(view: View, columns: Sequence[str], room: int) -> Table:
    """``columns`` of every option, whose names are broken to fit ``room`` characters."""
    many = len(view.workloads) > 1
    table = Table(
        box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1), header_style="bold", show_lines=False
    )
    table.add_column("option", no_wrap=False, overflow="fold", max_width=max(room, 9))
    units = _units(view, columns)
    for name in columns:
        first, _, second = label(name).partition(" ")
        table.add_column(Text(f"{first}\n{second or ''}\n{units[name].name}"), justify="right", no_wrap=True)
    targets = view.targets()
    if not many and any(name in columns for _, name in targets):
        by_metric = {name: target for (_, name), target in targets.items()}
        table.add_row(
            Text("objective", style="italic"),
            *(Text(_target(by_metric.get(name), units[name]), style="italic") for name in columns),
        )
    for option in view.options:
        winner = option.name == view.winner
        heading = Text(_broken(option.name, room), style="bold green" if winner else "bold")
        price = option.overall.get("usd_per_hour")
        if price is not None:
            heading.append(f"\n{Unit('$/h').value(price.value)} $/h", style="not bold dim")
        table.add_row(heading, *(_cell(option, None, column, units[column]) for column in columns))
        if many:
            for workload, figures in option.workloads.items():
                shown = [column if column in figures and _by_workload(column) else "" for column in columns]
                if any(shown):
                    table.add_row(
                        Text(_broken(workload, room - 2, indent="  "), style="dim"),
                        *(_cell(option, workload, column, units[column]) if column else "" for column in shown),
                    )
    return table


def _broken(name: str, room: int, indent: str = "") -> str:
    """``name`` in lines of at most ``room`` characters, broken after a hyphen or the like where there is one."""
    lines = [""]
    for part in re.findall(r"[^-_./ ]*[-_./ ]?", name):
        if len(lines[-1]) + len(part.rstrip()) > room and lines[-1]:
            lines.append("")
        lines[-1] += part
    return "\n".join(f"{indent}{line.rstrip()}" for line in lines)


def _units(view: View, columns: Sequence[str]) -> dict[str, Unit]:
    """The unit of each column; all statistics of a latency have the same."""
    groups = [figures for option in view.options for figures in (option.overall, *option.workloads.values())]
    pooled: dict[str, list[float]] = {}
    for name in columns:
        family = name.partition("_")[0] if metric(name).unit == "time" else name
        pooled.setdefault(family, []).extend(figures[name].value for figures in groups if name in figures)
    return {name: unit_for(name, pooled.get(name, pooled.get(name.partition("_")[0], ()))) for name in columns}


def _by_workload(name: str) -> bool:
    return metric(name).unit == "time" or name in ("goodput_rps", "slo_attainment")


def _cell(option: Option, workload: str | None, name: str, unit: Unit) -> Text:
    """The value over its half-width, marked if an objective is on it."""
    figures = option.overall if workload is None else option.workloads[workload]
    figure = figures.get(name)
    if figure is None:
        return Text(unit.value(None))
    fate = option.fate(workload, name)
    mark, style = ("", "") if fate is None else (MARKS[fate.status], STYLES[fate.status])
    blank = " " if mark else ""
    return Text(f"{unit.value(figure.value)}{mark}", style=style) + Text(
        f"\n{unit.half_width(figure.half_width, figure.value)}{blank}", style="not bold dim"
    )


def _target(target: float | None, unit: Unit) -> str:
    return "" if target is None else f"≤{target * unit.factor:,.6g}{unit.suffix} "


def _legend(view: View, console: Console) -> None:
    found = {fate.status for option in view.options for fate in option.fates}
    parts = []
    if "misses" in found:
        parts.append("✗ misses its objective")
    if "undecided" in found:
        parts.append("? the interval holds the objective: not decided")
    if parts:
        console.print(Text("; ".join(parts), style="dim"))
    if len(view.workloads) > 1:
        texts = []
        for (workload, name), target in view.targets().items():
            unit = unit_for(name, [target])
            where = f"{workload}: " if workload else ""
            texts.append(f"{where}{label(name)} ≤ {unit.both(target, None)} {unit.name}".replace("% %", "%"))
        if texts:
            console.print(Text("objectives  " + "; ".join(texts), style="dim"))
    console.print()


def _latencies(figures: Mapping[str, Figure], *, one_line: bool) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1), header_style="bold")
    table.add_column("", no_wrap=True)
    table.add_column("", no_wrap=True)
    statistics = ("mean", "p50", "p90", "p95", "p99")
    for name in statistics:
        table.add_column(name, justify="right", no_wrap=True)
    for key in ("ttft", "tpot", "itl", "e2e", "queue"):
        row = [figures.get(f"{key}_{statistic}") for statistic in statistics]
        if not any(row):
            continue
        unit = unit_for(f"{key}_mean", [figure.value for figure in row if figure is not None])
        table.add_row(
            label(f"{key}_mean").split()[0], unit.name, *(_interval(figure, unit, one_line) for figure in row)
        )
    return table


def _interval(figure: Figure | None, unit: Unit, one_line: bool) -> Text:
    if figure is None:
        return Text(unit.value(None))
    width = unit.half_width(figure.half_width, figure.value)
    if not width:
        return Text(unit.value(figure.value))
    return Text(unit.value(figure.value)) + Text(f"{' ' if one_line else chr(10)}{width}", style="dim")


def _named(name: str, figures: Mapping[str, Figure]) -> tuple[str, Text]:
    figure = figures[name]
    unit = unit_for(name, [figure.value])
    text = Text(unit.value(figure.value))
    width = unit.half_width(figure.half_width, figure.value)
    if width:
        text += Text(f" {width}", style="dim")
    if unit.name and not unit.suffix:
        text += Text(f" {unit.name}", style="dim")
    return label(name), text


def _fate(fate: Fate, *, many: bool) -> Text:
    unit = unit_for(fate.metric, [fate.target])
    value = unit.both(fate.figure.value, fate.figure.half_width)
    after = "" if unit.suffix else f" {unit.name}"
    mark = {"meets": "✓", "misses": "✗", "undecided": "?"}[fate.status]
    said = {"meets": "met", "misses": "missed", "undecided": "not decided"}[fate.status]
    said += f": {fate.why}" if fate.why else ""
    where = f"{fate.workload}: " if many and fate.workload else ""
    text = f" {mark} {where}{label(fate.metric)} ≤ {unit.value(fate.target)}{after}: {value}{after}, {said}"
    return Text(text, style=STYLES[fate.status] or "green")


def _warnings(view: View, console: Console) -> None:
    for text, names in _said(view):
        console.print(Text.assemble(("warning  ", "yellow"), f"{names}{text}"))


def _said(view: View) -> Iterable[tuple[str, str]]:
    for text, names in view.warnings():
        everywhere = len(names) == len(view.options)
        yield text, "" if everywhere else f"{', '.join(names)}: "
