"""What goes where: results on stdout; progress, notes and warnings on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Progress", "downloading", "note", "print_json", "progress", "stdout"]

Progress = Callable[[int, int, str], None]

PIPED_WIDTH = 100
"""Columns of a table that is not shown in a terminal."""


def stdout() -> Console:
    """The console for results: colours and the terminal's width if it is one, else plain text, 100 columns or ``$COLUMNS``."""
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(highlight=False, emoji=False, markup=False)
    columns = os.environ.get("COLUMNS", "")
    width = int(columns) if columns.isdigit() and int(columns) > 0 else PIPED_WIDTH
    return Console(highlight=False, emoji=False, markup=False, width=width)


def print_json(value: Any) -> None:
    """``value`` as JSON on stdout; what JSON has no type for, as text."""
    from sim.observe.store import plain

    content = json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False, default=str)
    sys.stdout.write(content + "\n")


def note(text: str, *, quiet: bool = False) -> None:
    """One line on stderr."""
    if not quiet:
        sys.stderr.write(text + "\n")


@contextmanager
def progress(*, quiet: bool) -> Iterator[Progress | None]:
    """A bar on stderr with replications done and time left, as a callable ``(done, total, label)``; None if nobody watches."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=None)

        def show(done: int, total: int, label: str) -> None:
            bars.update(task, completed=done, total=total, description=label)

        yield show


@contextmanager
def downloading(*, quiet: bool) -> Iterator[Callable[[int, int | None], None] | None]:
    """A bar on stderr for a download, as a callable ``(bytes so far, bytes in total)``; None if nobody watches."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    with Bars(
        BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True
    ) as bars:
        task = bars.add_task("", total=None)

        def show(done: int, total: int | None) -> None:
            bars.update(task, completed=done, total=total)

        yield show
