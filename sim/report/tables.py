"""The tables of the page: the one of all options, and every figure of one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from sim.report.answer import target
from sim.report.format import METRICS, Unit, label, metric, unit_for
from sim.report.markup import Content, Markup, tag
from sim.report.shell import scroll, table

if TYPE_CHECKING:
    from sim.report.view import Fate, Figure, Option, View

__all__ = ["MARKS", "SAID", "every_figure", "options_table", "reading"]

COLUMNS = ("ttft_p99", "tpot_p99", "goodput_rps", "slo_attainment", "gpu_utilization", "usd_per_1m_tokens")
STATISTICS = ("mean", "p50", "p90", "p95", "p99")
SAID = {"meets": "meets", "misses": "misses", "undecided": "not decided"}
MARKS = {"meets": "✓\u00a0", "misses": "✗\u00a0", "undecided": "?\u00a0"}


def reading(view: View) -> Iterator[str]:
    """How to read the table."""
    if any(figure.half_width is not None for option in view.options for figure in option.overall.values()):
        yield f"± is the half-width of the {100.0 * view.confidence:.4g}% confidence interval over {view.counted}. "
    else:
        yield "No intervals: one replication. "
    found = {fate.status for option in view.options for fate in option.fates}
    if "misses" in found:
        yield "✗ misses its objective. "
    if any(
        fate.status == "misses" and fate.figure.value <= fate.target for option in view.options for fate in option.fates
    ):
        yield "A figure within its limit is missed where too many requests were not served: they count as later than any limit. "
    if "undecided" in found:
        yield "? the interval holds the objective, so more replications are needed to decide."


def options_table(view: View) -> Markup:
    """A row an option: whether it meets its objectives, its price, the figures that decide."""
    many = len(view.workloads) > 1
    asked = {name for _, name in view.targets() if name != "usd_per_hour"}
    families = {name.partition("_")[0] for name in asked if metric(name).unit == "time"}
    usual = {name for name in COLUMNS if name.partition("_")[0] not in families}
    columns = sorted(usual | asked | {*_telling(view)}, key=_place)
    columns = [name for name in columns if any(name in figures for _, figures in _groups(view))]
    units = _units(view, columns)
    judged, priced = bool(view.targets()), any("usd_per_hour" in option.overall for option in view.options)
    heads: list[Markup] = [_head("option")]
    heads += [_head("objectives")] if judged else []
    heads += [_head("Price", tag("small", "$/h"), title=metric("usd_per_hour").meaning)] if priced else []
    heads += [_head(label(name), _unit_below(units[name]), title=metric(name).meaning or None) for name in columns]
    targets = {name: fate for option in view.options for fate in option.fates for name in [fate.metric]}
    rows: list[Markup] = []
    if judged and not many:
        limits = [
            _td(f"≤\u00a0{target(targets[name])}" if name in targets else "", _data_label(name, units))
            for name in columns
        ]
        budget = targets.get("usd_per_hour")
        blank = [
            _td("", "objectives"),
            *([_td(f"≤\u00a0{target(budget)}" if budget else "", "Price")] if priced else []),
        ]
        rows.append(_row(_th("objective"), *blank, *limits, class_="target"))
    for option in view.options:
        best = option.name == view.winner and len(view.options) > 1
        name = _th(
            option.name,
            tag("span", "recommended", class_="badge") if best else None,
            class_="best" if best else None,
        )
        cells = [_td(_status(option), "objectives")] if judged else []
        cells += [_price(option)] if priced else []
        rows.append(_row(name, *cells, *(_cell(option, None, column, units) for column in columns)))
        if many:
            for workload, figures in option.workloads.items():
                shown = [c for c in columns if metric(c).unit == "time" or c in ("goodput_rps", "slo_attainment")]
                cells = [_td(_status(option, workload), "objectives")] if judged else []
                cells += [_td("", "Price")] if priced else []
                cells += [
                    _cell(option, workload, c, units) if c in shown and c in figures else _td("", _data_label(c, units))
                    for c in columns
                ]
                rows.append(_row(_th(workload), *cells, class_="inner"))
    caption = "Options and their figures" if len(view.options) > 1 else "Figures of the run"
    # said of each part, as a narrow page shows rows as cards, which are no table to a browser
    made = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *heads, role="row"), role="rowgroup"),
        tag("tbody", *rows, role="rowgroup"),
        role="table",
    )
    return scroll(made, caption, "cards")


def _head(*content: Content, title: str | None = None) -> Markup:
    return tag("th", *content, scope="col", role="columnheader", title=title)


def _th(*content: Content, class_: str | None = None) -> Markup:
    return tag("th", *content, scope="row", role="rowheader", class_=class_)


def _td(content: Content, data_label: str) -> Markup:
    return tag("td", content, role="cell", data_label=data_label)


def _row(*cells: Markup, class_: str | None = None) -> Markup:
    return tag("tr", *cells, role="row", class_=class_)


def _unit_below(unit: Unit) -> Markup | None:
    return tag("small", unit.name) if unit.name else None


def _place(name: str) -> tuple[int, str]:
    known = list(METRICS)
    return (known.index(name) if name in METRICS else len(known), name)


def _groups(view: View) -> Iterator[tuple[str, Mapping[str, Figure]]]:
    for option in view.options:
        yield "", option.overall
        yield from option.workloads.items()


def _telling(view: View) -> Iterator[str]:
    """Figures that are shown where they are not as they are with all replicas there and all requests served."""
    if any(option.course is not None and option.course.changes for option in view.options):
        yield "replicas_mean"
    if any("lost_share" in option.overall and option.overall["lost_share"].value > 0.0005 for option in view.options):
        yield "lost_share"


def _units(view: View, names: Sequence[str]) -> dict[str, Unit]:
    """One for all figures of a latency, so that they can be compared along a row and down a column."""
    pooled: dict[str, list[float]] = {}
    for name in names:
        family = name.partition("_")[0] if metric(name).unit == "time" else name
        pooled.setdefault(family, []).extend(f[name].value for _, f in _groups(view) if name in f)
    return {name: unit_for(name, pooled.get(name, pooled.get(name.partition("_")[0], ()))) for name in names}


def _data_label(name: str, units: Mapping[str, Unit]) -> str:
    return f"{label(name)}{'' if units[name].suffix else f', {units[name].name}' if units[name].name else ''}"


def _status(option: Option, workload: str | None = None) -> Markup | None:
    found = [fate.status for fate in option.fates if workload in (None, fate.workload)]
    if not found:
        return None
    status = "misses" if "misses" in found else "undecided" if "undecided" in found else "meets"
    return tag("span", f"{MARKS[status]}{SAID[status]}", class_=status)


def _price(option: Option) -> Markup:
    figure = option.overall.get("usd_per_hour")
    if figure is None:
        return _td(Unit("$/h").value(None), "Price, $/h")
    half = f"±{figure.half_width:,.2f}" if figure.half_width and figure.half_width >= 0.005 else ""
    return _td(_marked(option.fate(None, "usd_per_hour"), f"{figure.value:,.2f}", half), "Price, $/h")


def _cell(option: Option, workload: str | None, name: str, units: Mapping[str, Unit]) -> Markup:
    figure = (option.overall if workload is None else option.workloads[workload]).get(name)
    unit = units[name]
    if figure is None:
        return _td(unit.value(None), _data_label(name, units))
    # of several workloads each has limits of its own, which stand below
    fate = option.fate(workload, name)
    limit = (
        tag("span", f"≤\u00a0{target(fate)}", class_="half") if fate is not None and len(option.workloads) > 1 else None
    )
    half = unit.half_width(figure.half_width, figure.value)
    return _td([_marked(fate, unit.value(figure.value), half), limit], _data_label(name, units))


def _marked(fate: Fate | None, text: str, half: str) -> list[Content]:
    """The value, with a mark unless it is as it should be, over its half-width."""
    value: Content = text
    if fate is not None:
        mark = "" if fate.status == "meets" else f"\u00a0{MARKS[fate.status].strip()}"
        hint = fate.why or f"{SAID[fate.status]} its objective"
        value = tag("span", f"{text}{mark}", class_=fate.status, title=hint)
    return [value, tag("span", half, class_="half") if half else None]


def every_figure(option: Option, *, opened: bool) -> Markup:
    """All that is known of an option, to open."""
    groups: list[tuple[str, Mapping[str, Figure]]] = list(option.workloads.items())
    if len(groups) != 1:
        groups.insert(0, ("all requests", option.overall))
    parts: list[Markup] = []
    for name, figures in groups:
        rows: list[list[Content]] = []
        for key in ("ttft", "tpot", "itl", "e2e", "queue"):
            row = [figures.get(f"{key}_{statistic}") for statistic in STATISTICS]
            found = [figure.value for figure in row if figure is not None]
            if not found:
                continue
            unit = unit_for(f"{key}_mean", found)
            cells = [unit.both(f.value, f.half_width) if f is not None else unit.value(None) for f in row]
            rows.append([f"{label(f'{key}_mean').split()[0]}, {unit.name}", *cells])
        parts.append(table(f"{option.name}, {name}: latencies", (name, *STATISTICS), rows, words=False))
    rows = []
    for name in sorted((name for name in option.overall if metric(name).unit != "time"), key=_place):
        figure, unit = option.overall[name], unit_for(name, [option.overall[name].value])
        text = unit.both(figure.value, figure.half_width) + ("" if unit.suffix else f" {unit.name}")
        rows.append([label(name), text, metric(name).meaning])
    facts = table(f"{option.name}: other figures", ("figure", "value", "meaning"), rows, class_="facts")
    return tag("details", tag("summary", option.name), *parts, facts, open=opened)
