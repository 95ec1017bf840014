"""Replicas over time: what came, was asked for, was ready, and what happened; a plot for each deployment whose replicas change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import MaxNLocator

from sim.report.plot import Colours, Plot, time_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sim.observe.course import Line
    from sim.report.view import Decision, Option, View

__all__ = ["PREFIX", "draw"]

PREFIX = "fleet-"

_MOST = 16  # plots
_MARKS = {
    "fault": ("x", "fault"),
    "fail": ("x", "fault"),
    "reclaim": ("v", "reclaimed"),
    "rollout": ("D", "rollout"),
    "repair": ("+", "repaired"),
    "restore": ("+", "repaired"),
}


def draw(view: View) -> Iterator[Plot]:
    """Options whose replicas come and go, and their deployments, up to a number that a page can hold."""
    found = [
        (option, line)
        for option in view.options
        if option.course is not None and option.log is not None
        for line in option.course.lines
        if _moves(line) or option.log.incidents(line.deployment)
    ]
    highest = max((_highest(line) for _, line in found), default=1)
    for place, (option, line) in enumerate(found[:_MOST]):
        named = f"{option.name}, {line.deployment}" if len(option.course.lines) > 1 else option.name  # type: ignore[union-attr]
        yield _plot(f"{PREFIX}{place}", f"{named}: load and replicas", option, line, highest)


def _moves(line: Line) -> bool:
    return any(len(set(values)) > 1 for values in (line.ready, line.starting, line.target))


def _highest(line: Line) -> int:
    return max(*map(sum, zip(line.ready, line.starting, strict=True)), *line.target)


def _plot(name: str, title: str, option: Option, line: Line, highest: int) -> Plot:
    assert option.course is not None
    assert option.log is not None
    end = option.course.end
    moments, load = option.log.arrivals(line.deployment)
    incidents = option.log.incidents(line.deployment)
    scale, unit = time_axis(end)
    edges = np.append(np.asarray(line.times), end) / scale
    spans = np.diff(np.append(np.asarray(line.times), end))
    mean = float((np.asarray(line.ready) * spans).sum() / spans.sum()) if spans.sum() else 0.0
    said = (
        "First replication: requests a second that came; below, replicas that were ready, on their way, asked for. Ready: "
        f"{mean:.1f} on average, {min(line.ready)} to {max(line.ready)}; asked for: {max(line.target)} at most."
        f"{_counted(incidents)}"
    )

    def paint(top: Axes, bottom: Axes, colours: Colours) -> None:
        top.plot(moments / scale, load, color=colours["muted"], linewidth=1.2)
        top.set_ylim(bottom=0.0)
        top.set_ylabel("req/s", fontsize=8.5)
        ready, target = np.asarray(line.ready, float), np.asarray(line.target, float)
        there = ready + np.asarray(line.starting)
        bottom.stairs(
            there,
            edges,
            fill=True,
            facecolor="none",
            edgecolor=colours["s1"],
            hatch="////",
            linewidth=0,
            label="starting",
        )
        bottom.stairs(ready, edges, fill=True, color=colours["s0"], label="ready")
        bottom.stairs(
            target,
            edges,
            baseline=None,
            color=colours["ink"],
            linewidth=1.3,
            linestyle=(0, (4, 1.5)),
            label="asked for",
        )
        bottom.set_ylim(0.0, highest * 1.12)
        bottom.yaxis.set_major_locator(MaxNLocator(integer=True))
        bottom.set_xlim(0.0, end / scale)
        bottom.set_ylabel("replicas", fontsize=8.5)
        bottom.set_xlabel(unit)
        seen = set[str]()
        for incident in incidents:
            mark, words = _MARKS[incident.kind]
            colour = colours["s2" if words == "repaired" else "s5"]
            bottom.axvline(incident.seconds / scale, color=colour, linewidth=0.7, alpha=0.6)
            bottom.plot(
                [incident.seconds / scale], [highest * 1.06], mark, color=colour, markersize=5, linestyle="none",
                label=None if words in seen else words,
            )  # fmt: skip
            seen.add(words)
        bottom.figure.legend(
            *bottom.get_legend_handles_labels(), loc="outside upper left", fontsize=8.5, ncols=6, handlelength=1.6
        )

    return Plot(name, title, said, paint, panels=(1.0, 2.2), size=(5.6, 3.3))


def _counted(incidents: Sequence[Decision]) -> str:
    kinds = [_MARKS[incident.kind][1] for incident in incidents]
    counts = [f"{kinds.count(words)} {words}" for words in dict.fromkeys(kinds)]
    return f" Marked: {', '.join(counts)}." if counts else ""
