"""What happened in a stretch of the first replication of a result, read from its tables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sim.errors import ResultError

if TYPE_CHECKING:
    import pyarrow as pa

    from sim.observe.course import Line
    from sim.observe.result import Result

__all__ = ["Moments"]

_OF_ANY_TIME = frozenset({"extrapolated", "exhausted"})
"""Remarks on the whole run, which have no moment of their own."""


@dataclass(frozen=True)
class Moments:
    """Of ``result``, what overlaps with the time from ``start`` to ``stop`` seconds. ResultError if nothing can."""

    result: Result
    start: float = 0.0
    stop: float = math.inf

    def __post_init__(self) -> None:
        if not self.start < self.stop:
            raise ResultError(f"nothing lies between {self.start:g} s and {self.stop:g} s: the first must be less")
        if self.start > self.end:
            raise ResultError(f"nothing happened after {self.start:g} s: the run ended at {self.end:g} s")

    @property
    def end(self) -> float:
        """When the last thing happened."""
        return self.result.course.end

    @cached_property
    def requests(self) -> pa.Table:
        """In order of arrival (:data:`sim.observe.tables.REQUESTS`)."""
        import pyarrow.compute as pc

        table = self._table("requests")
        left = pc.fill_null(table["end_s"], self.end)
        return self._overlapping(table, table["arrival_s"], left).sort_by(
            [("arrival_s", "ascending"), ("request", "ascending")]
        )

    @cached_property
    def steps(self) -> pa.Table:
        """Empty if they were not kept (:data:`sim.observe.tables.STEPS`)."""
        table = self._table("steps")
        return self._overlapping(table, table["start_s"], table["end_s"])

    @cached_property
    def samples(self) -> pa.Table:
        """Of the replicas (:data:`sim.observe.tables.TIMELINE`)."""
        table = self._table("timeline")
        return self._overlapping(table, table["t_s"], table["t_s"])

    @cached_property
    def period(self) -> float:
        """Seconds between samples; infinite if there are not two."""
        import numpy as np

        between = np.diff(np.unique(self._table("timeline")["t_s"].to_numpy()))
        return float(between.min(initial=math.inf))

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        """Decisions and incidents in order of time (:data:`sim.observe.tables.EVENTS`), but for requests that were turned away."""
        return [row for row in self.history if row["kind"] != "reject" and self.start <= row["t_s"] <= self.stop]

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """All events of the replication that have a moment, whatever the stretch."""
        return [row for row in self._table("events").to_pylist() if row["kind"] not in _OF_ANY_TIME]

    @property
    def lines(self) -> list[Line]:
        """Replicas ready, starting and asked for, by deployment."""
        return list(self.result.course.lines)

    @cached_property
    def at_start(self) -> set[tuple[str, int]]:
        """Replicas that served from the first moment on."""
        import pyarrow.compute as pc

        table = self._table("timeline")
        first = table.filter(pc.equal(table["t_s"], 0.0))
        return set(zip(first["deployment"].to_pylist(), first["replica"].to_pylist(), strict=True))

    @cached_property
    def deployments(self) -> dict[str, list[int]]:
        """The replicas of each deployment that anything is known of, ascending."""
        found: dict[str, set[int]] = {line.deployment: set() for line in self.lines}
        for table in (self._table("timeline"), self._table("requests"), self._table("steps")):
            pairs = table.group_by(["deployment", "replica"]).aggregate([])
            for name, replica in zip(pairs["deployment"].to_pylist(), pairs["replica"].to_pylist(), strict=True):
                found.setdefault(name, set()).add(replica)
        for row in self.history:
            if row["deployment"]:
                found.setdefault(row["deployment"], set()).add(row["replica"])
        return {name: sorted(replicas - {-1}) for name, replicas in found.items()}

    def _table(self, name: str) -> pa.Table:
        import pyarrow.compute as pc

        table = self.result.table(name)
        return table.filter(pc.equal(table["replication"], self.result.course.replication))

    def _overlapping(self, table: pa.Table, begin: pa.ChunkedArray, end: pa.ChunkedArray) -> pa.Table:
        import pyarrow.compute as pc

        return table.filter(pc.and_(pc.less_equal(begin, self.stop), pc.greater_equal(end, self.start)))
