"""What all ways of searching share: candidates, what has been spent on them, and what that decided."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from sim.errors import ConfigError, Problem, TwinferError
from sim.study.optimizing.candidate import Candidate, Levels
from sim.study.optimizing.evaluation import Ask, Evaluator, Point
from sim.study.optimizing.order import Order
from sim.study.optimizing.words import named
from sim.study.task import in_a_line

__all__ = ["FIRST", "Goal", "Search"]

FIRST = 3
"""Replications of a point that is looked at: with fewer nothing is known of how they vary."""

_SETTLED = 16  # replications after which it is believed what they say of how many more it takes
_HOPE = 2.0  # times what is left
_NEARLY = 2  # times what it has had
_OVERTIME = 4

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Goal:
    """The figure that should be small, how sure the answer must be, and what it may take.

    ``tolerance``: relative differences of the figure that do not matter. ``budget``: replications in all.
    """

    minimize: str = "usd_per_hour"
    confidence: float = 0.95
    tolerance: float = 0.01
    budget: int = 2_000


@dataclass
class Search:
    """Candidates and the evidence for them.

    ``notes`` are sentences for the user; ``offset``: the first replication that is run; ``order``: which points are taken to do no worse
    than which. Raises the error of its first point if none of them can be.
    """

    evaluator: Evaluator
    points: Sequence[Point]
    goal: Goal
    progress: Progress | None = None
    offset: int = 0
    spent: int = 0
    notes: list[str] = field(default_factory=list)
    candidates: list[Candidate] = field(init=False)
    levels: Levels = field(init=False)
    order: Order = field(init=False)
    _judges: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        self.candidates = [Candidate(number, point) for number, point in enumerate(self.points)]
        errors: list[TwinferError] = []
        for one in self.candidates:
            try:
                one.price = self.evaluator.price(one.point)
            except TwinferError as error:
                errors.append(error)
                one.status, one.why = "failed", in_a_line(error)
        if len(errors) == len(self.candidates):
            raise errors[0]
        self.order = Order.none(len(self.points))
        self.levels = self._levels(1)

    def assume(self, order: Order) -> None:
        """That points with more do no worse, before anything is run."""
        self.order, self._judges = order, max(order.judges, self._judges)
        self.levels = self._levels(1)

    @property
    def random(self) -> bool:
        """Whether what points cost has to be found out."""
        return any(one.price is None and one.status != "failed" for one in self.candidates)

    @property
    def left(self) -> int:
        """Replications that may still be run."""
        return max(self.goal.budget - self.spent, 0)

    @property
    def winner(self) -> Candidate | None:
        """The cheapest of those that meet the objectives; the first of equals."""
        meeting = [one for one in self.candidates if one.status == "meets"]
        return min(meeting, key=lambda one: (_number(self.cost(one)), one.number), default=None)

    def cost(self, candidate: Candidate) -> float:
        """What it costs, as far as is known."""
        return candidate.cost(self.goal.minimize)

    def open(self) -> list[Candidate]:
        """Those of which more must be known: not decided and not too dear, or as good as the winner as far as can be told."""
        winner = self.winner
        contenders = [one for one in self.candidates if one.status == "meets" and not one.dearer and one is not winner]
        found = [one for one in self.candidates if one.open] + contenders
        if contenders and winner is not None:
            found.append(winner)
        return [one for one in found if not (one.figures is not None and one.figures.exact)]

    def front(self) -> list[Candidate]:
        """Those that are open, but for such as are out as soon as another open one is that has more."""
        found = self.open()
        numbers = {one.number for one in found}
        if self.random:  # one that has more may not matter, as it is dearer
            return found
        return [one for one in found if numbers.isdisjoint(self.order.above[one.number])]

    def hopeless(self, candidate: Candidate) -> bool:
        """Whether what is left is far from enough to decide it: better said than spent."""
        if candidate.status != "undecided" or candidate.replications < _SETTLED:
            return False
        needed = candidate.needs(self.levels)
        return needed is None or needed > _HOPE * self.left

    def more(self, candidate: Candidate, patience: int) -> int:
        """How many further replications it should get next: what would decide it, but no more than it has had.

        0 if it has had what it may for now: ``patience``, or some times that where it seems to be nearly decided.
        """
        had = candidate.replications
        if candidate.figures is not None and candidate.figures.exact:
            return 0
        if had < FIRST:
            return FIRST - had
        needed = candidate.needs(self.levels) if candidate.status == "undecided" else had
        nearly = needed is not None and needed <= _NEARLY * had and candidate.status == "undecided"
        most = _OVERTIME * patience if nearly else patience
        return max(min(had if needed is None else max(needed, 1), had, most - had), 0)

    def run(self, wanted: Iterable[tuple[Candidate, int]]) -> None:
        """So many further replications of each, no more than are left; then decide what can be decided."""
        left, asked, asks = self.left, [], []
        for one, more in wanted:
            count = min(more, left)
            if count > 0 and one.status != "failed":
                left -= count
                asked.append(one)
                asks.append(Ask(one.point, self.offset + one.replications, count, one.warmup))
        for one, measured in zip(asked, self.evaluator.measure(asks), strict=True):
            one.take(measured)
            if measured.figures is None:
                continue
            self.spent += len(measured.figures)
            if self.progress is not None:
                self.progress(self.spent, self.goal.budget, "")
        self._decide(asked)

    def _decide(self, asked: Sequence[Candidate]) -> None:
        limits = [len(one.limits) for one in self.candidates if one.figures is not None]
        if not limits:
            return
        if not max(limits):
            message = "no workload has objectives and there is no budget: nothing says which configuration will do"
            raise ConfigError([Problem(message, path="workloads")])
        self.levels = self._levels(max(limits))
        for one in asked:
            one.judge(self.levels)
        self._take_for_granted(asked)
        if (winner := self.winner) is None:
            return
        winner.dearer = False
        for one in self.candidates:
            if one is not winner and one.status in ("undecided", "meets") and not one.dearer:
                one.dearer = one.beaten_by(winner, self.goal.minimize, self.goal.tolerance, self.levels)

    def _take_for_granted(self, asked: Sequence[Candidate]) -> None:
        """What has less than one that misses is out; unless more does worse, after which nothing is taken for granted."""
        above, below = self.order.above, self.order.below
        pairs = [(one, self.candidates[number]) for one in asked for number in above[one.number]]
        pairs += [(self.candidates[number], one) for one in asked for number in below[one.number]]
        for less, more in pairs:
            if more.falls_short_of(less, self.levels):
                self.notes.append(
                    f"That {self.order.says} can only help is not so, as {named(less.point)} does better than {named(more.point)}: "
                    "nothing was taken for granted."
                )
                self.order = Order.none(len(self.candidates))
                for one in self.candidates:
                    one.assumed = False
                return
        for less, more in pairs:
            less.assumed = less.assumed or (more.short and less.status == "undecided")

    def _levels(self, limits: int) -> Levels:
        return Levels.of(
            1.0 - self.goal.confidence, len(self.candidates), limits, random=self.random, judges=self._judges
        )


def _number(cost: float) -> float:
    return math.inf if math.isnan(cost) else cost
