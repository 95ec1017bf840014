"""From the cells of a calibration to what its fit needs: samples of engine steps, times to first tokens, and what cannot be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from calibration.campaign import Record
from calibration.endpoint.steps import AT_ONCE, Floats, Ints, Steps, Stream, chunks, pace, steps, undisturbed, usual
from calibration.samples import StepSample

__all__ = ["Budget", "Observed", "Prompted", "budget", "decode", "mixed", "prompted", "streams"]

_BIN: Final = 8  # steps at least that are averaged
_BINS: Final = 4
_LONG: Final = 1.25  # times the median step: there was a prompt in it
_EARLY: Final = 0.2  # of a step: a request that came so little after a step began, as seen from here, may be in it
_USUAL: Final = tuple(sorted({*(2**power for power in range(7, 16)), 384, 768, 1536, 3072, 6144, 12288}))


@dataclass(frozen=True)
class Prompted:
    """A prompt and its first token, ``ttft`` seconds later, the mean of ``repeats``; ``values`` has them all.

    ``chunks`` are the steps it took, (tokens, tokens before), empty where the token budget is not known. With ``beside`` requests
    decoding, of ``context`` tokens in sum, ``waited`` of it had passed when the first of these steps began.
    """

    prompt: int
    ttft: float
    chunks: tuple[tuple[int, int], ...]
    values: tuple[float, ...]
    beside: int = 0
    context: int = 0
    waited: float = 0.0

    @property
    def repeats(self) -> int:
        """How many were averaged."""
        return len(self.values)


@dataclass
class Observed:
    """What one or many cells gave. ``interrupted`` and ``seconds`` are of pure decode steps: how long those took that were left
    out as disturbed, and all together. ``apart``: prompts were run in steps of their own. ``lost`` injections could not be read."""

    samples: list[StepSample] = field(default_factory=list)
    prompted: list[Prompted] = field(default_factory=list)
    interrupted: float = 0.0
    seconds: float = 0.0
    apart: int = 0
    lost: int = 0
    unread: int = 0

    def add(self, other: Observed) -> None:
        """Join what another cell gave."""
        self.samples += other.samples
        self.prompted += other.prompted
        for name in ("interrupted", "seconds", "apart", "lost", "unread"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True)
class Budget:
    """Tokens a step may have: at least ``low``, below ``high`` (None: no prompt was split); ``tokens`` if that leaves one usual size."""

    low: int
    high: int | None = None
    tokens: int | None = None

    def chunks(self, prompt: int, decodes: int) -> tuple[tuple[int, int], ...]:
        """(tokens, tokens before) of the steps of a lone prompt beside ``decodes``; empty if they are not known."""
        if self.tokens is not None:
            return tuple(chunks(prompt, self.tokens, decodes))
        return ((prompt, 0),) if prompt + decodes <= self.low else ()


def streams(replies: Sequence[Record]) -> list[Stream]:
    """The requests of a cell's record."""
    return [Stream(reply["prompt"], reply["sent"], np.asarray(reply["times"], float)) for reply in replies]


def prompted(records: Sequence[Record], known: Budget) -> list[Prompted]:
    """Lone prompts, those of one length averaged."""
    values: dict[int, list[float]] = {}
    for record in records:
        for reply in record["replies"]:
            values.setdefault(reply["prompt"], []).append(reply["times"][0] - reply["sent"])
    return [
        Prompted(prompt, float(np.mean(took)), known.chunks(prompt, 0), tuple(took))
        for prompt, took in sorted(values.items())
    ]


def decode(record: Record) -> Observed:
    """Samples of the pure decode steps of a decode cell: bins of a few steps, averaged."""
    found = Observed()
    requests = streams(record["replies"])
    if _several(record):
        coarse = pace(requests)
        if coarse is None:
            found.unread = 1
        else:
            found.samples.append(_decodes(len(requests), coarse[1], coarse[0], coarse[2]))
            found.seconds += coarse[0] * coarse[2]
        return found
    seen = steps(requests)
    if seen is None:
        found.unread = 1
    else:
        _binned(found, seen, np.arange(1, len(seen.gaps)), _BINS)
    return found


