"""A replica that also writes down every step it carries out. Who does not ask for it runs :class:`sim.serving.replica.Replica`."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final

from sim.perf.steptable import StepTable
from sim.serving.ledger import Ledger
from sim.serving.replica import Replica
from sim.serving.settings import EngineSettings

__all__ = ["RecordedReplica", "StepLog"]

_NEVER: Final = float("inf")
_COUNTS: Final = (
    "replica",
    "steps",
    "prompts",
    "prefill_tokens",
    "decodes",
    "context_tokens",
    "running",
    "waiting",
    "kv_used",
)


class StepLog:
    """Steps in the order of their ends: a row a step, or a span of equal ones, in columns that are numpy's at no cost.

    ``replica`` (number in the fleet), ``start_s``, ``end_s`` (the engine's clock), ``steps`` (0: one that was lost with its replica),
    ``prompts`` (requests with prompt tokens in each), ``prefill_tokens``, ``decodes`` (requests that get a token in each),
    ``context_tokens`` (which those have in the KV cache before the first), and as the first began: ``running``, ``waiting``
    (requests), ``kv_used`` (blocks).
    """

    def __init__(self) -> None:
        self._times: dict[str, array[float]] = {name: array("d") for name in ("start_s", "end_s")}
        self._counts: dict[str, array[int]] = {name: array("q") for name in _COUNTS}

    @property
    def columns(self) -> dict[str, Sequence[float]]:
        """All of them, by name."""
        return {**self._times, **self._counts}

    def note(self, replica: int, start: float, end: float, steps: int, made_of: tuple[int, ...]) -> None:
        """Write a row; ``made_of`` are the columns from ``prompts`` on."""
        self._times["start_s"].append(start)
        self._times["end_s"].append(end)
        for column, count in zip(self._counts.values(), (replica, steps, *made_of), strict=True):
            column.append(count)


class RecordedReplica(Replica):
    """Does what a Replica does, and notes it in ``log``."""

    __slots__ = ("_made_of", "_noted", "log")

    def __init__(self, index: int, settings: EngineSettings, table: StepTable, ledger: Ledger, log: StepLog) -> None:
        super().__init__(index, settings, table, ledger)
        self.log = log
        self._made_of: tuple[int, ...] = ()  # of what the steps in progress are
        self._noted = 0.0  # when the last noted step ended

    def begin(self, now: float) -> None:
        super().begin(now)
        if self.end != _NEVER:
            step = self.scheduler.step
            self._made_of = (
                len(step.chunks),
                step.prefill_tokens,
                step.decodes,
                step.context_sum,
                *self.snapshot(now),
            )

    def complete(self, now: float) -> list[int]:
        self.log.note(self.index, self._start, now, self._repeats, self._made_of)
        self._noted = now
        return super().complete(now)

    def kill(self, now: float, late: bool = True) -> list[int]:
        begun = _NEVER if self.end == _NEVER else self._start
        rows = super().kill(now, late)
        lost = max(begun, self._noted)
        if lost < now:
            self.log.note(self.index, lost, now, 0, self._made_of)
        return rows
