"""What a request would take in an engine that serves nobody else: what its time in a batch is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from sim.perf.steptable import StepTable
    from sim.serving.settings import EngineSettings

__all__ = ["Alone"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Alone:
    """``prefill[p]``: seconds of the steps that compute a prompt of p tokens, for the lengths that were asked for (else NaN);
    ``decode[c]``: seconds of the decode steps of one sequence with 0, 1, ..., c - 1 tokens in the KV cache, one after another."""

    prefill: Floats
    decode: Floats

    @classmethod
    def of(cls, step: StepTable, settings: EngineSettings, prompts: Array, most_tokens: int) -> Alone:
        """For prompts of the lengths ``prompts``, and requests of ``most_tokens`` tokens at most.

        Steps outside what was measured are not counted: nobody takes them.
        """
        outside = step.outside
        lengths = np.unique(np.asarray(prompts, np.int64))
        prefill = np.full(int(lengths.max(initial=0)) + 1, np.nan)
        chunk = settings.max_num_batched_tokens
        if settings.long_prefill_token_threshold:
            chunk = min(chunk, settings.long_prefill_token_threshold)
        for length in lengths.tolist():
            prefill[length] = sum(
                step.mixed_step(part, part * (2 * past + part), 0, 0, 0, 1)
                for past in range(0, length, chunk)
                for part in (min(chunk, length - past),)
            )
        step.outside = outside
        context = np.arange(most_tokens + 1, dtype=np.float64)
        piece = np.searchsorted(np.asarray(step.knots[1], np.float64), context, "left")
        seconds = np.asarray(step.base[1])[piece] + np.asarray(step.slope[1])[piece] * context
        return cls(prefill, np.concatenate([[0.0], np.cumsum(seconds)]))

    def seconds(self, prompt: Array, output: Array) -> tuple[Floats, Floats]:
        """Seconds to the first token, and from there to the last, of requests of so many ``prompt`` and ``output`` tokens."""
        last = prompt + output - 1  # the last token is never written to the cache
        return self.prefill[prompt], self.decode[last] - self.decode[prompt]
