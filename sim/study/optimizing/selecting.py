"""Ranking and selection over a finite set: the cheapest point that meets the objectives, nothing assumed of the others.

First one that does is sought, by halving the range of costs: where nothing seems to do, dearer ones are looked at, else cheaper ones. Then
those that would be cheaper are ruled out, or take its place, what is soonest decided first; what is not cheaper by more than the
tolerance is never looked at. A point that is hard to tell waits until the easy ones are done. The order is a guess and may be wrong;
what is decided does not depend on it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.study.optimizing.candidate import Candidate
from sim.study.optimizing.search import FIRST, Search

__all__ = ["select"]

_SLAB = 4
"""Points at a time: enough that workers are busy, and whatever their number, so that the answer does not depend on it."""
_PROBES = 2  # points of a level of costs that are looked at to see whether it may do
_PATIENCE = 16
_GROWTH = 3


def select(search: Search) -> None:
    """Decide all that matters, or spend what there is."""
    if search.random:  # an order of costs has to be found first
        search.run([(one, FIRST - one.replications) for one in search.candidates])
    near = _Neighbours(search)
    _find_one(search, near)
    patience = _PATIENCE
    while search.left and (waiting := [one for one in search.front() if not search.hopeless(one)]):
        ready = [one for one in waiting if one.replications < patience]
        if not ready:
            patience *= _GROWTH
            continue
        ranked = near.ranked(ready)
        rival = near.seems(ranked[0])  # one that meets the objectives spares all that is as dear: others wait for it
        search.run([(one, search.step(one, patience)) for one in ranked[: 1 if rival else _SLAB]])


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
            ready = [one for one in probes if one.open and one.replications < _PATIENCE]
            if not ready:
                break
            search.run([(one, search.step(one, _PATIENCE)) for one in ready])
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
        known = list(dict.fromkeys(values))
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
            rank = {value: index / max(len(known) - 1, 1) for index, value in enumerate(sorted(known))}
            columns.append([rank[value] for value in values])
        else:
            columns += [[0.5 * (value == other) for value in values] for other in known]
    return np.array(columns, dtype=np.float64).T.reshape(len(points), len(columns))
