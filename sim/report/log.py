"""What happened in the first replication of a result, read from its tables."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.report.view import Decision

if TYPE_CHECKING:
    import numpy.typing as npt

    from sim.observe import Result

__all__ = ["ResultLog"]

_STRETCHES = 120  # of a curve of arrivals
_CONSEQUENCES = frozenset({"place", "ready", "join", "gone"})
"""What follows from decisions: counted, not listed."""
_REMARKS = frozenset({"extrapolated", "exhausted", "reject"})
"""What is said elsewhere."""
_INCIDENTS = frozenset({"fault", "repair", "fail", "reclaim", "restore", "rollout"})
_WHERE = ("pool", "zone", "node")


@dataclass(frozen=True)
class ResultLog:
    """The log (:class:`sim.report.view.Log`) of a result's first replication."""

    result: Result

    def decisions(self, most: int) -> tuple[list[Decision], dict[str, int]]:
        """The first ``most`` decisions, and how many of each kind there are, consequences included."""
        kinds = [row["kind"] for row in self._rows]
        counts = {kind: kinds.count(kind) for kind in sorted(set(kinds))}
        chosen = [row for row in self._rows if row["kind"] not in _CONSEQUENCES]
        return [_decision(row) for row in chosen[:most]], counts

    def incidents(self, deployment: str) -> list[Decision]:
        """Faults, losses and rollouts of the deployment, or of machines."""
        return [
            _decision(row) for row in self._rows if row["kind"] in _INCIDENTS and row["deployment"] in ("", deployment)
        ]

    def arrivals(self, deployment: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """The middles of equal stretches of the run in seconds, and requests a second that came in each."""
        import pyarrow.compute as pc

        table = self.result.table("requests")
        course = self.result.course
        mine = pc.and_(pc.equal(table["replication"], course.replication), pc.equal(table["deployment"], deployment))
        arrival = table["arrival_s"].filter(mine).to_numpy()
        edges = np.linspace(0.0, max(course.end, float(arrival.max(initial=0.0))) or 1.0, _STRETCHES + 1)
        counts, _ = np.histogram(arrival, edges)
        return (edges[:-1] + edges[1:]) / 2.0, counts / np.diff(edges)

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        import pyarrow.compute as pc

        table = self.result.table("events")
        mine = pc.equal(table["replication"], self.result.course.replication)
        for kind in sorted(_REMARKS):
            mine = pc.and_(mine, pc.not_equal(table["kind"], kind))
        rows: list[dict[str, Any]] = table.filter(mine).to_pylist()
        return rows


def _decision(row: Mapping[str, Any]) -> Decision:
    detail: dict[str, Any] = json.loads(row["detail"] or "{}")
    where = [row["deployment"]] if row["deployment"] else []
    if row["replica"] >= 0:
        where.append(f"replica {row['replica']}")
    for name in _WHERE:
        if name in detail and detail[name] not in ("", None):
            found = detail.pop(name)
            where.append(str(found) if name == "pool" else f"{name} {found}")
    numbers = [f"{name.replace('_', ' ')} {text}" for name, value in detail.items() if (text := _number(value))]
    if row["kind"] == "scale":
        numbers = [f"{detail['before']} → {detail['after']}"] + [
            text for text in numbers if not text.startswith(("before ", "after "))
        ]
    return Decision(float(row["t_s"]), row["kind"], " ".join(where), row["reason"], ", ".join(numbers))


def _number(value: Any) -> str:
    """Short; empty for what is nothing."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:.4g}" if math.isfinite(value) and abs(value) < 1e4 else f"{value:,.0f}"
    if isinstance(value, Mapping):
        return " ".join(f"{name} {_number(item)}" for name, item in value.items())
    if isinstance(value, list):
        return " ".join(_number(item) for item in value[:8]) + (" ..." if len(value) > 8 else "")
    return "" if value is None else str(value)
