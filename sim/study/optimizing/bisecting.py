"""Capacity search: along one number, more of which helps and costs, the least that meets the objectives.

Under common random numbers more capacity sees the very same requests, so that a point which meets the objectives has its dearer
neighbours meet them too. That is checked on the neighbours of the answer; where it does not hold, all points are searched.
"""

from __future__ import annotations

from collections.abc import Sequence

from sim.study.optimizing.candidate import Candidate
from sim.study.optimizing.search import FIRST, Search
from sim.study.optimizing.selecting import select

__all__ = ["bisect"]

_PATIENCE = 64
"""Replications after which a point that is hard to tell waits until it is known whether it matters."""


def bisect(search: Search, describe: str = "the number") -> None:
    """Decide which of the candidates, in order of their number, is the first that meets the objectives."""
    order = _by_cost(search)
    if order is None:
        search.notes.append(f"More of {describe} does not cost more: all values were searched.")
        select(search)
        return
    high = _first(search, order)
    while high > 0 and order[high - 1].status == "undecided" and search.left:
        _settle(search, order[high - 1], search.left)  # all that is left goes to where the decision is close
        if order[high - 1].status != "meets":
            break
        high -= 1
    beside = [order[place] for place in (high - 2, high + 1) if 0 <= place < len(order)]
    for one in beside:
        _settle(search, one, _PATIENCE)
    said = {one.number: one.status for one in order}
    meeting = [place for place, one in enumerate(order) if said[one.number] == "meets"]
    if meeting and any(one.status == "misses" for one in order[meeting[0] :]):
        search.notes.append(f"More of {describe} does not always help: all values were searched.")
        select(search)
        return
    missing = [place for place, one in enumerate(order) if one.status == "misses"]
    for one in order[: max(missing, default=0)]:
        one.assumed = one.status == "undecided"
    if search.random:  # that the first which does is the cheapest has to be shown as well
        select(search)


def _by_cost(search: Search) -> list[Candidate] | None:
    """Candidates from cheap to dear; None if the last does not cost other than the first."""
    order = [one for one in search.candidates if one.status != "failed"]
    if search.random:
        search.run([(one, FIRST) for one in (order[0], order[-1])])
    first, last = search.cost(order[0]), search.cost(order[-1])
    if first == last and len(order) > 1:
        return None
    return order if first <= last else order[::-1]


def _first(search: Search, order: Sequence[Candidate]) -> int:
    """The place of the first that is known to meet the objectives; as many as there are if none is."""
    low, high = -1, len(order)
    while high - low > 1 and search.left:
        middle = (low + high) // 2
        _settle(search, order[middle], _PATIENCE)
        if order[middle].status == "meets":
            high = middle
        else:
            low = middle
    return high


def _settle(search: Search, candidate: Candidate, most: int) -> None:
    """Replicate until it is decided, has had ``most`` replications, or nothing is left."""
    while candidate.status == "undecided" and candidate.replications < most and search.left:
        if search.hopeless(candidate):
            return
        before = candidate.replications
        search.run([(candidate, search.step(candidate, most))])
        if candidate.replications == before:  # nothing is left to chance
            return
