"""Latency objectives as limits: ``ttft_p99: 2.0`` is 2 s that 99 of 100 requests must keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["LATENCIES", "Limit", "limits"]

LATENCIES = ("ttft", "tpot", "itl", "e2e", "queue")
"""What a latency objective may be about, in the words of docs/concepts.md."""


@dataclass(frozen=True, slots=True)
class Limit:
    """``metric`` (one of :data:`LATENCIES`) must be at most ``seconds`` in its ``quantile`` (0 to 1; None: in its mean)."""

    metric: str
    quantile: float | None
    seconds: float

    @property
    def name(self) -> str:
        """As an objective is called: ``ttft_p99``, ``e2e_mean``."""
        return f"{self.metric}_mean" if self.quantile is None else f"{self.metric}_p{100 * self.quantile:g}"


def limits(objectives: Mapping[str, float]) -> tuple[Limit, ...]:
    """The limits among ``objectives`` (name to seconds); objectives that are no latency (a price, a rate) are left out.

    ValueError when a limit is not a positive number.
    """
    found = []
    for name, seconds in objectives.items():
        metric, _, statistic = name.partition("_")
        if metric not in LATENCIES or not (statistic == "mean" or statistic[:1] == "p"):
            continue
        if not 0.0 < seconds < float("inf"):
            raise ValueError(f"{name} is {seconds:g}; a latency objective is a number of seconds above 0")
        quantile = None if statistic == "mean" else float(statistic[1:]) / 100.0
        if quantile is not None and not 0.0 < quantile < 1.0:
            raise ValueError(f"{name}: a quantile lies between p0 and p100")
        found.append(Limit(metric, quantile, seconds))
    return tuple(found)
