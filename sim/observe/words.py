"""Figures as JSON nests them, and as a notebook shows them."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from sim.observe.metrics import LATENCIES, STATISTICS
from sim.observe.objectives import Estimate

__all__ = ["html_table", "nested", "shown"]


def nested(figures: Mapping[str, Estimate]) -> dict[str, Any]:
    """``ttft_p99`` under ``ttft``, ``p99``; figures that are not latencies as they are."""
    nested: dict[str, Any] = {}
    statistics = ("mean", *STATISTICS)
    for name, estimate in figures.items():
        latency, _, statistic = name.rpartition("_")
        if latency in LATENCIES and statistic in statistics:
            nested.setdefault(latency, {})[statistic] = estimate.to_json()
        else:
            nested[name] = estimate.to_json()
    return nested


def shown(estimate: Estimate) -> str:
    reach = f" ± {estimate.half_width:.2g}" if estimate.half_width is not None else ""
    return "" if math.isnan(estimate.value) else f"{estimate.value:.4g}{reach}"


def html_table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = [
        "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)
        for tag, row in zip(["th"] + ["td"] * (len(rows) - 1), rows, strict=True)
    ]
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(f'<tr>{row}</tr>' for row in body)}</tbody></table>"
