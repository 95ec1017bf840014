"""Plots of plain arrays, for whatever page needs them: heat maps, tornados, and how far something reaches.

Each maker takes a ``name`` (of the file and of ids on the page: letters, digits, dashes; one a page), a ``title``, a ``description``
that says in words what is seen (it is the figure's caption and its text for those who do not see it), and the data; it gives a
:class:`sim.report.plot.Plot`, which goes into ``sim.report.shell.pictures``. Importing this module imports matplotlib: import it late.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from sim.report.plot import HEAT, SERIES, Colours, Plot, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["BARS", "CELLS", "Bar", "Reach", "bounds_of", "heat", "reaches", "tornado"]

Floats = npt.NDArray[np.float64]
Said = Callable[[float], str]

CELLS = 6_000
"""Of a heat map at the most: more cannot be told apart, and make a page heavy."""
BARS = 15
"""Of a tornado at the most."""

_SHAPE = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]


def _plain(value: float) -> str:
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def bounds_of(values: Any, most: int = HEAT) -> list[float]:
    """Lower bounds of at most ``most`` classes, in round numbers, that hold every value > 0: by factors where values differ by more
    than 50 times, else in equal steps."""
    found = np.asarray(values, np.float64)
    found = found[np.isfinite(found) & (found > 0.0)]
    if not len(found):
        return [1.0]
    low, high = float(found.min()), float(found.max())
    if high <= 50.0 * low:
        ticks = [
            float(tick) for tick in MaxNLocator(most, steps=[1, 2, 5, 10]).tick_values(min(low, high * 0.999), high)
        ]
        return ticks[:most] if ticks[0] > 0.0 else [min(low, ticks[1] / 2.0), *ticks[1:most]]
    decades = np.arange(np.floor(np.log10(low)), np.floor(np.log10(high)) + 1)
    series = [10.0**decade * step for decade in decades for step in (1.0, 3.0)]
    inside = [bound for place, bound in enumerate(series) if bound <= high and series[place + 1 :][:1] > [low]]
    while len(inside) > most:
        inside = inside[-1::-2][::-1]
    return [min(low, inside[0]), *inside[1:]] if inside else [low]


def heat(
    name: str,
    title: str,
    description: str,
    x: Any,
    y: Any,
    values: Any,
    *,
    x_label: str = "",
    y_label: str = "",
    what: str = "",
    rows: Sequence[str] | None = None,
    bounds: Sequence[float] | None = None,
    said: Said = _plain,
    log: bool = False,
    y_said: Said = _plain,
    lines: Sequence[tuple[float, str]] = (),
    starts: Sequence[tuple[float, str]] = (),
    size: tuple[float, float] | None = None,
) -> Plot:
    """A heat map: ``values[row][column]``, the more the further from the paper; in classes, which the legend names.

    ``x``: edges of the columns, one more than there are. ``y``: edges of the rows, from below, or None where ``rows`` names them,
    from above. A cell that is NaN or below the first of ``bounds`` (lower bounds of the classes, ascending, at most 7; None:
    :func:`bounds_of`) is empty. ``what`` is counted, for the legend, where ``said`` writes a bound. ``log``: the y axis; ``y_said``
    writes its ticks. ``lines`` are horizontal, at a y, with their text; ``starts`` vertical, at an x. ValueError if shapes differ or there
    are more than :data:`CELLS` cells.
    """
    cells = np.asarray(values, np.float64)
    columns = np.asarray(x, np.float64)
    edges = np.arange(len(rows) + 1.0) if rows is not None else np.asarray(y, np.float64)
    if cells.shape != (len(edges) - 1, len(columns) - 1):
        raise ValueError(f"values: {cells.shape} for {len(edges) - 1} rows and {len(columns) - 1} columns")
    if cells.size > CELLS:
        raise ValueError(f"values: {cells.size:,} cells; at most {CELLS:,}")
    classes = list(bounds if bounds is not None else bounds_of(cells))
    if not classes or len(classes) > HEAT or any(b <= a for a, b in pairwise(classes)):
        raise ValueError(f"bounds: 1 to {HEAT}, ascending, not {classes}")
    # from 0, nothing: not so faint that it cannot be seen
    shades = [f"h{1 + round(place * (HEAT - 1) / max(len(classes) - 1, 1))}" for place in range(len(classes))]
    shades = shades if len(shades) > 1 else ["h5"]
    levels = np.where(np.isfinite(cells), np.searchsorted(np.asarray(classes), cells, side="right") - 1, -1)

    def paint(axes: Axes, colours: Colours) -> None:
        for level, shade in enumerate(shades):
            shape = _runs(levels == level, columns, edges)
            if shape is not None:
                axes.add_patch(
                    PathPatch(shape, facecolor=colours[shade], edgecolor="none", linewidth=0, antialiased=False)
                )
        axes.set_xlim(columns[0], columns[-1])
        axes.grid(visible=False)
        axes.set_xlabel(x_label)
        if rows is not None:
            axes.set_ylim(len(rows), 0.0)
            shown = range(0, len(rows), -(-len(rows) // 24))
            axes.set_yticks([row + 0.5 for row in shown], [short(rows[row]) for row in shown], color=colours["ink"])
        else:
            axes.set_yscale("log" if log else "linear")
            if log:
                wide = edges[-1] > 200.0 * edges[0]
                axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
                axes.yaxis.set_minor_formatter(NullFormatter())
            axes.set_ylim(edges[0], edges[-1])
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: y_said(value)))
            axes.set_ylabel(y_label)
        _marked(axes, colours, lines, starts)
        handles = [
            Patch(facecolor=colours[shade], edgecolor=colours["muted"], linewidth=0.5, label=text)
            for shade, text in zip(shades, _classes(classes, said), strict=True)
        ]
        axes.figure.legend(
            handles=handles, loc="outside upper left", fontsize=8, ncols=len(handles) if sum(map(len, _classes(classes, said))) < 46 else 4,
            handlelength=1.0, handletextpad=0.4, columnspacing=0.9, title=what or None, title_fontsize=8.5, alignment="left",
        )  # fmt: skip

    tall = 3.3 if rows is None else 1.45 + 0.3 * min(max(len(rows), 2), 16)
    return Plot(name, title, description, paint, size=size or (5.6, tall))


def _runs(held: npt.NDArray[np.bool_], columns: Floats, edges: Floats) -> Path | None:
    """The cells of one class as one shape: neighbours in a row are one rectangle."""
    corners: list[tuple[float, float]] = []
    for row, line in enumerate(held):
        steps = np.diff(np.concatenate([[0], line.astype(np.int8), [0]]))
        for first, last in zip(np.flatnonzero(steps == 1), np.flatnonzero(steps == -1), strict=True):
            left, right, low, high = columns[first], columns[last], edges[row], edges[row + 1]
            corners += [(left, low), (right, low), (right, high), (left, high), (left, low)]
    return Path(corners, _SHAPE * (len(corners) // 5)) if corners else None


def _classes(bounds: Sequence[float], said: Said) -> list[str]:
    """``1–3``, ``3–10``, ``≥ 10``."""
    inner = [f"{said(low)}–{said(high)}" for low, high in pairwise(bounds)]
    return [*inner, f"≥ {said(bounds[-1])}"]


def _marked(
    axes: Axes, colours: Colours, lines: Sequence[tuple[float, str]], starts: Sequence[tuple[float, str]]
) -> None:
    paper = {"facecolor": colours["paper"], "edgecolor": "none", "pad": 1.2, "alpha": 0.85}
    for at, text in lines:
        axes.axhline(at, color=colours["ink"], linewidth=1.1, linestyle=(0, (4, 2)))
        axes.annotate(
            text, (1.0, at), xycoords=("axes fraction", "data"), xytext=(-3, 3), textcoords="offset points", ha="right", va="bottom",
            fontsize=8.5, color=colours["ink"], bbox=paper,
        )  # fmt: skip
    for at, text in starts:
        axes.axvline(at, color=colours["ink"], linewidth=1.1, linestyle=(0, (2, 2)))
        axes.annotate(
            text, (at, 1.0), xycoords=("data", "axes fraction"), xytext=(3, -3), textcoords="offset points", va="top",
            fontsize=8.5, color=colours["ink"], bbox=paper,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bar:
    """What one parameter does to a figure: ``low`` and ``high`` are its values as written, ``at_low`` and ``at_high`` the changes of the
    figure from what it is, with half-widths of their intervals (None: not known)."""

    parameter: str
    low: str
    high: str
    at_low: float
    at_high: float
    half_low: float | None = None
    half_high: float | None = None

    @property
    def span(self) -> float:
        """The larger of the two changes; NaN counts as none."""
        return float(np.nanmax(np.abs([self.at_low, self.at_high, 0.0])))


def tornado(name: str, title: str, description: str, bars: Sequence[Bar], *, axis: str, said: Said = _plain) -> Plot:
    """The effects of parameters one at a time, the largest on top; at most :data:`BARS`.

    ``axis`` labels the changes, with their unit; ``said`` writes a tick. Low values are hatched, high ones filled; the values stand at the
    ends.
    """
    shown = sorted(bars, key=lambda bar: (-bar.span, bar.parameter))[:BARS]

    def paint(axes: Axes, colours: Colours) -> None:
        reach = max((bar.span + max(bar.half_low or 0.0, bar.half_high or 0.0) for bar in shown), default=0.0) or 1.0
        for row, bar in enumerate(shown):
            sides = (
                (bar.at_low, bar.half_low, bar.low, "s1", "////"),
                (bar.at_high, bar.half_high, bar.high, "s0", None),
            )
            # both to one side, or none moved at all: one above the other, or one would be hidden
            beside = bar.at_low * bar.at_high >= 0.0
            for place, (change, half, text, colour, hatch) in enumerate(sides):
                if not np.isfinite(change):
                    continue
                at, height = (row + (place - 0.5) * 0.38, 0.34) if beside else (row, 0.62)
                axes.barh(
                    at, change, height, facecolor="none" if hatch else colours[colour], edgecolor=colours[colour], hatch=hatch,
                    linewidth=1.0,
                    xerr=half or None, error_kw={"ecolor": colours["ink"], "elinewidth": 1.1, "capsize": 2.5},
                )  # fmt: skip
                end = change + np.copysign(half or 0.0, change)
                axes.annotate(
                    text, (end, at), xytext=(np.copysign(4.0, change), 0), textcoords="offset points", va="center",
                    ha="left" if change >= 0.0 else "right", fontsize=8, color=colours["muted"],
                )  # fmt: skip
        axes.axvline(0.0, color=colours["ink"], linewidth=1.0)
        axes.set_xlim(-1.3 * reach, 1.3 * reach)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_yticks(range(len(shown)), [short(bar.parameter) for bar in shown], color=colours["ink"])
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"+{said(value)}" if value > 0 else said(value)))
        axes.set_xlabel(axis)
        handles = [
            Patch(facecolor="none", edgecolor=colours["s1"], hatch="////", label="at its low value"),
            Patch(facecolor=colours["s0"], edgecolor=colours["s0"], label="at its high value"),
        ]
        axes.figure.legend(handles=handles, loc="outside upper left", fontsize=8.5, ncols=2, handlelength=1.4)

    return Plot(name, title, description, paint, size=(5.6, 1.4 + 0.36 * max(len(shown), 2)))


@dataclass(frozen=True, slots=True)
class Reach:
    """How far something holds: up to ``value``, of which the interval is ``low`` to ``high``; with ``open``, at least to ``value``, as far
    as was tried."""

    name: str
    value: float
    low: float
    high: float
    open: bool = False


def reaches(
    name: str,
    title: str,
    description: str,
    rows: Sequence[Reach],
    *,
    axis: str,
    now: float | None = None,
    said: Said = _plain,
) -> Plot:
    """How far each of ``rows`` holds, with its interval, the shortest on top; ``now`` is where things stand. ``axis`` labels the values."""
    shown = sorted(rows, key=lambda row: (row.value, row.name))[:BARS]

    def paint(axes: Axes, colours: Colours) -> None:
        right = max([row.value if row.open else row.high for row in shown] + [now or 0.0]) * 1.18 or 1.0
        for place, row in enumerate(shown):
            colour = colours[f"s{place % SERIES}"]
            axes.barh(place, row.value, 0.5, facecolor=colour, alpha=0.85)
            if row.open:
                axes.annotate(
                    "",
                    (row.value + 0.06 * right, place),
                    (row.value, place),
                    arrowprops={"arrowstyle": "->", "color": colour},
                )
            else:
                axes.errorbar(
                    row.value, place, xerr=[[row.value - row.low], [row.high - row.value]], color=colours["ink"], capsize=3, linewidth=1.2
                )  # fmt: skip
            axes.annotate(
                f"{'> ' if row.open else ''}{said(row.value)}", (row.value if row.open else row.high, place),
                xytext=(20 if row.open else 5, 0), textcoords="offset points", va="center", fontsize=8.5, color=colours["ink"],
            )  # fmt: skip
        if now is not None:
            axes.axvline(now, color=colours["ink"], linewidth=1.1, linestyle=(0, (4, 2)))
        axes.set_xlim(0.0, right)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_yticks(range(len(shown)), [short(row.name) for row in shown], color=colours["ink"])
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: said(value)))
        axes.set_xlabel(axis)

    return Plot(name, title, description, paint, size=(5.6, 1.0 + 0.42 * max(len(shown), 2)))
