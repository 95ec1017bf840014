"""The plots of a what-if, in plotly: shares of requests by latency, and the fleet over time; the baseline behind what is now.

plotly is imported by :class:`Plots`; colours are such as can be told apart, and read, on a light and on a dark page.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.errors import TwinferError
from sim.report.curves import Curve, distribution, over_time

if TYPE_CHECKING:
    from sim.observe.result import Result

__all__ = ["LATENCIES", "Plots"]

LATENCIES = {
    "ttft": ("TTFT", "time to first token"),
    "tpot": ("TPOT", "time per output token"),
    "e2e": ("E2E", "time to last token"),
}

_NOW, _BASELINE, _GOAL = "#3b82d6", "#9aa3ad", "#d97706"
_INK, _GRID = "#808b96", "rgba(128,139,150,0.25)"
_AXIS = {
    "gridcolor": _GRID,
    "linecolor": _GRID,
    "zeroline": False,
    "showline": True,
    "ticks": "outside",
    "tickcolor": _GRID,
}


class Plots:
    """Two figures that are drawn anew in place. TwinferError without plotly and anywidget."""

    def __init__(self) -> None:
        try:
            import anywidget  # noqa: F401 - what plotly's widgets are made with
            from plotly.graph_objects import FigureWidget
            from plotly.subplots import make_subplots
        except ImportError as error:
            raise TwinferError(
                f"plots need plotly and anywidget: pip install 'twinfer[notebooks]' ({error.name} is missing)"
            ) from None
        self.latency: Any = FigureWidget(layout=_layout(300))
        self.latency.add_scatter(
            name="baseline", mode="lines", line=_line(_BASELINE, "dash"), hovertemplate="%{y:.1f} % within %{x:.4g} s"
        )
        self.latency.add_scatter(
            name="now", mode="lines", line=_line(_NOW), hovertemplate="%{y:.1f} % within %{x:.4g} s"
        )
        self.latency.update_xaxes(type="log", **_AXIS)
        self.latency.update_yaxes(title_text="requests within (%)", range=[0, 101], **_AXIS)
        self.fleet: Any = FigureWidget(make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.1))
        self.fleet.update_layout(_layout(300))
        for row in (1, 2):
            shape = "linear" if row == 1 else "hv"
            for name, style in (("baseline", _line(_BASELINE, "dash")), ("now", _line(_NOW))):
                line = style | {"shape": shape}
                self.fleet.add_scatter(
                    name=name, mode="lines", line=line, showlegend=row == 1, row=row, col=1, hovertemplate="%{y:.3g}"
                )
        self.fleet.update_xaxes(**_AXIS)
        self.fleet.update_xaxes(title_text="time (s)", row=2)
        self.fleet.update_yaxes(rangemode="tozero", nticks=5, **_AXIS)
        self.fleet.update_yaxes(title_text="waiting", title_standoff=8, row=1)
        self.fleet.update_yaxes(title_text="replicas", title_standoff=8, tickformat="d", row=2)
        for figure in (self.latency, self.fleet):
            figure._config = {**(figure._config or {}), "displayModeBar": False, "responsive": True}

    def draw(self, baseline: Result, now: Result, latency: str) -> None:
        """Show both: the distribution of ``latency`` (a key of :data:`LATENCIES`), requests waiting and replicas that are ready."""
        goals = {one.target for one in now.objectives if one.metric.startswith(f"{latency}_")}
        title, meaning = LATENCIES[latency]
        curves = [distribution(result.requests[f"{latency}_s"]) for result in (baseline, now)]
        low, high = _span([curve for curve in curves if curve is not None], goals)
        ticks = _ticks(low, high)
        with self.latency.batch_update():
            for trace, curve in zip(self.latency.data, curves, strict=True):
                _put(trace, curve, 100.0)
            axis = self.latency.layout.xaxis
            axis.range, axis.tickvals = [math.log10(low), math.log10(high)], ticks
            axis.ticktext = [f"{value * 1e3:.3g} ms" if value < 1.0 else f"{value:.6g} s" for value in ticks]
            axis.title.text = f"{title}, {meaning}"
            self.latency.layout.shapes = [
                {"type": "line", "x0": goal, "x1": goal, "yref": "paper", "y0": 0, "y1": 1, "line": _line(_GOAL, "dot")}
                for goal in sorted(goals)
            ]
            self.latency.layout.annotations = [
                {"x": math.log10(goal), "y": 1, "yref": "paper", "text": "objective", "showarrow": False,
                 "xanchor": "right", "yanchor": "bottom", "font": {"color": _GOAL, "size": 11}}
                for goal in sorted(goals)
            ]  # fmt: skip
        with self.fleet.batch_update():
            for trace, result in zip(self.fleet.data[:2], (baseline, now), strict=True):
                _put(trace, over_time(result.timeline, "waiting"))
            for trace, result in zip(self.fleet.data[2:], (baseline, now), strict=True):
                _put(trace, _ready(result))


def _put(trace: Any, curve: Curve | None, factor: float = 1.0) -> None:
    trace.x, trace.y = ([], []) if curve is None else (curve.x, curve.y * factor)


def _span(curves: Sequence[Curve], goals: Iterable[float]) -> tuple[float, float]:
    """What the latency axis spans: all but the fastest half per cent of requests, and the objectives."""
    ends = [float(curve.x[np.searchsorted(curve.y, share)]) for curve in curves for share in (0.005, 1.0)]
    ends = [end for end in (*ends, *goals) if end > 0.0] or [1.0]
    return min(ends) / 1.1, max(ends) * 1.25


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each power of ten in between; only the powers if these are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [step * 10.0**power for power in powers for step in (1, 2, 5) if low <= step * 10.0**power <= high]
    return found if len(found) <= 8 else [value for value in found if f"{value:.0e}".startswith("1")]


def _ready(result: Result) -> Curve:
    """Replicas that are ready, all deployments, in the first replication; constant from each time to the next."""
    course = result.course
    times = np.unique(np.concatenate([np.asarray(line.times, np.float64) for line in course.lines]))
    total = np.zeros(len(times))
    for line in course.lines:
        total += np.asarray(line.ready, np.float64)[np.maximum(np.searchsorted(line.times, times, "right") - 1, 0)]
    return Curve(np.append(times, course.end), np.append(total, total[-1]))


def _line(colour: str, dash: str = "solid") -> dict[str, Any]:
    return {"color": colour, "dash": dash, "width": 2}


def _layout(height: int) -> dict[str, Any]:
    return {
        "height": height,
        "autosize": True,
        "margin": {"l": 56, "r": 12, "t": 34, "b": 46},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": _INK, "size": 12},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "template": "none",
        "hovermode": "x unified",
        "hoverlabel": {"font": {"color": "#1c2530"}, "bgcolor": "#ffffff"},
    }
