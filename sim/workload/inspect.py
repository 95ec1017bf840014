"""Looking at a trace or a preset: its figures, and for a preset how far its draws are from the data it was fitted to."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sim.errors import ConfigError
from sim.kernel.streams import generator
from sim.workload.arrivals import arrive
from sim.workload.figures import arrival_figures, figures, length_figures
from sim.workload.presets import Preset, names, preset
from sim.workload.readers import read
from sim.workload.table import RequestTable
from sim.workload.trace import Trace, spread

__all__ = ["Inspection", "inspect"]

_DRAWS = 64
_DURATION = 3600.0


@dataclass(frozen=True)
class Inspection:
    """What :func:`inspect` found.

    ``figures``: requests, duration_s, rate, gap_cv, idc_10s, idc_60s, idc_300s, prompt_ and output_ mean, p50, p90, p99, and
    rank_correlation; for a preset the mean over its draws. ``measured``: the same of the data a preset was fitted to, or what is
    published of it. ``errors``: the preset's relative deviation from them (rank_correlation: the difference).
    ``spread``: what 80 % of single draws lie within.
    """

    name: str
    kind: str
    format: str
    figures: dict[str, float]
    measured: dict[str, float] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    spread: dict[str, tuple[float, float]] = field(default_factory=dict)
    source: str = ""
    licence: str = ""
    citation: str = ""
    basis: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON types; what is not a number (no such figure) is null."""

        def plain(values: dict[str, float]) -> dict[str, float | None]:
            return {key: value if math.isfinite(value) else None for key, value in values.items()}

        return {
            "name": self.name,
            "kind": self.kind,
            "format": self.format,
            "figures": plain(self.figures),
            "measured": plain(self.measured),
            "errors": plain(self.errors),
            "spread": {key: list(value) for key, value in self.spread.items() if all(map(math.isfinite, value))},
            "source": self.source,
            "licence": self.licence,
            "citation": self.citation,
            "basis": self.basis,
            "notes": list(self.notes),
        }


def inspect(what: str | Path | Preset | RequestTable | Trace, format: str = "auto") -> Inspection:
    """The figures of a preset (by name or ``*.json`` file), of a trace (by path or catalog name, or as read), or of a drawn table.

    Raises TraceError for a trace that cannot be read.
    """
    if isinstance(what, Preset):
        return _of_preset(what)
    if isinstance(what, RequestTable):
        return _of_table(what)
    if isinstance(what, Trace):
        return _of_trace(what)
    if str(what) in names():
        return _of_preset(preset(str(what)))
    if str(what).endswith(".json") and Path(what).is_file():
        try:
            return _of_preset(preset(str(what)))
        except ConfigError:
            pass  # then it is a trace, or an error as one
    return _of_trace(read(str(what), format))


def _of_trace(trace: Trace) -> Inspection:
    notes = trace.notes
    if trace.tick > 0.0:
        notes = (
            *notes,
            f"its clock ticks every {trace.tick:.3g} s: arrivals are spread over the tick, here and when replayed",
        )
    seen = spread(trace, generator(0, 0, "fit/ticks"))
    return Inspection(trace.source, "trace", trace.format, figures(seen), source=trace.source, notes=notes)


def _of_table(table: RequestTable) -> Inspection:
    opened = ~np.isnan(table.arrival)
    arrival = table.arrival[opened]
    duration = float(arrival[-1]) if len(arrival) else math.nan
    found = arrival_figures(arrival, duration) | length_figures(table.prompt_tokens, table.output_tokens)
    closed = len(table) - len(arrival)
    notes = (f"{closed} closed-loop requests have no arrival of their own",) if closed else ()
    return Inspection(
        ", ".join(table.workload_names), "table", "", found | {"requests": float(len(table))}, notes=notes
    )


def _of_preset(chosen: Preset) -> Inspection:
    duration = chosen.measured.get("duration_s", _DURATION)
    clock, gaps = chosen.process()
    lengths = chosen.lengths()
    drawn: list[dict[str, float]] = []
    for draw in range(_DRAWS):
        # other streams than those of the fit: a fit is judged on draws it has not seen
        streams = generator(1, draw, "inspect/gaps"), generator(1, draw, "inspect/rate")
        arrival = arrive(clock, gaps, streams, duration)
        prompt, output = lengths.draw(generator(1, draw, "inspect/lengths"), max(len(arrival), 2))
        drawn.append(arrival_figures(arrival, duration) | length_figures(prompt, output))
    columns = {key: np.array([one[key] for one in drawn]) for key in drawn[0]}
    mean = {key: float(values.mean()) for key, values in columns.items()}
    errors = {
        key: mean[key] - value if key == "rank_correlation" else mean[key] / value - 1.0
        for key, value in chosen.measured.items()
        if key in mean and key not in ("requests", "duration_s") and (value != 0.0 or key == "rank_correlation")
    }
    low_high = {key: np.quantile(values, (0.1, 0.9)).tolist() for key, values in columns.items() if key != "duration_s"}
    return Inspection(
        chosen.name,
        "preset",
        "",
        mean,
        dict(chosen.measured),
        errors,
        {key: (low, high) for key, (low, high) in low_high.items()},
        chosen.source,
        chosen.licence,
        chosen.citation,
        dict(chosen.basis),
        (chosen.description,) if chosen.description else (),
    )
