"""A run's requests from a CSV file, a request a row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from calibration.importers.files import read_columns, read_json
from calibration.runs import RequestLog
from sim.errors import ProfileError

__all__ = ["assemble", "read_request_csv"]

Floats = npt.NDArray[np.float64]

_WANTED: Final = {
    "sent": ("sent_s", "queued_ts", "arrival_s"),
    "prompt": ("prompt_tokens", "input_tokens", "input_toks"),
    "output": ("output_tokens", "output_toks"),
    "ttft": ("ttft_s", "ttft_ms", "ttft_from_queue_ms"),
}
_OPTIONAL: Final = {
    "ttft": _WANTED["ttft"],
    "e2e": ("e2e_s", "latency_s", "latency", "e2e_ms", "latency_ms", "e2e_from_queue_ms"),
    "tpot": ("tpot_s", "mean_tpot_s", "tpot_ms"),
}


def read_request_csv(path: Path) -> RequestLog:
    """A CSV file with the columns ``sent_s`` (or ``queued_ts``, ``arrival_s``), ``prompt_tokens`` (``input_tokens``,
    ``input_toks``), ``output_tokens`` (``output_toks``), ``ttft_s`` and ``e2e_s`` (``latency_s``, ``latency``) or ``tpot_s``.

    Times may be in milliseconds under names that end in ``_ms``. A request without TTFT failed. ``RUN_requests.csv`` takes the times of
    its tokens from ``RUN_token_times.json`` (or ``.json.gz``) beside it: a list of objects with ``token_times_s``, in the order of the
    rows, on the clock of the sending times.

    :raises ProfileError: what is missing or wrong, by line and column.
    """
    wanted = {name: names for name, names in _WANTED.items() if name != "ttft"}
    columns = read_columns(path, wanted, _OPTIONAL)
    if "ttft" not in columns:
        raise ProfileError(f"{path}:1: no column {' or '.join(_WANTED['ttft'])}")
    ttft = columns["ttft"]
    if "e2e" not in columns:
        if "tpot" not in columns:
            raise ProfileError(f"{path}:1: no column {' or '.join((*_OPTIONAL['e2e'], *_OPTIONAL['tpot']))}")
        columns["e2e"] = ttft + columns["tpot"] * np.maximum(columns["output"] - 1.0, 0.0)
    times = _token_times(path, columns["sent"])
    return assemble(path, columns["sent"], columns["prompt"], columns["output"], ttft, columns["e2e"], times)


def assemble(
    path: Path,
    sent: Floats,
    prompt: Floats,
    output: Floats,
    ttft: Floats,
    e2e: Floats,
    times: list[Floats] | None = None,
    concurrency: int | None = None,
    about: Mapping[str, Any] | None = None,
) -> RequestLog:
    """A :class:`RequestLog` of columns in any order and on any clock: in the order of sending, from the first request on.

    ``times`` of a request's tokens are from its sending on; they are left out where a served request has another number of them
    than tokens (a chunk of several tokens has one time).
    ``about["origin_s"]`` is when the first request was sent, on the clock of the file.

    :raises ProfileError: no requests, counts that are not whole or not there, or an answer that ends before it begins.
    """
    if not len(sent):
        raise ProfileError(f"{path}: has no requests")
    for name, column in (("prompt tokens", prompt), ("output tokens", output)):
        wrong = np.flatnonzero(column % 1.0 != 0.0)
        if len(wrong):
            raise ProfileError(f"{path}: request {wrong[0] + 1}: {name}: {column[wrong[0]]:g} is not a whole number")
    if (prompt < 1).all():
        raise ProfileError(f"{path}: no request has prompt tokens: whoever answered did not count them")
    failed = ~(np.isfinite(ttft) & np.isfinite(e2e)) | (output < 1)
    ttft, e2e = np.where(failed, np.nan, ttft), np.where(failed, np.nan, e2e)
    wrong = np.flatnonzero(e2e < ttft - 1e-6)
    if len(wrong):
        at = wrong[0]
        raise ProfileError(
            f"{path}: request {at + 1}: was answered in {e2e[at]:g} s, before its first token at {ttft[at]:g} s"
        )
    origin = float(sent.min())
    order = np.argsort(sent, kind="stable")
    whole = times is not None and all(
        len(one) == count or gone for one, count, gone in zip(times, output, failed, strict=True)
    )
    return RequestLog(
        sent=sent[order] - origin,
        prompt=prompt[order].astype(np.int64),
        output=output[order].astype(np.int64),
        ttft=ttft[order],
        e2e=np.maximum(e2e, ttft)[order],
        token_times=tuple(sent[i] - origin + times[i] for i in order) if times is not None and whole else None,
        concurrency=concurrency,
        source=path.name,
        about={"origin_s": origin, **{key: value for key, value in (about or {}).items() if value is not None}},
    )


def _token_times(path: Path, sent: Floats) -> list[Floats] | None:
    name = path.name.removesuffix(".gz").removesuffix(".csv")
    if not name.endswith("_requests"):
        return None
    stem = name.removesuffix("requests") + "token_times.json"
    beside = next((path.with_name(one) for one in (stem, f"{stem}.gz") if path.with_name(one).is_file()), None)
    if beside is None:
        return None
    rows = read_json(beside)
    try:
        times = [np.array(row["token_times_s"], dtype=float) for row in rows]
    except (TypeError, KeyError, ValueError):
        raise ProfileError(f"{beside}: is not a list of objects with token_times_s, a list of seconds") from None
    if len(times) != len(sent):
        raise ProfileError(f"{beside}: has {len(times)} requests, {path.name} has {len(sent)}")
    return [one - start for one, start in zip(times, sent, strict=True)]
