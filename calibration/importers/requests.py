"""A run's requests, in whatever file the load generator left them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from calibration.importers.benchfiles import read_aiperf, read_guidellm, read_vllm_bench
from calibration.importers.files import opened
from calibration.importers.requestcsv import read_request_csv
from calibration.runs import RequestLog
from sim.errors import ProfileError, did_you_mean

__all__ = ["FORMATS", "read_run"]


def _read_csv(path: Path, number: int | None) -> RequestLog:
    if number is not None:
        raise ProfileError(f"{path}: a CSV file holds one run: it has no number {number}")
    return read_request_csv(path)


FORMATS: Final[dict[str, Callable[[Path, int | None], RequestLog]]] = {
    "csv": _read_csv,
    "vllm": read_vllm_bench,
    "guidellm": read_guidellm,
    "aiperf": read_aiperf,
}


def read_run(path: str | Path, format: str = "auto", number: int | None = None) -> RequestLog:
    """The requests of a run: a CSV file, or a result of ``vllm bench serve``, guidellm or aiperf, packed with gzip or not.

    ``format`` is a key of ``FORMATS``, or ``auto``: by what is in the file. ``number`` chooses where it holds several runs.

    :raises ProfileError: unknown format, unreadable file, a summary without requests (and which flag writes them); one line.
    """
    path = Path(path)
    if format != "auto" and format not in FORMATS:
        known = ", ".join(("auto", *FORMATS))
        raise ProfileError(f"format {format!r} is not one of {known}{did_you_mean(format, FORMATS)}")
    return FORMATS[_recognised(path) if format == "auto" else format](path, number)


def _recognised(path: Path) -> str:
    """The format of a file, by its beginning."""
    with opened(path) as file:
        head = file.read(1 << 20)
    start = head.lstrip()
    if not start:
        raise ProfileError(f"{path}: is empty")
    if not start.startswith("{"):
        return "csv" if "," in start.partition("\n")[0] else _unknown(path)
    first = start.partition("\n")[0]
    if '"metadata"' in first and '"metrics"' in first and '"request_start_ns"' in first:
        return "aiperf"
    if '"aiperf_version"' in head or ('"input_config"' in head and '"request_latency"' in head):
        return "aiperf"
    if '"benchmarks"' in head and ("guidellm" in head or '"generative_benchmark"' in head):
        return "guidellm"
    if '"ttfts"' in head or '"mean_ttft_ms"' in head or '"num_prompts"' in head:
        return "vllm"
    return _unknown(path)


def _unknown(path: Path) -> str:
    raise ProfileError(
        f"{path}: is none of the formats that are known by their content; say which: {', '.join(FORMATS)}"
    )
