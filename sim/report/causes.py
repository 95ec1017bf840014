"""What the tail of each objective spent its time on, as bars: an option a row, its tail over a typical request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from matplotlib.patches import Patch

from sim.observe.causes import CAUSES
from sim.report.format import label
from sim.report.plot import Colours, Plot, short, spoken

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sim.observe.why import Attribution, Group
    from sim.report.view import View

__all__ = ["PREFIX", "draw"]

PREFIX = "causes-"

_COLOURS = {
    "retry": "s3",
    "admission": "s6",
    "failure": "s5",
    "cold start": "s1",
    "queueing": "s0",
    "preemption": "s4",
    "batching": "s7",
    "compute": "s2",
    "overhead": "muted",
}
_HATCHED = frozenset({"failure", "admission", "preemption", "overhead"})
"""A second mark beside colour, for those that stand next to what is like them."""
_NAMED = 0.08  # a share that is written on its bar
_SHOWN = 0.003  # a share that is in the legend


def draw(view: View) -> Iterator[Plot]:
    """A plot for each objective on a latency of which any option has served requests."""
    for place, (workload, metric) in enumerate(view.targets()):
        rows = [
            (option.name, found)
            for option in view.options
            if option.explanation is not None
            for found in option.explanation.causes
            if (found.workload, found.metric) == (workload, metric) and found.tail is not None
        ]
        if rows:
            whose = f" of {workload}" if len(view.workloads) > 1 else ""
            yield _bars(f"{PREFIX}{place}", f"{label(metric)}{whose}: where the tail's time goes", rows, metric)


def _bars(name: str, title: str, rows: list[tuple[str, Attribution]], metric: str) -> Plot:
    groups = [group for _, found in rows for group in (found.tail, found.typical) if group is not None]
    used = [cause for cause in CAUSES if any(_share(group, cause) >= _SHOWN for group in groups)]
    said = "; ".join(f"{option} {_words(found)}" for option, found in rows)
    each = "a token" if metric.startswith(("tpot", "itl")) else "each"
    described = (
        f"Share of the time by cause: thick, the tail ({'; '.join(sorted({_which(found) for _, found in rows}))}); thin, a "
        f"typical request (the half between the quartiles). Mean seconds {each} on the right. {said}."
    )

    def paint(axes: Axes, colours: Colours) -> None:
        for row, (_, found) in enumerate(rows):
            _bar(axes, colours, row - 0.12, 0.5, found.tail)
            _bar(axes, colours, row + 0.27, 0.16, found.typical)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(0.0, 1.0)
        axes.set_yticks(range(len(rows)), [short(option) for option, _ in rows], color=colours["ink"])
        axes.set_xticks([0.0, 0.25, 0.5, 0.75, 1.0], ["0%", "25%", "50%", "75%", "100%"])
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        handles = [Patch(**_style(cause, colours), label=cause) for cause in used]
        axes.figure.legend(
            handles=handles, loc="outside upper left", fontsize=8.5, ncols=min(len(used), 5), handlelength=1.2
        )

    return Plot(name, title, described, paint, size=(5.6, 1.35 + 0.55 * len(rows)))


def _bar(axes: Axes, colours: Colours, y: float, height: float, group: Group | None) -> None:
    if group is None:
        return
    left = 0.0
    for cause in CAUSES:
        share = _share(group, cause)
        if share <= 0.0:
            continue
        axes.barh(y, share, height, left=left, linewidth=0.4, edgecolor=colours["paper"], **_fill(cause, colours))
        if share >= _NAMED and height > 0.3:
            axes.text(
                left + share / 2,
                y,
                f"{share:.0%}",
                ha="center",
                va="center",
                fontsize=8,
                color=colours["paper"],
                bbox={"facecolor": colours[_COLOURS[cause]], "edgecolor": "none", "pad": 1.0},
            )
        left += share
    axes.annotate(
        spoken(group.latency), (1.0, y), xytext=(4, 0), textcoords="offset points", va="center",
        fontsize=8.5 if height > 0.3 else 7, color=colours["ink"] if height > 0.3 else colours["muted"], annotation_clip=False,
    )  # fmt: skip


def _fill(cause: str, colours: Colours) -> dict[str, Any]:
    return {"color": None, "facecolor": colours[_COLOURS[cause]], "hatch": "////" if cause in _HATCHED else None}


def _style(cause: str, colours: Colours) -> dict[str, Any]:
    return {name: value for name, value in _fill(cause, colours).items() if name != "color"} | {
        "edgecolor": colours["paper"],
        "linewidth": 0.4,
    }


def _share(group: Group, cause: str) -> float:
    share = group.shares.get(cause)
    return 0.0 if share is None else share.value


def _which(found: Attribution) -> str:
    return "beyond the limit where it is missed" if found.beyond else "at or beyond the quantile where it is not"


def _words(found: Attribution) -> str:
    """``2.4 s: cold start 71%, batching 18%``."""
    assert found.tail is not None
    by = sorted(CAUSES, key=lambda cause: -_share(found.tail, cause))[:3]  # type: ignore[arg-type]
    named = ", ".join(f"{cause} {_share(found.tail, cause):.0%}" for cause in by if _share(found.tail, cause) >= 0.01)
    return f"{spoken(found.tail.latency)}: {named}"
