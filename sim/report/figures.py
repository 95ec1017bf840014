"""The plots: latency distributions, queue and batch over time, cost against attainment.

Drawn once, in colours that stand for roles; :func:`themed` turns them into CSS variables, so that the same picture follows
the reader's light or dark page. matplotlib is imported by importing this module: import it late.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from sim.report.curves import Curve, distribution, over_time
from sim.report.format import Unit, label
from sim.report.markup import Markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sim.report.view import Option, View

__all__ = ["DARK", "LIGHT", "Colours", "Plot", "draw", "legend", "line", "short", "spoken", "themed"]

LIGHT = {
    "ink": "#1c2530", "muted": "#5a6673", "grid": "#dfe4ea", "paper": "#ffffff",
    "s0": "#1f6fb4", "s1": "#c2570c", "s2": "#15803d", "s3": "#8b3fb0", "s4": "#0e7490", "s5": "#b8255f", "s6": "#806000", "s7": "#4b5563",
}  # fmt: skip
DARK = {
    "ink": "#e8edf2", "muted": "#a3b0bd", "grid": "#36424e", "paper": "#161c23",
    "s0": "#6db3f2", "s1": "#f7a35c", "s2": "#5fd38d", "s3": "#cf9af0", "s4": "#4fc7dd", "s5": "#f58ab4", "s6": "#e0c04c", "s7": "#b6c0cb",
}  # fmt: skip
SERIES = 8
DASHES = ("-", (0, (6, 2)), (0, (2, 1.4)), (0, (7, 2, 1.6, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

Colours = Mapping[str, str]

# colours nobody would pick, so that they can be found again in the SVG
_ROLES = {role: f"#0{index:x}0b0c" for index, role in enumerate(LIGHT)}


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot: a short name for its file, its title, what it says in words, and how to draw it: ``paint`` gets the axes of each of
    ``panels``, whose relative heights they are, and the colours. ``size`` in inches."""

    name: str
    title: str
    description: str
    paint: Callable[..., None]
    panels: tuple[float, ...] = (1.0,)
    size: tuple[float, float] = (5.6, 3.3)

    def svg(self) -> Markup:
        """As an SVG element that takes its colours from CSS variables (``--ink``, ``--s0``, ...)."""
        return themed(self._drawn("svg").decode("utf-8"), self.name)

    def file(self, format: str) -> bytes:
        """As a file, ``png`` or ``svg``, in the colours of a light page."""
        if format == "svg":
            text = self._drawn("svg").decode("utf-8")
            for role, colour in _ROLES.items():
                text = text.replace(colour, LIGHT[role])
            return text.encode("utf-8")
        return self._drawn("png", LIGHT)

    def _drawn(self, format: str, colours: Colours | None = None) -> bytes:
        with _style(colours or _ROLES, self.name):
            canvas = Canvas(figsize=self.size, layout="constrained")
            (FigureCanvasSVG if format == "svg" else FigureCanvasAgg)(canvas)
            grid = canvas.add_gridspec(len(self.panels), height_ratios=self.panels)
            axes = [canvas.add_subplot(grid[place]) for place in range(len(self.panels))]
            for panel in axes[:-1]:
                panel.sharex(axes[-1])
                panel.tick_params(labelbottom=False)
            self.paint(*axes, colours or _ROLES)
            if format == "png":
                axes[0].set_title(self.title, loc="left", fontsize=10)
            out = io.BytesIO()
            metadata = {"Date": None, "Creator": None} if format == "svg" else {"Software": None}
            canvas.savefig(out, format=format, dpi=160, metadata=metadata, transparent=format == "svg")
            return out.getvalue()


@contextmanager
def _style(colours: Colours, salt: str) -> Iterator[None]:
    settings: Any = {
        "text.parse_math": False, "svg.fonttype": "none", "svg.hashsalt": salt, "font.family": "sans-serif", "font.size": 9.5,
        "text.color": colours["ink"], "axes.labelcolor": colours["muted"], "xtick.color": colours["muted"],
        "ytick.color": colours["muted"], "axes.edgecolor": colours["grid"], "grid.color": colours["grid"],
        "axes.grid": True, "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False,
        "grid.linewidth": 0.8, "xtick.major.size": 3, "ytick.major.size": 0, "xtick.minor.size": 0, "legend.frameon": False,
        "legend.labelcolor": colours["ink"], "figure.facecolor": colours["paper"], "axes.facecolor": "none",
        "lines.linewidth": 1.8,
    }  # fmt: skip
    with rc_context(settings):
        yield


