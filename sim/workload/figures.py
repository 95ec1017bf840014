"""The figures by which a workload is known: rate, irregularity at several scales, lengths and how they go together."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from sim.workload.trace import Trace

__all__ = ["arrival_figures", "dispersion", "figures", "length_figures", "rank_correlation"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

WINDOWS = (10, 60, 300)
"""Windows in seconds over which counts are taken for the index of dispersion."""


def dispersion(arrival_s: Floats, duration: float, window: float) -> float:
    """Index of dispersion of counts: variance over mean of the arrivals in each whole ``window`` of ``duration``.

    1 for a Poisson process at any window; NaN with fewer than two windows or no arrival. A last window that is cut short is
    left out, for a short window is not a quiet one.
    """
    windows = math.floor(duration / window + 1e-9)
    if windows < 2:
        return math.nan
    which = np.floor(arrival_s / window).astype(np.int64)
    counts = np.bincount(which[which < windows], minlength=windows)
    mean = float(counts.mean())
    return float(counts.var()) / mean if mean > 0.0 else math.nan


def arrival_figures(arrival_s: Floats, duration: float) -> dict[str, float]:
    """``requests``, ``duration_s``, ``rate`` (1/s), ``gap_cv`` (of inter-arrival times), ``idc_10s``, ``idc_60s``, ``idc_300s``."""
    gaps = np.diff(arrival_s)
    mean = float(gaps.mean()) if len(gaps) else math.nan
    answer = {
        "requests": float(len(arrival_s)),
        "duration_s": duration,
        "rate": len(arrival_s) / duration if duration > 0.0 else math.nan,
        "gap_cv": float(gaps.std()) / mean if len(gaps) > 1 and mean > 0.0 else math.nan,
    }
    return answer | {f"idc_{window}s": dispersion(arrival_s, duration, window) for window in WINDOWS}


def length_figures(prompt: Integers, output: Integers) -> dict[str, float]:
    """``prompt_mean``, ``prompt_p50``, ``_p90``, ``_p99``, the same of ``output``, and ``rank_correlation`` (Spearman's)."""
    answer: dict[str, float] = {}
    for which, lengths in (("prompt", prompt), ("output", output)):
        answer[f"{which}_mean"] = float(lengths.mean())
        for percent, value in zip((50, 90, 99), np.quantile(lengths, (0.5, 0.9, 0.99)).tolist(), strict=True):
            answer[f"{which}_p{percent}"] = value
    return answer | {"rank_correlation": rank_correlation(prompt, output)}


def figures(trace: Trace) -> dict[str, float]:
    """All figures of a trace."""
    return arrival_figures(trace.arrival_s, trace.span) | length_figures(trace.prompt_tokens, trace.output_tokens)


def rank_correlation(first: Integers, second: Integers) -> float:
    """Spearman's rank correlation, ties sharing their mean rank; NaN if either is constant."""
    ranks = [_ranks(first), _ranks(second)]
    spreads = [rank.std() for rank in ranks]
    if min(spreads) == 0.0:
        return math.nan
    products = (ranks[0] - ranks[0].mean()) * (ranks[1] - ranks[1].mean())
    return float(products.mean() / (spreads[0] * spreads[1]))


def _ranks(values: Integers) -> Floats:
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2.0)[which], dtype=np.float64)
