"""The rows of a table file, whatever its format: column names, cells as they stand, and the line each row is on."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim.errors import TraceError, did_you_mean

__all__ = ["FORMATS", "Rows", "load"]

FORMATS = ("auto", "azure", "mooncake", "csv", "jsonl", "parquet")

_AZURE = {"TIMESTAMP", "ContextTokens", "GeneratedTokens"}
_MOONCAKE = {"timestamp", "input_length", "output_length"}


@dataclass
class Rows:
    """A table as text: ``cells[name][row]`` on line ``lines[row]`` of ``file`` (row number, in parquet)."""

    file: str
    format: str
    names: list[str]
    cells: dict[str, list[Any]]
    lines: list[int]

    def place(self, row: int) -> str:
        """``file:line`` of row ``row``, counted from 1; 0 is the header."""
        if self.format == "parquet":
            return f"{self.file}: row {row}" if row else self.file
        return f"{self.file}:{self.lines[row - 1] if row else 1}"


def load(path: Path, format: str) -> Rows:
    """The rows of ``path``, with the format they were found to have; TraceError if they cannot be read."""
    if format not in FORMATS:
        raise TraceError(f"{format!r} is not a trace format{did_you_mean(format, FORMATS)}: {', '.join(FORMATS)}")
    data = _content(path)
    if data[:4] == b"PAR1":
        shape, rows = "parquet", _parquet(path, data)
    else:
        text = _text(path, data)
        if not text.strip():
            raise TraceError(f"{path}: is empty")
        shape = "jsonl" if text.lstrip()[0] in "{[" else "csv"
        rows = _jsonl(path, text) if shape == "jsonl" else _csv(path, text)
    rows.format = _recognise(rows, shape)
    if format in ("auto", rows.format):
        return rows
    if format == shape:
        rows.format = shape
        return rows
    raise TraceError(
        f"{path}: is not in {format} format: it looks like {rows.format}; leave the format out to have it told"
    )


def _recognise(rows: Rows, shape: str) -> str:
    names = set(rows.names)
    if shape == "csv" and names >= _AZURE:
        return "azure"
    # Mooncake counts whole milliseconds; a trace of the same shape with fractions, or with chats, counts seconds
    if shape == "jsonl" and names >= _MOONCAKE and "chat_id" not in names:
        stamps = rows.cells["timestamp"]
        if not any(isinstance(stamp, float) and not stamp.is_integer() for stamp in stamps):
            return "mooncake"
    return shape


def _content(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror or error}") from error
    if data[:2] == b"\x1f\x8b":
        try:
            return gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise TraceError(f"{path}: is not a whole gzip file: {error}") from error
    return data


def _text(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TraceError(f"{path}:{line}: byte {data[error.start]:#04x} is not UTF-8 text") from error


def _csv(path: Path, text: str) -> Rows:
    header_line = text.lstrip("\r\n").split("\n", 1)[0]
    delimiter = max(",;\t", key=header_line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] = []
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        for row in reader:
            if not row:
                continue
            if not names:
                names = [name.strip() for name in row]
                continue
            if len(row) != len(names):
                raise TraceError(
                    f"{path}:{reader.line_num}: has {len(row)} fields where the header has {len(names)}: {','.join(row)[:60]!r}"
                )
            rows.append(row)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise TraceError(f"{path}:{reader.line_num}: is not CSV: {error}") from error
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    return Rows(str(path), "csv", names, {name: list(cells) for name, cells in zip(names, columns, strict=True)}, lines)


def _jsonl(path: Path, text: str) -> Rows:
    objects: list[dict[str, Any]] = []
    lines: list[int] = []
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            value = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise TraceError(f"{path}:{line}: is not JSON: {error}: {content.strip()[:60]!r}") from error
        if not isinstance(value, dict):
            raise TraceError(
                f"{path}:{line}: {content.strip()[:60]!r} is not a JSON object; there should be one a line"
            )
        objects.append(value)
        lines.append(line)
    names = list(objects[0])
    # a key that is missing reads like an empty value, and is refused where one is needed
    return Rows(str(path), "jsonl", names, {name: [value.get(name) for value in objects] for name in names}, lines)


def _parquet(path: Path, data: bytes) -> Rows:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(data))
        names = [str(name) for name in table.column_names]
        cells = {name: column.to_pylist() for name, column in zip(names, table.columns, strict=True)}
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise TraceError(f"{path}: is not a parquet file that can be read: {str(error).splitlines()[0]}") from error
    return Rows(str(path), "parquet", names, cells, list(range(1, table.num_rows + 1)))
