"""Which points have more of something than which, and so are taken to do no worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any, Self

from sim.config.space import amounts
from sim.study.optimizing.words import more_of, names

__all__ = ["Order"]


@dataclass(frozen=True, slots=True)
class Order:
    """``above[n]`` and ``below[n]``: numbers of the points that have more of something than point n, and less.

    More is taken never to keep a workload from its objectives. ``says``: of what, in words, like "more replicas"; empty: of nothing.
    """

    above: Sequence[Sequence[int]]
    below: Sequence[Sequence[int]]
    says: str = ""

    @classmethod
    def none(cls, count: int) -> Self:
        """Of ``count`` points none is taken to do better than another."""
        return cls([()] * count, [()] * count)

    @classmethod
    def along(cls, points: Sequence[Mapping[str, Any]], paths: Sequence[str]) -> Self:
        """A point has more than another that is alike but for ``paths``, numbers, if it has more of one and less of none of them."""
        if not paths:
            return cls.none(len(points))
        groups: dict[str, list[int]] = {}
        for number, point in enumerate(points):
            groups.setdefault(repr({path: value for path, value in point.items() if path not in paths}), []).append(
                number
            )
        columns = [amounts(point[path] for point in points) or [] for path in paths]
        rows = list(zip(*columns, strict=True))
        pairs = [
            (one, two)
            for group in groups.values()
            for one, two in permutations(group, 2)
            if all(less <= more for less, more in zip(rows[one], rows[two], strict=True))
        ]
        short = names(points[0])
        return cls._of(len(points), pairs, " and ".join(more_of(short[path]) for path in paths))

    @classmethod
    def rising(cls, count: int, numbers: Sequence[int], says: str) -> Self:
        """Of ``count`` points those with ``numbers`` have more and more."""
        return cls._of(count, list(combinations(numbers, 2)), says)

    @property
    def judges(self) -> int:
        """The most points that any one is judged by: itself, and those with more."""
        return 1 + max(map(len, self.above), default=0)

    @classmethod
    def _of(cls, count: int, pairs: Sequence[tuple[int, int]], says: str) -> Self:
        above: list[list[int]] = [[] for _ in range(count)]
        below: list[list[int]] = [[] for _ in range(count)]
        for less, more in pairs:
            above[less].append(more)
            below[more].append(less)
        return cls(above, below, says)
