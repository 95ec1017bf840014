"""Reading traces: Azure, Mooncake, and any CSV, JSON lines or parquet file with arrivals and lengths; ``.gz`` of each.

Times: a date and time, and a column that is a clock's reading (``timestamp``, ``queued_ts``), count from the first
request; ``arrival_s`` and its likes are kept as written. Requests out of order are sorted, and ``Trace.notes`` says so.
Whatever cannot be right raises TraceError with file, line (row, in parquet), field, value and what is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.errors import TraceError, did_you_mean
from sim.workload.fetch import locate
from sim.workload.rows import FORMATS, Rows, load
from sim.workload.trace import Trace

__all__ = ["FORMATS", "read", "read_cached"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MAX_TOKENS = 10_000_000
MAX_SPAN = 366 * 86_400.0
_CLOCK_READING = 1e6
"""An ``arrival_s`` from here on (11 days) is no offset from a trace's start but some clock's reading."""

_OFFSETS = ("arrival_s", "arrival", "arrival_time_s", "arrival_ms")
# queued_ts first: in a server's own log it is when the request reached the engine, by the clock of the other times
_CLOCKS = ("queued_ts", "timestamp", "arrived_at", "arrival_time", "start_time", "request_time", "time", "ts", "t")
_ALIASES: dict[str, tuple[str, ...]] = {
    "arrival_s": (*_OFFSETS, *_CLOCKS, *(f"{name}_ms" for name in _CLOCKS), *(f"{name}_s" for name in _CLOCKS)),
    "prompt_tokens": (
        *("prompt_tokens", "prompt", "input_tokens", "input_length", "input_len", "prompt_len", "prompt_length"),
        *("contexttokens", "context_tokens", "num_prefill_tokens", "input_toks", "request_tokens", "isl"),
    ),
    "output_tokens": (
        *("output_tokens", "output", "output_length", "output_len", "generatedtokens", "generated_tokens"),
        *("completion_tokens", "num_decode_tokens", "output_toks", "response_tokens", "decode_tokens", "osl"),
    ),
    "priority": ("priority",),
    "session": ("session", "session_id", "conversation_id", "chat_id"),
}


@lru_cache(maxsize=8)
def _read_unchanged(path: str, modified: int, size: int, format: str, arrivals: bool, lengths: bool) -> Trace:
    return read(path, format, arrivals=arrivals, lengths=lengths)


def read_cached(name: str, format: str = "auto", *, arrivals: bool = True, lengths: bool = True) -> Trace:
    """As :func:`read`, once for every state of the file: replications replay the same trace."""
    path = locate(name)
    try:
        state = path.stat()
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror or error}") from error
    return _read_unchanged(str(path), state.st_mtime_ns, state.st_size, format, arrivals, lengths)


def read(name: str, format: str = "auto", *, arrivals: bool = True, lengths: bool = True) -> Trace:
    """The trace in file ``name``, or the fetched trace of that name in the catalog.

    ``format``: ``azure``, ``mooncake``, ``csv``, ``jsonl``, ``parquet``, or ``auto`` to tell by the content. Without
    ``arrivals`` (``lengths``) a file that lacks these columns is read too, with zeros (ones) in their place. The arrays are
    read-only. Raises TraceError.
    """
    path = locate(name)
    rows = load(path, format)
    found = {field: _column(rows, aliases) for field, aliases in _ALIASES.items()}
    wanted = [*(["arrival_s"] if arrivals else []), *(["prompt_tokens", "output_tokens"] if lengths else [])]
    for field in wanted:
        if found[field] is None:
            near = next((hint for name in rows.names if (hint := did_you_mean(_plain(name), _ALIASES[field]))), "")
            raise TraceError(
                f"{rows.place(0)}: no column for {field}{near}; it may be called {', '.join(_ALIASES[field][:6])}; "
                f"found: {_listed(rows.names)}"
            )
    count = len(rows.lines)
    if not count:
        raise TraceError(f"{rows.file}: has no requests")
    notes: list[str] = []
    kind, tick = rows.format, 0.0
    column = found["arrival_s"]
    arrival = np.zeros(count)
    if column is not None and arrivals:
        milliseconds = _plain(column).endswith("_ms") or (kind == "mooncake" and _plain(column) == "timestamp")
        arrival = _arrivals(rows, column, 1e-3 if milliseconds else 1.0)
    order = np.argsort(arrival, kind="stable")
    late = int(np.count_nonzero(np.diff(arrival) < 0.0))
    if late:
        notes.append(f"{late} of {count} requests came before the one above them and were sorted")
        arrival = arrival[order]
    if kind == "mooncake":
        stamps = np.unique(arrival)
        if 2 <= len(stamps) < count / 2:
            tick = float(np.median(np.diff(stamps)))
    last, first = float(arrival[-1]), float(arrival[0])
    # an open end: as much time follows the last request (or tick) as lies between two
    span = last + (tick or ((last - first) / (count - 1) if count > 1 else 0.0))
    columns: dict[str, Integers | None] = {}
    for field, lowest in (("prompt_tokens", 1), ("output_tokens", 1), ("priority", None)):
        name_of = found[field]
        columns[field] = None if name_of is None else _integers(rows, name_of, lowest)[order]
    session = found["session"]
    columns["session"] = None if session is None else _codes(rows.cells[session])[order]
    ones = np.ones(count, dtype=np.int64)
    prompt, output = columns["prompt_tokens"], columns["output_tokens"]
    if prompt is None or output is None:
        prompt = output = ones
    for array in (arrival, prompt, output, columns["priority"], columns["session"]):
        if array is not None:
            array.setflags(write=False)
    return Trace(
        arrival, prompt, output, span, columns["priority"], columns["session"], tick, rows.file, kind, tuple(notes)
    )


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _column(rows: Rows, aliases: Sequence[str]) -> str | None:
    """The column of ``rows`` that goes by the first of ``aliases`` that any goes by."""
    plain = [_plain(name) for name in rows.names]
    for alias in aliases:
        if alias in plain:
            if plain.count(alias) > 1:
                raise TraceError(f"{rows.place(0)}: {alias}: there are two columns of that name")
            return rows.names[plain.index(alias)]
    return None


def _arrivals(rows: Rows, column: str, unit: float) -> Floats:
    cells = rows.cells[column]
    dated = _is_date(cells[0])
    parse: Callable[[Any], float] = _date if dated else _number
    allowed = "a date and time, like the first row's" if dated else "a number of seconds, 0 or more"
    if unit != 1.0:
        allowed = "a number of milliseconds, 0 or more"
    values = _parsed(rows, column, parse, allowed)
    bad = ~np.isfinite(values) if dated else ~(np.isfinite(values) & (values >= 0.0))
    if bad.any():
        row = int(np.argmax(bad))
        raise _fault(rows, row, column, cells[row], allowed)
    values *= unit
    first = float(values.min())
    if dated or _plain(column) not in _OFFSETS or first >= _CLOCK_READING:
        values -= first
        first = 0.0
    if values.max() - first > MAX_SPAN:
        row = int(np.argmax(values))
        problem = (
            f"is {values[row] - first:.6g} s after the first request; a trace may span {MAX_SPAN:.0f} s (366 days)"
        )
        raise TraceError(f"{rows.place(row + 1)}: {column.strip()}: {_shown(cells[row])} {problem}")
    return values


def _parsed(rows: Rows, column: str, parse: Callable[[Any], float], allowed: str) -> Floats:
    """The cells of a column as floats; a TraceError for the first that ``parse`` refuses."""
    cells = rows.cells[column]
    if parse is _number and all(type(cell) is str and "_" not in cell for cell in cells):
        # the common case of a large file, without a call a cell
        try:
            return np.fromiter(map(float, cells), np.float64, len(cells))
        except ValueError:
            pass  # the loop finds which
    values = np.empty(len(cells))
    for row, cell in enumerate(cells):
        try:
            values[row] = parse(cell)
        except ValueError:
            raise _fault(rows, row, column, cell, allowed) from None
    return values


def _integers(rows: Rows, column: str, lowest: int | None) -> Integers:
    cells = rows.cells[column]
    lower = -(2**53) if lowest is None else lowest
    upper = 2**53 if lowest is None else MAX_TOKENS
    allowed = "an integer" if lowest is None else f"an integer from {lowest} to {MAX_TOKENS}"
    values = _parsed(rows, column, _number, allowed)
    good = np.isfinite(values) & (values >= lower) & (values <= upper)
    good &= np.where(good, values, 0.5) == np.rint(np.where(good, values, 0.0))
    if not good.all():
        row = int(np.argmin(good))
        raise _fault(rows, row, column, cells[row], allowed)
    return values.astype(np.int64)


def _codes(cells: Sequence[Any]) -> Integers:
    """Sessions numbered in order of appearance; -1 where a row names none."""
    known: dict[str, int] = {}
    codes = [-1 if cell is None or cell == "" else known.setdefault(str(cell), len(known)) for cell in cells]
    return np.array(codes, dtype=np.int64)


def _number(cell: Any) -> float:
    """A cell as a float; ValueError if it is none (a truth value or ``1_000`` is not)."""
    if isinstance(cell, float | int) and not isinstance(cell, bool):
        try:
            return float(cell)
        except OverflowError:
            return math.inf
    if isinstance(cell, str) and "_" not in cell:
        return float(cell)
    raise ValueError(cell)


def _is_date(cell: Any) -> bool:
    try:
        _number(cell)
    except ValueError:
        try:
            _date(cell)
        except ValueError:
            return False
        return True
    return False


def _date(cell: Any) -> float:
    """A date and time (ISO 8601, or pyarrow's) as seconds since 1970; UTC unless it says otherwise."""
    when = cell if isinstance(cell, datetime) else datetime.fromisoformat(str(cell).strip())
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    try:
        return when.timestamp()
    except OverflowError as error:
        raise ValueError(cell) from error


def _fault(rows: Rows, row: int, column: str, cell: Any, allowed: str) -> TraceError:
    return TraceError(f"{rows.place(row + 1)}: {column.strip()}: {_shown(cell)} is not {allowed}")


def _listed(names: Sequence[str]) -> str:
    shown = [" ".join(name.split())[:40] or "''" for name in names[:20]]
    shown = [name if name.isprintable() else repr(name) for name in shown]
    return ", ".join([*shown, *(["..."] if len(names) > 20 else [])]) or "none"


def _shown(cell: Any) -> str:
    if cell is None or cell == "":
        return "an empty value"
    text = repr(cell)
    return text if len(text) <= 60 else f"{text[:57]}..."
