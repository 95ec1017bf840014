"""``twinfer run``, ``compare`` and ``report``: the commands that simulate, and those that show what was simulated."""

from __future__ import annotations

import hashlib
import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sim.cli.console import note, print_json, progress, stdout
from sim.cli.options import (
    Backend,
    Backends,
    Check,
    Jobs,
    Json,
    Out,
    Quiet,
    Replications,
    ScenarioFile,
    Seed,
    Set,
    default_place,
    overrides,
)
from sim.errors import ResultError

if TYPE_CHECKING:
    from sim.config import Scenario
    from sim.report.view import View

__all__ = ["register"]

NOT_MET = 1


class Format(StrEnum):
    """What ``twinfer report`` writes."""

    html = "html"
    svg = "svg"
    png = "png"


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    for command in (run, compare, report):
        app.command(no_args_is_help=True)(command)


def run(
    scenario_file: ScenarioFile,
    option: Annotated[
        str | None, typer.Option(metavar="NAME", help="Run this option of the scenario.", show_default=False)
    ] = None,
    settings: Set = None,
    seed: Seed = None,
    replications: Replications = None,
    out: Out = None,
    jobs: Jobs = None,
    backend: Backend = Backends.loky,
    check: Check = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Simulate a scenario: latency, load and cost, with intervals.

    Writes a run directory: manifest.json, summary.json and tables of requests, timeline and events.
    """
    from sim import config, experiment

    scenario = config.load(scenario_file, overrides(settings, seed, replications))
    if option is not None:
        scenario = scenario.with_option(option)
    elif scenario.option_names():
        names = ", ".join(scenario.option_names())
        note(
            f"note: run without the scenario's options ({names}); --option NAME runs one, twinfer compare all",
            quiet=quiet,
        )
    place = _claimed(out if out is not None else _place(scenario, [scenario]))
    with progress(quiet=quiet) as show:
        result = experiment.simulate(scenario, jobs=jobs, backend=backend.value, progress=show)
    result.save(place)
    if as_json:
        print_json(result.to_json(place))
    _finish(_view(result), place, check=check, as_json=as_json, quiet=quiet)


def compare(
    scenario_file: ScenarioFile,
    settings: Set = None,
    seed: Seed = None,
    replications: Replications = None,
    out: Out = None,
    jobs: Jobs = None,
    backend: Backend = Backends.loky,
    check: Check = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Simulate every option of a scenario on the same requests.

    Says which option is the cheapest that meets every objective, or what each of them misses, and writes report.html
    beside the results. With --check, exits with 1 if no option meets all objectives.
    """
    from sim import config, experiment

    scenario = config.load(scenario_file, overrides(settings, seed, replications))
    options = [scenario.with_option(name) for name in scenario.option_names()]
    place = _claimed(out if out is not None else _place(scenario, options or [scenario]))
    with progress(quiet=quiet) as show:
        comparison = experiment.compare(scenario, jobs=jobs, backend=backend.value, progress=show)
    comparison.save(place)
    view = _view(comparison)
    _write_report(view, place)
    if as_json:
        print_json(comparison.to_json(place))
    _finish(view, place, check=check, as_json=as_json, quiet=quiet)


def report(
    directory: Annotated[
        Path, typer.Argument(metavar="RUN", help="A directory that run or compare wrote.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="PATH",
            help="The page, the folder of the pictures, or the trace. By default in RUN.",
            show_default=False,
        ),
    ] = None,
    format: Annotated[Format, typer.Option("--format", help="The page, or its plots as pictures.")] = Format.html,
    timeline: Annotated[
        bool,
        typer.Option("--timeline", help="Write a trace of the first replication for Perfetto, and a picture of it."),
    ] = False,
    option: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of a comparison: the option of the timeline.", show_default=False),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="The timeline begins here.", show_default=False)
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="The timeline ends here.", show_default=False)
    ] = None,
    requests: Annotated[
        int | None,
        typer.Option(min=0, help="Requests shown one by one on the timeline. By default 2000.", show_default=False),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Build report.html from a run or comparison, or its plots, or the timeline of a run."""
    from sim.observe import load

    narrowed = {"--option": option, "--from": since, "--to": until, "--requests": requests}
    if timeline:
        if format is not Format.html:
            raise typer.BadParameter("--timeline writes a trace, an SVG and a PNG: leave out --format")
        _write_timeline(directory, out, option, _moment("--from", since), _moment("--to", until), requests, quiet=quiet)
        return
    for name, value in narrowed.items():
        if value is not None:
            raise typer.BadParameter(f"{name} is of the timeline: give --timeline too")
    from sim.report.sensitivity import studied

    view = studied(_view(load(directory)), directory)
    if format is Format.html:
        page = out if out is not None else directory / "report.html"
        _write_report(view, page.parent, page.name)
        written = [page]
    else:
        written = _write_plots(view, out if out is not None else directory, format.value)
    for path in written:
        note(f"written: {path}", quiet=quiet)


def _moment(name: str, text: str | None) -> float | None:
    from sim.config.units import duration

    try:
        return None if text is None else duration(text)
    except ValueError as error:
        raise typer.BadParameter(f"{name}: {error}") from None


def _write_timeline(
    directory: Path,
    out: Path | None,
    option: str | None,
    start: float | None,
    stop: float | None,
    requests: int | None,
    *,
    quiet: bool,
) -> None:
    from sim.report import timeline

    result, place = timeline.run_of(directory, option)
    written = timeline.write(
        result,
        place / "timeline.pftrace" if out is None else out,
        start=0.0 if start is None else start,
        stop=math.inf if stop is None else stop,
        requests=timeline.MOST_REQUESTS if requests is None else requests,
    )
    for text in written.notes:
        note(f"note: {text}", quiet=quiet)
    for path in written.paths:
        note(f"written: {path}", quiet=quiet)
    note(f"open https://ui.perfetto.dev and drag {written.paths[0].name} into it; nothing is uploaded", quiet=quiet)


def _view(found: Any) -> View:
    from sim.report.reading import view_of

    return view_of(found)


def _place(scenario: Scenario, runs: list[Scenario]) -> Path:
    digests = [one.digest() for one in runs]
    digest = digests[0] if len(runs) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return default_place(scenario, digest=digest)


def _claimed(place: Path) -> Path:
    """``place``, in which a result can be written: better said before the simulation than after it."""
    from sim.observe.store import claim

    claim(place)
    return place


def _write_report(view: View, directory: Path, name: str = "report.html") -> None:
    from sim.report.page import write

    write(view, directory / name)


def _write_plots(view: View, directory: Path, format: str) -> list[Path]:
    from sim.report.figures import draw

    written = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for plot in draw(view):
            path = directory / f"{plot.name}.{format}"
            path.write_bytes(plot.file(format))
            written.append(path)
    except OSError as error:
        raise ResultError(f"{directory}: cannot be written: {error.strerror or error}") from error
    return written


def _finish(view: View, place: Path, *, check: bool, as_json: bool, quiet: bool) -> None:
    """Show what was found, unless it was shown as JSON; exit with 1 if it was to be checked and does not do."""
    if as_json:
        for text, names in view.warnings():
            note(f"warning: {', '.join(names)}: {text}" if len(view.options) > 1 else f"warning: {text}", quiet=quiet)
    elif not quiet:
        from sim.cli.tables import show_comparison, show_run

        (show_comparison if len(view.options) > 1 else show_run)(view, stdout())
        note(f"written to {place}")
    if check and not any(option.status in ("meets", None) for option in view.options):
        raise typer.Exit(NOT_MET)
