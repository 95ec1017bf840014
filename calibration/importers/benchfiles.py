"""A run's requests from what load generators write: ``vllm bench serve``, guidellm, aiperf.

Field names as in vLLM 0.32 (benchmarks/serve.py), guidellm 0.8 (schemas/base/request_stats.py; 0.2 to 0.5 use the same ones but for the
start) and aiperf 0.13 (common/models/record_models.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from calibration.importers.files import read_json, read_json_lines
from calibration.importers.requestcsv import assemble
from calibration.runs import RequestLog
from sim.errors import ProfileError

__all__ = ["read_aiperf", "read_guidellm", "read_vllm_bench"]

Floats = npt.NDArray[np.float64]
_NONE: Final = float("nan")


class _Rows:
    """Columns of a log that grow by a request at a time; times in seconds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[list[float]] = []
        self.times: list[Floats | None] = []

    def served(self, place: str, values: Mapping[str, Any], gaps: Any = None) -> None:
        """``values``: sent, prompt, output, TTFT and E2E under their own names; ``gaps`` between the tokens where they are known.
        E2E may be left out then: it follows."""
        row = [self._number(place, name, value) for name, value in values.items()]
        times = None
        if gaps is not None:
            numbers = [self._number(place, f"gap {i + 1}", gap) for i, gap in enumerate(gaps)]
            times = row[3] + np.cumsum([0.0, *numbers])
            row = [*row, float(times[-1])][:5]
        self.rows.append(row)
        self.times.append(times)

    def failed(self, place: str, sent: Any, prompt: Any) -> None:
        """A request that was sent and not served to its end; a prompt that was not counted has no tokens."""
        self.rows.append(
            [self._number(place, "start", sent), self._number(place, "prompt", prompt or 0), 0.0, _NONE, _NONE]
        )
        self.times.append(np.empty(0))

    def _number(self, place: str, name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**53:
            raise ProfileError(f"{self.path}: {place}: {name} is {value!r}, not a number")
        return float(value)

    def log(self, concurrency: int | None, about: Mapping[str, Any]) -> RequestLog:
        columns = np.array(self.rows, dtype=float).reshape(-1, 5).T
        known = [times for times in self.times if times is not None]
        times = known if known and len(known) == len(self.times) else None
        sent, prompt, output, ttft, e2e = columns
        return assemble(self.path, sent, prompt, output, ttft, e2e, times, concurrency, about)


def read_vllm_bench(path: Path, number: int | None = None) -> RequestLog:
    """The result of ``vllm bench serve --save-result --save-detailed``; ``number`` chooses where ``--append-result`` wrote several.

    A request's tokens are taken to come one a chunk; where chunks held more, there are no token times.
    """
    results = list(_vllm_results(path))
    result = _chosen(path, results, number, [str(one.get("date", "")) for one in results])
    if "ttfts" not in result:
        raise ProfileError(
            f"{path}: is a summary without the requests; `vllm bench serve` writes them with --save-result --save-detailed"
        )
    if "start_times" not in result:
        raise ProfileError(f"{path}: has no start_times: this version of `vllm bench serve` did not write when it sent")
    names = ["start_times", "input_lens", "output_lens", "ttfts", "itls"]
    names += [name for name in ("errors", "latencies") if name in result]  # not in all versions
    wrong = next((name for name in names if not isinstance(result.get(name), list)), None)
    if wrong:
        raise ProfileError(f"{path}: {wrong} is not a list")
    if len({len(result[name]) for name in names}) > 1:
        raise ProfileError(f"{path}: {', '.join(names)} are not of one length")
    rows = _Rows(path)
    for i in range(len(result["ttfts"])):
        place, one = f"request {i + 1}", {name: result[name][i] for name in names}
        gaps, error = one.pop("itls"), one.pop("errors", "")
        if not isinstance(gaps, list):
            raise ProfileError(f"{path}: {place}: itls is {gaps!r}, not a list")
        if error or not one["output_lens"]:
            rows.failed(place, one["start_times"], one["input_lens"])
        else:
            rows.served(place, one, gaps)
    rate = result.get("request_rate")
    about = {
        "tool": "vllm bench serve",
        "model": result.get("model_id"),
        "rate": rate if isinstance(rate, int | float) and math.isfinite(rate) else None,
    }
    closed = about["rate"] is None and isinstance(result.get("max_concurrency"), int)
    return rows.log(result["max_concurrency"] if closed else None, about)


def _vllm_results(path: Path) -> Iterator[dict[str, Any]]:
    """The results in a file of ``vllm bench serve``, one a line where there are several."""
    try:
        value = read_json(path)
    except ProfileError:
        try:
            yield from (value for _, value in read_json_lines(path))
            return
        except ProfileError as error:
            raise error from None
    if not isinstance(value, dict):
        raise ProfileError(f"{path}: is not a JSON object")
    yield value


def read_guidellm(path: Path, number: int | None = None) -> RequestLog:
    """A benchmark of a guidellm report (``benchmarks.json``); ``number`` chooses among those of a sweep, from 0.

    Requests that were sent and not served to their end are kept as failed ones. guidellm keeps the times of first and last tokens only.
    """
    report = read_json(path)
    benchmarks = report.get("benchmarks") if isinstance(report, dict) else None
    if not isinstance(benchmarks, list) or not all(isinstance(one, dict) for one in benchmarks):
        raise ProfileError(f"{path}: has no list of benchmarks: is not a guidellm report")
    strategies = [_strategy(one) for one in benchmarks]
    benchmark = _chosen(path, benchmarks, number, [_described(one) for one in strategies])
    strategy = strategies[benchmarks.index(benchmark)]
    groups = benchmark.get("requests")
    groups = groups if isinstance(groups, dict) else {}
    if not groups.get("successful"):
        raise ProfileError(
            f"{path}: is a report without the requests; guidellm leaves them out with --sample-requests 0"
            " (in 0.8: --metrics kind=generative,sample_size=0)"
        )
    rows = _Rows(path)
    for group in ("successful", "incomplete", "errored"):
        for i, request in enumerate(groups.get(group) or ()):
            if not isinstance(request, dict):
                raise ProfileError(f"{path}: {group} request {i + 1} is not an object")
            place = f"{group} request {i + 1}"
            start = request.get("request_start_time", request.get("start_time"))
            first = request.get("time_to_first_token_ms")
            if group == "successful":
                names = ("prompt_tokens", "output_tokens")
                values = {"request_start_time": start, **{name: request.get(name) for name in names}}
                values["time_to_first_token_ms"] = first / 1e3 if isinstance(first, int | float) else first
                rows.served(place, values | {"request_latency": request.get("request_latency")})
            elif start is not None:  # None: cancelled before it was sent
                rows.failed(place, start, request.get("prompt_tokens"))
    streams = {"concurrent": strategy.get("streams"), "synchronous": 1}.get(str(strategy.get("type_")))
    return rows.log(streams, {"tool": "guidellm", "rate": strategy.get("rate"), "strategy": _described(strategy)})


def _strategy(benchmark: Mapping[str, Any]) -> dict[str, Any]:
    """How guidellm sent: ``config.strategy`` since 0.4, ``args.strategy`` before."""
    for holder in ("config", "args"):
        inner = benchmark.get(holder)
        if isinstance(inner, dict) and isinstance(inner.get("strategy"), dict):
            return dict(inner["strategy"])
    return {}


def _described(strategy: Mapping[str, Any]) -> str:
    amount = strategy.get("rate", strategy.get("streams"))
    return str(strategy.get("type_", "unknown")) + (f" {amount:g}" if isinstance(amount, int | float) else "")


def read_aiperf(path: Path, number: int | None = None) -> RequestLog:
    """Requests of aiperf: ``profile_export.jsonl``, or ``profile_export_aiperf.json`` where that lies beside it.

    Those of the warm-up are left out. ``number`` must be None: a file holds one run.
    """
    summary = None
    if path.name.removesuffix(".gz").endswith(".json"):
        summary = read_json(path)
        records = path.with_name(path.name.replace("_aiperf.json", ".jsonl").replace(".json.gz", ".jsonl"))
        if records == path or not records.is_file():
            raise ProfileError(
                f"{path}: is a summary without the requests; aiperf writes them beside it with --export-level records"
                " (profile_export.jsonl)"
            )
        path = records
    else:
        beside = path.with_name(path.name.removesuffix(".gz").removesuffix(".jsonl") + "_aiperf.json")
        summary = read_json(beside) if beside.is_file() else None
    rows = _Rows(path)
    for line, record in read_json_lines(path):
        about, metrics = record.get("metadata"), record.get("metrics")
        if not isinstance(about, dict) or not isinstance(metrics, dict):
            raise ProfileError(f"{path}:{line}: is not a record of aiperf: no metadata or no metrics")
        if about.get("benchmark_phase", "profiling") != "profiling":
            continue
        start = about.get("request_start_ns")
        start = start / 1e9 if isinstance(start, int) else start
        # what the server counted, where it said: aiperf's own tokenizer does not know the chat template
        prompt = _value(metrics, "usage_prompt_tokens", "input_sequence_length")
        if record.get("error") or about.get("was_cancelled"):
            rows.failed(f"line {line}", start, prompt)
            continue
        seconds = {
            name: _seconds(path, line, metrics, name)
            for name in ("time_to_first_token", "request_latency", "inter_chunk_latency")
        }
        gaps = seconds.pop("inter_chunk_latency")
        output = _value(metrics, "usage_completion_tokens", "output_sequence_length")
        counts = {"request_start_ns": start, "input_sequence_length": prompt, "output_sequence_length": output}
        rows.served(f"line {line}", counts | seconds, gaps if isinstance(gaps, list) else None)
    phases = _profiling_phases(summary)
    closed = phases[0].get("concurrency") if len(phases) == 1 and phases[0].get("type") == "concurrency" else None
    return rows.log(closed if isinstance(closed, int) else None, {"tool": "aiperf"})


def _profiling_phases(summary: Any) -> list[dict[str, Any]]:
    config = summary.get("input_config") if isinstance(summary, dict) else None
    phases = config.get("phases") if isinstance(config, dict) else None
    return [one for one in phases or () if isinstance(one, dict) and "warmup" not in (one.get("kind"), one.get("name"))]


def _value(metrics: Mapping[str, Any], *names: str) -> Any:
    """The first of those metrics that is there."""
    found = (metrics[name].get("value") for name in names if isinstance(metrics.get(name), dict))
    return next(found, None)


def _seconds(path: Path, line: int, metrics: Mapping[str, Any], name: str) -> Any:
    """A metric in seconds, a list of them for a list; None where it is not there, as TTFT without streaming."""
    metric = metrics.get(name)
    if not isinstance(metric, dict):
        return None
    unit, value = metric.get("unit"), metric.get("value")
    if unit not in _UNITS:
        raise ProfileError(f"{path}:{line}: {name}: unit {unit!r} is not one of {', '.join(_UNITS)}")
    if isinstance(value, list):
        return [one * _UNITS[unit] if isinstance(one, int | float) else one for one in value]
    return value * _UNITS[unit] if isinstance(value, int | float) else value


_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0}


def _chosen(path: Path, several: Sequence[Any], number: int | None, names: Sequence[str]) -> Any:
    """The one that ``number`` says, or the only one."""
    if not several:
        raise ProfileError(f"{path}: holds no run")
    if number is None and len(several) == 1:
        return several[0]
    if number is None or not 0 <= number < len(several):
        listed = ", ".join(f"{i}: {name}" for i, name in enumerate(names))
        asked = "say which with --number" if number is None else f"there is no number {number}"
        raise ProfileError(f"{path}: holds {len(several)} runs ({listed}); {asked}")
    return several[number]
