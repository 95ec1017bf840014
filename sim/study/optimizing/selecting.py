"""Ranking and selection over a finite set: the cheapest point that meets the objectives.

First one that does is sought, by halving the range of costs: where nothing seems to do, dearer ones are looked at, else cheaper ones. Then
those that would be cheaper are ruled out, or take its place. What seems to do comes first, and by itself, as it would spare all that is
as dear; then what is soonest decided. What is not cheaper by more than the tolerance is never looked at, nor what has less than another
point that is open: that one will do for both. A point that is hard to tell waits until the easy ones are done. The order is a guess and
may be wrong; what is decided does not depend on it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.study.optimizing.candidate import Candidate
from sim.study.optimizing.order import Order
from sim.study.optimizing.search import FIRST, Search
from sim.study.optimizing.words import more_of

__all__ = ["bisect", "select"]

_SLAB = 4
"""Points at a time: enough that workers are busy, and whatever their number, so that the answer does not depend on it."""
_PROBES = 2  # points of a level of costs that are looked at to see whether it may do
_PATIENCE = 16
_GROWTH = 3
_STAKE = 0.5  # of what is left, for a single point that seems to do


def select(search: Search) -> None:
    """Decide all that matters, or spend what there is."""
    if search.random:  # an order of costs has to be found first
        search.run([(one, FIRST - one.replications) for one in search.candidates])
    near = _Neighbours(search)
    _find_one(search, near)
    _decide(search, near)
    trusted = search.order
    _check(search)
    if search.order is not trusted:
        _decide(search, near)


def bisect(search: Search, name: str = "number") -> None:
    """Decide which of the candidates, a number each, is the first that meets the objectives, where what costs more does better."""
    count, rising = len(search.candidates), [one.number for one in search.candidates if one.status != "failed"]
    search.assume(Order.rising(count, rising, more_of(name)))
    ends = [search.candidates[number] for number in (rising[0], rising[-1])]
    if search.random:
        search.run([(one, FIRST) for one in ends])
    first, last = map(search.cost, ends)
    if first > last:
        search.assume(Order.rising(count, rising[::-1], more_of(name, less=True)))
    elif first == last and len(rising) > 1:
        search.notes.append(f"{more_of(name).capitalize()} does not cost more: all values were searched.")
        search.assume(Order.none(count))
    select(search)


def _decide(search: Search, near: _Neighbours) -> None:
    patience = _PATIENCE
    while search.left and (waiting := [one for one in search.front() if not search.hopeless(one)]):
        ready = near.ranked([one for one in waiting if search.more(one, patience)])
        rival = _rival(search, waiting)
        if ready and near.seems(ready[0]):
            search.run([(ready[0], search.more(ready[0], patience))])
        elif rival is not None:
            cost = (1.0 - search.goal.tolerance) * search.cost(rival)
            unseen = [one for one in ready if one.figures is None and search.cost(one) >= cost]
            search.run([(one, FIRST) for one in unseen[:_SLAB]] or [(rival, search.more(rival, search.left))])
        elif ready:
            search.run([(one, search.more(one, patience)) for one in ready[:_SLAB]])
        else:
            patience *= _GROWTH


def _rival(search: Search, waiting: Sequence[Candidate]) -> Candidate | None:
    """What seems to do and may be shown to with a part of what is left, the soonest: worth more than to rule out others."""
    seeming = [one for one in waiting if one.status == "undecided" and one.strain() < 0.0]
    needed = {one.number: one.needs(search.levels) for one in seeming}
    soon = [(count, number) for number, count in needed.items() if count is not None and count <= _STAKE * search.left]
    return search.candidates[min(soon)[1]] if soon else None


def _check(search: Search) -> None:
    """Look at points beside the winner of which something was taken for granted, one with more and one with less than it."""
    if (winner := search.winner) is None:
        return
    more = [search.candidates[number] for number in search.order.above[winner.number]]
    less = [search.candidates[number] for number in search.order.below[winner.number]]
    cheapest = min(more, key=search.cost, default=winner)
    dearest = max((one for one in less if one.assumed), key=search.cost, default=winner)
    for one in (cheapest, dearest):
        while search.left and one.status == "undecided" and (count := search.more(one, _PATIENCE)):
            search.run([(one, count)])


def _find_one(search: Search, near: _Neighbours) -> None:
    """Some point that meets the objectives, not much dearer than the best, if that is easily found."""
    levels = _levels(search)
    low, high = 0, len(levels) - 1
    while low <= high and search.left:
        middle = (low + high) // 2
        probes = near.ranked(levels[middle])[:_PROBES]
        search.run([(one, FIRST - one.replications) for one in probes])
        if any(one.strain() < 0.0 for one in probes):
            high = middle - 1
        else:
            low = middle + 1
    for level in levels[low:]:
        probes = near.ranked(level)[:_PROBES]
        while search.left and search.winner is None:
            ready = [one for one in probes if one.open and search.more(one, _PATIENCE)]
            if not ready:
                break
            search.run([(one, search.more(one, _PATIENCE)) for one in ready])
        if search.winner is not None or not search.left:
            return


def _levels(search: Search) -> list[list[Candidate]]:
    """Candidates of the same cost, within the tolerance, from cheap to dear."""
    known = [one for one in search.candidates if one.status != "failed" and not math.isnan(search.cost(one))]
    known.sort(key=lambda one: (search.cost(one), one.number))
    levels = [[one] for one in known[:1]]
    for before, one in pairwise(known):
        if search.cost(one) <= search.cost(before) * (1.0 + search.goal.tolerance):
            levels[-1].append(one)
        else:
            levels.append([one])
    return levels


class _Neighbours:
    """How well points may do, from how well those beside them do."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self.places = _coordinates([one.point for one in search.candidates])

    def ranked(self, ready: Sequence[Candidate]) -> list[Candidate]:
        """What seems to do first; then what is soonest decided; of equals the dearer, as more is likelier to do."""

        def key(one: Candidate) -> tuple[bool, float, float, int]:
            cost = self.search.cost(one)
            return (not self.seems(one), self._effort(one), math.inf if math.isnan(cost) else -cost, one.number)

        return sorted(ready, key=key)

    def seems(self, one: Candidate) -> bool:
        """Whether it, or what is most like it of what was seen, is below its targets."""
        return self._like(one).strain() < 0.0

    def _effort(self, one: Candidate) -> float:
        """About how many replications it takes to decide on it."""
        like = self._like(one)
        if like.figures is None:
            return float(FIRST)
        if like.status != "undecided":
            return 0.0 if like is one else float(like.replications)
        needed = like.needs(self.search.levels)
        return math.inf if needed is None else float(needed if like is one else needed + like.replications)

    def _like(self, one: Candidate) -> Candidate:
        if one.figures is not None:
            return one
        seen = [other for other in self.search.candidates if other.figures is not None]
        if not seen:
            return one
        far = np.abs(self.places[[other.number for other in seen]] - self.places[one.number]).sum(axis=1)
        return seen[int(np.argmin(far))]


def _coordinates(points: Sequence[Any]) -> npt.NDArray[np.float64]:
    """A row for each point: numbers by their rank, from 0 to 1; of other values a column each."""
    columns: list[list[float]] = []
    for path in dict.fromkeys(path for point in points for path in point):
        values = [point.get(path) for point in points]
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            known = sorted(set(values))
            rank = {value: index / max(len(known) - 1, 1) for index, value in enumerate(known)}
            columns.append([rank[value] for value in values])
        else:
            said = [repr(value) for value in values]  # a whole autoscaler, perhaps
            columns += [[0.5 * (one == other) for one in said] for other in dict.fromkeys(said)]
    return np.array(columns, dtype=np.float64).T.reshape(len(points), len(columns))
