"""The files on disk: each under a temporary name first, and only where nothing of somebody else's lies."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.atomic import replacing
from sim.errors import TwinferError

if TYPE_CHECKING:
    from sim.config import Scenario

__all__ = ["LISTING", "write"]

LISTING = "deploy.json"
"""What was written, with checksums: removed first and written last, so a folder without it is not whole."""


def write(directory: str | os.PathLike[str], scenario: Scenario, **options: Any) -> Path:
    """Write :func:`sim.deploy.files` of ``scenario`` (with the same ``options``) into ``directory`` and return its path.

    The folder is made if need be; files of an earlier call are replaced, and removed if they are not written any more.

    :raises TwinferError: as ``files``; also if the folder holds files that are not of an earlier call, or were changed since,
        or it cannot be written. Nothing is changed then.
    """
    from sim.deploy.bundle import files

    folder, texts = Path(directory), files(scenario, **options)
    try:
        earlier = _earlier(folder)
        listing = {
            "scenario": scenario.digest(),
            "option": scenario.option,
            "flavour": options.get("flavour", "deployment"),
            "files": {name: _digest(text.encode()) for name, text in texts.items()},
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LISTING).unlink(missing_ok=True)
        for name, text in texts.items():
            _put(folder / name, text, executable=name.endswith(".sh"))
        for name in earlier:
            if name not in texts:
                (folder / name).unlink(missing_ok=True)
        _put(folder / LISTING, json.dumps(listing, indent=1, ensure_ascii=False) + "\n")
    except OSError as fault:
        raise TwinferError(f"{folder}: cannot be written: {fault.strerror or fault}") from fault
    return folder


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _put(path: Path, text: str, *, executable: bool = False) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        if executable:
            temporary.chmod(0o755)


def _earlier(folder: Path) -> list[str]:
    """Names of files that an earlier call wrote. TwinferError if there is anything else, or one was changed."""
    if folder.exists() and not folder.is_dir():
        raise TwinferError(f"{folder}: is a file, not a folder")
    held = (
        sorted(entry.name for entry in folder.iterdir() if not entry.name.endswith(".tmp")) if folder.exists() else []
    )
    if not held:
        return []
    known = _listed(folder) if LISTING in held else {}
    for name in held:
        if name != LISTING and name not in known:
            raise TwinferError(f"{folder}: holds {name!r}, which twinfer deploy did not write; name a new folder")
        if name in known and _digest((folder / name).read_bytes()) != known[name]:
            raise TwinferError(
                f"{folder / name}: was changed since twinfer deploy wrote it; name a new folder, or remove it"
            )
    return list(known)


def _listed(folder: Path) -> Mapping[str, str]:
    try:
        found = json.loads((folder / LISTING).read_text(encoding="utf-8"))["files"]
        if all(isinstance(name, str) and isinstance(digest, str) for name, digest in found.items()):
            return dict(found)
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise TwinferError(f"{folder / LISTING}: is not as twinfer deploy writes it; name a new folder")
