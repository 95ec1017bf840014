"""Who had the tokens of an iteration's prompts: what the log says is how many requests, and how many tokens between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, islice
from typing import Final

__all__ = ["OVERTAKING", "Grants", "Request", "leads_to", "ways"]

LEAST_BLOCK: Final = 8  # tokens of the smallest KV block in use
OVERTAKING: Final = 4  # so many waiting requests may have been overtaken, by as many at once


class Request:
    """One request on the books (:mod:`calibration.importers.books`). A decode's context is ``origin`` + their clock."""

    __slots__ = ("chunks", "computed", "id", "origin", "output", "outputs", "prompt")

    def __init__(self, id: int, prompt: int, output: int) -> None:
        self.id = id
        self.prompt = prompt
        self.output = output
        self.computed = 0
        self.outputs = 0
        self.origin = 0
        self.chunks: list[int] = []  # iterations of the prompt so far

    @property
    def missing(self) -> int:
        """Tokens of prompt, and of output before a preemption, that are not in the KV cache."""
        return self.prompt + self.outputs - self.computed


Grants = list[tuple[Request, int, int]]
"""Requests with the tokens each gets and the tokens of it found in the prefix cache."""


def leads_to(following: Sequence[float], left: int, grants: Sequence[tuple[Request, int, int]]) -> bool:
    """Whether an iteration after which ``left`` decodes go on, and that had ``grants``, can be followed by one of those counts."""
    generating, unfinished = left, False
    for request, tokens, cached in grants:
        missing = request.missing - tokens - cached
        if request.outputs if missing else request.outputs + 1 < request.output:
            generating += 1
            unfinished = unfinished or missing > 1
    return generating == following[2] and unfinished == (following[3] > following[2])


def ways(
    running: Sequence[Request], queue: Sequence[Request], count: int, tokens: int
) -> Iterator[tuple[bool, Grants]]:
    """Ways in which ``count`` requests got ``tokens``, the likeliest first, and whether it is the plain course.

    That is: those running, then the next of the queue; all get what they miss but the last, which may be cut short. Else whole blocks
    were found in the prefix cache, or others of the queue, that miss exactly that much, came first.
    """
    new = count - len(running)
    if new < 0 or new > len(queue):
        return
    if not count:
        if not tokens:
            yield True, []
        return
    members = [*running, *islice(queue, new)]
    total = sum(request.missing for request in members)
    last = members[-1]
    cut = tokens - total + last.missing
    if 0 < cut <= last.missing:
        yield True, [*((request, request.missing, 0) for request in members[:-1]), (last, cut, 0)]
    if count <= tokens < total and (total - tokens) % LEAST_BLOCK == 0:
        yield False, _cached(members, total - tokens)
    if 0 < new <= OVERTAKING:
        rest = tokens - sum(request.missing for request in running)
        for others in combinations(list(islice(queue, new + OVERTAKING)), new):
            if sum(request.missing for request in others) == rest:
                yield False, [(request, request.missing, 0) for request in (*running, *others)]


def _cached(members: Sequence[Request], cached: int) -> Grants:
    """Whole prompts of which ``cached`` tokens were found in the cache: of the first ones, as far as they go."""
    grants: Grants = []
    for request in members:
        found = min(cached, request.missing - 1)
        cached -= found
        grants.append((request, request.missing - found, found))
    return grants
