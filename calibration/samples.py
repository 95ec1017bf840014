"""What was observed of an engine's iterations: what was in them, and how long they took."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Observed", "Prompted", "StepSample"]


@dataclass(frozen=True)
class StepSample:
    """What a step table prices (:meth:`sim.perf.steptable.StepTable.mixed_step`), and the seconds it took.

    ``prefill_tokens`` Q = Σ q and ``prefill_work`` W = Σ q (2 p + q) over the ``prompts`` chunks of q tokens after p cached ones;
    ``decodes`` n with ``context`` C tokens in the KV cache between them before the step. ``seconds`` is from one iteration's start to the
    next one's when ``whole``, else without what the engine does between iterations. ``weight`` counts repeats that were averaged.
    ``held_out`` samples are kept aside: the fit never sees them.
    """

    prefill_tokens: int
    prefill_work: int
    prompts: int
    decodes: int
    context: int
    seconds: float
    whole: bool = True
    weight: float = 1.0
    held_out: bool = False

    @property
    def tokens(self) -> int:
        """Tokens scheduled."""
        return self.prefill_tokens + self.decodes

    @property
    def sequences(self) -> int:
        """Requests in the step."""
        return self.prompts + self.decodes


@dataclass(frozen=True)
class Prompted:
    """A request that met an engine with nothing else to do: the steps to its first token, and the seconds a client waited for it.

    What a request spends outside of steps is in it once. ``steps`` have no seconds of their own.
    """

    steps: tuple[StepSample, ...]
    seconds: float
    weight: float = 1.0
    held_out: bool = False

    @classmethod
    def of(cls, prompt_tokens: int, budget: int, seconds: float) -> Prompted:
        """A prompt alone, cut to ``budget`` tokens a step."""
        chunks = []
        for past in range(0, prompt_tokens, budget):
            q = min(budget, prompt_tokens - past)
            chunks.append(StepSample(q, q * (2 * past + q), 1, 0, 0, 0.0))
        return cls(tuple(chunks), seconds)


Observed = StepSample | Prompted
