"""Profiles as they might as well have been measured: each part scaled by a factor drawn from the profile's doubt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import numpy as np

from sim.perf.attention import decode_table, prefill_table
from sim.perf.monotone import line
from sim.profiles.doubt import Doubt, Scaled
from sim.profiles.schema import ContextGrid, Curves, MixedBlock, Profile, PromptGrid, Step

__all__ = ["draw", "factors", "scaled"]

SCALED: tuple[Scaled, ...] = get_args(Scaled)


def draw(profile: Profile, generator: np.random.Generator) -> Profile:
    """``profile`` with its parts scaled by :func:`factors`; as it is where it says nothing of its doubt."""
    return profile if profile.doubt is None else scaled(profile, factors(profile.doubt, generator))


def scaled(profile: Profile, by: Mapping[Scaled, float]) -> Profile:
    """``profile`` with the times of the parts named in ``by`` multiplied.

    The cost of unequal contexts goes with decode attention. A kernel that does a chunk and decodes together is scaled by the mean of
    both factors, weighted by what each would take alone. Memory is not in doubt. ProfileError for a model that does not generate.
    """
    scale = dict.fromkeys(SCALED, 1.0) | dict(by)
    step = profile.steps
    host = {"us": step.host.us * scale["host"], "request_us": step.host.request_us * scale["request"]}
    parts: dict[str, Any] = {
        "tokens": _curves(step.tokens, scale["tokens"]),
        "sequences": _curves(step.sequences, scale["sequences"]),
        "prefill": _grid(step.prefill, scale["prefill"]),
        "decode": _grid(step.decode, scale["decode"]),
        "host": step.host.model_copy(update=host),
    }
    if step.mixed is not None:
        blocks = tuple(_block(step, block, scale["prefill"], scale["decode"]) for block in step.mixed.blocks)
        parts["mixed"] = step.mixed.model_copy(update={"blocks": blocks})
    if step.spread is not None:
        slopes = {name: _times(getattr(step.spread, name), scale["decode"]) for name in ("decode_us", "mixed_us")}
        parts["spread"] = step.spread.model_copy(update=slopes)
    return profile.model_copy(update={"step": step.model_copy(update=parts)})


def factors(doubt: Doubt, generator: np.random.Generator) -> dict[Scaled, float]:
    """A factor for each part of a step, jointly log-normal, each with median 1; 1 for a part that is not in doubt."""
    values, vectors = np.linalg.eigh(np.asarray(doubt.covariance, dtype=np.float64))
    # the symmetric root, which does not depend on the signs that a library gives to eigenvectors
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    logarithms = root @ generator.standard_normal(len(values))
    return dict.fromkeys(SCALED, 1.0) | dict(zip(doubt.parts, np.exp(logarithms).tolist(), strict=True))


def _times(values: tuple[float, ...], factor: float) -> tuple[float, ...]:
    return tuple(value * factor for value in values)


def _curves(curves: Curves, factor: float) -> Curves:
    parts = {name: curve.model_copy(update={"us": _times(curve.us, factor)}) for name, curve in curves.parts.items()}
    return curves.model_copy(update={"parts": parts})


def _grid(grid: PromptGrid | ContextGrid, factor: float) -> PromptGrid | ContextGrid:
    rows = tuple(tuple(None if value is None else value * factor for value in row) for row in grid.us)
    return grid.model_copy(update={"us": rows})


def _block(step: Step, block: MixedBlock, prefill: float, decode: float) -> MixedBlock:
    chunks, pasts, sequences, contexts = (
        np.asarray(axis, dtype=np.float64) for axis in (block.chunks, block.pasts, block.sequences, block.contexts)
    )
    lone = prefill_table(step, chunks, pasts)[:, :, None, None]
    grid, table = decode_table(step.decode, sequences)
    others = line(contexts, grid, table)[None, None]
    both = lone + others
    share = np.divide(lone, both, out=np.full(both.shape, 0.5), where=both > 0.0)
    scale = (share * prefill + (1.0 - share) * decode).ravel().tolist()
    us = tuple(None if value is None else value * factor for value, factor in zip(block.us, scale, strict=True))
    return block.model_copy(update={"us": us})
