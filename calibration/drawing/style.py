"""How the pictures look: a light page, few lines, colours that can be told apart, units as short as they can be."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from sim.atomic import replacing
from sim.errors import ProfileError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "GRID",
    "INK",
    "MUTED",
    "SERIES",
    "canvas",
    "counted",
    "legend",
    "logarithmic",
    "png",
    "put",
    "style",
    "titled",
]

INK: Final = "#1c2530"
MUTED: Final = "#5a6673"
GRID: Final = "#dfe4ea"
SERIES: Final = ("#1f6fb4", "#c2570c", "#15803d", "#8b3fb0", "#0e7490", "#b8255f", "#806000", "#4b5563")
"""As in the reports of runs."""

_WIDTH: Final = 10.0  # inches; text of 9 points is then legible where the picture is 1,000 pixels wide
_DPI: Final = 150


@contextmanager
def style() -> Iterator[None]:
    """The settings of matplotlib within which every picture is drawn and written."""
    settings: Any = {
        "text.parse_math": False, "font.family": "sans-serif", "font.size": 9.5, "text.color": INK, "axes.labelcolor": MUTED,
        "xtick.color": MUTED, "ytick.color": MUTED, "axes.edgecolor": "#b6c0cb", "grid.color": GRID, "axes.grid": True,
        "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False, "grid.linewidth": 0.8,
        "xtick.major.size": 3, "ytick.major.size": 0, "xtick.minor.size": 0, "ytick.minor.size": 0, "legend.frameon": False,
        "legend.labelcolor": INK, "legend.fontsize": 8.5, "figure.facecolor": "#ffffff", "axes.facecolor": "none",
        "lines.linewidth": 1.6, "axes.unicode_minus": True,
    }  # fmt: skip
    with rc_context(settings):
        yield


def canvas(height: float) -> Figure:
    """An empty picture ``height`` inches high that lays itself out."""
    figure = Figure(figsize=(_WIDTH, height))
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.08)
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    """The picture as a PNG file; the same picture gives the same bytes."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=_DPI, metadata={"Software": None})
    return out.getvalue()


def put(content: bytes, path: Path) -> None:
    """Write ``content`` to ``path`` whole or not at all. :raises ProfileError: the place cannot be written."""
    try:
        with replacing(path) as scratch:
            scratch.write_bytes(content)
    except OSError as error:
        raise ProfileError(f"{path}: {error.strerror or error}") from None


def titled(axes: Axes, title: str, x: str = "", y: str = "") -> None:
    """What a panel shows, over its left edge, and what its axes are."""
    axes.set_title(title, loc="left", fontsize=10, color=INK, fontweight="bold")
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def counted(value: float, _: int = 0) -> str:
    """A tick as people write it: 0.25, 300, 5,000."""
    return f"{value:,.6g}"


def _binary(value: float, _: int = 0) -> str:
    """A tick of a scale in powers of 2: 512, 4k, 1M."""
    for size, unit in ((1 << 20, "M"), (1 << 10, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def legend(axes: Axes, title: str | None = None, columns: int = 1) -> None:
    """A legend in the upper left corner, with room made above the lines so that it covers none of them."""
    rows = -(-len(axes.get_legend_handles_labels()[0]) // columns) + (title is not None)
    share = 0.04 + 0.062 * rows
    low, high = axes.get_ylim()
    if axes.get_yscale() == "log":
        axes.set_ylim(low, high * (high / low) ** (share / (1.0 - share)))
    else:
        axes.set_ylim(low, low + (high - low) / (1.0 - share))
    axes.legend(
        loc="upper left", title=title, ncols=columns, alignment="left", borderaxespad=0.0, columnspacing=1.4, handletextpad=0.5,
        title_fontsize=8.5, labelspacing=0.35,
    )  # fmt: skip


def logarithmic(axes: Axes, which: str, base: int = 10) -> None:
    """A logarithmic axis (``x`` or ``y``) whose ticks are plain numbers: powers of 2, or 1, 2, 5, 10 where there is room.

    One on which nothing is above 0 stays linear.
    """
    if not np.isfinite(axes.dataLim.minposx if which == "x" else axes.dataLim.minposy):
        return
    set_scale = axes.set_xscale if which == "x" else axes.set_yscale
    set_scale("log", base=base)
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = axis.get_view_interval()
    decades = float(high / low) if low > 0.0 else 1.0
    steps = (1.0,) if base == 2 or decades > 1e4 else (1.0, 3.0) if decades > 30.0 else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(base=base, subs=steps, numticks=8))
    axis.set_major_formatter(FuncFormatter(_binary if base == 2 else counted))
    axis.set_minor_formatter(NullFormatter())
