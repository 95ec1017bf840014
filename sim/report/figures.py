"""The plots of a run or a comparison: latency distributions, queue and batch over time, cost against attainment.

matplotlib is imported by importing this module: import it late. Plots of plain arrays are in :mod:`sim.report.charts`.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from typing import TYPE_CHECKING

from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from sim.report.charts import heat, reaches, tornado
from sim.report.curves import Curve, distribution, front, over_time
from sim.report.format import Unit, label
from sim.report.plot import DARK, LIGHT, MARKERS, SERIES, Colours, Plot, legend, line, short, spoken, themed, time_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sim.report.view import Option, View

__all__ = ["DARK", "LIGHT", "Plot", "draw", "heat", "reaches", "themed", "tornado"]


def draw(view: View) -> list[Plot]:
    """The plots of a run or a comparison; those for which there are no data are left out."""
    from sim.report import causes, fleet, heatmaps

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
    return [*causes.draw(view), *fleet.draw(view), *heatmaps.draw(view), *plots]


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
    scale, unit = time_axis(max(float(curve.x[-1]) for _, _, curve in lines))

    def paint(axes: Axes, colours: Colours) -> None:
        for index, option, curve in lines:
            axes.plot(
                curve.x / scale,
                curve.y,
                label=short(option.name),
                **(line(index, colours) | {"linewidth": 1.4}),
            )
        axes.set_ylim(bottom=0.0)
        axes.set_xlim(left=0.0)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:g}"))
        axes.set_xlabel(unit)
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
    best = [points[place] for place in front([(x.value, y.value) for _, _, x, y in points])]
    ahead = (
        f" On the Pareto front (no other option serves as well for less): {', '.join(point[1].name for point in best)}."
    )
    said = f"Price of each option and the share of requests that met every objective: {words}.{ahead if len(points) > 1 else ''}"

    def paint(axes: Axes, colours: Colours) -> None:
        axes.plot(
            [x.value for _, _, x, _ in best], [y.value for *_, y in best], drawstyle="steps-post", color=colours["muted"],
            linewidth=1.2, linestyle=(0, (4, 2)), zorder=1, label="Pareto front",
        )  # fmt: skip
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
                fontsize=9, color=colour, bbox={"facecolor": colours["paper"], "edgecolor": "none", "pad": 0.4, "alpha": 0.8},
            )  # fmt: skip
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0 if low < 0.9 else 1))
        axes.set_xlabel(unit)
        axes.figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", fontsize=8.5)

    yield Plot(
        "cost",
        "Cost against share of requests within objectives",
        f"{said} A filled mark meets every objective; whiskers are intervals.",
        paint,
    )


def _at(curve: Curve, share: float) -> int:
    return min(int((curve.y < share).sum()), len(curve.y) - 1)
