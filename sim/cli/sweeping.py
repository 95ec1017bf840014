"""``twinfer sweep``: run the points of a space; ``sweep show`` and ``sweep export``: look at them, take them elsewhere."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from sim.atomic import replacing
from sim.cli.console import note, print_json, progress, stdout
from sim.cli.options import (
    Backend,
    Backends,
    Jobs,
    Json,
    Out,
    Over,
    Quiet,
    Replications,
    ScenarioFile,
    Seed,
    Set,
    default_place,
    over_of,
    overrides,
)
from sim.errors import ConfigError, Problem, ResultError

if TYPE_CHECKING:
    from sim.study.sweep import SweepResult

__all__ = ["register"]

INTERRUPTED, NONE_RAN = 130, 2
_EVERY_S = 60.0  # between lines of progress where nobody watches a bar: the log of a batch system


class Method(StrEnum):
    """How points are chosen."""

    grid = "grid"
    random = "random"
    latin_hypercube = "latin-hypercube"
    sobol = "sobol"


class Format(StrEnum):
    """What ``twinfer sweep export`` writes."""

    csv = "csv"
    parquet = "parquet"
    json = "json"


class RunByDefault(TyperGroup):
    """``twinfer sweep SCENARIO`` is ``twinfer sweep run SCENARIO``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The arguments, with ``run`` before them unless they begin with a command."""
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["run", *args]
        return list(super().parse_args(ctx, args))


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(
        name="sweep",
        cls=RunByDefault,
        no_args_is_help=True,
        help="Run a scenario at many points, in a store that can be interrupted and resumed.\n\n"
        "`twinfer sweep SCENARIO ...` is `twinfer sweep run SCENARIO ...`.",
    )
    for command in (run, show, export):
        group.command(no_args_is_help=True)(command)
    app.add_typer(group)


def run(
    scenario_file: ScenarioFile,
    over: Over = None,
    method: Annotated[
        Method | None,
        typer.Option(help="How points are chosen. Default: the scenario's, else grid.", show_default=False),
    ] = None,
    points: Annotated[
        int | None, typer.Option(min=1, max=10**6, help="How many, for all methods but grid.", show_default=False)
    ] = None,
    design_seed: Annotated[
        int | None,
        typer.Option("--design-seed", min=0, max=2**53, help="Of the choice of points.", show_default=False),
    ] = None,
    settings: Set = None,
    seed: Seed = None,
    replications: Replications = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="K/N", help="Of all points every Nth from the Kth on, K from 1 to N.", show_default=False),
    ] = None,
    out: Out = None,
    jobs: Jobs = None,
    backend: Backend = Backends.loky,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run the points of a sweep, each once, on all cores or a cluster. (The word run may be left out.)

    What the store has is not run again: the same command goes on where it was interrupted, or killed. Points that cannot be run
    are listed; exits with 2 if none can. Writes sweep.html beside the runs.
    """
    from sim import config
    from sim.study import sweep

    scenario = config.load(scenario_file, overrides(settings, seed, replications))
    planned = sweep.plan(
        scenario,
        over_of(over),
        method=None if method is None else method.value,
        points=points,
        seed=design_seed,
        shard=None if shard is None else _shard(shard),
    )
    place = out if out is not None else default_place(scenario, "{}-sweep")
    try:
        with progress(quiet=quiet) as bar:
            show = _Speed(bar, len(planned.points)) if not quiet else None
            found = sweep.execute(planned, jobs, backend.value, place, show)
    except KeyboardInterrupt:
        note(f"interrupted; what was run is kept in {place}, and the same command goes on from there")
        raise typer.Exit(INTERRUPTED) from None
    _finish(found, place, shard=shard, as_json=as_json, quiet=quiet)


def show(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The store of a sweep.", show_default=False)],
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="Show this figure, e.g. ttft_p99, or chat.ttft_p99 of one workload. Repeatable.", show_default=False
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC", help="Least first; -METRIC: most first. Default: best first.", show_default=False
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many points.")] = 20,
    as_json: Json = False,
) -> None:
    """Show what is in the store of a sweep: the best points first, objectives marked.

    Best are points that meet all objectives, the cheapest first; then undecided ones, then those that miss.
    """
    found = _loaded(directory)
    if as_json:
        print_json(_to_json(found, directory))
    else:
        from sim.cli.swept import show_sweep

        show_sweep(found, stdout(), metric or [], sort, limit)
    _notes(found, quiet=False)


