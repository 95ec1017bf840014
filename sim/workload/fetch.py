"""Published traces: downloaded once, by catalog row, into the user's cache, and found there by name."""

from __future__ import annotations

import hashlib
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import unquote, urlsplit

from sim.errors import TraceError, did_you_mean

__all__ = ["FetchableRow", "cache_dir", "cached", "checksum", "fetch", "locate"]

_CHUNK = 1 << 18


class FetchableRow(Protocol):
    """What a trace's catalog row has to say for it to be fetched."""

    @property
    def name(self) -> str:
        """The name in the catalog."""
        ...

    @property
    def url(self) -> str:
        """An http or https address of the file."""
        ...

    @property
    def sha256(self) -> str | None:
        """The checksum of the file, in hexadecimal; None if none is known, and then none is checked."""
        ...

    @property
    def bytes(self) -> int | None:
        """The size of the file."""
        ...


def cache_dir() -> Path:
    """Where fetched traces are kept: ``$XDG_CACHE_HOME/twinfer/traces``, by default under ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "twinfer" / "traces"


def cached(name: str, directory: Path | None = None) -> Path | None:
    """The fetched file of the trace ``name``, or None if it has not been fetched."""
    folder = directory or cache_dir()
    if not folder.is_dir() or name != PurePosixPath(name).name:
        return None
    found = sorted(path for path in folder.iterdir() if path.name == name or path.name.startswith(f"{name}."))
    return next((path for path in found if not path.name.endswith(".part")), None)


def fetch(
    row: FetchableRow,
    directory: Path | None = None,
    *,
    timeout: float = 30.0,
    progress: Callable[[int, int | None], None] | None = None,
) -> Path:
    """Download the trace of a catalog row, unless it is there already, and return its path.

    The file comes under a temporary name and gets its own once its size and SHA-256 are those of the row, so that a file
    with its name is whole. ``progress`` is told the bytes so far and in total (None if unknown). Raises TraceError, and
    leaves nothing behind, if the trace cannot be had.
    """
    if not 0.0 < timeout < 1e6:
        raise TraceError(f"timeout: {timeout:g} is out of range; allowed: more than 0 s")
    folder = directory or cache_dir()
    target = folder / (row.name + _suffix(row.url))
    expected = None if row.sha256 is None else row.sha256.lower()
    if target.is_file() and expected in (None, checksum(target)):
        return target
    if urlsplit(row.url).scheme not in ("http", "https"):
        raise TraceError(f"{row.name}: {row.url!r} is not an http or https address")
    if folder.exists() and not folder.is_dir():
        raise TraceError(f"{folder}: is a file, not a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f"{row.name}-", suffix=".part", dir=folder)
    except OSError as error:
        raise TraceError(f"{folder}: cannot be written: {error.strerror or error}") from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as out:
            digest = _download(row, out.write, timeout, progress)
        if expected not in (None, digest):
            raise TraceError(
                f"{row.name}: {row.url}: the checksum is not the catalog's (sha256 {digest}, "
                f"expected {expected}): the published file has changed, or what came is another"
            )
        temporary.replace(target)
    except OSError as error:
        raise TraceError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _download(
    row: FetchableRow,
    write: Callable[[bytes], int],
    timeout: float,
    progress: Callable[[int, int | None], None] | None,
) -> str:
    """Bring the file of ``row`` chunk by chunk; its SHA-256."""
    request = urllib.request.Request(row.url, headers={"User-Agent": "twinfer"})
    digest, size = hashlib.sha256(), 0
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else row.bytes
            while chunk := response.read(_CHUNK):
                size += len(chunk)
                if row.bytes is not None and size > row.bytes:
                    break
                digest.update(chunk)
                write(chunk)
                if progress is not None:
                    progress(size, total)
    except urllib.error.HTTPError as error:
        error.close()
        raise TraceError(f"{row.name}: {row.url}: the server answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        why = getattr(error.reason, "strerror", None) or error.reason
        raise TraceError(f"{row.name}: {row.url}: cannot be reached: {why}") from error
    except (HTTPException, TimeoutError, ConnectionError) as error:
        raise TraceError(f"{row.name}: {row.url}: broke off after {size} bytes: {error}") from error
    if (row.bytes is not None and size != row.bytes) or (length.isdigit() and size != int(length)):
        expected = row.bytes if row.bytes is not None else length
        raise TraceError(f"{row.name}: {row.url}: {size} bytes came, expected {expected}")
    return digest.hexdigest()


def _suffix(url: str) -> str:
    return "".join(PurePosixPath(unquote(urlsplit(url).path)).suffixes[-2:])[-16:]


def checksum(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def locate(trace: str | Path) -> Path:
    """The file behind what a scenario calls a trace: a path, or the name of a trace of the catalog, which must be fetched."""
    path = Path(trace)
    if path.is_file():
        return path
    if path.is_dir():
        raise TraceError(f"{path}: is a folder, not a trace file")
    from sim import catalog

    known = catalog.names("traces")
    # a scenario's loader may have put its own folder before the name
    if path.name in known:
        found = cached(path.name)
        if found is None:
            raise TraceError(f"{path.name}: has not been fetched: twinfer traces fetch {path.name}")
        return found
    beside = sorted(entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else []
    hint = did_you_mean(path.name, [*beside, *known])
    raise TraceError(f"{trace}: there is no such file, nor a trace of that name in the catalog{hint}")
