"""Points whose truth is known, for benchmarks and tests of `twinfer optimize`: synthetic ones, and draws from a table of simulations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from sim.observe.objectives import Figures
from sim.study.optimizing.evaluation import Ask, Measured
from sim.study.optimizing.order import Order
from sim.study.optimizing.search import Goal, Search
from sim.study.optimizing.selecting import select

__all__ = ["Known", "Repeat", "Resampled", "Synthetic", "grid", "kinds", "line", "places", "repeated", "truth"]

COST, TTFT, TPOT = "usd_per_hour", "ttft_p99", "tpot_p99"


class Known(ABC):
    """Points {"x": number} whose truth is known: ``costs[x]`` and whether it ``meets[x]``. ``told``: costs are known beforehand."""

    costs: Sequence[float]
    meets: Sequence[bool]
    told = True

    def price(self, point: Mapping[str, Any]) -> float | None:
        return self.costs[point["x"]] if self.told else None

    def measure(self, asks: Sequence[Ask]) -> Iterator[Measured]:
        for ask in asks:
            yield Measured(self.figures(ask.point["x"], range(ask.first, ask.first + ask.count)), 0.0)

    @abstractmethod
    def figures(self, x: int, replications: range) -> Figures:
        """Of point ``x``."""


class Synthetic(Known):
    """Normal figures with means ``means[x]`` (of two objectives with target 1) and coefficient of variation ``cv``; with ``spread``
    costs vary as well, and are not known beforehand."""

    def __init__(
        self,
        means: Sequence[tuple[float, float]],
        costs: Sequence[float],
        seed: int,
        cv: float = 0.1,
        spread: float = 0.0,
    ) -> None:
        self.means, self.costs, self.seed, self.cv, self.spread = means, costs, seed, cv, spread
        self.told = spread == 0.0
        self.meets = [max(pair) <= 1.0 for pair in means]

    def figures(self, x: int, replications: range) -> Figures:
        rows = []
        for number in replications:
            shared = np.random.default_rng((self.seed, number)).standard_normal(3)
            own = np.random.default_rng((self.seed, number, x)).standard_normal(3)
            noise = (shared + own) / np.sqrt(2.0)
            one, two = self.means[x]
            rows.append(
                {
                    TTFT: one * (1.0 + self.cv * noise[0]),
                    TPOT: two * (1.0 + self.cv * noise[1]),
                    COST: self.costs[x] * (1.0 + self.spread * noise[2]),
                    "lost_share": 0.0,
                }
            )
        return Figures(rows, {"chat": rows}, {"chat": {TTFT: 1.0, TPOT: 1.0}})


class Resampled(Known):
    """Rows of a table of simulated figures, drawn with replacement: row r of a repeat is the same for all points."""

    def __init__(self, table: Sequence[Figures], seed: int = 0) -> None:
        self.table, self.seed = table, seed
        self.costs = [figures.estimate(COST).value for figures in table]
        self.meets = [truth(figures) for figures in table]

    def again(self, seed: int) -> Resampled:
        """The same table, drawn from anew."""
        other = object.__new__(Resampled)
        other.__dict__ = {**self.__dict__, "seed": seed}
        return other

    def figures(self, x: int, replications: range) -> Figures:
        table = self.table[x]
        drawn = [int(np.random.default_rng((self.seed, number)).integers(len(table))) for number in replications]
        (name,) = table.workloads
        rows = [table.workloads[name][row] for row in drawn]
        return Figures([table.overall[row] for row in drawn], {name: rows}, table.objectives)


def truth(figures: Figures) -> bool:
    """Whether means are within their targets, whatever their intervals."""
    return all(
        standing.estimate.value <= standing.target and "not served" not in standing.why
        for standing in figures.standings()
    )


@dataclass(frozen=True)
class Repeat:
    """What one repeat came to. ``right``: what it claims is true; ``best``: it found the cheapest there is; ``decided``: nothing is open;
    ``none``: it found none; ``cost`` of its winner; ``open``: points it named as not decided."""

    right: bool
    best: bool
    decided: bool
    none: bool
    spent: int
    cost: float
    open: frozenset[int] = frozenset()


def repeated(
    known: Known,
    goal: Goal,
    search_by: Callable[[Search], None] = select,
    points: Sequence[Mapping[str, Any]] | None = None,
    monotone: Sequence[str] = (),
) -> Repeat:
    """Search, and hold the answer against the truth. ``points``: as the search sees them, with more than their number, of which
    ``monotone`` can only help."""
    search = Search(known, points or [{"x": x} for x in range(len(known.costs))], goal)
    search.assume(Order.along([{**point, "x": 0} for point in search.points], monotone))
    search_by(search)
    winner = search.winner
    doing = [cost for cost, meets in zip(known.costs, known.meets, strict=True) if meets]
    open_ = {one.number for one in search.candidates if one.open}
    most = np.inf if winner is None else known.costs[winner.number]
    cheaper = [
        x
        for x, (cost, meets) in enumerate(zip(known.costs, known.meets, strict=True))
        if meets and cost < most * (1.0 - goal.tolerance) and x not in open_
    ]
    sound = winner is None or known.meets[winner.number]
    best = winner is not None and sound and most * (1.0 - goal.tolerance) <= min(doing, default=np.inf)
    return Repeat(
        sound and not cheaper, best, not search.open(), winner is None, search.spent, float(most), frozenset(open_)
    )


def grid(seed: int, *, levels: int = 10, each: int = 20) -> tuple[list[tuple[float, float]], list[float]]:
    """Means and costs of ``levels`` times ``each`` points, of which the dearer ones do better on the whole."""
    draw = np.random.default_rng((seed, 0))
    means, costs = [], []
    for level, _ in product(range(1, levels + 1), range(each)):
        load = 0.5 * levels / level
        means.append((float(load**2 * draw.uniform(0.8, 1.6)), float(draw.uniform(0.5, 1.1) + 0.1 * load)))
        costs.append(float(level))
    return means, costs


def kinds(seed: int, *, levels: int = 10, each: int = 20) -> tuple[list[tuple[float, float]], list[float]]:
    """The same of ``each`` kinds, of which more always does better: what a point is like is drawn once a kind."""
    draw = np.random.default_rng((seed, 2))
    factors = [(draw.uniform(0.8, 1.6), draw.uniform(0.5, 1.1)) for _ in range(each)]
    loads = [0.5 * levels / level for level in range(1, levels + 1) for _ in range(each)]
    means = [
        (float(load**2 * one), float(two + 0.1 * load))
        for load, (one, two) in zip(loads, factors * levels, strict=True)
    ]
    return means, [float(level) for level in range(1, levels + 1) for _ in range(each)]


def places(levels: int = 10, each: int = 20) -> list[dict[str, int]]:
    """The points of :func:`kinds` as a search sees them."""
    return [{"kind": x % each, "replicas": x // each + 1, "x": x} for x in range(levels * each)]


def line(seed: int, points: int = 24) -> tuple[list[tuple[float, float]], list[float]]:
    """Means that fall with cost, from anywhere to anywhere."""
    draw = np.random.default_rng((seed, 1))
    where, slope = draw.uniform(0.1, 0.95) * points, draw.uniform(0.1, 0.6)
    means = [(float(np.exp(-slope * (x - where))), 0.5) for x in range(points)]
    return means, [float(x + 1) for x in range(points)]
