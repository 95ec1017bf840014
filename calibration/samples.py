"""One engine iteration as it was observed: what was in it, and how long it took."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["StepSample"]


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
