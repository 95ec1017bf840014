"""What every command of ``twinfer calibrate`` does alike: say what is wrong in one line, show progress, write a profile."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from sim.errors import ProfileError, TwinferError

if TYPE_CHECKING:
    from rich.console import Console

    from calibration.campaign import Campaign
    from sim.profiles import Profile

__all__ = [
    "Show",
    "environment",
    "exits",
    "interruptible",
    "print_json",
    "progress",
    "quantity",
    "stdout",
    "summary",
    "write",
]

Show = Callable[[int, int, str], None]


@contextmanager
def exits() -> Iterator[None]:
    """A fault of the input ends the command with exit code 2 and its message, a line a fault, on stderr."""
    try:
        yield
    except TwinferError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None


def environment(variable: str | None) -> str | None:
    """The API key in an environment variable: secrets do not belong on a command line. :raises ProfileError: there is none."""
    if variable is None:
        return None
    value = os.environ.get(variable)
    if not value:
        raise ProfileError(f"--api-key-env: the environment has no variable {variable!r}")
    return value


def quantity(text: str, option: str, kind: Literal["duration", "fraction"]) -> float:
    """The value of an option that has a unit, or is a bare number. :raises ProfileError: it is no such quantity."""
    from sim.config import units

    read = units.duration if kind == "duration" else units.fraction
    try:
        return read(float(text) if text.replace(".", "", 1).isdigit() else text)
    except ValueError as error:
        raise ProfileError(f"{option}: {error}") from None


@contextmanager
def interruptible(campaign: Campaign) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the command with exit code 130 and say what is kept; what was measured is in the journal."""
    import signal

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        # Requests that are torn down half way have nothing to say to a user: the process ends here.
        sys.unraisablehook = lambda unraisable: None
        logging.getLogger("asyncio").disabled = True
        typer.echo(
            f"interrupted: {len(campaign.records)} measurements are kept in {campaign.path}; the same command goes on from there",
            err=True,
        )
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Show | None]:
    """A bar on stderr with what is being measured and the time left, as a callable ``(done, expected, label)``; None if nobody
    watches."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", table_column=None),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=None)

        def show(done: int, expected: int, label: str) -> None:
            bars.update(task, completed=done, total=expected, description=label)

        yield show


def stdout() -> Console:
    """The console for results: as wide as the terminal, or 100 columns of plain text."""
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(highlight=False, emoji=False, markup=False)
    return Console(highlight=False, emoji=False, markup=False, width=100)


def print_json(value: Any) -> None:
    """``value`` as JSON on stdout; null for what is not a finite number."""
    content = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write(content + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def write(make: Callable[[], Profile], out: Path) -> None:
    """Make a profile and write it to ``out``; then say what is in it and how good it is."""
    from sim.profiles import save

    with exits():
        profile = make()
        save(profile, out)
    typer.echo(f"{out}: {profile.name}, {profile.engine}, {profile.provenance.points} measured points")
    for line in summary(profile):
        typer.echo(f"  {line}")


def summary(profile: Profile) -> Iterator[str]:
    """Held-out errors of the parts and the notes, a line each."""
    parts = {"batch": profile.batch}
    if profile.step is not None:
        parts |= {name: getattr(profile.step, name) for name in type(profile.step).model_fields}
    for name, part in parts.items():
        held = getattr(part, "held_out", None)
        if held is not None:
            yield (
                f"{name:<10} held-out error {held.median:.1%} median, {held.p90:.1%} p90 ({held.points} points: {held.method})"
            )
    for note in profile.provenance.notes:
        yield f"note: {note}"
