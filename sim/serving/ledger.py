"""What a simulation writes down while it runs: columns of requests, and totals. Plain lists, because the hot path writes them."""

from __future__ import annotations

from bisect import bisect_right
from math import ceil
from typing import Final

__all__ = ["FAILED", "OK", "OUTCOMES", "REJECTED", "TIMEOUT", "UNFINISHED", "ItlHistogram", "Ledger"]

OUTCOMES: Final = ("ok", "rejected", "timeout", "failed", "unfinished")
OK: Final = 0
REJECTED: Final = 1
TIMEOUT: Final = 2
FAILED: Final = 3
UNFINISHED: Final = 4

_NAN: Final = float("nan")
_INFINITE: Final = float("inf")


class ItlHistogram:
    """Inter-token latencies of every token, without storing tokens: bins 0.5 % wide from 10 µs to about 3 h.

    ``counts[i]`` counts latencies in ``[edges[i], edges[i + 1])`` seconds; the first bin also holds anything shorter, the last
    anything longer. ``total`` is the exact sum.
    """

    __slots__ = ("_ends", "counts", "edges", "total")

    def __init__(self) -> None:
        self.edges = [1e-5 * 1.005**i for i in range(4160)]
        self._ends = [*self.edges[1:], _INFINITE]
        self.counts = [0] * 4160
        self.total = 0.0

    def add(self, seconds: float, tokens: int) -> None:
        """Count ``tokens`` tokens that each came ``seconds`` after the one before."""
        self.counts[bisect_right(self._ends, seconds)] += tokens
        self.total += seconds * tokens

    def count_span(self, first: float, growth: float, steps: int, tokens: int) -> None:
        """Count a span: ``steps`` steps of ``tokens`` tokens each, the j-th lasting ``first + j * growth`` seconds.

        Their sum is not added to ``total``: who counts spans knows it anyway.
        """
        ends = self._ends
        i = bisect_right(ends, first)
        last = first + (steps - 1) * growth
        done = 0
        while last >= ends[i]:
            # the first step at or past the bin's end: by division, then put right for rounding
            j = ceil((ends[i] - first) / growth)
            while first + j * growth < ends[i]:
                j += 1
            while j > done and first + (j - 1) * growth >= ends[i]:
                j -= 1
            self.counts[i] += tokens * (j - done)
            done = j
            i += 1
        self.counts[i] += tokens * (steps - done)


class Ledger:
    """One replication's records. Columns are indexed by request row; times are seconds, NaN for what never happened.

    ``arrival`` (issue time for closed-loop rows), ``scheduled`` (start of the first step that served it), ``first_token``, ``end``;
    ``replica`` is the global index (deployments in order, replicas within), -1 if never routed; ``outcome`` indexes OUTCOMES.
    Per replica: ``busy`` seconds in steps, ``steps``, ``sequence_seconds`` (Σ sequences x step time, so the mean batch is
    that over busy), ``prefill_tokens`` and ``decode_tokens`` scheduled, ``peak_running``, ``peak_blocks``.
    ``lost``: seconds a request was preempted: from each preemption to its next token, or to its abort or its replica's death.
    Rows and replicas may be added while the simulation runs.
    """

    __slots__ = (
        "area",
        "arrival",
        "busy",
        "decode_tokens",
        "end",
        "end_time",
        "first_token",
        "issued",
        "itl",
        "lost",
        "outcome",
        "peak_blocks",
        "peak_running",
        "preemptions",
        "prefill_tokens",
        "reason",
        "replica",
        "scheduled",
        "sequence_seconds",
        "steps",
    )

    def __init__(self, arrival: list[float], replicas: int) -> None:
        rows = len(arrival)
        self.arrival = arrival
        self.scheduled = [_NAN] * rows
        self.first_token = [_NAN] * rows
        self.end = [_NAN] * rows
        self.replica = [-1] * rows
        self.preemptions = [0] * rows
        self.lost = [0.0] * rows
        self.outcome = [UNFINISHED] * rows
        self.reason: dict[int, str] = {}
        self.itl = ItlHistogram()
        self.busy = [0.0] * replicas
        self.steps = [0] * replicas
        self.sequence_seconds = [0.0] * replicas
        self.prefill_tokens = [0] * replicas
        self.decode_tokens = [0] * replicas
        self.peak_running = [0] * replicas
        self.peak_blocks = [0] * replicas
        self.area = 0.0  # time integral of requests in the system, counted apart from the rows: for Little's law
        self.issued = 0  # rows that arrived (closed-loop rows past the horizon never do)
        self.end_time = 0.0  # when the last thing happened

    def add_row(self, arrival: float) -> int:
        """One more request, which arrives at ``arrival`` (NaN: not known yet). Its row."""
        row = len(self.arrival)
        self.arrival.append(arrival)
        self.scheduled.append(_NAN)
        self.first_token.append(_NAN)
        self.end.append(_NAN)
        self.replica.append(-1)
        self.preemptions.append(0)
        self.lost.append(0.0)
        self.outcome.append(UNFINISHED)
        return row

    def add_replica(self) -> int:
        """One more replica. Its index."""
        index = len(self.busy)
        self.busy.append(0.0)
        self.steps.append(0)
        self.sequence_seconds.append(0.0)
        self.prefill_tokens.append(0)
        self.decode_tokens.append(0)
        self.peak_running.append(0)
        self.peak_blocks.append(0)
        return index
