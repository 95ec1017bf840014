"""What arrives: the whole workload is drawn before a run into one table of requests.

- arrivals, gaps, lengths: the processes a scenario can name (spec reads them from it)
- presets: the same, fitted to published traces and shipped as numbers (data)
- readers, rows, trace: traces of one's own, and what can be done to them
- table: ``draw`` puts all of it into one ``RequestTable``
- fetch, inspect, fit: behind ``twinfer traces``; figures is how a workload is measured
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.workload.table import RequestTable, draw

__all__ = ["RequestTable", "draw"]


def __getattr__(name: str) -> Any:
    # lazily, so that asking for the names of the presets does not load numpy
    if name in __all__:
        from sim.workload import table

        return getattr(table, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
