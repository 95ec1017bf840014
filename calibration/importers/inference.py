"""What a log of iterations says of its own, without the requests that were served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from calibration.importers.iterations import IterationLog
from calibration.samples import StepSample
from sim.errors import ProfileError

__all__ = ["Inferred", "infer"]

LEAST_TIMES: Final = 2  # a largest iteration seen so often is taken for the token budget


@dataclass(frozen=True)
class Inferred:
    """``samples`` of the iterations whose composition follows from the log; ``notes`` say what does not, in words."""

    samples: tuple[StepSample, ...]
    notes: tuple[str, ...]


def infer(log: IterationLog, budget: int | None = None) -> Inferred:
    """The iterations whose composition follows from the counts alone; prompts are taken to have come without cached tokens.

    A prompt is cut where the iteration has ``budget`` tokens (None: the most that any has, where several have them). The contexts of the
    decodes are the prompts that entered since nothing decoded, plus a token a step, until one of several ends: the log does not
    say which one. From then on nothing is said of decodes until none are left.

    :raises ProfileError: no iteration is such.
    """
    most = int(log.tokens.max())
    if budget is None and np.count_nonzero(log.tokens == most) >= LEAST_TIMES and log.prompts[log.tokens == most].any():
        budget = most
    state = _State()
    samples: list[StepSample] = []
    columns = (log.prompts, log.prompt_tokens, log.decodes, log.decode_tokens)
    counts = list(zip(*(column.tolist() for column in columns), strict=True))
    for i, (prompts, tokens, decodes, decode_tokens) in enumerate(counts):
        then, _, following, _ = counts[i + 1] if i + 1 < len(counts) else (0, 0, 0, 0)
        # who is cut goes on in the next iteration, and does not decode in it
        cut = prompts > 0 and tokens + decode_tokens == budget and then > 0 and following < decodes + prompts
        if decode_tokens != decodes:
            state.context = None  # some are recomputed after a preemption, or have several tokens a step
        if not decodes:
            state.nothing_decodes()
        context, past = state.known(prompts, decodes)
        if context is not None and past is not None:
            work = tokens * (2 * past + tokens)
            samples.append(StepSample(tokens, work, prompts, decodes, context, float(log.seconds[i]), whole=False))
        state.step(prompts, tokens, decodes, following, cut=cut)
    if not samples:
        raise ProfileError(
            f"{log.source}: no iteration's composition follows from the log alone; give the requests as well"
        )
    return Inferred(tuple(samples), tuple(_notes(log, samples, budget)))


class _State:
    """Tokens in the KV cache, as far as they are known."""

    def __init__(self) -> None:
        self.context: int | None = 0  # of the decodes together
        self.past: int | None = 0  # of the prompt under way
        self._entered: int | None = 0  # tokens of prompts since none was under way: decodes' when none is any more
        self._mingled = False  # whole prompts are among them, so what they add to ``context`` is not known yet

    def nothing_decodes(self) -> None:
        """The decodes have all ended."""
        self.context = 0
        if self._mingled:
            self._entered, self._mingled = None, False

    def known(self, prompts: int, decodes: int) -> tuple[int | None, int | None]:
        """The decodes' context and the chunk's past, if known."""
        context = None if self._mingled and decodes else self.context
        return context, (0 if not prompts else self.past if prompts == 1 else None)

    def step(self, prompts: int, tokens: int, decodes: int, following: int, *, cut: bool) -> None:
        """An iteration; ``following`` generate in the next one, so the others have ended."""
        self.context = None if self.context is None else self.context + decodes
        self._entered = None if self._entered is None else self._entered + tokens
        if cut:
            self.past = self.past + tokens if prompts == 1 and self.past is not None else None
            self._mingled = self._mingled or prompts > 1
        elif prompts:
            both = self.context is not None and self._entered is not None
            self.context = (self.context or 0) + (self._entered or 0) if both else None
            self._entered, self._mingled, self.past = 0, False, 0
        if decodes + prompts - cut > following > 0:
            self.context = None


def _notes(log: IterationLog, samples: list[StepSample], budget: int | None) -> list[str]:
    together = int(max((sample.decodes for sample in samples), default=0))
    notes = [
        f"without the requests, the composition of {len(samples)} of {len(log)} iterations is known",
        (
            f"contexts of decodes are known up to the first end of one of several, of at most {together} at once (the log has up to"
            f" {int(log.decodes.max())}), and chunks where they were of one prompt"
        ),
        "prompts were taken to have had nothing in the prefix cache",
    ]
    if budget is not None:
        notes.append(
            f"iterations of {budget} tokens were taken to have filled the token budget, and to have cut a prompt"
        )
    return notes
