"""What each logged iteration was made of: vLLM's log says how many requests and tokens; the requests that were served say the rest.

This is bookkeeping along the log, not a scheduler: the log says how many prompts an iteration held and how many of their tokens,
and how many decodes. Prompts enter first come, first served; all of an iteration's chunks are whole but the last; each decode grows
by a token and ends by its output length. So contexts and cached parts of prompts follow exactly. Departures from the plain
course that the counts show are followed too: hits in the prefix cache, preemption and recomputation, requests that
overtook each other on their way to the engine, and the one step too many of a request that ended by its text under
asynchronous scheduling.

Where the log departs otherwise, the books are opened anew at the next moment at which nothing decoded: then the tokens so far are just
those of the first m requests, which says what m is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from calibration.importers.books import Books, Departure, Line
from calibration.importers.iterations import IterationLog
from calibration.runs import RequestLog
from calibration.samples import StepSample
from sim.errors import ProfileError

__all__ = ["Departure", "Reconstruction", "iteration_samples", "reconstruct"]

LEAST_SHARE: Final = 0.9

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """The iterations of one run. ``samples`` has one for each of ``log``'s iterations, None where its composition is not known.

    ``done`` and ``last`` hold for each request of the run the index of the iteration that completed its prompt and of that which made
    its last token, -1 where that is not known.
    ``busy`` says for each iteration whether requests were left when it ended, so that the next one followed at once.
    """

    log: IterationLog
    samples: tuple[StepSample | None, ...]
    done: Ints
    last: Ints
    busy: npt.NDArray[np.bool_]
    departures: tuple[Departure, ...]

    @property
    def share(self) -> float:
        """The part of the iterations whose composition is known."""
        return sum(sample is not None for sample in self.samples) / len(self.samples)

    def known(self) -> list[StepSample]:
        """The samples there are. :raises ProfileError: of less than nine in ten iterations, and where the first departure is."""
        if self.share < LEAST_SHARE:
            first = self.departures[0] if self.departures else None
            why = f": at iteration {self.log.number[first.line]} {first.why}" if first else ""
            raise ProfileError(
                f"{self.log.source}: only {self.share:.1%} of {len(self.samples)} iterations are those of the requests given{why}"
            )
        return [sample for sample in self.samples if sample is not None]


def iteration_samples(log: IterationLog, run: RequestLog) -> list[StepSample]:
    """The iterations of ``run`` in ``log``, with their composition; their time is without what lies between iterations.

    :raises ProfileError: the log is not that of these requests for a tenth of the iterations or more; it says from where on.
    """
    return reconstruct(log, run).known()


def reconstruct(log: IterationLog, run: RequestLog) -> Reconstruction:
    """The composition of the iterations of ``log`` that served ``run``; the log may hold others before and after.

    :raises ProfileError: no iteration is that of the first request.
    """
    served = np.flatnonzero(run.ok)
    if not len(served):
        raise ProfileError(f"{run.source}: has no request that was served")
    requests = [(int(run.prompt[i]), int(run.output[i])) for i in served]
    books = _best(log, requests)
    first, end = books.first, books.line
    done, last = np.full((2, len(run)), -1, dtype=np.int64)
    for known, found in ((done, books.done), (last, books.last)):
        known[served] = np.where(found < 0, -1, found - first)
    return Reconstruction(
        log.part(slice(first, end)),
        tuple(books.samples[i] for i in range(first, end)),
        done,
        last,
        np.array([books.busy[i] for i in range(first, end)], dtype=bool),
        tuple(Departure(one.line - first, one.why) for one in books.departures),
    )


def _best(log: IterationLog, requests: list[tuple[int, int]]) -> Books:
    """The books from the iteration on with which the run begins.

    Of the iterations that hold prompts alone it is the first that can be the first request's, or else the one from which the
    books go on longest without a departure: the log may hold trials of the first request before the run.
    """
    columns = (log.prompts, log.prompt_tokens, log.decodes, log.decode_tokens)
    counts = zip(*(column.tolist() for column in columns), log.seconds.tolist(), strict=True)
    lines: list[Line] = list(counts)
    starts: list[tuple[int, int]] = []
    for first in np.flatnonzero((log.decodes == 0) & (log.prompts > 0)).tolist():
        if len(log) - first <= max((length for length, _ in starts), default=0):
            break
        books = Books(lines, requests, first)
        books.follow(resume=False)
        if books.line > first:
            starts.append((books.line - first, -first))
        if books.finished:
            break
    if not starts:
        raise ProfileError(
            f"{log.source}: no iteration is one of the requests given: the first has {requests[0][0]} prompt tokens"
        )
    for _, first in (starts[0], max(starts)):
        books = Books(lines, requests, -first)
        books.follow(resume=True)
        if sum(sample is not None for sample in books.samples.values()) >= LEAST_SHARE * len(books.samples):
            break
    return books
