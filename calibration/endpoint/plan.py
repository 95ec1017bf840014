"""Which short, controlled loads show what a step costs, and how many of them fit into the time there is."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from sim.errors import ProfileError

__all__ = ["LONGEST", "MIX_SHARE", "SETTLE", "STEPS", "Cell", "Costs", "Limits", "Plan", "plan"]

LONGEST: Final = 32768
"""Tokens of the longest prompt that is sent, whatever the server takes."""
REPEATS: Final = 3
MOST_ROUNDS: Final = 6
STEPS: Final = 32
"""Of an unchanging batch that a decode cell is to show."""
SETTLE: Final = 4
"""Steps between a change of the batch and the next one that is looked at."""
MIX_SHARE: Final = 0.2
"""Of the time, for the load that is kept aside."""
_AROUND: Final = 0.05  # seconds between two cells
_LADDER: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_CONTEXTS: Final = (32, 512, 2048, 8192, LONGEST)
_PROMPTS: Final = (1, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, LONGEST)
_TOGETHER: Final = 4  # prompts at once, which fit into one step
_BUDGET: Final = 512  # tokens of a step, where nobody says; small, so that streams are long enough
_UNSEEN: Final = 2048  # tokens a request may have, where nobody says

Kind = Literal["prompt", "decode", "mixed"]


@dataclass(frozen=True)
class Cell:
    """One load. ``prompt``: a lone prompt of that many tokens, for one token of output. ``decode``: ``streams`` requests at once,
    their prompts of ``prompt`` tokens, until they have all decoded together for ``steps`` steps. ``mixed``: the same, and while they
    decode the prompts of each of ``injected`` are sent together, one lot after the other, in any order."""

    kind: Kind
    prompt: int
    streams: int = 1
    steps: int = 0
    injected: tuple[tuple[int, ...], ...] = ()

    @property
    def key(self) -> str:
        """Its name in a journal, without the round."""
        beside = ",".join("+".join(map(str, lot)) for lot in sorted(self.injected))
        return f"{self.kind}/{self.streams}x{self.prompt}" + (f"/{beside}" if beside else "")


@dataclass(frozen=True)
class Limits:
    """What the server can take: tokens a request, requests at once, tokens in the KV cache and in a step. None: nobody says.
    ``concurrency`` is what the user allows, ``shortest`` the least prompt that can be sent."""

    max_model_len: int | None = None
    max_num_seqs: int | None = None
    kv_tokens: int | None = None
    token_budget: int | None = None
    concurrency: int = 32
    shortest: int = 1

    @property
    def longest(self) -> int:
        """Tokens of prompt and output together."""
        return self.max_model_len or _UNSEEN

    @property
    def streams(self) -> int:
        """The most requests at once that are asked for."""
        return min(self.concurrency, self.max_num_seqs or self.concurrency)

    def output(self, cell: Cell, slack: float = 1.0) -> int:
        """Tokens each stream of a cell needs. The first ones decode while the others' prompts still run: that costs them a token
        for each budget of prompt, here taken ``slack`` times."""
        step = max((self.token_budget or _BUDGET) - cell.streams, 16)
        waiting = slack * ((cell.streams - 1) * cell.prompt / step + 2.0 * min(cell.streams - 1, 8))
        beside = sum(SETTLE + 4 + round(slack * sum(lot) / step) for lot in cell.injected)
        return cell.steps + round(waiting) + beside + 2

    def fits(self, cell: Cell) -> bool:
        """Whether the requests of a cell have room: each below the longest, all in the KV cache, each with a seat."""
        output = self.output(cell)
        if cell.streams + max(map(len, cell.injected), default=0) > (self.max_num_seqs or self.concurrency + _TOGETHER):
            return False
        beside = max((sum(lot) for lot in cell.injected), default=0)
        room = self.kv_tokens is None or cell.streams * (cell.prompt + output) + beside <= 0.9 * self.kv_tokens
        return room and cell.prompt + output <= self.longest


@dataclass(frozen=True)
class Costs:
    """What a few requests took before: seconds to the first token by prompt, and seconds a step of one decode."""

    prompts: tuple[tuple[int, float], ...]
    step: float

    def prefill(self, tokens: int) -> float:
        """Seconds until a prompt of that length has its first token; beyond what was seen it goes on as the last piece."""
        at, took = (np.array(column, float) for column in zip(*sorted(self.prompts), strict=True))
        if tokens <= at[-1] or len(at) < 2:
            return float(np.interp(tokens, at, took))
        return float(took[-1] + (tokens - at[-1]) * max((took[-1] - took[-2]) / (at[-1] - at[-2]), 0.0))

    def of(self, cell: Cell, output: int) -> float:
        """Seconds of a cell, roughly."""
        start = cell.streams * self.prefill(cell.prompt) + _AROUND
        if cell.kind == "prompt":
            return start
        beside = sum(self.prefill(tokens) for lot in cell.injected for tokens in lot)
        return start + beside + output * self.step * (1.0 + cell.streams / 32.0)


@dataclass(frozen=True)
class Plan:
    """Cells to measure in ``rounds`` rounds, each in another order, and how many there is no time for."""

    cells: tuple[Cell, ...]
    rounds: int
    left_out: int

    def order(self, seed: int) -> Iterator[tuple[int, Cell]]:
        """(round, cell) in the order of measuring: what drifts in a calibration does not look like an effect of a size."""
        chance = random.Random(seed)
        for number in range(self.rounds):
            for cell in chance.sample(self.cells, len(self.cells)):
                lots = tuple(chance.sample(cell.injected, len(cell.injected)))
                yield number, replace(cell, injected=lots)


def plan(limits: Limits, costs: Costs, budget: float) -> Plan:
    """What fits into ``budget`` seconds beside the mix: the corners first, then what lies between; in whole rounds, three at least.

    :raises ProfileError: not even the first cells fit.
    """
    time = budget * (1.0 - MIX_SHARE)
    chosen: dict[Cell, float] = {}
    left_out: set[Cell] = set()
    needed: list[float] = []
    for cell in _candidates(limits):
        cost = costs.of(cell, limits.output(cell))
        needed.append(cost)
        if cell not in chosen:
            if (sum(chosen.values()) + cost) * REPEATS <= time:
                chosen[cell] = cost
            else:
                left_out.add(cell)
    if not {cell.kind for cell in left_out} <= {cell.kind for cell in chosen}:
        least = sum(needed[:3]) * REPEATS / (1.0 - MIX_SHARE)
        raise ProfileError(
            f"a budget of {budget:g} s is too short for this server: the least that shows anything takes {least:.0f} s"
        )
    rounds = min(MOST_ROUNDS, max(REPEATS, int(time / sum(chosen.values()))))
    return Plan(tuple(chosen), rounds, len(left_out - set(chosen)))


def _candidates(limits: Limits) -> Iterator[Cell]:
    """All cells, in order of what they tell. The first three are of all kinds."""
    top = min(limits.longest - 8, int(0.8 * (limits.kv_tokens or limits.longest)))
    prompts = _upto(_PROMPTS, top, limits.shortest)
    few = sorted({prompts[0], *prompts[1::2], prompts[-1]})
    ladder = _upto(_LADDER, limits.streams, 1)
    corners = _corners(ladder)
    busy = _corners(
        _upto(_LADDER, max(min(ladder[-1], (limits.max_num_seqs or ladder[-1] + _TOGETHER) - _TOGETHER), 1), 1)
    )[1:]
    contexts = _upto(_CONTEXTS, top, limits.shortest)
    near, middle, far = contexts[0], contexts[1:2], contexts[2:]
    some = [(size,) for size in prompts if 64 <= size <= 512] or [(prompts[-1],)]
    each = min(64, (limits.token_budget or _BUDGET) // (2 * _TOGETHER), top)
    beside = (*some, (each,) * _TOGETHER) if each >= limits.shortest else tuple(some)

    def decodes(streams: Sequence[int], contexts: Sequence[int]) -> Iterator[Cell]:
        return _fitted(limits, (Cell("decode", context, n, STEPS) for context in contexts for n in streams))

    def mixes(streams: Sequence[int], context: int, lots: Sequence[tuple[int, ...]]) -> Iterator[Cell]:
        return _fitted(limits, (Cell("mixed", context, n, SETTLE, tuple(lots)) for n in streams))

    yield Cell("prompt", few[0])
    yield from decodes((1,), (near,))
    yield from mixes((1,), near, [(size,) for size in few])
    yield from (Cell("prompt", size) for size in few)
    yield from decodes(corners, (near,))
    yield from decodes(corners, middle)
    yield from mixes(busy, near, beside)
    yield from decodes(ladder, (near,))
    yield from decodes(corners, far)
    yield from (Cell("prompt", size) for size in prompts)
    yield from mixes((1,), near, [(size,) for size in prompts])
    for context in middle:
        yield from mixes(busy, context, beside)
    yield from decodes(ladder, contexts)


def _fitted(limits: Limits, cells: Iterator[Cell]) -> Iterator[Cell]:
    """Cells that have room, with shorter contexts where need be, but not much shorter ones."""
    for cell in cells:
        prompt = cell.prompt
        while not limits.fits(replace(cell, prompt=prompt)) and prompt > max(0.6 * cell.prompt, limits.shortest):
            prompt = max(int(0.95 * prompt), limits.shortest)
        if limits.fits(replace(cell, prompt=prompt)):
            yield replace(cell, prompt=prompt)


def _corners(ladder: Sequence[int]) -> list[int]:
    return sorted({ladder[0], ladder[len(ladder) // 2], ladder[-1]})


def _upto(sizes: Sequence[int], top: int, least: int) -> list[int]:
    """Those between ``least`` and ``top``, and ``top`` itself unless it lies near another, or beyond all."""
    kept = sorted({max(size, least) for size in sizes if size <= top})
    if not kept or (1.3 * kept[-1] < top < sizes[-1]):
        kept.append(max(top, least))
    return kept
