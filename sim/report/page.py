"""report.html: the question, the answer, the table, the plots and where every number comes from, in one file without a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.errors import ResultError
from sim.report import story
from sim.report.format import METRICS, Unit, label, metric, unit_for
from sim.report.markup import Content, Markup, joined, tag
from sim.report.view import Fate, Figure, Option, View

if TYPE_CHECKING:
    from sim.report.plot import Plot

__all__ = ["render", "write"]

COLUMNS = (
    *("ttft_p50", "ttft_p99", "tpot_p50", "tpot_p99", "e2e_p99", "goodput_rps", "slo_attainment", "gpu_utilization"),
    "usd_per_1m_tokens",
)
ELASTIC = ("replicas_mean", "lost_share")
"""Figures that are shown where they say something."""
STATISTICS = ("mean", "p50", "p90", "p95", "p99")
SAID = {"meets": "meets", "misses": "misses", "undecided": "not decided"}
MARKS = {"meets": "", "misses": "\u00a0✗", "undecided": "\u00a0?"}


def write(view: View, path: Path) -> None:
    """Write the page under a temporary name, then rename. ResultError if the place cannot be written."""
    scratch = path.with_name(f".{path.name}.tmp")
    try:
        scratch.write_text(render(view), encoding="utf-8")
        scratch.replace(path)
    except OSError as error:
        raise ResultError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)


def render(view: View) -> str:
    """The whole page."""
    from sim.report.figures import draw

    title = view.question or view.scenario
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{title} · twinfer"),
        tag("style", _style()),
    )
    body = tag("main", *_sections(view, title, draw(view)))
    return "<!doctype html>\n" + tag("html", head, tag("body", body), lang="en") + "\n"


def _style() -> Markup:
    from sim.report.plot import DARK, LIGHT

    text = resources.files("sim.report").joinpath("style.css").read_text(encoding="utf-8")
    for marker, colours in (("/*LIGHT*/", LIGHT), ("/*DARK*/", DARK)):
        text = text.replace(marker, " ".join(f"--{role}: {colour};" for role, colour in colours.items()))
    return Markup(text)


def _sections(view: View, title: str, plots: Sequence[Plot]) -> Iterator[Markup]:
    yield tag("p", f"twinfer · {view.scenario} · {view.counted}", class_="eyebrow")
    yield tag("h1", title)
    if view.answer:
        decided = "found" if view.winner else "none" if all(o.status == "misses" for o in view.options) else ""
        yield tag(
            "div",
            _said(view.answer),
            class_=f"answer {decided}".strip(),
        )
    yield from story.why(view)
    yield tag("h2", "Options" if len(view.options) > 1 else "Figures", id="options")
    yield tag("p", *_reading(view), class_="muted")
    yield joined([tag("p", note) for note in view.notes])
    yield _options_table(view)
    if view.targets():
        yield tag("h2", "Objectives", id="objectives")
        yield _objectives_table(view)
    grouped = _grouped(plots)
    for heading in ("Where the time goes", "Load and replicas"):
        yield from _pictures(heading, grouped[heading])
    yield from story.outcomes(view)
    yield from story.starts(view)
    yield from story.money(view)
    yield from story.decisions(view)
    yield from _pictures("Plots", grouped["Plots"])
    warned = view.warnings()
    if warned:
        yield tag("h2", "Warnings")
        yield tag("ul", *(tag("li", _of_whom(names, view), text) for text, names in warned))
    yield tag("h2", "All figures")
    for option in view.options:
        yield _all_figures(option, opened=len(view.options) == 1)
    yield tag("h2", "Assumptions and provenance")
    yield _facts(view)
    meanings = [
        f"{label(name)}: {metric(name).meaning}." for name in METRICS if name.endswith(("_mean", "_rps", "_attainment"))
    ]
    yield tag("details", tag("summary", "What the figures mean"), tag("ul", *(tag("li", text) for text in meanings)))
    yield tag("footer", "Written by twinfer. This file needs no network.")


def _grouped(plots: Sequence[Plot]) -> dict[str, list[Plot]]:
    """The plots by heading."""
    from sim.report import causes, fleet

    grouped: dict[str, list[Plot]] = {"Where the time goes": [], "Load and replicas": [], "Plots": []}
    headings = {causes.PREFIX: "Where the time goes", fleet.PREFIX: "Load and replicas"}
    for plot in plots:
        found = next((heading for prefix, heading in headings.items() if plot.name.startswith(prefix)), "Plots")
        grouped[found].append(plot)
    return grouped


def _pictures(heading: str, plots: Sequence[Plot]) -> Iterator[Markup]:
    if plots:
        yield tag("h2", heading)
        yield tag("div", *(_plot(plot) for plot in plots), class_="plots")


def _said(answer: str) -> Markup:
    """The first sentence in bold."""
    first, stop, rest = answer.partition(". ")
    return tag("p", tag("strong", f"{first}{stop}"), rest)


def _reading(view: View) -> Iterator[str]:
    if any(figure.half_width is not None for option in view.options for figure in option.overall.values()):
        yield f"± is the half-width of the {view.confidence:.0%} confidence interval over replications. "
    else:
        yield "No intervals: one replication. "
    found = {fate.status for option in view.options for fate in option.fates}
    if "misses" in found:
        yield "✗ misses its objective. "
    if "undecided" in found:
        yield "? the interval holds the objective, so more replications are needed to decide."


def _units(view: View, names: Sequence[str]) -> dict[str, Unit]:
    groups = [figures for option in view.options for figures in (option.overall, *option.workloads.values())]
    pooled: dict[str, list[float]] = {}
    for name in names:
        family = name.partition("_")[0] if metric(name).unit == "time" else name
        pooled.setdefault(family, []).extend(figures[name].value for figures in groups if name in figures)
    return {name: unit_for(name, pooled.get(name, pooled.get(name.partition("_")[0], ()))) for name in names}


def _options_table(view: View) -> Markup:
    many = len(view.workloads) > 1
    columns = sorted({*COLUMNS, *_telling(view), *(name for _, name in view.targets())}, key=list(METRICS).index)
    units = _units(view, columns)
    headings = [
        tag("th", label(name), tag("small", units[name].name), scope="col", title=metric(name).meaning or None)
        for name in columns
    ]
    rows: list[Markup] = []
    targets = view.targets()
    if not many and targets:
        by_metric = {name: target for (_, name), target in targets.items()}
        cells = [
            tag(
                "td",
                f"≤ {units[name].value(by_metric[name])}" if name in by_metric else "",
                data_label=_data_label(name, units),
            )
            for name in columns
        ]
        rows.append(tag("tr", tag("th", "objective", scope="row"), *cells, class_="target"))
    for option in view.options:
        price = option.overall.get("usd_per_hour")
        best = option.name == view.winner
        name = tag(
            "th",
            option.name,
            tag("span", "recommended", class_="badge") if best else None,
            tag("small", f"{Unit('').value(price.value)} $/h") if price is not None else None,
            scope="row",
            class_="best" if best else None,
        )
        rows.append(tag("tr", name, *(_cell(option, None, column, units) for column in columns)))
        if many:
            for workload, figures in option.workloads.items():
                shown = [c for c in columns if metric(c).unit == "time" or c in ("goodput_rps", "slo_attainment")]
                cells = [
                    _cell(option, workload, column, units) if column in shown and column in figures else tag("td")
                    for column in columns
                ]
                rows.append(tag("tr", tag("th", workload, scope="row"), *cells, class_="inner"))
    table = tag("table", tag("thead", tag("tr", tag("th", "option", scope="col"), *headings)), tag("tbody", *rows))
    return tag("div", table, class_="scroll cards", role="region", aria_labelledby="options", tabindex=0)


def _telling(view: View) -> Iterator[str]:
    """Those of :data:`ELASTIC` that are not as they are where all replicas are there and all requests served."""
    if any(option.course is not None and option.course.changes for option in view.options):
        yield "replicas_mean"
    if any("lost_share" in option.overall and option.overall["lost_share"].value > 0.0005 for option in view.options):
        yield "lost_share"


def _data_label(name: str, units: Mapping[str, Unit]) -> str:
    return f"{label(name)}{'' if units[name].suffix else f', {units[name].name}' if units[name].name else ''}"


def _cell(option: Option, workload: str | None, name: str, units: Mapping[str, Unit]) -> Markup:
    figures = option.overall if workload is None else option.workloads[workload]
    figure, unit = figures.get(name), units[name]
    if figure is None:
        return tag("td", unit.value(None), data_label=_data_label(name, units))
    fate = option.fate(workload, name)
    value: Content = unit.value(figure.value)
    if fate is not None:
        value = tag(
            "span", f"{value}{MARKS[fate.status]}", class_=fate.status, title=f"{SAID[fate.status]} its objective"
        )
    half = unit.half_width(figure.half_width, figure.value)
    return tag("td", value, tag("span", half, class_="half") if half else None, data_label=_data_label(name, units))


def _objectives_table(view: View) -> Markup:
    """A row an option, a column an objective: the figure, and whether it meets it."""
    many = len(view.workloads) > 1
    targets = view.targets()
    units = {key: unit_for(key[1], [target]) for key, target in targets.items()}
    headings = [tag("th", "option", scope="col")]
    for (workload, name), target in targets.items():
        unit = units[workload, name]
        text = f"{workload}: {label(name)}" if many and workload else label(name)
        headings.append(tag("th", text, tag("small", f"≤ {unit.value(target)} {unit.name}"), scope="col"))
    rows = []
    for option in view.options:
        found = {(fate.workload, fate.metric): fate for fate in option.fates}
        rows.append(
            tag("tr", tag("th", option.name, scope="row"), *(_fate_cell(found.get(key), units[key]) for key in targets))
        )
    table = tag("table", tag("thead", tag("tr", *headings)), tag("tbody", *rows), class_="words")
    return tag("div", table, class_="scroll", role="region", aria_labelledby="objectives", tabindex=0)


def _fate_cell(fate: Fate | None, unit: Unit) -> Markup:
    if fate is None:
        return tag("td")
    outcome = tag("span", SAID[fate.status], class_=fate.status)
    why = tag("span", fate.why, class_="why") if fate.why else None
    return tag("td", f"{unit.both(fate.figure.value, fate.figure.half_width)} {unit.name}, ", outcome, why)


def _plot(plot: Plot) -> Markup:
    identity = f"plot-{plot.name}"
    picture = tag("div", plot.svg(), role="img", aria_labelledby=identity, aria_describedby=f"{identity}-says")
    return tag(
        "figure",
        tag("h3", plot.title, id=identity),
        picture,
        tag("figcaption", plot.description, id=f"{identity}-says"),
    )


def _of_whom(names: Sequence[str], view: View) -> Markup | None:
    return None if len(names) == len(view.options) else joined([tag("strong", ", ".join(names)), ": "])


def _all_figures(option: Option, *, opened: bool) -> Markup:
    groups: list[tuple[str, Mapping[str, Figure]]] = list(option.workloads.items())
    if len(groups) != 1:
        groups.insert(0, ("all requests", option.overall))
    parts: list[Markup] = []
    for name, figures in groups:
        rows = []
        for key in ("ttft", "tpot", "itl", "e2e", "queue"):
            row = [figures.get(f"{key}_{statistic}") for statistic in STATISTICS]
            found = [figure.value for figure in row if figure is not None]
            if not found:
                continue
            unit = unit_for(f"{key}_mean", found)
            cells = [tag("td", unit.both(f.value, f.half_width) if f is not None else unit.value(None)) for f in row]
            rows.append(tag("tr", tag("th", f"{label(f'{key}_mean').split()[0]}, {unit.name}", scope="row"), *cells))
        heads = [tag("th", text, scope="col") for text in (name, *STATISTICS)]
        parts.append(tag("div", tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows)), class_="scroll"))
    known = list(METRICS)
    rest = sorted(
        (name for name in option.overall if metric(name).unit != "time"),
        key=lambda name: (known.index(name) if name in known else len(known), name),
    )
    rows = []
    for name in rest:
        figure, unit = option.overall[name], unit_for(name, [option.overall[name].value])
        text = unit.both(figure.value, figure.half_width) + ("" if unit.suffix else f" {unit.name}")
        rows.append(tag("tr", tag("th", label(name), scope="row"), tag("td", text), tag("td", metric(name).meaning)))
    heads = [tag("th", text, scope="col") for text in ("figure", "value", "meaning")]
    table = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows), class_="words facts")
    return tag("details", tag("summary", option.name), *parts, tag("div", table, class_="scroll"), open=opened)


def _facts(view: View) -> Markup:
    rows = [
        tag("tr", tag("th", key, scope="row"), tag("td", tag("code", value) if _hash_like(value) else value))
        for key, value in _flat(view.manifest)
    ]
    heads = tag("tr", tag("th", "what", scope="col"), tag("th", "value", scope="col"))
    return tag("div", tag("table", tag("thead", heads), tag("tbody", *rows), class_="words facts"), class_="scroll")


def _hash_like(value: str) -> bool:
    return len(value) >= 32 and " " not in value


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, item in sorted(value.items()) if path else value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value):
            yield from _flat(item, f"{path}.{index}")
    elif isinstance(value, list | tuple):
        yield path, ", ".join(str(item) for item in value)
    elif value is not None and value != {}:
        yield path, {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
