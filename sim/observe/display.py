"""Results and comparisons as notebooks show them: the answer first, then a table with units."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from sim.display import details, html_table, paragraph
from sim.observe.metrics import LATENCIES
from sim.observe.words import called, in_seconds, number

if TYPE_CHECKING:
    from sim.observe.objectives import Estimate, Standing
    from sim.observe.result import Comparison, Result

__all__ = ["comparison_html", "figure", "result_html"]

_MARKS = {"meets": "✓ meets", "misses": "✗ misses", "undecided": "? undecided"}
_SHARES = ("slo_attainment", "gpu_utilization", "kv_usage_mean", "kv_usage_peak", "idle_share", "lost_share")


def figure(metric: str, estimate: Estimate) -> str:
    """``172 ± 29 ms``, ``99.1 ± 0.4 %``, ``$27.52``; empty for what is not a number."""
    value, half = estimate.value, estimate.half_width
    if math.isnan(value):
        return ""
    if metric.startswith(("usd_", "cost_usd", "idle_usd")):
        reach = f" ± {number(half, 2)}" if half and half > 1e-9 * abs(value) else ""
        return f"${value:,.2f}{reach}" if abs(value) >= 1.0 else f"${number(value)}{reach}"
    factor, unit = 1.0, ""
    if metric.rpartition("_")[0] in LATENCIES:
        factor, unit = in_seconds(abs(value))
    elif metric in _SHARES:
        factor, unit = 100.0, "%"
    elif metric.endswith("_rps"):
        unit = "req/s"
    reach = f" ± {number(half * factor, 2)}" if half else ""
    return f"{number(value * factor)}{reach} {unit}".rstrip()


def _target(standing: Standing) -> str:
    if standing.metric.startswith("usd"):
        return f"${standing.target:,.6g}"
    factor, unit = in_seconds(standing.target)
    return f"{standing.target * factor:.6g} {unit}"


def result_html(result: Result) -> str:
    """The question, how every objective fares, the headline figures; all of them folded away."""
    from sim.observe.verdict import HEADLINES

    said = paragraph(result.question or result.name, strong=True)
    if result.objectives:
        many = len(result.figures.workloads) > 1
        rows = [["objective", "at most", "is", ""]]
        for one in result.objectives:
            name = f"{one.workload}: {called(one.metric)}" if many and one.workload else called(one.metric)
            rows.append([name, _target(one), figure(one.metric, one.estimate), _MARKS[one.status]])
        said += html_table(rows)
    headlines = ("throughput_rps", *HEADLINES, "usd_per_hour")
    said += html_table(_rows({name: result.summary[name] for name in headlines if name in result.summary}))
    runs = f"{result.replications} replication{'s' if result.replications != 1 else ''}"
    said += paragraph(f"{runs}, ± {result.figures.confidence:.0%} intervals, warm-up {result.warmup_s:.4g} s left out")
    return said + _warnings(result.warnings) + details("all figures", html_table(_rows(result.summary)))


def _rows(figures: Mapping[str, Estimate]) -> list[list[str]]:
    return [["figure", "value"], *([called(name), figure(name, estimate)] for name, estimate in figures.items())]


def comparison_html(comparison: Comparison) -> str:
    """The verdict, then a row an option: whether it does, and the figures that decide."""
    from sim.observe.verdict import HEADLINES

    asked = [metric for result in comparison.options.values() for one in result.objectives for metric in [one.metric]]
    columns = list(dict.fromkeys([*HEADLINES, *asked, "usd_per_hour"]))
    verdict = comparison.verdict
    rows = [["option", "objectives", *map(called, columns)]]
    for name, result in comparison.options.items():
        mark = _MARKS[verdict.status[name]] if result.objectives else ""
        best = " ★" if name == verdict.winner else ""
        empty = result.figures.estimate
        rows.append([f"{name}{best}", mark, *(figure(metric, empty(metric)) for metric in columns)])
    said = paragraph(comparison.question) + paragraph(verdict.sentence, strong=True) + html_table(rows)
    return said + _warnings(comparison.warnings)


def _warnings(warnings: Iterable[str]) -> str:
    return "".join(paragraph(f"⚠ {text}") for text in warnings)
