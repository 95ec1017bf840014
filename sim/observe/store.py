"""Run directories: what is written, so that it is never half there, and what is read back, so that it is never half right.

A run: ``manifest.json``, ``summary.json``, ``requests.parquet``, ``timeline.parquet``, ``events.parquet``, and ``steps.parquet`` if
``run.steps`` asked for it. A comparison: ``manifest.json``, ``summary.json`` and a run under ``options/`` for each option.
``summary.json`` is written last and removed first: a directory without it is not a result. The same result gives the same bytes:
sorted keys, fixed schemas and order of rows, no time of writing.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sim.atomic import replacing
from sim.errors import ResultError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "FORMAT",
    "claim",
    "option_directory",
    "plain",
    "plain_object",
    "read_json",
    "read_summary",
    "read_table",
    "text",
    "write",
]

FORMAT = 2
SUMMARY = "summary.json"
_STALE = ("report.html", "timeline.pftrace", "timeline.svg", "timeline.png")
_TABLES = ("events.parquet", "requests.parquet", "steps.parquet", "timeline.parquet")


def claim(directory: str | os.PathLike[str]) -> None:
    """ResultError unless a result can be written to ``directory``: a new folder, an empty one, or one of an earlier result.

    To be asked before hours are spent on the result. Nothing is made.
    """
    folder = Path(directory)
    try:
        held = sorted(entry.name for entry in folder.iterdir() if not entry.name.endswith(".tmp"))
    except FileNotFoundError:
        held = []
    except NotADirectoryError:
        at = next(place for place in (folder, *folder.parents) if place.exists())
        raise ResultError(f"{folder}: cannot be written: {at} is a file, not a folder") from None
    except OSError as error:
        raise ResultError(f"{folder}: cannot be written: {error.strerror or error}") from error
    if held and not {"manifest.json", "sensitivity.json", SUMMARY, *_TABLES}.intersection(held):
        raise ResultError(
            f"{folder}: holds files that are no result of twinfer ({held[0]!r}{', ...' if len(held) > 1 else ''}); "
            "name a new folder"
        )
    above = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not os.access(above, os.W_OK | os.X_OK):
        raise ResultError(f"{folder}: cannot be written: no permission to write to {above}")


def write(directory: str | os.PathLike[str], files: Mapping[str, Any]) -> Path:
    """Write ``files`` (by name: an Arrow table, or what JSON can hold) into ``directory``, each under a temporary name first.

    The directory is made if need be; a report and tables of an earlier result in it are removed. ResultError when it cannot be written.
    """
    folder = _folder(directory)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (SUMMARY, *_STALE, *(table for table in _TABLES if table not in files)):
            (folder / name).unlink(missing_ok=True)
        for name in sorted(files, key=lambda name: (name == SUMMARY, name)):
            with replacing(folder / name) as temporary:
                _write_one(temporary, files[name])
    except OSError as error:
        raise ResultError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return folder


def _folder(directory: str | os.PathLike[str]) -> Path:
    try:
        return Path(directory)
    except TypeError:
        raise ResultError(f"{directory!r} is not the path of a directory") from None


def _write_one(path: Path, content: Any) -> None:
    if isinstance(content, Mapping):
        path.write_text(text(content), encoding="utf-8")
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    # times hardly repeat: a dictionary of them costs time and saves nothing
    repeating = [field.name for field in content.schema if field.type != pa.float64()]
    pq.write_table(
        content, path, compression="zstd", row_group_size=1 << 20, use_dictionary=repeating, store_schema=False
    )


def text(content: Any) -> str:
    """``content`` as JSON with sorted keys; numbers that are not finite become null."""
    return json.dumps(plain(content), sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def plain_object(value: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping as JSON can hold it (:func:`plain`)."""
    return {str(key): plain(item) for key, item in value.items()}


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it: no numpy, no tuples, null for numbers that are not finite."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if hasattr(value, "item"):  # a numpy scalar
        return plain(value.item())
    return value


def option_directory(directory: Path, option: str) -> Path:
    """Where a comparison keeps the run of ``option``."""
    name = quote(option, safe=" ")
    return directory / "options" / (f"%2E{name[1:]}" if name.startswith(".") else name)


def read_summary(directory: str | os.PathLike[str], kind: str | None = None) -> dict[str, Any]:
    """``summary.json`` of a result of ``kind`` ("run", "comparison"; None: either). ResultError unless it is one."""
    folder = _folder(directory)
    if not folder.is_dir():
        raise ResultError(
            f"{folder}: {'is a file' if folder.exists() else 'there is no such directory'}; a run directory is needed"
        )
    summary = read_json(folder / SUMMARY)
    found = summary.get("kind")
    if found not in ("run", "comparison"):
        raise ResultError(
            f"{folder / SUMMARY}: was not written by twinfer: kind is {found!r}, not 'run' or 'comparison'"
        )
    if summary.get("format") != FORMAT:
        raise ResultError(f"{folder / SUMMARY}: format {summary.get('format')!r}; this version reads format {FORMAT}")
    if kind is not None and found != kind:
        raise ResultError(f"{folder}: holds a {found}, not a {kind}")
    return summary


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``; ResultError if there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResultError(
            f"{path}: is missing; the directory is not a result of twinfer, or an unfinished one"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ResultError(f"{path}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ResultError(f"{path}: holds no JSON object")
    return content


def read_table(path: Path, schema: pa.Schema) -> pa.Table:
    """The parquet table in ``path``, which must have exactly the columns of ``schema``; ResultError otherwise."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
    except FileNotFoundError:
        raise ResultError(f"{path}: is missing") from None
    except (OSError, pa.ArrowException, ValueError) as error:
        raise ResultError(f"{path}: cannot be read: {error}") from error
    if table.schema.names != schema.names:
        raise ResultError(f"{path}: has columns {', '.join(table.schema.names)}; needed: {', '.join(schema.names)}")
    try:
        return table.cast(schema)
    except (pa.ArrowException, ValueError) as error:
        raise ResultError(f"{path}: {error}") from error
