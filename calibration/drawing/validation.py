"""A profile against measured runs, as one picture: every request by arrival, distributions, and mean errors by load."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib.ticker import PercentFormatter

from calibration.drawing.style import INK, MUTED, SERIES, canvas, logarithmic, png, style, titled
from calibration.verdict import LIMITS, sentence

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from calibration.validate import Validation

__all__ = ["draw"]

_MEASURED: Final = "#8b95a1"
_PREDICTED: Final = SERIES[1]
_NAMES: Final = {"ttft": "TTFT", "tpot": "TPOT", "e2e": "E2E"}


def draw(found: Validation) -> bytes:
    """The picture as a PNG file."""
    metrics = [metric for metric in _NAMES if metric in found.whole.errors]
    with style():
        figure = canvas(1.2 + 2.3 * len(metrics) + 2.3)
        parts: Any = figure.subfigures(2, 1, height_ratios=(2.4 * len(metrics), 2.2))
        upper, lower = parts
        grid = upper.subplots(len(metrics), 2, width_ratios=(1.75, 1.0), squeeze=False)
        for row, metric in zip(grid, metrics, strict=True):
            _requests(row[0], row[1], found, metric, last=metric == metrics[-1])
        upper.legend(
            *grid[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=2, markerscale=2.0, fontsize=9.5
        )
        _errors(lower, found, metrics)
        against = " and ".join(run.source for run in found.measured)
        figure.suptitle(
            f"{found.profile} against {against}\n" + fill(sentence(found), 125), x=0.01, ha="left", fontsize=10.5
        )
        return png(figure)


def _requests(scatter: Axes, share: Axes, found: Validation, metric: str, *, last: bool) -> None:
    """One metric of every request by arrival, and its distribution."""
    looks = ((found.measured, "measured", _MEASURED, 13.0, 2.4), (found.predicted, "predicted", _PREDICTED, 4.5, 1.6))
    values = [[np.asarray(getattr(log, metric)) for log in logs] for logs, *_ in looks]
    known = np.concatenate([one[np.isfinite(one) & (one > 0.0)] for side in values for one in side])
    factor, unit = (1.0, "s") if known.max() >= 1.0 else (1e3, "ms")
    wide = known.max() > 30.0 * known.min()
    for (logs, label, colour, size, width), times in zip(looks, values, strict=True):
        for number, (log, one) in enumerate(zip(logs, times, strict=True)):
            name = label if number == 0 else None
            scatter.scatter(log.sent, factor * one, s=size, color=colour, linewidths=0, label=name)
            ordered = np.sort(factor * one[np.isfinite(one)])
            heights = np.arange(1, len(ordered) + 1) / len(ordered)
            share.step(ordered, heights, where="post", color=colour, linewidth=width, label=name)
    titled(scatter, f"{_NAMES[metric]} of each request, {unit}", "sent, s" if last else "")
    titled(share, f"Share of requests by {_NAMES[metric]}, {unit}")
    share.yaxis.set_major_formatter(PercentFormatter(1.0))
    share.set_ylim(0.0, 1.02)
    scatter.margins(x=0.02)
    if wide:
        logarithmic(scatter, "y")
        logarithmic(share, "x")
    else:
        scatter.set_ylim(bottom=0.0)


def _errors(figure: Figure | Any, found: Validation, metrics: list[str]) -> None:
    """Mean errors with their intervals by load, on the band of what a question of capacity bears."""
    groups = [*found.by_load, found.whole]
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        limit = 100.0 * LIMITS[metric]
        axes.axhspan(-limit, limit, color="#e6f2ea", zorder=0)
        axes.axhline(0.0, color=MUTED, linewidth=0.8)
        rows = [(group, group.errors[metric]["mean"]) for group in groups if metric in group.errors]
        reach = limit
        for at, (group, error) in enumerate(rows):
            half = 100.0 * (error.half_width or 0.0)
            half = half if np.isfinite(half) else 0.0
            colour = INK if group is found.whole else _PREDICTED
            axes.errorbar(at, 100.0 * error.value, half, fmt="o", color=colour, markersize=6, capsize=3, linewidth=1.4)
            reach = max(reach, abs(100.0 * error.value) + half)
        axes.set_xticks(range(len(rows)), [_load(group) for group, _ in rows])
        axes.set_xlim(-0.6, len(rows) - 0.4)
        axes.set_ylim(-1.15 * reach, 1.15 * reach)
        axes.yaxis.set_major_formatter(PercentFormatter(100.0))
        axes.grid(axis="x", visible=False)
        titled(axes, f"Error of mean {_NAMES[metric]} by load")
    figure.supxlabel(
        "requests under way when it was sent; 95 % intervals; the band is what a capacity question bears",
        fontsize=8.5,
        color=MUTED,
    )


def _load(group: Any) -> str:
    low, high = group.system
    return f"{group.name}\n{low}–{high}" if high > low else f"{group.name}\n{low}"
