"""Ranking and selection over a finite set: the cheapest point that meets the objectives, nothing assumed of the others.

Points are looked at from the cheapest up, as many replications each as it takes to tell whether it meets the objectives, until one does:
what is not cheaper than that by more than the tolerance is never looked at. A point that is hard to tell waits until the easy
ones are done.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.study.optimizing.candidate import Candidate
from sim.study.optimizing.search import FIRST, Search

__all__ = ["select"]

_SLAB = 8
"""Points at a time: enough that workers are busy, and whatever their number, so that the answer does not depend on it."""
_PATIENCE = 16
_GROWTH = 3


def select(search: Search) -> None:
    """Decide all that matters, or spend what there is."""
    if search.random:  # an order of costs has to be found first
        search.run([(one, FIRST - one.replications) for one in search.candidates])
    near = _Neighbours(search)
    patience = _PATIENCE
    while search.left and (waiting := [one for one in search.open() if not search.hopeless(one)]):
        ready = [one for one in waiting if one.replications < patience]
        if not ready:
            patience *= _GROWTH
            continue
        search.run([(one, search.step(one, patience)) for one in near.ranked(ready)[:_SLAB]])


class _Neighbours:
    """Of points that cost the same, those first whose neighbours do best."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self.places = _coordinates([one.point for one in search.candidates])

    def ranked(self, ready: Sequence[Candidate]) -> list[Candidate]:
        """From cheap to dear, from promising to hopeless."""
        seen = [one for one in self.search.candidates if one.figures is not None]
        costs = {one.number: self.search.cost(one) for one in ready}
        cheapest = min((cost for cost in costs.values() if not math.isnan(cost)), default=0.0)
        # only of the cheapest it matters who is first
        level = {number: cost <= cheapest * (1.0 + self.search.goal.tolerance) for number, cost in costs.items()}

        def key(one: Candidate) -> tuple[float, float, int]:
            cost = costs[one.number]
            if level[one.number]:
                return (cheapest, self._strain(one, seen), one.number)
            return (math.inf if math.isnan(cost) else cost, 0.0, one.number)

        return sorted(ready, key=key)

    def _strain(self, one: Candidate, seen: Sequence[Candidate]) -> float:
        """Its own, else that of the nearest point that has been looked at."""
        if one.figures is not None:
            return one.strain()
        if not seen:
            return 0.0
        far = np.abs(self.places[[other.number for other in seen]] - self.places[one.number]).sum(axis=1)
        return seen[int(np.argmin(far))].strain()


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
