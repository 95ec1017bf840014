"""Each measured point of a profile left out and read from its neighbours, as the compiled tables read between points."""

from __future__ import annotations

from typing import Any

import numpy as np

from calibration.importers.heldout import along, columns
from sim.perf.monotone import Array, line
from sim.profiles.schema import Curves, MixedAttention, Profile, PromptGrid

__all__ = ["is_measured", "residuals", "total"]


def is_measured(profile: Profile) -> bool:
    """Whether the points of the step times were measured, and not laid along a fitted or predicted line."""
    sources = {curve.source for curve in profile.steps.tokens.parts.values()}
    return bool(sources & {"measured", "composed"})


def residuals(profile: Profile) -> dict[str, Array]:
    """Relative errors, predicted / measured - 1, of the inner points of each part, by the names of ``calibration.digest.PARTS``.

    Tokens and sequences: the sum of all kernels. Empty for a profile whose points were not measured themselves.
    """
    found = {}
    if profile.step is not None and is_measured(profile):
        step = profile.step
        found = {
            "tokens": along(*total(step.tokens)),
            "sequences": along(*total(step.sequences)),
            "prefill": _of_prompts(step.prefill),
            "decode": columns(np.asarray(step.decode.contexts, float), rows(step.decode.us)),
        }
        if step.mixed is not None:
            found["mixed"] = _of_blocks(step.mixed)
    if profile.batch is not None and profile.batch.source in ("measured", "composed"):
        found["batch"] = along(np.asarray(profile.batch.at, float), np.asarray(profile.batch.us))
    return {name: errors for name, errors in found.items() if len(errors)}


def total(curves: Curves) -> tuple[Array, Array]:
    """The points of all parts together, and microseconds of their sum there."""
    at = np.unique(np.concatenate([curve.at for curve in curves.parts.values()])).astype(float)
    us = np.sum(
        [line(at, np.asarray(curve.at, float), np.asarray(curve.us)) for curve in curves.parts.values()], axis=0
    )
    return at, np.asarray(us)


def rows(table: Any) -> Array:
    """A measured grid with NaN for what was not measured."""
    return np.array([[np.nan if value is None else value for value in row] for row in table], dtype=float)


def _of_prompts(prefill: PromptGrid) -> Array:
    table = rows(prefill.us)
    if len(prefill.pasts) > 2:
        return columns(np.asarray(prefill.pasts, float), table)
    return columns(np.asarray(prefill.chunks, float), table.T, lambda chunks: chunks**2)


def _of_blocks(mixed: MixedAttention) -> Array:
    errors = []
    for block in mixed.blocks:
        values = np.array([np.nan if value is None else value for value in block.us], dtype=float)
        errors.append(columns(np.asarray(block.contexts, float), values.reshape(-1, len(block.contexts))))
    return np.concatenate(errors)
