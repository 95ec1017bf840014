"""Step times of any engine from a CSV file, a step a row."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from calibration.importers.files import read_columns
from calibration.samples import StepSample
from sim.errors import ProfileError

__all__ = ["read_steps"]

_WANTED: Final = {
    "prefill": ("prefill_tokens",),
    "decodes": ("decodes",),
    "context": ("context_tokens",),
    "seconds": ("seconds", "ms"),
}
_OPTIONAL: Final = {"past": ("past_tokens",), "prompts": ("prompts",)}


def read_steps(path: str | Path) -> list[StepSample]:
    """A CSV file with the columns ``prefill_tokens``, ``decodes``, ``context_tokens`` and ``seconds`` or ``ms``.

    ``context_tokens`` is what the decodes have in the KV cache between them before the step. Optional: ``prompts``, over which the
    prefill tokens are spread evenly (1), and ``past_tokens``, what each of them has in the cache already (0). Times are from the start of
    one step to that of the next.

    :raises ProfileError: what is missing or wrong, by line and column; a step without tokens; decodes without context.
    """
    path = Path(path)
    columns = read_columns(path, _WANTED, _OPTIONAL, {*_WANTED, *_OPTIONAL} - {"seconds"})
    rows = len(columns["seconds"])
    past = np.nan_to_num(columns.get("past", np.zeros(rows)))
    prompts = np.nan_to_num(columns.get("prompts", np.ones(rows)), nan=1.0)
    samples = []
    for i in range(rows):
        prefill, decodes, context = (int(columns[name][i]) for name in ("prefill", "decodes", "context"))
        several = int(prompts[i]) if prefill else 0
        fault = None
        if not prefill + decodes or columns["seconds"][i] == 0.0:
            fault = "has no tokens, or took no time"
        elif context < decodes:
            fault = f"{decodes} decodes have {context} tokens of context between them"
        elif prefill and not 0 < several <= prefill:
            fault = f"{prefill} prefill tokens are of {several} prompts"
        if fault:
            raise ProfileError(f"{path}: row {i + 1}: {fault}")
        work = round(prefill * (2 * past[i] + prefill / several)) if prefill else 0
        samples.append(StepSample(prefill, work, several, decodes, context, float(columns["seconds"][i])))
    return samples
