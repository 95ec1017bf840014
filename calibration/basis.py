"""The shapes that a fitted step time is made of, a column each: :mod:`calibration.fit` says what they mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from calibration.samples import Observed, Prompted, StepSample
from sim.perf.monotone import Array

__all__ = ["DENSE", "PARTS", "Basis"]

PARTS: Final = ("tokens", "sequences", "prefill", "decode", "host", "request")
DENSE: Final = "prompt tokens times tokens that decodes beside them have cached"
MOST_KNOTS: Final = 12
NEAR: Final = 1.3  # knots closer than this say nothing that one of them does not


@dataclass(frozen=True)
class Basis:
    """Knots of the pieces: ``tokens`` of g, ``sequences`` of s, ``batches`` and ``contexts`` of d; and what else is told apart.

    ``between``: the samples tell what an engine does between iterations apart. ``pasts``: chunks over cached tokens were seen.
    ``dense``: attention of prompts to what decodes beside them have cached is sought.
    ``outside``: what a request spends outside of steps was seen.
    """

    tokens: tuple[int, ...]
    sequences: tuple[int, ...]
    batches: tuple[int, ...]
    contexts: tuple[int, ...]
    between: bool
    pasts: bool
    dense: bool
    outside: bool

    @classmethod
    def of(cls, observed: Sequence[Observed]) -> Basis:
        """Knots where samples are."""
        samples, _ = _steps(observed)
        decodes = [sample for sample in samples if sample.decodes]
        return cls(
            tokens=_knots([sample.tokens for sample in samples]),
            sequences=_knots([sample.sequences for sample in samples]),
            batches=_knots([sample.decodes for sample in decodes]),
            contexts=_knots([sample.context / sample.decodes for sample in decodes], most=5, near=1.8),
            between=len({sample.whole for sample in samples}) == 2,
            pasts=any(
                sample.prefill_work > sample.prefill_tokens**2 * 1.01 and sample.prompts == 1 for sample in samples
            ),
            dense=any(sample.prefill_tokens and sample.decodes for sample in samples),
            outside=any(isinstance(one, Prompted) for one in observed),
        )

    def columns(self) -> Iterator[tuple[str, str]]:
        """Part and name of each column."""
        yield "tokens", "fixed"
        if self.between:
            yield "host", "between iterations"
            yield "sequences", "between iterations, a request"
        for low, high in _pieces(self.tokens, 1):
            yield "tokens", f"{low} to {high} tokens"
        for low, high in _pieces(self.sequences, 1):
            yield "sequences", f"{low} to {high} requests"
        yield "prefill", "a prompt"
        yield "prefill", "prefill work"
        if self.pasts:
            yield "prefill", "cached tokens of chunks"
        if self.dense:
            yield "prefill", DENSE
        for batch in self.batches:
            for low, high in _pieces(self.contexts, 0):
                yield "decode", f"{batch} decodes at {low} to {high} tokens"
        if self.outside:
            yield "request", "outside of steps"

    def matrix(self, observed: Sequence[Observed]) -> Array:
        """``[samples, columns]``: seconds of each are this times the coefficients."""
        samples, starts = _steps(observed)
        if not samples:
            return np.zeros((0, sum(1 for _ in self.columns())))
        rows = np.add.reduceat(self._steps_matrix(samples), starts, axis=0)
        if self.outside:
            request = np.array([float(isinstance(one, Prompted)) for one in observed])
            rows = np.concatenate([rows, request[:, None]], axis=1)
        return np.asarray(rows)

    def _steps_matrix(self, samples: Sequence[StepSample]) -> Array:
        count = len(samples)
        tokens = np.array([sample.tokens for sample in samples], float)
        sequences = np.array([sample.sequences for sample in samples], float)
        work = np.array([sample.prefill_work for sample in samples], float)
        prefill = np.array([sample.prefill_tokens for sample in samples], float)
        n = np.array([sample.decodes for sample in samples], float)
        context = np.array([sample.context for sample in samples], float) / np.maximum(n, 1.0)
        columns = [np.ones(count)]
        if self.between:
            whole = np.array([float(sample.whole) for sample in samples])
            columns += [whole, whole * sequences]
        columns += _ramps(tokens, self.tokens, 1)
        columns += _ramps(sequences, self.sequences, 1)
        columns += [np.where(prefill > 0.0, 1.0, 0.0), work]
        if self.pasts:
            columns.append(np.maximum((work / np.maximum(prefill, 1.0) - prefill) / 2.0, 0.0) * (prefill > 0.0))
        if self.dense:
            columns.append(prefill * context * n)
        for share in _shares(n, self.batches):
            columns += [share * ramp for ramp in _ramps(context, self.contexts, 0)]
        return np.stack(columns, axis=1)

    def roughness(self) -> Array:
        """``[rows, columns]``: seconds by which slopes of neighbouring pieces differ, over the shorter of the two; 0 for straight lines."""
        names = list(self.columns())
        rows: list[Array] = []

        def compare(first: int, second: int, scale: tuple[float, float], width: float) -> None:
            row = np.zeros(len(names))
            row[first], row[second] = width * scale[0], -width * scale[1]
            rows.append(row)

        for part, knots in (("tokens", self.tokens), ("sequences", self.sequences)):
            at = [number for number, (name, what) in enumerate(names) if name == part and " to " in what]
            for (one, two), (low, high) in zip(pairwise(at), pairwise(_pieces(knots, 1)), strict=True):
                compare(one, two, (1.0, 1.0), min(low[1] - low[0], high[1] - high[0]))
        start = next((number for number, (part, _) in enumerate(names) if part == "decode"), 0)
        pieces = list(_pieces(self.contexts, 0))
        wide = [high - low for low, high in pieces]
        steps = [high - low for low, high in _pieces(self.batches, 0)]
        for k, step in enumerate(steps):
            for j in range(len(pieces)):
                here = start + k * len(pieces) + j
                if j + 1 < len(pieces):
                    compare(here, here + 1, (1.0, 1.0), min(wide[j], wide[j + 1]))
                if k + 1 < len(steps):
                    rise = min(step, steps[k + 1]) * wide[j]
                    compare(here, here + len(pieces), (1.0 / step, 1.0 / steps[k + 1]), rise)
        return np.stack(rows) if rows else np.zeros((0, len(names)))

    def part(self, name: str) -> Array:
        """Which columns belong to that part of a profile."""
        return np.array([part == name for part, _ in self.columns()])

    def spans(self, observed: Observed) -> bool:
        """Whether it lies inside the knots, so that nothing is extrapolated for it."""
        if isinstance(observed, Prompted):
            return self.outside and all(map(self.spans, observed.steps))
        sample = observed
        inside = self.tokens[0] <= sample.tokens <= self.tokens[-1] and sample.sequences <= self.sequences[-1]
        if sample.decodes:
            if not self.batches:
                return False
            mean = sample.context / sample.decodes
            inside = inside and self.batches[0] <= sample.decodes <= self.batches[-1] and mean <= self.contexts[-1]
        if sample.prefill_work > sample.prefill_tokens**2 * 1.01:
            inside = inside and self.pasts
        return inside

    def unidentified(
        self, observed: Sequence[Observed], coefficients: Array, covariance: Array, between_known: bool = False
    ) -> list[str]:
        """What was not seen, or cannot be told apart, in words. ``between_known``: what lies outside of iterations was measured apart."""
        samples, _ = _steps(observed)
        said = []
        if not self.outside and not between_known:
            said.append(
                "time outside of steps (HTTP, tokenising, the network): no request was seen alone from its sending on"
            )
        if not self.between and not between_known:
            said.append("what the engine does between iterations is in the time by tokens: it was not seen apart")
        if not any(sample.prefill_tokens for sample in samples):
            said.append("prefill: no iteration had a prompt")
        elif not self.pasts:
            said.append("chunks after cached tokens: no prompt was split, so attention to what is cached is not known")
        if not any(sample.decodes for sample in samples):
            said.append("decode: no iteration had one")
        elif len(self.contexts) < 2:
            said.append("decode by context: all contexts were alike")
        if len(self.batches) == 1:
            said.append(f"decode by batch size: all had {self.batches[0]}")
        if not any(sample.decodes and sample.prefill_tokens for sample in samples):
            said.append("prompts beside decodes: none was seen, the two are added")
        matrix = self.matrix(observed)
        for name in PARTS:
            mine = self.part(name)
            share = matrix[:, mine] @ coefficients[mine]
            top = int(np.argmax(share)) if mine.any() else 0
            if not mine.any() or share[top] <= 0.0:
                continue
            row = np.where(mine, matrix[top], 0.0)
            doubt = float(np.sqrt(max(float(row @ covariance @ row), 0.0)) / share[top])
            if doubt > 0.5:
                said.append(f"{name}: known to ±{doubt:.0%} only, apart from the other parts")
        return said


def _steps(observed: Sequence[Observed]) -> tuple[list[StepSample], list[int]]:
    """All steps of all observations, and where those of each begin."""
    samples: list[StepSample] = []
    starts = []
    for one in observed:
        starts.append(len(samples))
        samples.extend(one.steps if isinstance(one, Prompted) else (one,))
    return samples, starts


def _knots(values: Sequence[float], most: int = MOST_KNOTS, near: float = NEAR) -> tuple[int, ...]:
    """At most ``most`` of the values, rising by ``near`` at least, the extremes among them."""
    if not values:
        return ()
    distinct = sorted({max(round(value), 1) for value in values})
    while True:
        kept = [distinct[0]]
        for value in distinct[1:-1]:
            if value >= near * kept[-1] and value * near <= distinct[-1]:
                kept.append(value)
        if distinct[-1] > kept[-1]:
            kept.append(distinct[-1])
        if len(kept) <= most:
            return tuple(kept)
        near *= 1.1


def _pieces(knots: tuple[int, ...], start: int) -> Iterator[tuple[int, int]]:
    edges = [start, *(knot for knot in knots if knot > start)]
    return pairwise(edges)


def _ramps(x: Array, knots: tuple[int, ...], start: int) -> list[Array]:
    """For each piece how far ``x`` has come through it; the last one goes on."""
    pieces = list(_pieces(knots, start))
    return [
        np.clip(x - low, 0.0, np.inf if number == len(pieces) - 1 else high - low)
        for number, (low, high) in enumerate(pieces)
    ]


def _shares(n: Array, knots: tuple[int, ...]) -> list[Array]:
    """For each batch size how far ``n`` has come to it from the one before, 0 to 1; past the last it goes on. Sums of these with
    coefficients that are not negative rise with n."""
    if not knots:
        return []
    rows = [np.clip(n / knots[0], 0.0, 1.0)]
    rows += [np.clip((n - low) / (high - low), 0.0, 1.0) for low, high in pairwise(knots)]
    if len(knots) > 1:
        low, high = knots[-2:]
        rows[-1] = np.maximum((n - low) / (high - low), 0.0)
    return rows
