"""Fitting a preset to a trace: how the shipped presets were made, and ``twinfer traces fit``.

Lengths are taken over as quantiles. Arrivals are fitted by simulated moments: rate, CV of the gaps and index of dispersion at
60 s of the preset, averaged over many draws as long as the trace, are made equal to the trace's; the time in which the
rate wanders is the one that then comes nearest to the dispersion at 10 s and 300 s. Comparing draws of equal length
matters: over an hour, a slowly moving rate shows only part of its variance.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.errors import TraceError
from sim.kernel.streams import generator
from sim.workload.arrivals import Clock, Wandering, arrive
from sim.workload.figures import WINDOWS, arrival_figures, figures, rank_correlation
from sim.workload.gaps import Gamma, Gaps, Hyperexponential
from sim.workload.trace import Trace, spread

__all__ = ["draw_figures", "fit", "fit_arrivals", "fit_lengths", "to_text"]

Floats = npt.NDArray[np.float64]

CHANCES = (0.0, 0.0005, 0.001, 0.005, *(step / 100.0 for step in range(1, 100)), 0.995, 0.998, 0.999, 0.9995, 1.0)
WANDER_TIMES = (10.0, 30.0, 100.0, 300.0, 1000.0)
LARGEST_GAMMA_CV = 3.0
"""Past it a gamma gap is nearly always 0 and bursts are all at one instant: a mixture of exponentials is fitted instead."""

_PHASES = 5
_DRAWS, _ROUNDS = 32, 8
_LAST_DRAWS, _LAST_ROUNDS = 256, 3
_REQUESTS, _LAST_REQUESTS = 640_000, 5_000_000
"""Long traces say more a draw: no more draws than make these many requests."""


def fit(
    trace: Trace, name: str, *, source: str, licence: str = "unknown", citation: str = "", description: str = ""
) -> dict[str, Any]:
    """The content of a preset file fitted to ``trace``. Raises TraceError if it is too short to fit (100 requests, 10 minutes)."""
    if len(trace) < 100 or trace.span < 600.0:
        raise TraceError(
            f"{trace.source}: has {len(trace)} requests in {trace.span:.6g} s: a fit needs 100 requests in 600 s or more"
        )
    trace = spread(trace, generator(0, 0, "fit/ticks"))
    measured = figures(trace)
    return {
        "name": name,
        "description": description or f"Fitted to {source}",
        "source": source,
        "licence": licence,
        "citation": citation,
        "arrivals": fit_arrivals(trace.arrival_s, trace.span),
        "lengths": fit_lengths(trace),
        "measured": {key: _rounded(value) for key, value in measured.items() if math.isfinite(value)},
        "basis": {
            "arrivals": "fitted: rate, CV of gaps and index of dispersion at 60 s"
            + ("; the clock's ticks were spread" if trace.format == "mooncake" else ""),
            "lengths": "fitted: quantiles, and the rank correlation of prompt and output",
        },
    }


def to_text(content: dict[str, Any]) -> str:
    """The preset file of ``content``: JSON, with pairs and lists of numbers kept on one line."""
    pairs = re.sub(r"\[\s+([-\d.e]+(?:,\s+[-\d.e]+)*)\s+\]", _on_one_line, json.dumps(content, indent=1))
    return re.sub(r"\],\s+\[", "], [", pairs) + "\n"


def _on_one_line(numbers: re.Match[str]) -> str:
    return "[" + re.sub(r"\s+", " ", numbers.group(1)) + "]"


def fit_lengths(trace: Trace) -> dict[str, Any]:
    """Quantiles of prompt and output, and their rank correlation."""
    correlation = rank_correlation(trace.prompt_tokens, trace.output_tokens)
    answer: dict[str, Any] = {"rank_correlation": round(correlation, 4) if math.isfinite(correlation) else 0.0}
    for which, lengths in (("prompt", trace.prompt_tokens), ("output", trace.output_tokens)):
        values = np.quantile(lengths, CHANCES).tolist()
        answer[which] = [[chance, round(value, 1)] for chance, value in zip(CHANCES, values, strict=True)]
    return answer


def fit_arrivals(arrival_s: Floats, duration: float) -> dict[str, Any]:
    """``rate``, ``wander`` and ``gaps`` of a preset whose draws look like these arrivals."""
    wanted = arrival_figures(arrival_s, duration)
    rate = wanted["rate"]
    gaps = np.maximum(np.diff(arrival_s) * rate, 1e-6)
    mixture = _mixture(gaps) if wanted["gap_cv"] > LARGEST_GAMMA_CV else None
    # the two that are aimed at count more than the two that choose the time
    terms = [("gap_cv", 3.0), ("idc_60s", 3.0), *((f"idc_{window}s", 1.0) for window in WINDOWS if window != 60)]
    draws = min(_DRAWS, max(2, _REQUESTS // len(arrival_s)))
    last_draws = min(_LAST_DRAWS, max(4, _LAST_REQUESTS // len(arrival_s)))
    found: list[tuple[float, float, float, float]] = []
    for time in WANDER_TIMES:
        wander, cv = _match(wanted, mixture, time, 0.3, wanted["gap_cv"], draws, _ROUNDS)
        got = _moments(Wandering(rate, wander, time), _gaps(mixture, cv), duration, draws)
        error = sum(weight * abs(math.log(max(got[key], 1e-9) / max(wanted[key], 1e-9))) for key, weight in terms)
        found.append((error, time, wander, cv))
    _, time, wander, cv = min(found)
    wander, cv = _match(wanted, mixture, time, wander, cv, last_draws, _LAST_ROUNDS)
    return {
        "rate": _rounded(rate),
        "wander": {"cv": _rounded(wander), "time": time},
        "gaps": _described(_gaps(mixture, cv)),
    }


def _match(
    wanted: dict[str, float],
    mixture: Hyperexponential | None,
    time: float,
    wander: float,
    cv: float,
    draws: int,
    rounds: int,
) -> tuple[float, float]:
    """CV of the rate and of the gaps at which the dispersion at 60 s and the CV of gaps come out as wanted."""
    rate, duration = wanted["rate"], wanted["duration_s"]
    for _ in range(rounds):
        moving = _moments(Wandering(rate, wander, time), _gaps(mixture, cv), duration, draws)
        if wander > 0.0:
            still = _moments(Wandering(rate, 0.0, time), _gaps(mixture, cv), duration, draws)
            excess = max(wanted["idc_60s"] - still["idc_60s"], 0.0)
            grown = math.sqrt(excess / max(moving["idc_60s"] - still["idc_60s"], 1e-9))
            wander = min(wander * min(grown, 4.0), 3.0)
            wander = wander if wander > 1e-3 else 0.0
        cv = max(cv * wanted["gap_cv"] / moving["gap_cv"], 0.02)
    return wander, cv


def draw_figures(clock: Clock, gaps: Gaps, duration: float, draws: int) -> list[dict[str, float]]:
    """Arrival figures of ``draws`` realisations of ``duration`` seconds, always the same ones."""
    answer = []
    for draw in range(draws):
        streams = generator(0, draw, "fit/gaps"), generator(0, draw, "fit/rate")
        answer.append(arrival_figures(arrive(clock, gaps, streams, duration), duration))
    return answer


def _moments(clock: Wandering, gaps: Gaps, duration: float, draws: int) -> dict[str, float]:
    drawn = draw_figures(clock, gaps, duration, draws)
    return {key: float(np.nanmean([one[key] for one in drawn])) for key in drawn[0]}


def _gaps(mixture: Hyperexponential | None, cv: float) -> Gaps:
    return Gamma(cv) if mixture is None else _with_cv(mixture, cv)


def _with_cv(mixture: Hyperexponential, cv: float) -> Hyperexponential:
    """``mixture`` with its longest pauses made longer or shorter until it has this ``cv``."""
    weights, means = np.array(mixture.weights), np.array(mixture.means)
    slowest = int(np.argmax(means))

    def scaled(factor: float) -> Hyperexponential:
        changed = means.copy()
        changed[slowest] *= factor
        changed /= float(weights @ changed)
        return Hyperexponential(tuple(weights.tolist()), tuple(changed.tolist()))

    low, high = 0.02, 50.0
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if scaled(middle).cv < cv else (low, middle)
    return scaled(math.sqrt(low * high))


def _mixture(gaps: Floats) -> Hyperexponential:
    """A mixture of exponentials, by expectation-maximisation, for gaps of mean 1."""
    means = np.quantile(gaps, np.append(np.linspace(0.1, 0.9, _PHASES - 1), 0.998)) + 1e-6
    weights = np.full(_PHASES, 1.0 / _PHASES)
    for _ in range(400):
        likelihood = weights / means * np.exp(-gaps[:, None] / means)
        share = likelihood / np.maximum(likelihood.sum(axis=1, keepdims=True), 1e-300)
        weights = np.maximum(share.mean(axis=0), 1e-9)
        weights /= weights.sum()
        means = np.maximum((share * gaps[:, None]).sum(axis=0) / np.maximum(share.sum(axis=0), 1e-9), 1e-6)
    means /= float(weights @ means)
    order = np.argsort(means)
    return Hyperexponential(tuple(weights[order].tolist()), tuple(means[order].tolist()))


def _described(gaps: Gaps) -> dict[str, Any]:
    if isinstance(gaps, Hyperexponential):
        return {
            "hyperexponential": {
                "weights": [_rounded(weight) for weight in gaps.weights],
                "means": [_rounded(mean) for mean in gaps.means],
            }
        }
    assert isinstance(gaps, Gamma)
    return {"gamma": _rounded(gaps.cv)}


def _rounded(value: float, digits: int = 5) -> float:
    return float(f"{value:.{digits}g}")
