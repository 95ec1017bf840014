"""Reading files of others, packed with gzip or not: every fault in one line that names the file, the line and the column."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, TextIO, cast

import numpy as np
import numpy.typing as npt

from sim.errors import ProfileError

__all__ = ["opened", "read_columns", "read_json", "read_json_lines"]

Floats = npt.NDArray[np.float64]
_GZIP: Final = b"\x1f\x8b"


@contextmanager
def opened(path: Path) -> Iterator[TextIO]:
    """The text of ``path``. :raises ProfileError: it cannot be opened, or breaks off while it is read."""
    try:
        with path.open("rb") as raw:
            packed = raw.peek(2)[:2] == _GZIP
            plain = gzip.GzipFile(fileobj=raw) if packed else raw
            yield io.TextIOWrapper(cast(IO[bytes], plain), encoding="utf-8-sig", errors="replace", newline="")
    except (OSError, EOFError, zlib.error) as error:
        raise ProfileError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def read_json(path: Path) -> Any:
    """The JSON value in ``path``. :raises ProfileError: unreadable, or not JSON: at which line."""
    with opened(path) as file:
        text = file.read()
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ProfileError(f"{path}:{error.lineno}: is not JSON: {error.msg}") from None
    except RecursionError:
        raise ProfileError(f"{path}: is not JSON that can be read: nested too deeply") from None


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of ``path``, one a line, with their line numbers. :raises ProfileError: a line that is not an object."""
    with opened(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                raise ProfileError(f"{path}:{number}: is not JSON") from None
            if not isinstance(value, dict):
                raise ProfileError(f"{path}:{number}: is not a JSON object")
            yield number, value


def read_columns(
    path: Path,
    wanted: Mapping[str, Sequence[str]],
    optional: Mapping[str, Sequence[str]] | None = None,
    whole: Collection[str] = (),
) -> dict[str, Floats]:
    """Columns of numbers of a CSV file with a header.

    Each key of ``wanted`` and ``optional`` is found under the first of its names that is there; a name that ends in ``_ms`` or ``_us``
    is brought to seconds. Optional ones that are not there are left out; their empty cells are NaN. ``whole`` ones hold whole
    numbers.

    :raises ProfileError: no such column, no rows, or a cell that is not a finite number of at least 0.
    """
    optional = optional or {}
    with opened(path) as file:
        rows = csv.reader(file)
        header = [cell.strip() for cell in next(rows, [])]
        if not any(header):
            raise ProfileError(f"{path}: is empty")
        found: dict[str, tuple[int, str, float]] = {}
        for key, names in {**wanted, **optional}.items():
            name = next((name for name in names if name in header), None)
            if name is not None:
                found[key] = (header.index(name), name, _SCALES.get(name.rpartition("_")[2], 1.0))
            elif key in wanted:
                raise ProfileError(f"{path}:1: no column {' or '.join(names)} (has: {', '.join(header)})")
        columns: dict[str, list[float]] = {key: [] for key in found}
        for row in _rows(path, rows):
            if not row:
                continue
            for key, (place, name, scale) in found.items():
                cell = row[place] if place < len(row) else ""
                try:
                    columns[key].append(_number(cell, key in optional, key in whole) * scale)
                except ValueError:
                    kind = "whole number" if key in whole else "number"
                    raise ProfileError(
                        f"{path}:{rows.line_num}: column {name}: {cell!r} is not a {kind} of at least 0"
                    ) from None
    if not next(iter(columns.values())):
        raise ProfileError(f"{path}: has a header and no rows")
    return {key: np.array(values) for key, values in columns.items()}


_LARGEST: Final = 2.0**53  # whole numbers are exact below it
_SCALES: Final = {"ms": 1e-3, "us": 1e-6}


def _rows(path: Path, rows: Any) -> Iterator[list[str]]:
    try:
        yield from rows
    except csv.Error as error:
        raise ProfileError(f"{path}:{rows.line_num}: {error}") from None


def _number(cell: str, may_be_empty: bool, whole: bool) -> float:
    if may_be_empty and cell.strip().lower() in _EMPTY:
        return float("nan")
    value = float(cell)
    if not 0.0 <= value < _LARGEST or (whole and value % 1.0):
        raise ValueError(cell)
    return value


_EMPTY: Final = frozenset(("", "nan", "none", "null"))
