"""A run of known requests over replicas that come and go, for a controller that may try a plan before it is carried out.

One deployment behind a least-outstanding router; replicas are those of the simulation. Nothing is random, no time passes but the
requests' own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

import numpy as np

from sim.perf.steptable import StepTable
from sim.serving.ledger import Ledger
from sim.serving.replica import Replica
from sim.serving.settings import EngineSettings

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Change", "Latencies", "rehearse"]

_NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Change:
    """At ``time`` there are to be ``replicas`` that get requests. Those let go serve what they have."""

    time: float
    replicas: int


@dataclass(frozen=True, slots=True)
class Latencies:
    """Seconds by request, inf for what had no end (``tpot``: 0 where there is one token)."""

    ttft: npt.NDArray[np.float64]
    tpot: npt.NDArray[np.float64]
    e2e: npt.NDArray[np.float64]
    queue: npt.NDArray[np.float64]


class _Stage:
    """The replicas, and who of them gets requests."""

    def __init__(self, step: StepTable, settings: EngineSettings, ledger: Ledger) -> None:
        self.step = step
        self.settings = settings
        self.ledger = ledger
        self.replicas: list[Replica] = []
        self.outstanding: list[int] = []
        self.open: list[int] = []
        self.calendar: list[tuple[float, int]] = []
        self.line: deque[int] = deque()  # requests while there is no replica

    def resize(self, replicas: int) -> None:
        """So many get requests from now on: an idle one goes first, then who has least to do; who comes is new."""
        while len(self.open) > replicas:
            self.open.remove(min(self.open, key=lambda index: (self.outstanding[index], -index)))
        while len(self.open) < replicas:
            self.open.append(len(self.replicas))
            self.replicas.append(Replica(len(self.replicas), self.settings, self.step, self.ledger))
            self.outstanding.append(0)

    def send(self, row: int, prompt: int, output: int, now: float) -> None:
        """To the replica with the fewest requests; the least used of equals."""
        outstanding = self.outstanding
        best = self.open[0]
        for index in self.open:
            if outstanding[index] < outstanding[best]:
                best = index
        self.open.remove(best)
        self.open.append(best)  # ties in turn
        outstanding[best] += 1
        replica = self.replicas[best]
        if replica.arrive(row, prompt, output, 0, now, False):
            heappush(self.calendar, (replica.end, best))

    def advance(self, until: float) -> None:
        """All step ends before ``until``."""
        calendar = self.calendar
        while calendar and calendar[0][0] < until:
            end, index = heappop(calendar)
            replica = self.replicas[index]
            if replica.end != end:
                continue  # superseded
            self.outstanding[index] -= len(replica.complete(end))
            replica.begin(end)
            if replica.end != _NEVER:
                heappush(calendar, (replica.end, index))


def rehearse(
    step: StepTable,
    settings: EngineSettings,
    arrival: Sequence[float],
    prompt: Sequence[int],
    output: Sequence[int],
    changes: Sequence[Change],
) -> Latencies:
    """Serve requests (plain lists, in order of arrival) with the replicas that ``changes`` say, in order of time.

    A request that no replica can hold, or that finds none until the end, has latencies of inf.
    """
    ledger = Ledger(list(arrival), 0)
    stage = _Stage(step, settings, ledger)
    most = min(settings.max_model_len, (settings.kv_blocks - 1) * settings.block_size + 1)
    outside = step.outside  # counts the simulation's steps
    due = deque(changes)
    for row, now in enumerate([*arrival, _NEVER]):
        while due and due[0].time <= now:
            change = due.popleft()
            stage.advance(change.time)
            stage.resize(change.replicas)
            while stage.open and stage.line:
                waiting = stage.line.popleft()
                stage.send(waiting, prompt[waiting], output[waiting], change.time)
        stage.advance(now)
        if now == _NEVER or prompt[row] + output[row] > most:
            continue
        if stage.open:
            stage.send(row, prompt[row], output[row], now)
        else:
            stage.line.append(row)
    step.outside = outside
    return _latencies(ledger, arrival, output)


def _latencies(ledger: Ledger, arrival: Sequence[float], output: Sequence[int]) -> Latencies:
    start = np.asarray(arrival, dtype=np.float64)
    first = np.asarray(ledger.first_token, dtype=np.float64)
    end = np.asarray(ledger.end, dtype=np.float64)
    gaps = np.maximum(np.asarray(output, dtype=np.float64) - 1.0, 0.0)
    e2e = end - start
    tpot = np.divide(end - first, gaps, out=np.zeros_like(end), where=gaps > 0.0)
    queue = np.asarray(ledger.scheduled, dtype=np.float64) - start
    return Latencies(*(np.where(np.isnan(end), _NEVER, figure) for figure in (first - start, tpot, e2e, queue)))