def export(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The store of a sweep.", show_default=False)],
    format: Annotated[Format, typer.Option("--format", help="Of the table.")] = Format.csv,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Default: stdout.", show_default=False)
    ] = None,
    workload: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The figures of this workload, not of all requests.", show_default=False),
    ] = None,
) -> None:
    """Write a table with a row a point: the paths, key, status, error, then each figure and its half-width."""
    found = _loaded(directory)
    frame = found.table(workload)
    content: bytes
    if format is Format.parquet:
        if out is None and sys.stdout.isatty():
            raise ConfigError([Problem("parquet is not for a terminal: name a file", path="--out")])
        for path in found.paths:  # values of one path may be of several kinds
            if frame[path].map(type).nunique() > 1:
                frame[path] = frame[path].astype(str)
        content = frame.to_parquet(index=False)
    elif format is Format.csv:
        content = frame.to_csv(index=False).encode()
    else:
        content = (frame.to_json(orient="records", indent=1, double_precision=15) + "\n").encode()
    if out is None:
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
    else:
        _write(out, content)
        note(f"written: {out}")
    _notes(found, quiet=False)


def _write(path: Path, content: bytes) -> None:
    try:
        with replacing(path) as scratch:
            scratch.write_bytes(content)
    except OSError as error:
        raise ResultError(f"{path}: cannot be written: {error.strerror or error}") from error


def _loaded(directory: Path) -> SweepResult:
    from sim.study.sweep import load

    found = load(directory)
    if not found.outcomes:
        raise ResultError(f"{directory}: holds no runs yet")
    return found


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"\s*([0-9]{1,9})\s*/\s*([0-9]{1,9})\s*", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError([Problem(f"{text!r} is not of the form K/N, like 3/16, with K from 1 to N", path="--shard")])
    return int(match[1]), int(match[2])


class _Speed:
    """Progress with throughput: on the bar, or a line a minute where there is none."""

    def __init__(self, bar: Callable[[int, int, str], None] | None, total: int) -> None:
        self._bar = bar
        self._begin = self._said = time.monotonic()
        if bar is not None:
            bar(0, total, "")

    def __call__(self, done: int, total: int, label: str) -> None:
        now = time.monotonic()
        speed = done / max(now - self._begin, 1e-3)
        if self._bar is not None:
            self._bar(done, total, f"{speed:,.3g} runs/s")
        elif now - self._said > _EVERY_S:
            self._said = now
            note(f"{done:,} of {total:,} runs, {speed:,.3g} runs/s, about {(total - done) / speed:,.0f} s left")


def _finish(found: SweepResult, place: Path, *, shard: str | None, as_json: bool, quiet: bool) -> None:
    from sim.report.sweep import failures, write
    from sim.study.sweep import load

    # with shards, the page is of all that is there by now
    page = write(load(place) if shard is not None else found, place) if found.outcomes else None
    if as_json:
        print_json(_to_json(found, place))
    elif not quiet:
        from sim.cli.swept import show_sweep

        show_sweep(found, stdout(), [], None, 20)
        if found.found:
            note(f"{found.found:,} of {len(found):,} runs were in the store")
        note(f"written: {page}" if page is not None else "no points: there are fewer than shards")
    if found.failed:
        note(f"{len(found.failed):,} of {len(found):,} points cannot be run:", quiet=quiet)
        for line in failures(found, 5):
            note(f"  {line}", quiet=quiet)
    _notes(found, quiet=quiet)
    if found.outcomes and len(found.failed) == len(found):
        raise typer.Exit(NONE_RAN)


def _notes(found: SweepResult, *, quiet: bool) -> None:
    for text in found.notes:
        note(f"note: {text}", quiet=quiet)
    seen: dict[str, int] = {}
    for outcome in found.outcomes:
        for warning in outcome.warnings:
            seen[warning] = seen.get(warning, 0) + 1
    for text, count in list(seen.items())[:5]:
        note(f"warning: {text}" if count == len(found) else f"warning, {count:,} points: {text}", quiet=quiet)
    if len(seen) > 5:
        note(f"and {len(seen) - 5:,} more warnings: in the manifest of the runs, and in --json", quiet=quiet)


def _to_json(found: SweepResult, place: Path) -> dict[str, Any]:
    """Everything but single replications."""
    best = found.best
    return {
        "scenario": found.name,
        "question": found.question,
        "out": str(place),
        "paths": list(found.paths),
        "best": None if best is None else dict(best.point),
        "points": [
            {
                "point": dict(outcome.point),
                "key": outcome.key,
                "status": outcome.status,
                "error": outcome.error,
                "warnings": list(outcome.warnings),
                "summary": {}
                if outcome.figures is None
                else {name: estimate.to_json() for name, estimate in outcome.figures.summary().items()},
                "objectives": []
                if outcome.figures is None
                else [standing.to_json() for standing in outcome.figures.standings()],
            }
            for outcome in found.outcomes
        ],
        "notes": list(found.notes),
    }
