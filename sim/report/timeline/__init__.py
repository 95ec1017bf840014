"""The timeline of a run: a trace for Perfetto (ui.perfetto.dev), and a picture of it.

Both show the first replication, and are made from the tables of its result alone: of one that was just simulated, or was loaded.

    written = sim.report.timeline.write(sim.Result.load("runs/demo/options/4-gpus"), "timeline.pftrace")
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sim.atomic import replacing
from sim.errors import ResultError, did_you_mean

if TYPE_CHECKING:
    from sim.observe.result import Result

__all__ = ["MOST_REQUESTS", "TRACE", "Written", "run_of", "write"]

TRACE = ".pftrace"
MOST_REQUESTS = 2000
"""Requests in a trace, unless more are asked for: lanes of more are slow to look at."""

_LARGE = 100_000_000
"""Bytes of a trace beyond which a browser is slow to load it."""


def run_of(directory: str | os.PathLike[str], option: str | None = None) -> tuple[Result, Path]:
    """The run in ``directory``, or that of an ``option`` of the comparison in it, and the directory of that run.

    ResultError if there is none, or several and no ``option`` to choose.
    """
    from sim.observe.result import Result, load
    from sim.observe.store import option_directory

    found = load(directory)
    if isinstance(found, Result):
        if option is not None:
            raise ResultError(f"{os.fspath(directory)}: holds a run, which has no options: leave out --option")
        return found, Path(directory)
    known = list(found.options)
    if option is None and len(known) == 1:
        option = known[0]
    if option not in known:
        chosen = "--option NAME chooses one" if option is None else f"{option!r} is none{did_you_mean(option, known)}"
        raise ResultError(f"{os.fspath(directory)}: holds the options {', '.join(known)}: {chosen}")
    return found.options[option], option_directory(Path(directory), option)


class Written(NamedTuple):
    """The files, the trace first, and what is to be known of them: what was left out and how to get it."""

    paths: list[Path]
    notes: list[str]


def write(
    result: Result,
    path: str | os.PathLike[str],
    *,
    start: float = 0.0,
    stop: float = math.inf,
    requests: int = MOST_REQUESTS,
) -> Written:
    """Write the trace of what happened from ``start`` to ``stop`` seconds to ``path``, which ends in ``.pftrace``, and the picture beside
    it, with the first ``requests`` requests of that stretch. ResultError when there is nothing to show, or it cannot be written.
    """
    from sim.report.timeline.moments import Moments
    from sim.report.timeline.picture import draw as picture
    from sim.report.timeline.tracks import draw as tracks

    place = Path(path)
    if place.suffix != TRACE:
        raise ResultError(f"{place}: the name of a trace ends in {TRACE}")
    moments = Moments(result, start, stop)
    plot = picture(moments)
    files = {
        place: tracks(moments, requests).encoded(),
        place.with_suffix(".svg"): plot.file("svg"),
        place.with_suffix(".png"): plot.file("png"),
    }
    notes = []
    if len(moments.requests) > requests:
        notes.append(
            f"the trace shows the first {requests:,} of {len(moments.requests):,} requests one by one; --requests shows more, "
            "--from and --to others"
        )
    if not len(result.table("steps")):
        notes.append("the trace has no engine steps: they are kept with --set run.steps=true")
    if len(files[place]) > _LARGE:
        notes.append(f"the trace has {len(files[place]) / 1e6:,.0f} MB: --from and --to make a smaller one")
    for name, content in files.items():
        _put(name, content)
    return Written(list(files), notes)


def _put(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise ResultError(f"{path}: cannot be written: {error.strerror or error}") from error
