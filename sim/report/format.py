"""Numbers for tables: a unit a column, three figures that count, and a half-width as fine as its value."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["METRICS", "Metric", "Unit", "label", "metric", "unit_for"]

DASH = "–"
_NOISE = 1e-9  # of a value: what is left of rounding


@dataclass(frozen=True, slots=True)
class Unit:
    """How a column is written: values times ``factor``, under ``name``; a ``suffix`` after each value."""

    name: str
    factor: float = 1.0
    suffix: str = ""

    def value(self, value: float | None) -> str:
        """Three figures that count, no exponent: 0.0123, 1.23, 12.3, 123, 1,234; a dash if there is no such number."""
        if value is None or not math.isfinite(value):
            return DASH
        return f"{self._number(value * self.factor, self._places(value))}{self.suffix}"

    def half_width(self, half_width: float | None, value: float | None) -> str:
        """``±`` in two figures that count, but no more places than the value has, one more if it would be 0; empty if there is no
        interval, or none is needed."""
        if not half_width or value is None or not math.isfinite(half_width) or not math.isfinite(value):
            return ""
        if half_width <= _NOISE * abs(value):
            return ""
        scaled = half_width * self.factor
        places = self._places_of_both(value, half_width)
        if 0.0 < scaled < 0.5 * 10.0**-places:
            places += 0 if self.suffix == "%" and places else 1
            if scaled < 0.5 * 10.0**-places:
                return f"±<{10.0**-places:.{places}f}"
        return f"±{self._number(scaled, places)}"

    def both(self, value: float | None, half_width: float | None) -> str:
        """``value ±half-width`` on one line."""
        return " ".join(part for part in (self.value(value), self.half_width(half_width, value)) if part)

    def sentence(self, value: float | None, half_width: float | None) -> str:
        """``181 ± 17 ms`` for prose: the value no finer than its half-width, and nothing breaks the line."""
        half = self.half_width(half_width, value)
        unit = "" if self.suffix else self.name
        if not half or value is None or half_width is None or "<" in half:
            text = f"{self.value(value)} {half}" if half else self.value(value)
        else:
            text = f"{self._number(value * self.factor, self._places_of_both(value, half_width))}{self.suffix} {half}"
        return f"{text.replace('±', '± ')} {unit}".strip().replace(" ", "\u00a0")

    def _places_of_both(self, value: float, half_width: float) -> int:
        # the exponent after rounding to two figures
        exponent = int(f"{half_width * self.factor:.1e}".partition("e")[2])
        return min(self._places(value), max(1 - exponent, 0))

    def _places(self, value: float) -> int:
        if self.suffix == "%":
            return 0 if abs(value * self.factor) == 100.0 else 1
        # the exponent after rounding: 9.999 is written 10.0
        exponent = int(f"{abs(value * self.factor):.2e}".partition("e")[2])
        return min(max(2 - exponent, 0), 4)

    @staticmethod
    def _number(value: float, places: int) -> str:
        text = f"{value:,.{places}f}"
        return text if len(text) <= 9 else f"{value:,.0f}" if abs(value) < 1e7 else f"{value:.2e}"


SECONDS, MILLISECONDS = Unit("s"), Unit("ms", 1e3)
PERCENT = Unit("%", 100.0, "%")


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of the summary: what it is called in a heading, the unit it comes in, whether less of it is better."""

    title: str
    unit: str = ""
    meaning: str = ""


_LATENCIES = {
    "ttft": ("TTFT", "time from arrival to the first token"),
    "tpot": ("TPOT", "time per output token after the first, of one request"),
    "itl": ("ITL", "time between two tokens of one request"),
    "e2e": ("E2E", "time from arrival to the last token"),
    "queue": ("Queue", "time from arrival to the first step that served the request"),
}
_STATISTICS = ("mean", "p50", "p90", "p95", "p99")

