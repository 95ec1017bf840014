"""The timeline as one picture: requests, KV cache, batch and replicas over time, and what happened meanwhile.

matplotlib is imported by importing this module: import it late.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from sim.report.plot import SERIES, Colours, Plot, legend, line, short, time_axis

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes

    from sim.observe.course import Line
    from sim.report.timeline.moments import Moments

__all__ = ["draw"]

Floats = npt.NDArray[np.float64]

_POINTS = 480  # along the time axis: finer cannot be seen
_KINDS = {
    "scale up": "s0", "scale down": "s4", "rollout": "s3", "provision": "s6", "release": "s7",
    "fault": "s5", "fail": "s5", "reclaim": "s5", "repair": "s2", "restore": "s2", "sleep": "s7", "wake": "s0",
}  # fmt: skip
"""Events that get a row of marks, from the top, and their colours. What follows from them (place, ready, ...) shows in the replicas."""


@dataclass(frozen=True)
class _Series:
    """A panel: what is on its axis, and a line for each deployment."""

    title: str
    lines: dict[str, Floats]
    share: bool = False


def draw(moments: Moments) -> Plot:
    """The picture, with a panel for everything that is known."""
    start, stop = moments.start, min(moments.stop, moments.end)
    at = np.linspace(start, max(stop, start + 1e-9), _POINTS + 1)
    names = list(moments.deployments)[:SERIES]
    panels = list(_panels(moments, names, at))
    rows = _marks(moments)
    scale, unit = time_axis(stop)

    def paint(*axes: Axes | Colours) -> None:
        colours: Colours = axes[-1]  # type: ignore[assignment]
        shown: list[Axes] = list(axes[:-1])  # type: ignore[arg-type]
        for axis, panel in zip(shown, panels, strict=False):
            _paint(axis, panel, names, at / scale, colours, named=axis is shown[0])
        if rows:
            _paint_marks(shown[-1], rows, scale, colours)
        shown[-1].set_xlim(start / scale, stop / scale)
        shown[-1].set_xlabel(unit)
        legend(shown[0], [name for name in names if name in panels[0].lines])

    heights = [1.0] * len(panels) + ([0.22 * len(rows) + 0.1] if rows else [])
    said = (
        f"First replication, {start:g} to {stop:g} seconds. {'. '.join(_said(panel) for panel in panels)}."
        + (f" Events: {', '.join(f'{len(when)} {kind}' for kind, when in rows.items())}." if rows else "")
    )  # fmt: skip
    return Plot(
        "timeline", "Timeline of the first replication", said, paint, tuple(heights), (7.2, 1.0 + 1.05 * sum(heights))
    )


def _panels(moments: Moments, names: list[str], at: Floats) -> Iterator[_Series]:
    """From the top, those for which there are data."""
    yield _Series("requests in flight", {name: _in_flight(moments, name, at) for name in names})
    sampled = {name: own for name in names if len(own := _of(moments.samples, name))}
    if sampled:
        waiting = {name: _sampled(own, moments, at, "waiting") for name, own in sampled.items()}
        used = {name: _sampled(own, moments, at, "kv_used", "kv_blocks") for name, own in sampled.items()}
        yield _Series("waiting in engines", waiting)
        yield _Series("KV cache in use", used, share=True)
    steps = {name: own for name in names if len(own := _of(moments.steps, name))}
    if steps:
        yield _Series("requests a step", {name: _batch(own, at) for name, own in steps.items()})
    ready = {one.deployment: _ready(one, at) for one in moments.lines if one.deployment in names}
    if ready:
        yield _Series("replicas ready", ready)


def _paint(axis: Axes, panel: _Series, names: list[str], x: Floats, colours: Colours, *, named: bool) -> None:
    for place, name in enumerate(names):
        if name in panel.lines:
            style = line(place, colours) | {"linewidth": 1.3}
            axis.plot(x, panel.lines[name], label=short(name) if named else None, drawstyle="steps-post", **style)
            if len(panel.lines) == 1:
                axis.fill_between(x, panel.lines[name], step="post", color=style["color"], alpha=0.15, linewidth=0)
    highest = max(float(np.nanmax(values, initial=0.0)) for values in panel.lines.values())
    axis.set_ylim(0.0, 1.12 * (highest or 1.0))
    axis.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=not panel.share))
    if panel.share:
        axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0 if highest >= 0.03 else 2))
    else:
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.set_title(panel.title, loc="right", fontsize=8.5, color=colours["muted"], pad=2)


def _paint_marks(axis: Axes, rows: dict[str, list[float]], scale: float, colours: Colours) -> None:
    for place, (kind, when) in enumerate(rows.items()):
        axis.plot(
            np.asarray(when) / scale, np.full(len(when), -place), "|", color=colours[_KINDS[kind]], markersize=8,
            markeredgewidth=1.4,
        )  # fmt: skip
    axis.set_yticks([-place for place in range(len(rows))], list(rows))
    axis.set_ylim(0.6 - len(rows), 0.6)
    axis.grid(visible=False, axis="y")


def _said(panel: _Series) -> str:
    def high(values: Floats) -> str:
        most = float(np.nanmax(values, initial=0.0))
        return f"{most:.0%}" if panel.share else f"{most:,.0f}"

    peaks = ", ".join(f"{name} {high(values)}" for name, values in panel.lines.items())
    return f"Highest {panel.title}: {peaks}"


# --- what is on the panels


def _of(table: pa.Table, name: str) -> pa.Table:
    return table.filter(pc.equal(table["deployment"], name))


def _floats(column: pa.ChunkedArray) -> Floats:
    return np.asarray(column.to_numpy(), np.float64)


def _in_flight(moments: Moments, name: str, at: Floats) -> Floats:
    mine = _of(moments.requests, name)
    came = np.sort(_floats(mine["arrival_s"]))
    left = _floats(mine["end_s"])
    left = np.sort(left[np.isfinite(left)])
    return (np.searchsorted(came, at, "right") - np.searchsorted(left, at, "right")).astype(np.float64)


def _sampled(samples: pa.Table, moments: Moments, at: Floats, column: str, over: str | None = None) -> Floats:
    """Sums over replicas at the sample before each moment, as a share of ``over`` if given; 0 where no replica was there."""
    times, place = np.unique(_floats(samples["t_s"]), return_inverse=True)
    values: Floats = np.bincount(place, _floats(samples[column])).astype(np.float64)
    if over is not None:
        values /= np.bincount(place, _floats(samples[over]))
    where = np.searchsorted(times, at, "right") - 1
    there = (where >= 0) & (at - times[where] < 1.5 * moments.period)
    return np.where(there, values[where], 0.0)


def _batch(steps: pa.Table, at: Floats) -> Floats:
    """Requests in a step, its time being its weight, in each stretch between two moments; 0 where no step began."""
    start, seconds = _floats(steps["start_s"]), _floats(steps["end_s"]) - _floats(steps["start_s"])
    sequences = _floats(steps["prompts"]) + _floats(steps["decodes"])
    spent, _ = np.histogram(start, at, weights=seconds)
    total, _ = np.histogram(start, at, weights=seconds * sequences)
    mean = np.divide(total, spent, out=np.zeros(len(spent)), where=spent > 0.0)
    return np.append(mean, mean[-1])


def _ready(line: Line, at: Floats) -> Floats:
    where = np.searchsorted(np.asarray(line.times), at, "right") - 1
    return np.asarray(line.ready, np.float64)[np.maximum(where, 0)]


def _marks(moments: Moments) -> dict[str, list[float]]:
    """The moments of the events that get marks, by kind."""
    found: dict[str, list[float]] = {}
    for kind, when in _kinds(moments):
        found.setdefault(kind, []).append(when)
    return {kind: found[kind] for kind in _KINDS if kind in found}


def _kinds(moments: Moments) -> Iterator[tuple[str, float]]:
    import json

    for row in moments.events:
        kind = row["kind"]
        if kind == "scale":
            detail = json.loads(row["detail"])
            kind = "scale up" if detail["after"] > detail["before"] else "scale down"
        yield kind, row["t_s"]
