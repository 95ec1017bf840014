"""A plot: drawn once, in colours that stand for roles.

:func:`themed` turns the roles into CSS variables, so that the same picture follows the reader's light or dark page. matplotlib is
imported by importing this module: import it late.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from sim.report.markup import Markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "DARK",
    "DASHES",
    "HEAT",
    "LIGHT",
    "MARKERS",
    "SERIES",
    "Colours",
    "Plot",
    "legend",
    "line",
    "log_y",
    "short",
    "spoken",
    "themed",
    "time_axis",
]

LIGHT = {
    "ink": "#1c2530", "muted": "#5a6673", "grid": "#dfe4ea", "paper": "#ffffff",
    "s0": "#1f6fb4", "s1": "#c2570c", "s2": "#15803d", "s3": "#8b3fb0", "s4": "#0e7490", "s5": "#b8255f", "s6": "#806000", "s7": "#4b5563",
    "h1": "#cfe2f4", "h2": "#aecdea", "h3": "#83b2dc", "h4": "#5291c8", "h5": "#2a6fad", "h6": "#124f8a", "h7": "#08305c",
}  # fmt: skip
DARK = {
    "ink": "#e8edf2", "muted": "#a3b0bd", "grid": "#36424e", "paper": "#161c23",
    "s0": "#6db3f2", "s1": "#f7a35c", "s2": "#5fd38d", "s3": "#cf9af0", "s4": "#4fc7dd", "s5": "#f58ab4", "s6": "#e0c04c", "s7": "#b6c0cb",
    "h1": "#1d3850", "h2": "#21466a", "h3": "#2b6093", "h4": "#3d7fbb", "h5": "#63a3da", "h6": "#97c6ee", "h7": "#d3e8fb",
}  # fmt: skip
SERIES = 8
HEAT = 7
"""Steps from little to much: ``h1`` to ``h7``, evenly further from the paper, light or dark."""
DASHES = ("-", (0, (6, 2)), (0, (2, 1.4)), (0, (7, 2, 1.6, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

Colours = Mapping[str, str]

# colours nobody would pick, so that they can be found again in the SVG
_ROLES = {role: f"#{index:02x}0b0c" for index, role in enumerate(LIGHT)}


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
    text = re.sub(r'\b(?:d|x|y|transform)="[^"]*"', _rounded, text)
    for role, colour in _ROLES.items():
        text = text.replace(colour, f"var(--{role})")
    return Markup(text.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1).strip())


def _rounded(attribute: re.Match[str]) -> str:
    """Coordinates to a hundredth of a point: finer cannot be seen, and is half of the bytes."""
    return re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", attribute[0])


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


def spoken(value: float) -> str:
    """Seconds with their unit."""
    if value <= 0.0:
        return "0 s"
    return f"{value * 1e3:.3g} ms" if value < 0.9995 else f"{value:,.3g} s" if value < 1000 else f"{value:,.0f} s"


def time_axis(end: float) -> tuple[float, str]:
    """Seconds in a unit of an axis that ends at ``end`` seconds, and the name of the unit: minutes, beyond two hours hours."""
    return (3600.0, "hours") if end > 7200.0 else (60.0, "minutes")


def log_y(axes: Axes, low: float, high: float) -> None:
    """A logarithmic y axis for values from ``low`` to ``high``, its numbers written out."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 200.0 * low else (1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
