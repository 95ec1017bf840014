"""Pickers of the Gateway API inference extension: scores in, positions out, best first.

Source: kubernetes-sigs/gateway-api-inference-extension pkg/epp/scheduling/framework/plugins/picker; the top-K restriction is
llm-d's. A ``max_num_of_endpoints`` that is not positive means 1, its default.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

__all__ = ["MaxScorePicker", "effective_top_k", "pick_max_score", "pick_random", "pick_weighted_random"]


def _shuffled(size: int, generator: np.random.Generator) -> list[int]:
    order: list[int] = generator.permutation(size).tolist()
    return order


def pick_max_score(scores: Sequence[float], generator: np.random.Generator, max_num_of_endpoints: int = 1) -> list[int]:
    """``max-score-picker``: the positions with the highest scores, equal ones in random order."""
    count = max_num_of_endpoints if max_num_of_endpoints > 0 else 1
    order = _shuffled(len(scores), generator)
    order.sort(key=lambda i: -scores[i])  # stable, so ties stay shuffled
    return order[:count]


class MaxScorePicker:
    """``max-score-picker`` of llm-d-router since 2026: equal scores take turns, in place of chance.

    Each tier of equal scores is turned by the count of turns so far, which starts anew when it reaches the tier's size. All pickers
    of one gateway share that count there; here each has its own.
    """

    __slots__ = ("_turn", "max_num_of_endpoints")

    def __init__(self, max_num_of_endpoints: int = 1) -> None:
        self.max_num_of_endpoints = max_num_of_endpoints if max_num_of_endpoints > 0 else 1
        self._turn = 0

    def pick(self, scores: Sequence[float]) -> list[int]:
        """The positions with the highest scores."""
        order = sorted(range(len(scores)), key=lambda i: -scores[i])
        start = 0
        while start < min(len(order), self.max_num_of_endpoints):
            tier = [i for i in order if scores[i] == scores[order[start]]]
            if len(tier) > 1:
                turn = self._turn % len(tier)
                self._turn = 0 if self._turn + 1 >= len(tier) else self._turn + 1
                order[start : start + len(tier)] = tier[turn:] + tier[:turn]
            start += len(tier)
        return order[: self.max_num_of_endpoints]


def pick_random(scores: Sequence[float], generator: np.random.Generator, max_num_of_endpoints: int = 1) -> list[int]:
    """``random-picker``: any positions, whatever their scores."""
    return _shuffled(len(scores), generator)[: max(max_num_of_endpoints, 1)]


def effective_top_k(candidates: int, top_k: int = 0, top_k_percent: int = 0, min_top_k: int = 0) -> int:
    """How many of ``candidates`` take part: the lesser of ``top_k`` and ceil(``top_k_percent``), at least ``min_top_k`` (0: 2).

    0 turns a bound off, and all take part when both are. ValueError for a negative number or more than 100 %.
    """
    if top_k < 0 or min_top_k < 0 or not 0 <= top_k_percent <= 100:
        raise ValueError(
            f"top_k {top_k} and min_top_k {min_top_k} must be 0 or more, top_k_percent {top_k_percent} within 0 to 100"
        )
    if candidates <= 0 or (top_k == 0 and top_k_percent == 0):
        return candidates
    k = candidates
    if top_k > 0:
        k = min(k, top_k)
    if top_k_percent > 0:
        k = min(k, (candidates * top_k_percent + 99) // 100)
    return min(max(k, min_top_k or 2), candidates)


def pick_weighted_random(
    scores: Sequence[float],
    generator: np.random.Generator,
    max_num_of_endpoints: int = 1,
    top_k: int = 0,
    top_k_percent: int = 0,
    min_top_k: int = 0,
) -> list[int]:
    """``weighted-random-picker``: without replacement, with chances proportional to scores (A-Res: largest U^(1/score) first).

    Scores of 0 or less come last, and are all that is left to draw from, evenly, when none is above. The top-K bounds are those of
    :func:`effective_top_k`.
    """
    count = max_num_of_endpoints if max_num_of_endpoints > 0 else 1
    if not any(score > 0 for score in scores):
        return pick_random(scores, generator, count)
    k = effective_top_k(len(scores), top_k, top_k_percent, min_top_k)
    pool = pick_max_score(scores, generator, k) if k < len(scores) else list(range(len(scores)))
    keys = {i: (float(generator.random()) or 1e-10) ** (1.0 / scores[i]) if scores[i] > 0 else 0.0 for i in pool}
    return sorted(pool, key=lambda i: -keys[i])[:count]
