"""From the arrival times of tokens to engine steps: streams that decode together get a token each, a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = [
    "AT_ONCE",
    "Floats",
    "Ints",
    "Steps",
    "Stream",
    "chunks",
    "pace",
    "steps",
    "together",
    "undisturbed",
    "usual",
]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_NOTHING: Final = 3e-4  # seconds, in which no engine takes a step
AT_ONCE: Final = 0.4  # of the usual step: less was not the engine's doing
_INTERRUPTED: Final = 3.0  # times the usual step
_AWRY: Final = 0.5  # of a step: streams whose tokens lie further apart do not share it


@dataclass(frozen=True, eq=False)
class Stream:
    """A request of ``prompt`` tokens, sent at ``sent``, whose tokens came at ``times``."""

    prompt: int
    sent: float
    times: Floats


@dataclass(frozen=True, eq=False)
class Steps:
    """Steps in which the same ``streams`` requests decoded, and nothing but they unless something was put beside them.

    ``ends[k]`` is when the tokens of step k came; step k took ``gaps[k]`` from the end of the one before, so ``gaps[0]`` is NaN.
    ``context[k]`` is the sum of tokens the requests had in the KV cache before step k.
    """

    ends: Floats
    gaps: Floats
    context: Ints
    streams: int


def usual(gaps: Floats) -> float:
    """The median step. A client that was held up gets what came meanwhile all at once: such gaps of next to nothing do not count."""
    real = gaps[gaps > _NOTHING]
    return float(np.median(real)) if len(real) else 0.0


def undisturbed(gaps: Floats) -> npt.NDArray[np.bool_]:
    """Which steps were neither interrupted nor seen late: neither far longer nor far shorter than usual."""
    return np.asarray((gaps >= AT_ONCE * usual(gaps)) & (gaps <= _INTERRUPTED * usual(gaps)) & (gaps > _NOTHING))


def steps(streams: Sequence[Stream]) -> Steps | None:
    """The steps of the time when all ``streams`` were decoding; None if there was no such time, or their tokens do not come together.

    Each step gives a token to each stream. So from where the last one begins to where the first one ends, their tokens are the
    same steps, shifted by how many each stream had before: the shift is read off in the middle. A step ends at the median of
    its tokens' arrivals.
    """
    last = max(streams, key=lambda stream: stream.times[0])
    until = min(float(stream.times[-1]) for stream in streams)
    count = int(np.searchsorted(last.times, until, side="right"))
    if count < 3:
        return None
    middle = last.times[count // 2]
    shifts = [int(np.argmin(np.abs(stream.times - middle))) - count // 2 for stream in streams]
    first = max(0, *(-shift for shift in shifts))
    end = min(count, *(len(stream.times) - shift for stream, shift in zip(streams, shifts, strict=True)))
    if end - first < 3:
        return None
    rows = np.stack([stream.times[first + shift : end + shift] for stream, shift in zip(streams, shifts, strict=True)])
    ends = np.median(rows, axis=0)
    typical = usual(np.diff(ends))
    if np.mean(np.abs(rows - ends) > _AWRY * typical) > 0.1:
        return None
    before = sum(stream.prompt + first + shift - 1 for stream, shift in zip(streams, shifts, strict=True))
    context = before + len(streams) * np.arange(end - first)
    return Steps(ends, np.concatenate([[np.nan], np.diff(ends)]), context.astype(np.int64), len(streams))


def pace(streams: Sequence[Stream]) -> tuple[float, int, int] | None:
    """Seconds a step, context sum in the midst, and number of steps of the time when all were decoding, where tokens come several
    at a time and steps cannot be told apart; None if there was no such time."""
    since = max(float(stream.times[0]) for stream in streams)
    until = min(float(stream.times[-1]) for stream in streams)
    within = [np.flatnonzero((stream.times >= since) & (stream.times <= until)) for stream in streams]
    if min(len(which) for which in within) < 3:
        return None
    took = [
        float(stream.times[which[-1]] - stream.times[which[0]]) / float(which[-1] - which[0])
        for stream, which in zip(streams, within, strict=True)
    ]
    context = sum(stream.prompt + float(np.mean(which)) - 1.0 for stream, which in zip(streams, within, strict=True))
    return float(np.mean(took)), round(context), min(len(which) for which in within) - 1


def together(streams: Sequence[Stream]) -> int:
    """The most streams that were decoding at one time."""
    edges = sorted(
        [(float(stream.times[0]), 1) for stream in streams] + [(float(stream.times[-1]), -1) for stream in streams],
        key=lambda edge: (edge[0], -edge[1]),
    )
    return int(np.max(np.cumsum([change for _, change in edges])))


def chunks(tokens: int, budget: int, decodes: int) -> list[tuple[int, int]]:
    """(tokens, tokens before) of the steps in which a lone prompt beside ``decodes`` is run under a token budget."""
    size = max(budget - decodes, 1)
    return [(min(size, tokens - past), past) for past in range(0, tokens, size)]
