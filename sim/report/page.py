"""report.html: the question, the answer and how sure it is, the table, the picture, what breaks first; then why, and where every
number comes from. One file without a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sim.report import answer, assumptions, risks, story, tables
from sim.report.markup import Content, Markup, tag
from sim.report.shell import Section, picture, pictures, save, shell

if TYPE_CHECKING:
    from sim.report.plot import Plot
    from sim.report.view import View

__all__ = ["render", "shell", "write"]

_LONG = 320  # characters of a verdict that stand in the open


def write(view: View, path: Path) -> None:
    """Write the page under a temporary name, then rename. ResultError if the place cannot be written."""
    save(render(view), path)


def render(view: View) -> str:
    """The whole page."""
    from sim.report.figures import draw

    plots = draw(view)
    title = view.question or view.scenario
    eyebrow = f"twinfer · {view.scenario} · {view.counted}"
    return shell(title, _sections(view, plots), eyebrow=eyebrow, lead=_answer(view))


def _answer(view: View) -> Markup:
    statuses = {option.status for option in view.options}
    found = answer.decided(view)
    kind = "found" if found is not None and found.status == "meets" else "none" if statuses == {"misses"} else ""
    more = answer.supporting(view)
    rest: Content = None
    if more:
        rest = (
            tag("p", more)
            if len(more) <= _LONG
            else tag("details", tag("summary", "The verdict in full"), tag("p", more))
        )
    surer = answer.settle(view)
    to_do = [
        tag("p", tag("strong", "To be surer"), class_="surer"),
        tag("ul", *(tag("li", text) for text in surer)),
    ]
    return tag(
        "div",
        tag("p", tag("strong", answer.headline(view)), class_="headline"),
        rest,
        to_do if surer else None,
        class_=f"answer {kind}".strip(),
    )


def _sections(view: View, plots: Sequence[Plot]) -> Iterator[Section]:
    left = list(plots)
    several = len(view.options) > 1
    how = tag("p", *tables.reading(view), class_="muted")
    yield Section("options", "Options" if several else "Figures", [how, tables.options_table(view)])
    first = _first(left)
    if first is not None:
        left.remove(first)
        yield Section("picture", "Cost and service" if first.name == "cost" else "Service", picture(first, "wide"))
    yield from risks.breaks_first(view)
    yield from story.why(view)
    yield from risks.sensitivity(view)
    groups = _grouped(left)
    for name, heading in _HEADINGS.items():
        if groups[name]:
            yield Section(name, heading, pictures(groups[name]))
    yield from story.outcomes(view)
    yield from story.starts(view)
    yield from story.money(view)
    yield from story.decisions(view)
    figures = [tables.every_figure(option, opened=not several) for option in view.options]
    yield Section("figures", "All figures", figures)
    yield from assumptions.assumptions(view)
    yield from assumptions.provenance(view)
    yield from assumptions.glossary(view)


_HEADINGS = {
    "causes": "Where the time goes",
    "fleet": "Load and replicas",
    "heat": "Over time",
    "cdf": "Latency",
    "over": "Queue and batch",
}


def _first(plots: Sequence[Plot]) -> Plot | None:
    """The one picture: cost against service, of a run its first latencies."""
    by_name = {plot.name: plot for plot in plots}
    return next((by_name[name] for name in ("cost", "cdf-ttft", "cdf-tpot", "cdf-e2e") if name in by_name), None)


def _grouped(plots: Sequence[Plot]) -> dict[str, list[Plot]]:
    """The plots by heading, by how their names begin."""
    grouped: dict[str, list[Plot]] = {name: [] for name in _HEADINGS}
    for plot in plots:
        grouped[next((name for name in _HEADINGS if plot.name.startswith(f"{name}-")), "over")].append(plot)
    return grouped
