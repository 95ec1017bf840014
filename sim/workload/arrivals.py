"""Arrival processes: a renewal process of unit rate, run on a clock whose speed is the arrival rate.

Two parts make every open-loop process. The gaps (:mod:`sim.workload.gaps`) say how irregular arrivals are at a given
rate (the coefficient of variation inside a window); a clock says how the rate moves (constant, along a curve, between
states, or wandering). With ``U`` the cumulated gaps and ``L(t)`` the integral of the rate, arrivals are at ``L^-1(U)``.
Fluctuations of the rate show up in the dispersion of counts over minutes, irregular gaps in the dispersion over seconds, so
both can be matched to a trace.

Random numbers are drawn in blocks of fixed size: a shorter horizon sees the first part of the same arrivals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sim.kernel.clock import QUANTUM, TICKS_PER_SECOND
from sim.workload.gaps import Gaps

__all__ = [
    "Clock",
    "Constant",
    "Curve",
    "RatePath",
    "Switching",
    "Wandering",
    "arrive",
    "to_grid",
]

Floats = npt.NDArray[np.float64]

_BLOCK = 16_384
_RATE_BLOCK = 1_024


def to_grid(seconds: Floats) -> Floats:
    """``seconds`` rounded to the time grid of the simulation."""
    return np.asarray(np.rint(seconds * TICKS_PER_SECOND) * QUANTUM, dtype=np.float64)


class RatePath(Protocol):
    """One realisation of a rate over time."""

    def invert(self, work: Floats, horizon: float) -> Floats:
        """When the integral of the rate reaches each ``work`` (ascending); ``inf`` where that is past ``horizon`` or never."""
        ...


class Clock(Protocol):
    """How the arrival rate moves."""

    def path(self, generator: np.random.Generator) -> RatePath:
        """A realisation; ``generator`` is its own, so that gaps and rates come from separate streams."""
        ...

    def expected(self, horizon: float) -> float:
        """The expected number of arrivals in [0, ``horizon``)."""
        ...


@dataclass(frozen=True)
class Constant:
    """A constant rate, in requests a second."""

    rate: float

    def path(self, generator: np.random.Generator) -> RatePath:
        return self

    def expected(self, horizon: float) -> float:
        return self.rate * horizon

    def invert(self, work: Floats, horizon: float) -> Floats:
        if self.rate <= 0.0:
            return np.full(len(work), np.inf)
        return work / self.rate


@dataclass(frozen=True)
class Curve:
    """A rate that is linear between points; two points at the same time are a jump.

    Before the first point its rate holds. After the last point its rate holds, or the curve starts again from time 0
    (``periods``: how often it is gone through, ``inf`` for ever; nothing arrives after the last time).
    """

    times: tuple[float, ...]
    rates: tuple[float, ...]
    periods: float | None = None

    def path(self, generator: np.random.Generator) -> RatePath:
        return self

    def expected(self, horizon: float) -> float:
        """No fewer than are expected: a lap, or a horizon within the curve, is counted whole."""
        times, rates, done = self._integral()
        if self.periods is None:
            return float(done[-1] + max(horizon - times[-1], 0.0) * rates[-1])
        return float(done[-1]) * min(self.periods, horizon // times[-1] + 1.0 if times[-1] > 0.0 else 1.0)

    def _integral(self) -> tuple[Floats, Floats, Floats]:
        """Times from 0 on, the rates there, and the integral of the rate up to them."""
        times, rates = np.array(self.times), np.array(self.rates)
        if times[0] > 0.0:
            times, rates = np.insert(times, 0, 0.0), np.insert(rates, 0, rates[0])
        return times, rates, np.concatenate(([0.0], np.cumsum(np.diff(times) * (rates[:-1] + rates[1:]) / 2.0)))

    def invert(self, work: Floats, horizon: float) -> Floats:
        times, rates, done = self._integral()
        lengths = np.diff(times)
        total, end = float(done[-1]), float(times[-1])
        laps = np.zeros(len(work))
        if self.periods is not None:
            if total <= 0.0:
                return np.full(len(work), np.inf)
            laps = np.floor(work / total)
            work = work - laps * total
        # the piece that ends at or after the work done: one of rate 0 never is
        piece = np.maximum(np.searchsorted(done, work, side="left") - 1, 0)
        answer = np.full(len(work), np.inf)
        ongoing = piece < len(lengths)
        if ongoing.any():
            at = piece[ongoing]
            left = np.maximum(work[ongoing] - done[at], 0.0)
            slope = np.divide(rates[at + 1] - rates[at], lengths[at], out=np.zeros(len(at)), where=lengths[at] > 0.0)
            # the root of rate*x + slope*x^2/2 = left that does not cancel when slope is near 0
            speed = rates[at] + np.sqrt(np.maximum(rates[at] ** 2 + 2.0 * slope * left, 0.0))
            step = np.divide(2.0 * left, speed, out=np.zeros(len(left)), where=speed > 0.0)
            answer[ongoing] = times[at] + np.minimum(step, lengths[at])
        after = ~ongoing
        if self.periods is None:
            if rates[-1] > 0.0:
                answer[after] = end + (work[after] - total) / rates[-1]
        else:
            answer[after] = end
            answer += laps * end
            answer[laps >= self.periods] = np.inf
        return answer


class _SteppedPath:
    """A rate that is constant between random switching times; grown as far as it is asked for."""

    def __init__(self, steps: _Steps) -> None:
        self._steps = steps
        self._starts = np.zeros(1)
        self._done = np.zeros(1)
        self._rates = np.zeros(0)

    def invert(self, work: Floats, horizon: float) -> Floats:
        while self._done[-1] <= work[-1] and self._starts[-1] < horizon:
            lengths, rates = self._steps.draw(max(_RATE_BLOCK, len(self._rates)))
            self._starts = np.concatenate((self._starts, self._starts[-1] + np.cumsum(lengths)))
            self._done = np.concatenate((self._done, self._done[-1] + np.cumsum(lengths * rates)))
            self._rates = np.concatenate((self._rates, rates))
        answer = np.full(len(work), np.inf)
        # the stretch that ends at or after the work done: one of rate 0 never is
        piece = np.maximum(np.searchsorted(self._done, work, side="left") - 1, 0)
        known = piece < len(self._rates)
        at = piece[known]
        left, rates = work[known] - self._done[at], self._rates[at]
        answer[known] = self._starts[at] + np.divide(left, rates, out=np.zeros(len(at)), where=rates > 0.0)
        return answer


class _Steps(Protocol):
    """Successive stretches of constant rate."""

    def draw(self, count: int) -> tuple[Floats, Floats]:
        """``count`` durations in seconds and the rates that hold in them."""
        ...


@dataclass(frozen=True)
class Switching:
    """A Markov-modulated rate (MMPP with exponential gaps): state ``i`` lasts an exponential time of mean ``dwell[i]``.

    States follow each other in order and start again; the first is drawn in proportion to its dwell, so the process is
    stationary from time 0. With two states the index of dispersion is that of Heffes and Lucantoni (1986).
    """

    rates: tuple[float, ...]
    dwell: tuple[float, ...]

    def path(self, generator: np.random.Generator) -> RatePath:
        if max(self.rates) <= 0.0:
            return Constant(0.0)
        return _SteppedPath(_StateSteps(self, generator))

    def expected(self, horizon: float) -> float:
        whole = sum(self.dwell)
        return horizon * sum(rate * dwell for rate, dwell in zip(self.rates, self.dwell, strict=True)) / whole


class _StateSteps:
    def __init__(self, process: Switching, generator: np.random.Generator) -> None:
        self._rates, self._dwell, self._generator = np.array(process.rates), np.array(process.dwell), generator
        edges = np.cumsum(self._dwell)
        self._state = min(int(np.searchsorted(edges, generator.random() * edges[-1], side="right")), len(edges) - 1)

    def draw(self, count: int) -> tuple[Floats, Floats]:
        states = (self._state + np.arange(count)) % len(self._rates)
        self._state = (self._state + count) % len(self._rates)
        return self._dwell[states] * self._generator.standard_exponential(count), self._rates[states]


@dataclass(frozen=True)
class Wandering:
    """A stationary rate that wanders: its logarithm is an Ornstein-Uhlenbeck process.

    ``rate`` is the mean, ``cv`` the coefficient of variation of the rate, ``time`` the seconds in which its
    autocorrelation falls to about 1/e. The rate is held constant over ``time / 16``.
    """

    rate: float
    cv: float
    time: float

    def path(self, generator: np.random.Generator) -> RatePath:
        if self.cv == 0.0:
            return Constant(self.rate)
        return _SteppedPath(_WanderingSteps(self, generator))

    def expected(self, horizon: float) -> float:
        return self.rate * horizon


class _WanderingSteps:
    def __init__(self, process: Wandering, generator: np.random.Generator) -> None:
        self._rate, self._generator = process.rate, generator
        self._sigma = math.sqrt(math.log1p(process.cv**2))
        self._length = process.time / 16.0
        self._memory = math.exp(-1.0 / 16.0)
        self._state = float(generator.standard_normal())

    def draw(self, count: int) -> tuple[Floats, Floats]:
        kick, memory, state = math.sqrt(1.0 - self._memory**2), self._memory, self._state
        states: list[float] = []
        for noise in (self._generator.standard_normal(count) * kick).tolist():
            states.append(state)
            state = memory * state + noise
        self._state = state
        rates = self._rate * np.exp(self._sigma * np.array(states) - self._sigma**2 / 2.0)
        return np.full(count, self._length), rates


def arrive(
    clock: Clock,
    gaps: Gaps,
    generators: Sequence[np.random.Generator],
    horizon: float = math.inf,
    limit: int | None = None,
) -> Floats:
    """Arrival times in seconds, ascending, in [0, horizon), the first ``limit`` of them if given.

    ``generators`` are two: one for the gaps and one for the rate.
    """
    gap_stream, rate_stream = generators
    if limit is None and not math.isfinite(horizon):
        raise ValueError("arrivals without an end: give a horizon or a limit")
    path = clock.path(rate_stream)
    blocks: list[Floats] = []
    count, work = 0, gaps.first(gap_stream)
    while limit is None or count < limit:
        cumulated = np.cumsum(np.concatenate(([work], gaps.draw(gap_stream, _BLOCK))))
        work = float(cumulated[-1])
        times = path.invert(cumulated[:-1], horizon)
        times = times[: int(np.searchsorted(times, horizon))]
        blocks.append(times)
        count += len(times)
        if len(times) < _BLOCK:
            break
    times = np.concatenate(blocks) if blocks else np.zeros(0)
    return times if limit is None else times[:limit]
