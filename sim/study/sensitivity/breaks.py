"""The factor at which something fails, found replication by replication on a grid of equal ratios.

Each replication is bisected by itself on its own random numbers, so each gives one observation of where it fails; their spread gives the
interval. Bisection takes it that what fails at a factor fails beyond it: of several crossings it finds one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sim.stats.intervals import t_interval
from sim.study.sensitivity.readings import Evaluate, Figure, Reading, Run

__all__ = ["FINEST", "Criterion", "Crossing", "crossings"]

FINEST = 32
"""Cells of the grid an octave: each is 2.2 % wide; in the last one the crossing is interpolated."""

_STRIDE = 8  # cells of a step, a fifth: not more, since what is far beyond the crossing is the slowest to simulate

Excess = Callable[[Reading], float]
"""Of one replication: the logarithm of value over limit; it fails above 0. -inf and inf where there is no such ratio."""


@dataclass(frozen=True)
class Criterion:
    """What may fail: an objective or a limit (``kind``), where ``figure`` goes beyond ``target``. ``needs``: what ``excess`` reads."""

    name: str
    figure: Figure
    target: float
    kind: str
    excess: Excess
    needs: tuple[Figure, ...]


@dataclass(frozen=True)
class Crossing:
    """Where something fails as the factor ``along`` grows: the mean of ``each`` replication's own ± ``half_width`` (None: a single one).

    ``at`` is None if some replications do not fail up to ``tried`` (in ``each``: inf), or fail all the way down to ``least`` (0).
    ``first`` of the replications fail by this before all others.
    """

    along: str
    name: str
    kind: str
    workload: str
    metric: str
    target: float
    at: float | None
    half_width: float | None
    each: tuple[float, ...]
    tried: float
    least: float
    first: int = 0

    @property
    def beyond(self) -> int:
        """Replications that do not fail up to ``tried``."""
        return self.each.count(_BEYOND)

    @property
    def below(self) -> int:
        """Replications that fail down to ``least``."""
        return self.each.count(_BELOW)


_BEYOND, _BELOW = math.inf, 0.0
_Search = Generator[int, float, float]


def _search(lowest: int, highest: int) -> _Search:
    """Ask for excesses at cells of the grid, until the factor at which they cross 0 is known: between two cells."""
    found = yield 0
    low, high, below, above = 0, 0, found, found
    fails = found > 0.0
    while fails == (found > 0.0):
        if not fails:
            if high == highest:
                return _BEYOND
            low, below, high = high, found, min(high + _STRIDE, highest)
            found = above = yield high
        else:
            if low == lowest:
                return _BELOW
            high, above, low = low, found, max(low - _STRIDE, lowest)
            found = below = yield low
    while high - low > 1:
        middle = (low + high) // 2
        found = yield middle
        if found > 0.0:
            high, above = middle, found
        else:
            low, below = middle, found
    share = -below / (above - below) if math.isfinite(below) and math.isfinite(above) else 0.5
    return float(2.0 ** ((low + share) / FINEST))


def crossings(
    evaluate: Evaluate,
    along: str,
    criteria: Sequence[Criterion],
    replications: int,
    *,
    tried: float,
    least: float,
    confidence: float = 0.95,
    exact: bool = False,
    fixed: Mapping[str, Any] | None = None,
) -> list[Crossing]:
    """Where each of ``criteria`` fails as the factor ``along`` grows from 1 to ``tried``, or shrinks to ``least``.

    Objectives are looked for all the way; limits only as far as objectives made it go: what fills up long after the last objective
    is missed is no news. ``exact``: all replications are the same, and one says all. ``fixed``: the rest of the point.
    """
    count = 1 if exact else replications
    lowest, highest = math.ceil(math.log2(least) * FINEST), math.floor(math.log2(tried) * FINEST)
    known: dict[tuple[int, int], Reading] = {}
    rest = dict(fixed or {})
    objectives = [criterion for criterion in criteria if criterion.kind == "objective"]
    limits = [criterion for criterion in criteria if criterion.kind != "objective"]
    answer: list[Crossing] = []
    for group in (objectives, limits):
        if group is limits and objectives and known:
            highest = max(cell for cell, _ in known)
        found = _all(evaluate, along, group, count, lowest, highest, known, rest)
        for criterion in group:
            each = [found[criterion.name, number] for number in range(count)]
            answer.append(_crossing(along, criterion, each, lowest, highest, confidence, exact=exact))
    return _ordered(answer, count)


def _all(
    evaluate: Evaluate,
    along: str,
    criteria: Sequence[Criterion],
    count: int,
    lowest: int,
    highest: int,
    known: dict[tuple[int, int], Reading],
    rest: dict[str, Any],
) -> dict[tuple[str, int], float]:
    """All searches side by side: what they ask for is run in rounds, each replication of each cell once."""
    searches = {(c.name, number): _search(lowest, highest) for c in criteria for number in range(count)}
    excess = {criterion.name: criterion.excess for criterion in criteria}
    asked = {key: next(search) for key, search in searches.items()}
    found: dict[tuple[str, int], float] = {}
    while asked:
        wanted = sorted({(cell, number) for (_, number), cell in asked.items()} - known.keys())
        runs = [Run(rest | _at(along, cell), number, 1) for cell, number in wanted]
        known.update(zip(wanted, evaluate(runs), strict=True))
        for key, cell in list(asked.items()):
            name, number = key
            reading = known[cell, number]
            try:
                # a load that cannot be run is one that fails
                asked[key] = searches[key].send(math.inf if reading.error else excess[name](reading))
            except StopIteration as stop:
                found[key] = stop.value
                del asked[key]
    return found


def _at(along: str, cell: int) -> dict[str, Any]:
    return {along: 2.0 ** (cell / FINEST)} if cell else {}


def _crossing(
    along: str, what: Criterion, each: Sequence[float], lowest: int, highest: int, confidence: float, *, exact: bool
) -> Crossing:
    at, half = None, None
    if not each.count(_BEYOND) and not each.count(_BELOW):
        interval = t_interval(each, confidence)
        at, half = interval.mean, interval.half_width if interval.n > 1 else 0.0 if exact else None
    tried, least = 2.0 ** (highest / FINEST), 2.0 ** (lowest / FINEST)
    named = (along, what.name, what.kind, what.figure.workload, what.figure.metric, what.target)
    return Crossing(*named, at, half, tuple(each), tried, least)


def _ordered(found: Sequence[Crossing], count: int) -> list[Crossing]:
    """By where they fail, and how often each is the first objective or limit to fail; those that fail nowhere at the end."""
    firsts = [0] * len(found)
    for number in range(count):
        each = [crossing.each[number] for crossing in found]
        least = min(each, default=_BEYOND)
        if least != _BEYOND and each.count(least) == 1:
            firsts[each.index(least)] += 1
    counted = [replace(crossing, first=first) for crossing, first in zip(found, firsts, strict=True)]
    middle = {id(c): sorted(c.each)[len(c.each) // 2] for c in counted}
    return sorted(counted, key=lambda c: (middle[id(c)], c.kind != "objective", c.name))