def mixed(record: Record, known: Budget) -> Observed:
    """Samples of a mixed cell: the steps that held injected prompts, and the pure ones between them.

    The injected requests' first tokens come with those of the decoding ones, and that step was the last of their prompts; it, or
    the steps up to it under the token budget, held the prompts.
    """
    found = Observed()
    seen = None if _several(record) else steps(streams(record["replies"]))
    if seen is None:
        found.unread = 1
        return found
    typical, pure = _typical(seen, record)
    _binned(found, seen, pure, 1)
    for lot in record["injected"]:
        requests = streams(lot)
        if len(requests) == 1:
            _lone(found, seen, requests[0], typical, known)
        else:
            _lot(found, seen, requests, typical, known)
    return found


def budget(records: Sequence[Record]) -> Budget:
    """What the mixed cells show of the token budget: a prompt of T tokens beside n requests takes k steps if
    (k - 1)(budget - n) < T <= k (budget - n), and what these take beyond the others is about as their tokens.

    Of the sizes in use, that one is taken which fits by far the best.
    """
    taken: list[tuple[int, int, Floats]] = []
    for record in records:
        seen = None if _several(record) else steps(streams(record["replies"]))
        if seen is None:
            continue
        typical, _ = _typical(seen, record)
        for lot in record["injected"]:
            request = streams(lot)[0]
            end = _end(seen, request, typical)
            if len(lot) == 1 and end is not None:
                begin = _begin(seen, request, end, typical)
                taken.append((request.prompt, seen.streams, np.maximum(seen.gaps[begin : end + 1] - typical, 0.0)))
    low = max((prompt + decodes for prompt, decodes, beyond in taken if len(beyond) == 1), default=1)
    split = [(prompt, decodes, len(beyond)) for prompt, decodes, beyond in taken if len(beyond) > 1]
    if not split:
        return Budget(low)
    ranked = sorted((float(np.mean([_misfit(size, *one) for one in taken])), size) for size in _USUAL)
    (best, size), (second, _) = ranked[:2]
    if best < 0.25 and second > 1.5 * best + 0.02:
        return Budget(size, size + 1, size)
    lows = [decodes + -(-prompt // count) for prompt, decodes, count in split]
    highs = [decodes + -(-prompt // (count - 1)) for prompt, decodes, count in split]
    return Budget(int(np.median(lows)), int(np.median(highs)))


def _misfit(size: int, prompt: int, decodes: int, beyond: Floats) -> float:
    """How far a token budget is from what a prompt did, 0 to 1: another number of steps, or tokens shared out otherwise among them."""
    parts = np.array([tokens for tokens, _ in chunks(prompt, size, decodes)], float)
    if len(parts) != len(beyond):
        return 1.0
    if len(parts) == 1 or not beyond.any():
        return 0.0
    return float(np.abs(parts / parts.sum() - beyond / beyond.sum()).sum()) / 2.0


def _binned(found: Observed, seen: Steps, which: Any, bins: int) -> None:
    """Add samples of the pure decode steps ``which``, in at most that many bins; disturbed ones are left out."""
    gaps = seen.gaps[which]
    kept = undisturbed(gaps)
    found.seconds += float(gaps.sum())
    found.interrupted += float(gaps[~kept].sum())
    chosen = np.asarray(which)[kept]
    if not len(chosen):
        return
    for part in np.array_split(chosen, max(1, min(bins, len(chosen) // _BIN))):
        context = round(float(np.mean(seen.context[part])))
        found.samples.append(_decodes(seen.streams, context, float(np.mean(seen.gaps[part])), len(part)))


def _several(record: Record) -> bool:
    """Whether the server sends several tokens at a time, so that steps cannot be told apart."""
    replies = record["replies"]
    return any(not reply["exact"] or len(reply["times"]) > 1.1 * reply["chunks"] for reply in replies)


def _typical(seen: Steps, record: Record) -> tuple[float, Ints]:
    """The median pure decode step, and which steps are such: none of an injected prompt's, from when it was sent to its first token."""
    free = np.ones(len(seen.ends), bool)
    free[0] = False
    for lot in record["injected"]:
        sent = min(reply["sent"] for reply in lot)
        came = max(reply["times"][0] for reply in lot)
        begin, end = np.searchsorted(seen.ends, [sent, came])
        free[begin : end + 2] = False
    pure = np.flatnonzero(free)
    return usual(seen.gaps[pure] if len(pure) else seen.gaps[1:]), pure


def _end(seen: Steps, request: Stream, typical: float) -> int | None:
    """The step at whose end the request's first token came; None if that was outside of those seen, or in the midst of one."""
    came = float(request.times[0])
    step = int(np.argmin(np.abs(seen.ends - came)))
    inside = 0 < step < len(seen.ends) - 1 and request.sent > seen.ends[0]
    return step if inside and abs(seen.ends[step] - came) <= 0.5 * typical else None


def _begin(seen: Steps, request: Stream, end: int, typical: float) -> int:
    """The first of the long steps that lead up to ``end``. That one itself may be short: the rest of a prompt can be a few tokens."""
    begin = end
    while begin > 1 and seen.gaps[begin - 1] > _LONG * typical and _after(seen, begin - 1, request, typical):
        begin -= 1
    return begin


def _after(seen: Steps, step: int, request: Stream, typical: float) -> bool:
    """Whether a step began after the request was sent."""
    return step > 0 and float(seen.ends[step - 1]) >= request.sent - _EARLY * typical


def _lone(found: Observed, seen: Steps, request: Stream, typical: float, known: Budget) -> None:
    end = _end(seen, request, typical)
    if end is None:
        _apart(found, seen, [request], typical, known)
        return
    parts = known.chunks(request.prompt, seen.streams)
    begin = end - len(parts) + 1
    if not parts or not _after(seen, begin, request, typical) or _late(seen, begin, end, typical):
        found.lost += 1
        return
    for step, (tokens, past) in enumerate(parts, start=begin):
        found.samples.append(_sample(seen, step, [(tokens, past)]))
    ttft = float(request.times[0]) - request.sent
    found.prompted.append(
        Prompted(
            request.prompt,
            ttft,
            parts,
            (ttft,),
            beside=seen.streams,
            context=int(seen.context[begin]),
            waited=float(seen.ends[begin - 1]) - request.sent,
        )
    )


def _lot(found: Observed, seen: Steps, requests: list[Stream], typical: float, known: Budget) -> None:
    """Prompts sent together that fit into one step: those whose first tokens came in one step were run in it."""
    ends = [_end(seen, request, typical) for request in requests]
    if any(end is None for end in ends):
        _apart(found, seen, requests, typical, known)
        return
    at = sorted({end for end in ends if end is not None})
    if len(known.chunks(sum(request.prompt for request in requests), seen.streams)) != 1 or _late(
        seen, at[0], at[-1], typical
    ):
        found.lost += len(requests)
        return
    for step in at:
        members = [request.prompt for request, end in zip(requests, ends, strict=True) if end == step]
        found.samples.append(_sample(seen, step, [(tokens, 0) for tokens in members]))


def _apart(found: Observed, seen: Steps, requests: list[Stream], typical: float, known: Budget) -> None:
    """A first token in the midst of a step of the others: the prompt had a step of its own, from the end of their last one on."""
    for request in requests:
        came = float(request.times[0])
        step = int(np.searchsorted(seen.ends, came))
        alone = len(requests) == 1 and 0 < step < len(seen.ends) and seen.ends[step - 1] > request.sent
        if (
            not alone
            or _late(seen, step, step, typical)
            or came - float(seen.ends[step - 1]) < AT_ONCE * typical
            or seen.gaps[step] < _LONG * typical
            or len(known.chunks(request.prompt, 0)) > 1
        ):
            found.lost += 1
            continue
        found.apart += 1
        took = came - float(seen.ends[step - 1])
        found.samples.append(StepSample(request.prompt, request.prompt**2, 1, 0, 0, took))


def _late(seen: Steps, begin: int, end: int, typical: float) -> bool:
    """Whether this client was held up about these steps: then what came meanwhile was seen at once, in next to no time."""
    return bool(np.any(seen.gaps[max(begin - 1, 1) : end + 3] < AT_ONCE * typical))


def _decodes(streams: int, context: int, seconds: float, count: int) -> StepSample:
    return StepSample(0, 0, 0, streams, context, seconds, weight=float(count))


def _sample(seen: Steps, step: int, parts: list[tuple[int, int]]) -> StepSample:
    return StepSample(
        prefill_tokens=sum(tokens for tokens, _ in parts),
        prefill_work=sum(tokens * (2 * past + tokens) for tokens, past in parts),
        prompts=len(parts),
        decodes=seen.streams,
        context=int(seen.context[step]),
        seconds=float(seen.gaps[step]),
    )
