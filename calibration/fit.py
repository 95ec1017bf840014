"""Step times fitted to observed iterations: non-negative, rising with work, shaped as a step is.

An iteration of T tokens for S requests, Q of them of prompts with work W after p cached tokens a chunk, n decodes of mean context c
(C in sum) takes

    t = fixed + host + host' S + g(T) + s(S) + [a prompt] (e + a W + b p + x Q C) + d(n, c)

g, s and d piecewise linear with slopes that are never negative, in c and in n, between the sizes observed; ``host`` and
``host'`` are what an engine does between iterations, told apart where some samples have it and others have not. The wait of a
lone request for its first token is the sum of its steps and what it spends outside of them. All of it is linear in its
coefficients, so one non-negative least squares problem (Lawson and Hanson, scipy.optimize.nnls) in relative errors finds
them, and what the data cannot tell apart is seen in the covariance. x is 0 for kernels that keep requests apart; attention under
one dense mask over the whole batch (torch's own, on a CPU) reads every decode's cache for every token of a prompt.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from calibration.basis import DENSE, Basis
from calibration.importers.heldout import summary
from calibration.samples import Observed, Prompted, StepSample
from sim.errors import ProfileError
from sim.perf.monotone import Array
from sim.profiles.schema import HeldOut

__all__ = ["StepFit", "averaged", "fit_steps"]

FOLDS: Final = 5
FAR: Final = 3.0  # an iteration that took so many times the median of its like was disturbed by something else
ROUNDS: Final = 3
STRAIGHT: Final = 0.3  # weight of a bend of a whole step against a relative error of 1
FAR_OFF: Final = 6.0  # times the median error: such an observation is not noise but a fault
LEAST_MATTER: Final = 0.05  # of an observation's time
SURE: Final = 3.0  # standard deviations
LEAST_FAR: Final = 0.3
MOST_FAR: Final = 0.05  # of the observations
LEAST: Final = 12  # iterations of different composition, below which nothing is fitted


@dataclass(frozen=True)
class StepFit:
    """Coefficients of ``basis``, their covariance, and how far samples kept aside were off.

    ``left_out`` samples had been disturbed and were not used; ``held_out`` is None where nothing could be kept aside.
    """

    basis: Basis
    coefficients: Array
    covariance: Array
    samples: tuple[Observed, ...]
    left_out: int
    held_out: HeldOut | None

    def seconds(self, samples: Sequence[Observed]) -> Array:
        """Fitted seconds of iterations of that composition."""
        return np.asarray(self.basis.matrix(samples) @ self.coefficients)

    def unidentified(self, between_known: bool = False) -> list[str]:
        """The parts that the samples do not tell apart from others or from nothing, in words."""
        return self.basis.unidentified(self.samples, self.coefficients, self.covariance, between_known)


def fit_steps(samples: Sequence[Observed]) -> StepFit:
    """Fit step times to ``samples``; those ``held_out``, or else each fifth composition in turn, only to say how good it is.

    :raises ProfileError: too few different iterations to fit anything to.
    """
    kept, left_out = averaged(samples)
    known = [sample for sample in kept if not sample.held_out]
    if len(known) < LEAST:
        raise ProfileError(
            f"{len(known)} different iterations are too few to fit step times to (at least {LEAST}: vary prompts, batch sizes and contexts)"
        )
    basis = Basis.of(known)
    coefficients = _solve(basis, known)
    known, far = _near(basis, coefficients, known)
    if far:
        left_out += far
        basis = Basis.of(known)
        coefficients = _solve(basis, known)
    if basis.dense and not _matters(basis, coefficients, known, DENSE):
        basis = replace(basis, dense=False)
        coefficients = _solve(basis, known)
    aside = [sample for sample in kept if sample.held_out]
    if aside:
        errors = basis.matrix(aside) @ coefficients / _seconds(aside) - 1.0
        held = summary("whole steps kept aside", errors)
    else:
        held = summary("whole steps, each fifth composition left out in turn", _cross_validated(known))
    return StepFit(basis, coefficients, _covariance(basis, known, coefficients), tuple(known), left_out, held)


def _matters(basis: Basis, coefficients: Array, known: list[Observed], name: str) -> bool:
    """Whether that column is surely not 0 and takes a share of some observation that is worth a column."""
    at = [what for _, what in basis.columns()].index(name)
    share = float(np.max(basis.matrix(known)[:, at] * coefficients[at] / _seconds(known)))
    spread = float(np.sqrt(_covariance(basis, known, coefficients)[at, at]))
    return share > LEAST_MATTER and coefficients[at] > SURE * spread


def _near(basis: Basis, coefficients: Array, known: list[Observed]) -> tuple[list[Observed], int]:
    """Those that the fit comes near to, and how many it does not: far off by the measure of the others, and a few at most."""
    errors = np.log(np.maximum(basis.matrix(known) @ coefficients, 1e-12) / _seconds(known))
    size = np.abs(errors - np.median(errors))
    limit = max(FAR_OFF * float(np.median(size)), LEAST_FAR, float(np.quantile(size, 1.0 - MOST_FAR)))
    kept = [one for one, off in zip(known, size, strict=True) if off <= limit]
    return kept, len(known) - len(kept)


def averaged(samples: Sequence[Observed]) -> tuple[list[Observed], int]:
    """One sample for each composition, the mean of its repeats; and how many repeats were disturbed and left out.

    Contexts are put into cells 5 % wide, since those of a decoding batch differ from step to step. Rising order of composition.
    """
    cells: dict[tuple[Any, ...], list[Observed]] = defaultdict(list)
    for sample in samples:
        cells[_cell(sample)].append(sample)
    out: list[Observed] = []
    dropped = 0
    for _, members in sorted(cells.items()):
        seconds = _seconds(members)
        good = [member for member, far in zip(members, seconds > FAR * np.median(seconds), strict=True) if not far]
        dropped += len(members) - len(good)
        weight = sum(member.weight for member in good)

        def mean(of: Callable[[Any], float], members: list[Any] = good, total: float = weight) -> float:
            return float(sum(member.weight * of(member) for member in members) / total)

        one = replace(good[0], seconds=mean(lambda member: member.seconds), weight=weight)
        if isinstance(one, StepSample):
            work, context = mean(lambda member: member.prefill_work), mean(lambda member: member.context)
            one = replace(one, prefill_work=round(work), context=round(context))
        out.append(one)
    return out, dropped


def _cell(observed: Observed) -> tuple[Any, ...]:
    def coarse(value: float) -> int:
        return round(np.log(value) / np.log(1.05)) if value > 0.0 else -1

    if isinstance(observed, Prompted):
        return (observed.held_out, True, *(number for step in observed.steps for number in _cell(step)))
    past = observed.prefill_work / observed.prefill_tokens if observed.prefill_tokens else 0.0
    context = observed.context / observed.decodes if observed.decodes else 0.0
    composition = (
        observed.held_out,
        False,
        observed.whole,
        observed.prefill_tokens,
        observed.prompts,
        observed.decodes,
    )
    return (*composition, coarse(past), coarse(context))


def _seconds(samples: Sequence[Observed]) -> Array:
    return np.array([sample.seconds for sample in samples])


def _scale(samples: Sequence[Observed], level: Array) -> Array:
    """Weights of the rows: relative errors count, and repeats no more than tenfold, as they share what was wrong in their run."""
    repeats = np.array([sample.weight for sample in samples])
    return np.asarray(np.sqrt(np.minimum(repeats, 10.0)) / level)


def _solve(basis: Basis, samples: Sequence[Observed]) -> Array:
    """Non-negative coefficients with the least squared relative error; columns scaled, for the solver's sake.

    Of solutions that fit as well, which there are where parts cannot be told apart, the straightest is taken.

    Errors are taken relative to the fit, found in a few rounds: relative to what was measured, samples that happen to be short
    would count for more than long ones, and the fit would be short on average.
    """
    from scipy.optimize import nnls

    matrix = basis.matrix(samples)
    seconds = _seconds(samples)
    straight = STRAIGHT * basis.roughness() / np.median(seconds)
    wanted = np.zeros(len(straight))
    level = seconds
    found = np.zeros(matrix.shape[1])
    for _ in range(ROUNDS):
        scale = _scale(samples, level)
        rows = np.concatenate([matrix * scale[:, None], straight])
        size = np.linalg.norm(rows, axis=0)
        size[size == 0.0] = 1.0
        found = nnls(rows / size, np.concatenate([seconds * scale, wanted]), maxiter=50 * rows.shape[1])[0] / size
        level = np.maximum(matrix @ found, 0.1 * seconds)
    return found


def _cross_validated(samples: Sequence[Observed]) -> Array:
    """Relative errors of each fold, fitted without it. What lies outside the others' range is left out: it would be extrapolated."""
    errors = []
    for fold in range(FOLDS):
        kept = [sample for number, sample in enumerate(samples) if number % FOLDS != fold]
        aside = [sample for number, sample in enumerate(samples) if number % FOLDS == fold]
        basis = Basis.of(kept)
        aside = [sample for sample in aside if basis.spans(sample)]
        if aside:
            guess = basis.matrix(aside) @ _solve(basis, kept)
            errors.append(guess / _seconds(aside) - 1.0)
    return np.concatenate(errors) if errors else np.empty(0)


def _covariance(basis: Basis, samples: Sequence[Observed], coefficients: Array) -> Array:
    """Of the coefficients that are not 0, the wish for straight lines taken as what was known before (Nychka 1988, for smoothing
    splines): so parts that the samples do not tell apart are in doubt as far as that wish allows, not infinitely."""
    active = np.flatnonzero(coefficients > 0.0)
    out = np.zeros((len(coefficients), len(coefficients)))
    if not len(active):
        return out
    matrix, seconds = basis.matrix(samples), _seconds(samples)
    scale = _scale(samples, np.maximum(matrix @ coefficients, 0.1 * seconds))
    rows = matrix[:, active] * scale[:, None]
    straight = STRAIGHT * basis.roughness()[:, active] / np.median(seconds)
    inverse = np.linalg.pinv(rows.T @ rows + straight.T @ straight)
    freedom = len(samples) - float(np.einsum("ij,jk,ik->", rows, inverse, rows))
    residuals = (matrix @ coefficients - seconds) * scale
    variance = float(residuals @ residuals) / max(freedom, 1.0)
    out[np.ix_(active, active)] = variance * inverse
    return out