def themed(svg: str, name: str) -> Markup:
    """The SVG element alone, sized by the page, with CSS variables for colours and ids of its own."""
    text = svg[svg.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r' xmlns:xlink="[^"]*"| xmlns="[^"]*"| version="1.1"', "", text).replace("xlink:href", "href")
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    text = text.replace("url(#", f"url(#{name}-")
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--font)", text)
    for role, colour in _ROLES.items():
        text = text.replace(colour, f"var(--{role})")
    return Markup(text.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1).strip())


def draw(view: View) -> list[Plot]:
    """The plots of a run or a comparison; those for which there are no data are left out."""
    from sim.report import causes, fleet

    shown = [(index, option, option.samples) for index, option in enumerate(view.options) if option.samples is not None]
    plots: list[Plot] = []
    timelines = {option.name: samples.timeline for _, option, samples in shown}
    for key in ("ttft", "tpot", "e2e"):
        curves = [
            (index, option, curve)
            for index, option, samples in shown
            if (curve := distribution(samples.latency(key))) is not None and curve.x[-1] > 0.0
        ]
        if curves:
            plots.append(_distribution_plot(view, key, curves))
    for column, title in (("waiting", "Waiting requests over time"), ("running", "Running requests over time")):
        lines = [
            (index, option, curve)
            for index, option, _ in shown
            if (curve := over_time(timelines[option.name], column)) is not None
        ]
        if lines:
            plots.append(_time_plot(column, title, lines))
    if len(view.options) > 1:
        plots.extend(_cost_plot(view))
    return [*causes.draw(view), *fleet.draw(view), *plots]


Curves = list[tuple[int, "Option", Curve]]


