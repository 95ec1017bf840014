"""How fast files come from where they lie: read by one or several readers at once, from the medium or from the page cache."""

from __future__ import annotations

import mmap
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final

from calibration.campaign import Record
from calibration.probes.weights import evict, resident

__all__ = ["COLD", "WARM", "Span", "at_once", "read", "shares"]

COLD: Final = 0.01
"""Share of the files' pages in memory up to which a read counts as cold."""
WARM: Final = 0.99
"""Share from which on it counts as warm."""
_BLOCK: Final = 2**24


@dataclass(frozen=True)
class Span:
    """A stretch of one file, in bytes."""

    path: Path
    start: int
    length: int


def read(files: Sequence[Path], size: int, readers: int, *, cold: bool) -> Record:
    """Read the first ``size`` bytes of ``files``, as many readers at once, each its own stretch of them: bytes and seconds.

    ``cold``: what memory holds of the files is dropped before. ``resident`` is the share that was in memory when reading began: the judge
    of whether it was cold, or warm.
    """
    if cold:
        for path in files:
            evict(path)
    stretches = shares(files, size, readers)
    lengths = {path: path.stat().st_size for path in files}
    held = sum(resident(path) * length for path, length in lengths.items()) / sum(lengths.values())
    seconds = at_once([partial(_read, spans) for spans in stretches])
    done = sum(span.length for spans in stretches for span in spans)
    return {"bytes": done, "seconds": seconds, "readers": readers, "resident": held}


def shares(files: Sequence[Path], size: int, readers: int) -> list[list[Span]]:
    """The first ``size`` bytes of ``files`` in as many equal parts as there are readers, none of them overlapping."""
    lengths = [path.stat().st_size for path in files]
    size = min(size, sum(lengths))
    cuts = [size * i // readers for i in range(readers + 1)]
    found = []
    for low, high in pairwise(cuts):
        spans, at = [], 0
        for path, length in zip(files, lengths, strict=True):
            start, end = max(low, at), min(high, at + length)
            if start < end:
                spans.append(Span(path, start - at, end - start))
            at += length
        found.append(spans)
    return found


def at_once(jobs: Sequence[Callable[[], object]]) -> float:
    """Seconds from the start of the first of ``jobs`` to the end of the last, a thread each; they must let go of Python's lock to overlap.

    An exception of a job is raised here.
    """
    gate = threading.Barrier(len(jobs))
    starts: list[float] = []
    ends: list[float] = []
    errors: list[Exception] = []

    def run(job: Callable[[], object]) -> None:
        gate.wait()
        starts.append(time.perf_counter())
        try:
            job()
        except Exception as error:  # noqa: BLE001 - raised by the thread that waits
            errors.append(error)
        ends.append(time.perf_counter())

    threads = [threading.Thread(target=run, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return max(ends) - min(starts)


def _read(spans: Sequence[Span]) -> None:
    buffer = mmap.mmap(-1, _BLOCK)  # pages of its own, written over and over
    with buffer, memoryview(buffer) as view:
        for span in spans:
            descriptor = os.open(span.path, os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, span.start, span.length, os.POSIX_FADV_SEQUENTIAL)
                at, end = span.start, span.start + span.length
                while at < end:
                    done = os.preadv(descriptor, [view[: min(_BLOCK, end - at)]], at)
                    if not done:
                        raise OSError(f"{span.path}: the file became shorter while it was read")
                    at += done
            finally:
                os.close(descriptor)