METRICS: dict[str, Metric] = {
    f"{key}_{statistic}": Metric(f"{title} {statistic}", "time", f"{statistic} of the {meaning}")
    for key, (title, meaning) in _LATENCIES.items()
    for statistic in _STATISTICS
} | {
    "throughput_rps": Metric("Throughput", "req/s", "requests finished a second"),
    "output_tokens_per_s": Metric("Output", "tok/s", "output tokens a second"),
    "goodput_rps": Metric("Goodput", "req/s", "requests a second that met every objective"),
    "slo_attainment": Metric("SLO met", "share", "share of requests that met every objective"),
    "gpu_utilization": Metric("GPU busy", "share", "share of time in which the GPUs ran a step"),
    "kv_usage_mean": Metric("KV mean", "share", "share of KV-cache blocks in use"),
    "kv_usage_peak": Metric("KV peak", "share", "largest share of KV-cache blocks in use"),
    "batch_mean": Metric("Batch", "seq", "sequences in a step, mean over busy time"),
    "preemptions_per_request": Metric("Preemptions", "/req", "times a request lost its KV cache and began again"),
    "attempts_per_request": Metric(
        "Attempts", "/req", "times a request was sent: more than once where clients try again"
    ),
    "replicas_mean": Metric("Replicas", "", "replicas that were ready, mean over time"),
    "gpu_hours": Metric("GPU hours", "h", "GPUs that replicas had, times how long"),
    "machine_hours": Metric("Machine hours", "h", "machines had, times how long"),
    "cost_usd": Metric("Cost", "$", "price of the run"),
    "idle_usd": Metric("Idle", "$", "part of the price that paid for GPUs no replica had"),
    "idle_share": Metric("Idle share", "share", "share of the price that paid for GPUs no replica had"),
    "usd_per_hour": Metric("Price", "$/h", "price of the fleet an hour"),
    "usd_per_month": Metric("Month", "$/month", "price of 730 hours of it"),
    "usd_per_met_request": Metric("Met request", "$", "price of a request that met every objective"),
    "usd_per_1m_tokens": Metric("1M tokens", "$", "price of a million tokens, prompt and output"),
    "usd_per_1m_output_tokens": Metric("1M output", "$", "price of a million output tokens"),
    "energy_kwh": Metric("Energy", "kWh", "energy at the wall"),
    "j_per_token": Metric("Energy a token", "J", "energy of a token served, prompt and output"),
    "gco2": Metric("CO2", "g", "carbon dioxide of the energy, by the region's mean"),
    "requests": Metric("Requests", "", "requests counted"),
    "lost_share": Metric("Lost", "share", "share of requests turned away or failed"),
    "rejected": Metric("Rejected", "", "requests turned away"),
    "timeout": Metric("Timed out", "", "requests whose clients gave up"),
    "failed": Metric("Failed", "", "requests lost with their replica, or never let through to one"),
    "unfinished": Metric("Unfinished", "", "requests still in the system when the run ended"),
}


def metric(name: str) -> Metric:
    """What is known of the figure ``name``; of one that is not known, its name."""
    return METRICS.get(name) or Metric(name.replace("_", " "), "time" if name.partition("_")[0] in _LATENCIES else "")


def label(name: str) -> str:
    """``TTFT p99`` for ``ttft_p99``, ``chat: TTFT p99`` for ``chat.ttft_p99``."""
    workload, _, figure = name.rpartition(".")
    return f"{workload}: {metric(figure).title}" if workload else metric(figure).title


def unit_for(name: str, values: Iterable[float | None]) -> Unit:
    """The unit in which these values of the figure ``name`` are shortest: ms if the middle one is under a second."""
    kind = metric(name).unit
    if kind == "time":
        finite = sorted(abs(value) for value in values if value is not None and math.isfinite(value) and value != 0.0)
        return MILLISECONDS if finite and finite[len(finite) // 2] < 1.0 and finite[-1] < 10.0 else SECONDS
    if kind == "share":
        return PERCENT
    return Unit(kind)
