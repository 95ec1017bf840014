"""Where and when it hurts: requests outside their objectives and full KV caches by option and time, latencies by time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sim.report.charts import bounds_of, heat
from sim.report.curves import latency_grids, ratio_over_time
from sim.report.format import label
from sim.report.plot import Plot, spoken, time_axis

if TYPE_CHECKING:
    from sim.report.view import Option, View

__all__ = ["PREFIX", "draw"]

PREFIX = "heat-"

_COLUMNS = 60
_ROWS = 40  # replicas or options that are told apart
_MAPS = 8  # of latencies, an option each
_SHARES = (0.001, 0.01, 0.05, 0.2, 0.5)
_FILLS = (0.05, 0.25, 0.5, 0.75, 0.9, 0.98)

Floats = npt.NDArray[np.float64]


def draw(view: View) -> Iterator[Plot]:
    """Those for which there are data."""
    yield from _outside(view)
    yield from _kv(view)
    yield from _latencies(view)


def _outside(view: View) -> Iterator[Plot]:
    """Requests outside objectives: a row an option and workload."""
    found = [(option, kept) for option in view.options if option.course is not None for kept in option.course.kept]
    found = found[:_ROWS]
    if not found:
        return
    many = len({kept.workload for _, kept in found}) > 1
    names = _names([option.name for option, _ in found], [kept.workload for _, kept in found] if many else None, view)
    end = max(kept.end for _, kept in found)
    scale, unit = time_axis(end)
    edges = np.linspace(0.0, end, len(found[0][1].came) + 1)
    shares = np.full((len(found), len(edges) - 1), np.nan)
    said = []
    for row, (name, (_, kept)) in enumerate(zip(names, found, strict=True)):
        came, fine = np.asarray(kept.came, float), np.asarray(kept.kept, float)
        late = np.divide(came - fine, came, out=np.full(len(came), np.nan), where=came > 0)
        # options may end at other times: each stretch is put where its middle is
        middles = (np.arange(len(came)) + 0.5) * kept.end / len(came)
        shares[row, np.searchsorted(edges, middles, "right") - 1] = late
        total = (came - fine).sum() / came.sum() if came.sum() else 0.0
        worst = (
            "" if not (late > 0).any() else f", most around {_short(middles[int(np.nanargmax(late))] / scale)} {unit}"
        )
        said.append(f"{name} {total:.1%}{worst}")
    if not (shares >= _SHARES[0]).any():
        return
    yield heat(
        f"{PREFIX}outside",
        "Requests outside their objectives, by time of arrival",
        f"Share of the requests that came in each stretch, warm-up included; all replications. Over the run: {'; '.join(said)}.",
        edges / scale,
        None,
        shares,
        rows=names,
        x_label=unit,
        what="share late or not served",
        bounds=_SHARES,
        said=lambda value: f"{100 * value:.3g}%",
    )


def _kv(view: View) -> Iterator[Plot]:
    """KV blocks in use: a row an option (and deployment); of a run, a replica in its first replication."""
    rows: list[tuple[str, str, Floats]] = []
    shown = [option for option in view.options if option.samples is not None]
    lines = {option.name: option.samples.timeline for option in shown if option.samples is not None}
    lines = {name: line for name, line in lines.items() if "kv_blocks" in line.columns and len(line)}
    if not lines:
        return
    end = max(float(line["t_s"].max()) for line in lines.values()) or 1.0
    scale, unit = time_axis(end)
    samples = max(int(line["t_s"].nunique()) for line in lines.values())
    edges = np.linspace(0.0, end, min(_COLUMNS, max(samples - 1, 1)) + 1)
    single = len(view.options) == 1
    by = ["deployment", "replica"] if single else ["deployment"]
    for name, line in lines.items():
        first = line[line["replication"] == line["replication"].min()] if single else line
        for key, part in first.groupby(by, sort=True):
            place = f"{key[0]} {key[1]}" if single else str(key[0])
            rows.append((name, place, ratio_over_time(part, "kv_used", "kv_blocks", edges)))
    if single and len(rows) > _ROWS:  # the fullest
        order = sorted(range(len(rows)), key=lambda place: -float(np.nansum(rows[place][2])))[:_ROWS]
        rows = [rows[place] for place in sorted(order)]
    rows = [row for row in rows if np.isfinite(row[2]).any()][:_ROWS]
    if not rows:
        return
    whose = [row[1] for row in rows]
    names = whose if single else _names([row[0] for row in rows], whose if len(set(whose)) > 1 else None, view)
    values = np.array([row[2] for row in rows])
    peaks = "; ".join(f"{name} {np.nanmax(row):.0%}" for name, row in zip(names[:12], values, strict=False))
    said = "by replica, first replication" if single else "all replicas and replications"
    rest = "; ..." if len(names) > 12 else ""
    yield heat(
        f"{PREFIX}kv",
        "KV cache in use over time",
        f"Share of the KV blocks in use, {said}; empty: no replica, or under 5%. Fullest stretch: {peaks}{rest}.",
        edges / scale,
        None,
        values,
        rows=names,
        x_label=unit,
        what="share of KV blocks in use",
        bounds=_FILLS,
        said=lambda value: f"{value:.0%}",
    )


def _latencies(view: View) -> Iterator[Plot]:
    """Requests by when they came and how long they took: a map an option, of the first latency that has an objective, or TTFT."""
    shown = [(option, option.samples) for option in view.options if option.samples is not None]
    targets = view.targets()
    asked = [metric.partition("_")[0] for _, metric in targets]
    family = next((name for name in asked if name in ("ttft", "tpot", "e2e")), "ttft")
    grids = latency_grids([(samples.arrivals(), samples.latency(family)) for _, samples in shown], _COLUMNS)
    if grids is None:
        return
    chosen = _chosen(view, [option for option, _ in shown])
    name = label(f"{family}_mean").split()[0]
    bounds = bounds_of(np.concatenate([grid.values.ravel() for grid in grids]))
    limits = {
        (target, f"{workload} {spoken(target)}" if len(view.workloads) > 1 else f"objective {spoken(target)}")
        for (workload, metric), target in targets.items()
        if metric.startswith(f"{family}_")
    }
    for place, ((option, samples), grid) in enumerate(zip(shown, grids, strict=True)):
        if option.name not in chosen:
            continue
        scale, unit = time_axis(float(grid.x[-1]))
        most = grid.values.sum(axis=1)
        middle = float(np.sqrt(grid.y[int(most.argmax())] * grid.y[int(most.argmax()) + 1]))
        took = samples.latency(family)
        served = max(int(np.isfinite(took).sum()), 1)
        above = [f"{int((took > limit).sum()) / served:.1%} over {spoken(limit)}" for limit, _ in sorted(limits)]
        yield heat(
            f"{PREFIX}latency-{place}",
            f"{option.name}: {name} over time" if len(view.options) > 1 else f"{name} over time",
            f"Requests of all replications by when they came and by their {name}; darker or brighter than the page: more. Most took around "
            f"{spoken(middle)}{'; ' if above else ''}{', '.join(above)}.",
            grid.x / scale,
            grid.y,
            grid.values,
            x_label=unit,
            y_label=f"{name} (log scale)",
            what="requests",
            bounds=bounds,
            log=True,
            y_said=spoken,
            lines=[(limit, text) for limit, text in sorted(limits) if grid.y[0] < limit < grid.y[-1]],
        )


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def _chosen(view: View, options: Sequence[Option]) -> set[str]:
    """The first options, and the winner, as many as a page holds."""
    names = [option.name for option in options]
    first = names[:_MAPS]
    if view.winner in names[_MAPS:]:
        first[-1] = str(view.winner)
    return set(first)


def _names(options: Sequence[str], others: Sequence[str] | None, view: View) -> list[str]:
    if others is None:
        return list(options)
    if len(view.options) == 1:
        return list(others)
    return [f"{option}, {other}" for option, other in zip(options, others, strict=True)]
