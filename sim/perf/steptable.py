"""The time of one engine iteration, as the simulation's hot path reads it: plain lists, filled once from a profile.

Two shapes of iteration, as in docs/design.md:

* decode only, ``n`` sequences with ``C`` tokens in the KV cache between them: piecewise affine in ``C`` for each ``n``,
  ``t = base[n][i] + slope[n][i] * C`` for ``C <= knots[n][i]``; everything (GEMMs, LM head, sampling, attention, host) is in it.
* mixed: ``t = gemm[T] + sample[sequences] + host + attention``, attention from the measured grid.

Every value is on the time grid (:mod:`sim.kernel.clock`), so a span of equal decode steps has an exact closed-form sum.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from math import isfinite, sqrt
from typing import Any, Final

from sim.kernel.clock import on_grid

__all__ = ["StepTable", "snap"]

# Adding and taking away 1.5 * 2**16 leaves a double rounded to a multiple of 2**-36, the time grid, for |x| < 2**15 s.
_SNAP: Final = 98304.0


def snap(seconds: float) -> float:
    """``seconds`` on the time grid; for step times, which are below nine hours. Works on arrays too."""
    return (seconds + _SNAP) - _SNAP


class StepTable:
    """Step times of one (model, GPU, engine, parallelism), compiled for one engine setting.

    Parameters (all times seconds; all lists are indexed by whole numbers from 0):

    * ``knots[n]``: ascending context sums where a piece of the decode line ends; ``base[n]`` and ``slope[n]`` have one more
      entry than ``knots[n]``: the last piece is the extrapolation past what was measured. Lengths ``max_num_seqs + 1``;
      entry 0 is an empty list.
    * ``attention_base[n]``, ``attention_slope[n]``: the attention share of the same pieces, used when prefill and decode
      attention were not measured together (``mixed`` is None): the two are then added.
    * ``gemm[T]`` by scheduled tokens (length ``max_num_batched_tokens + 1``) and ``sample[s]`` by sequences; ``host`` a step.
    * ``prefill[i][j]``: attention of a lone prefill chunk of ``chunk_grid[i]`` tokens over ``past_grid[j]`` cached ones.
    * ``mixed``: None, or an array ``[len(mixed_n_grid), len(chunk_grid), len(past_grid), len(context_grid)]`` of the attention of
      such a chunk together with n decodes of that mean context.
    * ``spread_decode[n]``, ``spread_mixed[n]``: extra seconds a step for each token of standard deviation between contexts
      (unequal contexts cost more than equal ones).
    * ``measured_tokens``, ``measured_sequences``: the largest T and n that were measured; steps outside are counted.

    Between grid points values are interpolated linearly, past the last one extrapolated linearly, below the first held.
    """

    __slots__ = (
        "_outside",
        "_slabs",
        "attention_base",
        "attention_slope",
        "base",
        "chunk_grid",
        "context_grid",
        "gemm",
        "host",
        "knots",
        "lines",
        "measured_sequences",
        "measured_tokens",
        "mixed",
        "mixed_n_grid",
        "past_grid",
        "prefill",
        "sample",
        "slope",
        "spread_decode",
        "spread_mixed",
    )

    def __init__(
        self,
        *,
        knots: list[list[float]],
        base: list[list[float]],
        slope: list[list[float]],
        attention_base: list[list[float]],
        attention_slope: list[list[float]],
        gemm: list[float],
        sample: list[float],
        host: float,
        chunk_grid: list[float],
        past_grid: list[float],
        prefill: list[list[float]],
        context_grid: list[float],
        mixed_n_grid: list[float],
        mixed: Any,
        spread_decode: list[float],
        spread_mixed: list[float],
        measured_tokens: int,
        measured_sequences: int,
    ) -> None:
        self.knots = knots
        self.base = base
        self.slope = slope
        self.attention_base = attention_base
        self.attention_slope = attention_slope
        self.gemm = gemm
        self.sample = sample
        self.host = host
        self.chunk_grid = chunk_grid
        self.past_grid = past_grid
        self.prefill = prefill
        self.context_grid = context_grid
        self.mixed_n_grid = mixed_n_grid
        self.mixed = mixed
        self.spread_decode = spread_decode
        self.spread_mixed = spread_mixed
        self.measured_tokens = measured_tokens
        self.measured_sequences = measured_sequences
        # for each n its decode line at hand: knots (whole, as context sums are), bases, slopes, seconds a token of spread
        self.lines = [
            ([int(knot) for knot in knots[n]], base[n], slope[n], spread_decode[n]) for n in range(len(knots))
        ]
        self._outside = [0]  # shared with the tables scaled from this one
        self._slabs: dict[int, list[list[list[float]]]] = {}

    @property
    def outside(self) -> int:
        """Steps (a span of decodes counts once) priced outside what was measured, by this table and those scaled from it."""
        return self._outside[0]

    @outside.setter
    def outside(self, steps: int) -> None:
        self._outside[0] = steps

    def counting_anew(self) -> StepTable:
        """The same steps, with a count of those outside what was measured of its own."""
        table = StepTable(
            knots=self.knots,
            base=self.base,
            slope=self.slope,
            attention_base=self.attention_base,
            attention_slope=self.attention_slope,
            gemm=self.gemm,
            sample=self.sample,
            host=self.host,
            chunk_grid=self.chunk_grid,
            past_grid=self.past_grid,
            prefill=self.prefill,
            context_grid=self.context_grid,
            mixed_n_grid=self.mixed_n_grid,
            mixed=self.mixed,
            spread_decode=self.spread_decode,
            spread_mixed=self.spread_mixed,
            measured_tokens=self.measured_tokens,
            measured_sequences=self.measured_sequences,
        )
        table._slabs = self._slabs  # read off the same measurements
        return table

    def scaled(self, factor: float) -> StepTable:
        """The same steps taking ``factor`` times as long (2.0: half as fast), on the time grid again.

        Its steps outside what was measured count with this table's. ValueError unless ``factor`` is above 0 and finite.
        """
        if not (factor > 0.0 and isfinite(factor)):
            raise ValueError(f"factor must be above 0 and finite, not {factor}")
        knots = self.knots
        base, slope = _scaled_lines(knots, self.base, self.slope, factor)
        attention_base, attention_slope = _scaled_lines(knots, self.attention_base, self.attention_slope, factor)
        table = StepTable(
            knots=knots,
            base=base,
            slope=slope,
            attention_base=attention_base,
            attention_slope=attention_slope,
            gemm=[on_grid(factor * seconds) for seconds in self.gemm],
            sample=[on_grid(factor * seconds) for seconds in self.sample],
            host=on_grid(factor * self.host),
            chunk_grid=self.chunk_grid,
            past_grid=self.past_grid,
            prefill=[[on_grid(factor * seconds) for seconds in row] for row in self.prefill],
            context_grid=self.context_grid,
            mixed_n_grid=self.mixed_n_grid,
            mixed=None if self.mixed is None else factor * self.mixed,  # what is read off it is put on the grid then
            spread_decode=[factor * seconds for seconds in self.spread_decode],  # likewise
            spread_mixed=[factor * seconds for seconds in self.spread_mixed],
            measured_tokens=self.measured_tokens,
            measured_sequences=self.measured_sequences,
        )
        table._outside = self._outside
        return table

    def decode_step(self, n: int, context: int, spread: int) -> float:
        """Seconds of one decode-only step; ``context`` and ``spread`` as in :class:`sim.serving.step.Step`."""
        piece = bisect_left(self.knots[n], context)
        return self.base[n][piece] + self.decode_spread(n, spread) + self.slope[n][piece] * context

    def decode_spread(self, n: int, spread: int) -> float:
        """What unequal contexts add to a decode step: constant while the batch is unchanged."""
        return (self.spread_decode[n] * sqrt(spread) / n + _SNAP) - _SNAP if spread else 0.0

    def mixed_step(
        self, prefill_tokens: int, prefill_work: int, n: int, context: int, spread: int, sequences: int
    ) -> float:
        """Seconds of a step with at least one prefill chunk.

        ``prefill_tokens`` Q = Σ q_i and ``prefill_work`` W = Σ q_i (2 p_i + q_i) over chunks of q_i tokens after p_i cached
        ones. Several chunks are priced as the one chunk with the same tokens and the same attention work, or, where many short
        prompts do less work than one of Q tokens, as the lone prompt of that work.
        """
        tokens = prefill_tokens + n
        chunk = float(prefill_tokens)
        past = (prefill_work / chunk - chunk) / 2.0
        if past < 0.0:
            chunk = sqrt(prefill_work)
            past = 0.0
        seconds = self.gemm[tokens] + self.sample[sequences] + self.host
        if tokens > self.measured_tokens or n > self.measured_sequences:
            self.outside += 1
        if n == 0:
            attention = self._prefill_attention(chunk, past)
        elif self.mixed is None:
            piece = bisect_left(self.knots[n], context)
            attention = (
                self._prefill_attention(chunk, past)
                + self.attention_base[n][piece]
                + self.attention_slope[n][piece] * context
            )
        else:
            attention = self._mixed_attention(chunk, past, n, context / n)
        if spread and n:
            attention += self.spread_mixed[n] * sqrt(spread) / n
        return seconds + ((attention + _SNAP) - _SNAP)

    def _prefill_attention(self, chunk: float, past: float) -> float:
        i, u = _cell(self.chunk_grid, chunk)
        low, high = self.prefill[i], self.prefill[i + 1]
        if past <= 0.0:
            return low[0] + u * (high[0] - low[0])
        j, v = _cell(self.past_grid, past)
        return _between(low, high, j, v, u)

    def _mixed_attention(self, chunk: float, past: float, n: int, context: float) -> float:
        slab = self._slabs.get(n)
        if slab is None:
            slab = self._slab(n)
        i, u = _cell(self.chunk_grid, chunk)
        k, w = _cell(self.context_grid, context)
        low, high = slab[i], slab[i + 1]
        if past <= 0.0:
            return _between(low[0], high[0], k, w, u)
        j, v = _cell(self.past_grid, past)
        near = _between(low[j], high[j], k, w, u)
        far = _between(low[j + 1], high[j + 1], k, w, u)
        return near + v * (far - near)

    def _slab(self, n: int) -> list[list[list[float]]]:
        """The mixed grid at exactly ``n`` decodes, interpolated once and kept."""
        i, weight = _cell(self.mixed_n_grid, n)
        slab: list[list[list[float]]] = (self.mixed[i] + weight * (self.mixed[i + 1] - self.mixed[i])).tolist()
        self._slabs[n] = slab
        return slab


def _scaled_lines(
    knots: list[list[float]], base: list[list[float]], slope: list[list[float]], factor: float
) -> tuple[list[list[float]], list[list[float]]]:
    """Bases and slopes of ``factor`` times the lines, on the grid; pieces that met still meet.

    What rounding a slope to the grid leaves over at the end of its piece, the next piece makes up for.
    """
    bases: list[list[float]] = []
    slopes: list[list[float]] = []
    for ends, starts, rises in zip(knots, base, slope, strict=True):
        bases.append([])
        slopes.append([])
        knot = reached = before = (
            0.0  # where the piece begins; the scaled line there, and the line itself, from the left
        )
        for piece in range(len(starts)):
            jump = starts[piece] + rises[piece] * knot - before
            start = reached + on_grid(factor * jump)
            rise = on_grid(factor * rises[piece])
            if piece < len(ends):
                end = ends[piece]
                before = starts[piece] + rises[piece] * end
                rise = on_grid((factor * before - start) / (end - knot))
                if rises[piece] >= 0.0 > rise:
                    rise = 0.0
                reached = start + rise * (end - knot)
            bases[-1].append(start - rise * knot)
            slopes[-1].append(rise)
            if piece < len(ends):
                knot = ends[piece]
    return bases, slopes


def _cell(grid: list[float], x: float) -> tuple[int, float]:
    """The cell of ``grid`` that ``x`` is in, and how far through it: 0 below the first point, over 1 past the last."""
    i = bisect_right(grid, x) - 1
    if i < 0:
        return 0, 0.0
    if i > len(grid) - 2:
        i = len(grid) - 2
    return i, (x - grid[i]) / (grid[i + 1] - grid[i])


def _between(low: list[float], high: list[float], k: int, w: float, u: float) -> float:
    """Bilinear: ``w`` of the way from column ``k`` to the next, ``u`` of the way from row ``low`` to row ``high``."""
    at_low = low[k] + w * (low[k + 1] - low[k])
    at_high = high[k] + w * (high[k + 1] - high[k])
    return at_low + u * (at_high - at_low)