def _distribution_plot(view: View, key: str, curves: Curves) -> Plot:
    name = label(f"{key}_mean").split()[0]
    targets = sorted({target for (_, metric), target in view.targets().items() if metric.startswith(f"{key}_")})
    middle = [f"{option.name} {spoken(float(curve.x[_at(curve, 0.5)]))}" for _, option, curve in curves]
    said = f"Share of requests whose {name} is at most the value on the axis. Medians: {'; '.join(middle)}."

    def paint(axes: Axes, colours: Colours) -> None:
        for index, option, curve in curves:
            axes.plot(curve.x, curve.y, label=short(option.name), drawstyle="default", **line(index, colours))
        for target in targets:
            axes.axvline(target, color=colours["muted"], linewidth=1.0, linestyle=(0, (3, 2)))
            axes.annotate(
                f"objective {spoken(target)}", (target, 0.02), xycoords=("data", "axes fraction"), xytext=(3, 0),
                textcoords="offset points", fontsize=8.5, color=colours["muted"], rotation=90, va="bottom",
            )  # fmt: skip
        axes.set_xscale("log")
        high = max(float(curve.x[-1]) for _, _, curve in curves)
        starts = [float(curve.x[_at(curve, 0.005)]) for _, _, curve in curves]
        low = max(min([start for start in starts if start > 0.0] or [high]), high * 1e-6)
        axes.set_xlim(min([low, *targets]) * 0.8, max([high, *targets]) * 1.25)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if high / low > 200.0 else (1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: spoken(value)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(0.0, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xlabel(f"{name} (log scale)")
        legend(axes, [option.name for _, option, _ in curves])

    return Plot(f"cdf-{key}", f"{name}: share of requests at or under", said, paint)


def _time_plot(column: str, title: str, lines: Curves) -> Plot:
    peaks = [f"{option.name} {curve.y.max():,.0f}" for _, option, curve in lines]
    said = f"{title}, summed over replicas, mean of the replications. Highest: {'; '.join(peaks)}."
    long = max(float(curve.x[-1]) for _, _, curve in lines) > 7200.0

    def paint(axes: Axes, colours: Colours) -> None:
        for index, option, curve in lines:
            axes.plot(
                curve.x / (3600.0 if long else 60.0),
                curve.y,
                label=short(option.name),
                **(line(index, colours) | {"linewidth": 1.4}),
            )
        axes.set_ylim(bottom=0.0)
        axes.set_xlim(left=0.0)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:g}"))
        axes.set_xlabel("hours" if long else "minutes")
        legend(axes, [option.name for _, option, _ in lines])

    return Plot(column, title, said, paint)


_SPAN = (350.0, 190.0)
"""About how wide and high the axes are, in points."""


def _cost_plot(view: View) -> Iterator[Plot]:
    prices = {
        round(option.overall["usd_per_hour"].value, 6) for option in view.options if "usd_per_hour" in option.overall
    }
    # at one price an hour, what a token costs tells them apart
    cost, unit = ("usd_per_hour", "$ an hour") if len(prices) > 1 else ("usd_per_1m_tokens", "$ per 1M tokens")
    points = [
        (index, option, x, y)
        for index, option in enumerate(view.options)
        if (x := option.overall.get(cost)) and (y := option.overall.get("slo_attainment"))
        if isfinite(x.value) and isfinite(y.value)
    ]
    if not points:
        return
    words = "; ".join(
        f"{option.name} ${Unit('$').value(x.value)}{unit.removeprefix('$')}, {y.value:.1%}"
        for _, option, x, y in points
    )
    said = f"Price of each option and the share of requests that met every objective: {words}."

    def paint(axes: Axes, colours: Colours) -> None:
        right = max(x.value for _, _, x, _ in points) * 1.4 or 1.0
        low = min(y.value for _, _, _, y in points)
        bottom, top = max(0.0, low - 0.15 * (1.02 - low) - 0.005), 1.0 + 0.08 * (1.02 - low)
        axes.set_xlim(0.0, right)
        axes.set_ylim(bottom, top)
        named: list[tuple[float, float, float]] = []
        for index, option, x, y in sorted(points, key=lambda point: -point[3].value):
            colour = colours[f"s{index % SERIES}"]
            axes.errorbar(
                x.value, y.value, xerr=x.half_width or None, yerr=y.half_width or None, fmt=MARKERS[index % len(MARKERS)],
                color=colour, markersize=8, capsize=3, markeredgewidth=1.8,
                markerfacecolor=colour if option.status in ("meets", None) else colours["paper"],
            )  # fmt: skip
            # each name beside its point, or as far above or below as the names written before leave room
            at, width = (
                (x.value / right * _SPAN[0], (y.value - bottom) / (top - bottom) * _SPAN[1]),
                5.5 * len(option.name),
            )
            free = (
                step
                for step in sorted(range(-200, 200), key=lambda step: abs(step - 3))
                if 0.0 <= at[1] + step <= _SPAN[1]
                and all(
                    abs(at[1] + step - high) >= 11 or at[0] + width < first or at[0] > last
                    for first, high, last in named
                )
            )
            shift = next(free, 3)
            named.append((at[0], at[1] + shift, at[0] + width))
            axes.annotate(
                short(option.name), (x.value, y.value), xytext=(9, shift), textcoords="offset points",
                fontsize=9, color=colour,
            )  # fmt: skip
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0 if low < 0.9 else 1))
        axes.set_xlabel(unit)

    yield Plot(
        "cost",
        "Cost against share of requests within objectives",
        f"{said} A filled mark meets every objective.",
        paint,
    )


def line(index: int, colours: Colours) -> dict[str, Any]:
    """Colour and dashes of the option number ``index``."""
    return {"color": colours[f"s{index % SERIES}"], "linestyle": DASHES[(index // 2 + index) % len(DASHES)]}


def legend(axes: Axes, names: Sequence[str]) -> None:
    """Above the plot, where it hides nothing."""
    if len(names) > 1:
        columns = min(len(names), 4 if max(map(len, names)) <= 10 else 3 if max(map(len, names)) <= 16 else 2)
        axes.figure.legend(loc="outside upper left", fontsize=8.5, ncols=columns, handlelength=2.6)


def short(name: str) -> str:
    """As a label: cut if it is long."""
    text = name if len(name) <= 28 else f"{name[:27]}…"
    # matplotlib leaves a label that starts with _ out of a legend
    return f" {text}" if text.startswith("_") else text


def _at(curve: Curve, share: float) -> int:
    return min(int((curve.y < share).sum()), len(curve.y) - 1)


def spoken(value: float) -> str:
    """Seconds with their unit."""
    if value <= 0.0:
        return "0 s"
    return f"{value * 1e3:.3g} ms" if value < 0.9995 else f"{value:,.3g} s" if value < 1000 else f"{value:,.0f} s"
