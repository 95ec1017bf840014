"""Files that are there whole or not at all: written beside their place under a temporary name, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["replacing"]


@contextmanager
def replacing(path: Path, owner: str = "") -> Iterator[Path]:
    """A name to write to: ``.NAME.OWNER.tmp`` beside ``path``, whose place it takes when the block ends without an error; it is removed
    otherwise. ``owner`` tells writers apart that may be at work at once; by default the number of this process. OSError goes through.
    """
    scratch = path.with_name(f".{path.name}.{owner or os.getpid()}.tmp")
    try:
        yield scratch
        scratch.replace(path)
    finally:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
