"""The profile parts that a fit of step times becomes: its pieces as curves and grids, its covariance as doubt."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np

from calibration.fit import StepFit
from calibration.importers.outside import Between
from calibration.importers.tables import rounded
from calibration.samples import Prompted, StepSample
from sim.perf.monotone import Array
from sim.profiles.doubt import Doubt, Scaled
from sim.profiles.schema import ContextGrid, Curve, Curves, Host, MixedAttention, MixedBlock, PromptGrid, Step

__all__ = ["doubt", "step"]

_PARTS: Final[tuple[Scaled, ...]] = ("tokens", "sequences", "prefill", "decode", "host", "request")
_LOOSE: Final = 0.3  # relative standard deviation above which a part alone is said to be unknown
_LEAST_SHARE: Final = 1e-3  # of a step's time: parts below it are not scaled, their doubt could not matter


def step(fit: StepFit, *, cuda_graphs: bool = False, between: Between | None = None) -> Step:
    """The fit as step times; ``between``: what lies outside of iterations, where it was measured apart."""
    basis = fit.basis
    steps = [step for one in fit.samples for step in (one.steps if isinstance(one, Prompted) else (one,))]
    longest = max(step.prefill_tokens for step in steps)
    pasts = (0, max(1, *map(_past, steps))) if basis.pasts else (0,)
    chunks = _dense((1, *(knot for knot in basis.tokens if 1 < knot < longest), max(longest, 2)))
    # d(n, c) from what a step of n decodes takes with these contexts, less what it takes with none
    contexts = tuple(dict.fromkeys((1, *basis.contexts))) if len(basis.contexts) else (1, 2)
    contexts = contexts if len(contexts) > 1 else (1, contexts[0] + 1)
    batches = basis.batches or (1,)
    host = float(_part(fit, "host", [StepSample(0, 0, 0, 1, 0, 0.0)])[0]) if basis.between else None
    request = float(fit.coefficients[basis.part("request")].sum()) if basis.outside else None
    requests = _part(fit, "sequences", [StepSample(0, 0, s, 0, 0, 0.0) for s in basis.sequences])
    if between is not None:
        host, request = between.step, between.request
        requests = requests + between.sequence * np.asarray(basis.sequences)
    return Step(
        tokens=Curves(
            parts={
                "fixed and tokens": _curve(
                    basis.tokens, _part(fit, "tokens", [StepSample(t, 0, 1, 0, 0, 0.0) for t in basis.tokens])
                )
            }
        ),
        sequences=Curves(parts={"requests": _curve(basis.sequences, requests)}),
        prefill=PromptGrid(
            chunks=chunks,
            pasts=pasts,
            us=tuple(
                _micros(_part(fit, "prefill", [StepSample(q, q * (2 * p + q), 1, 0, 0, 0.0) for p in pasts]))
                for q in chunks
            ),
        ),
        decode=ContextGrid(
            sequences=batches,
            contexts=contexts,
            us=tuple(
                _micros(_part(fit, "decode", [StepSample(0, 0, 0, n, n * c, 0.0) for c in contexts])) for n in batches
            ),
        ),
        mixed=_mixed(fit, chunks, pasts, batches, contexts),
        host=Host(
            us=rounded((host or 0.0) * 1e6),
            source="assumed" if host is None else "fitted",
            note="not seen apart: it is in the time by tokens" if host is None else "",
            cuda_graphs=cuda_graphs,
            request_us=rounded((request or 0.0) * 1e6),
            request_source="assumed" if request is None else "fitted",
        ),
        held_out=fit.held_out,
    )


def _mixed(
    fit: StepFit, chunks: tuple[int, ...], pasts: tuple[int, ...], batches: tuple[int, ...], contexts: tuple[int, ...]
) -> MixedAttention | None:
    """Attention of prompts and decodes in one step, where it is more than the two; None where it is their sum."""
    if not fit.basis.dense:
        return None
    both = [
        StepSample(q, q * (2 * p + q), 1, n, n * c, 0.0)
        for q in chunks
        for p in pasts
        for n in batches
        for c in contexts
    ]
    seconds = _part(fit, "prefill", both) + _part(fit, "decode", both)
    return MixedAttention(
        blocks=(MixedBlock(chunks=chunks, pasts=pasts, sequences=batches, contexts=contexts, us=_micros(seconds)),)
    )


def _dense(grid: tuple[int, ...]) -> tuple[int, ...]:
    """The grid with points between, so that what is linear in tokens and what is quadratic both lie near straight lines."""
    ends = sorted(set(grid))
    more = {
        round(low * (high / low) ** (k / 4)) for low, high in pairwise(ends) for k in range(1, 4) if high > 1.3 * low
    }
    return tuple(sorted({*ends, *more}))


def doubt(fit: StepFit, *, common: float = 0.0) -> Doubt | None:
    """The fit's covariance as factors on the parts, taken at the mean of its samples, all as relative errors.

    Parts that the samples do not tell apart share a factor, that of their sum: each alone may be anything, together they may not.
    ``common`` is a relative standard deviation that all parts share (from one server process to the next, say). None when no part has
    any time.
    """
    mean = fit.basis.matrix(fit.samples).mean(axis=0)
    columns = {name: fit.basis.part(name) for name in _PARTS}
    seconds = {name: float(mean[mine] @ fit.coefficients[mine]) for name, mine in columns.items()}
    least = _LEAST_SHARE * sum(seconds.values())
    groups: list[tuple[Scaled, ...]] = [(name,) for name in _PARTS if seconds[name] > least]
    if not groups:
        return None

    def covariance() -> Array:
        rows = [np.where(sum(columns[name] for name in group) > 0, mean, 0.0) for group in groups]
        gradient = np.stack(
            [row / sum(seconds[name] for name in group) for row, group in zip(rows, groups, strict=True)]
        )
        spread = gradient @ fit.covariance @ gradient.T
        return np.asarray((spread + spread.T) / 2.0)

    found = covariance()
    while len(groups) > 1 and np.max(np.diag(found)) > _LOOSE**2:
        worst = int(np.argmax(np.diag(found)))
        against = found[worst] / np.sqrt(np.maximum(np.diag(found), 1e-30))
        against[worst] = np.inf
        other = int(np.argmin(against))  # what it is exchanged with
        groups[min(worst, other)] += groups.pop(max(worst, other))
        found = covariance()
    of = {name: number for number, group in enumerate(groups) for name in group}
    parts = tuple(name for name in _PARTS if name in of)
    spread = [[found[of[one], of[two]] + common**2 for two in parts] for one in parts]
    return Doubt(
        parts=parts,
        covariance=tuple(tuple(float(f"{value:.6g}") for value in row) for row in spread),
        method="covariance of the fitted coefficients at the mean of the samples"
        + "".join(f"; {' and '.join(group)} are not told apart" for group in groups if len(group) > 1)
        + (f"; {common:.1%} common to all parts" if common else ""),
    )


def _part(fit: StepFit, name: str, samples: list[StepSample]) -> Array:
    """Seconds of one part alone for iterations of that composition."""
    mine = fit.basis.part(name)
    return np.asarray(fit.basis.matrix(samples)[:, mine] @ fit.coefficients[mine])


def _past(sample: StepSample) -> int:
    q = sample.prefill_tokens
    return round((sample.prefill_work / q - q) / 2.0) if q else 0


def _micros(seconds: Array) -> tuple[float, ...]:
    return tuple(rounded(float(value) * 1e6) for value in seconds)


def _curve(at: tuple[int, ...], seconds: Array) -> Curve:
    return Curve(at=at, us=_micros(seconds), source="fitted")
