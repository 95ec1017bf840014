"""``twinfer optimize``: the cheapest configuration that meets the objectives, and how sure that is."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sim.cli.console import note, print_json, progress, stdout
from sim.cli.deploying import Flavour
from sim.cli.options import (
    Backend,
    Backends,
    Check,
    Jobs,
    Json,
    Out,
    Quiet,
    ScenarioFile,
    Seed,
    Set,
    default_place,
    over_of,
    overrides,
)
from sim.errors import ResultError

if TYPE_CHECKING:
    from rich.console import Console

    from sim.study.optimizing import Optimum

__all__ = ["register"]

NOT_MET = 1
_STORE = "store"
_ROWS = 15
_STYLES = {"winner": "bold green", "meets": "green", "misses": "red", "undecided": "yellow", "failed": "bold red"}


class Method(StrEnum):
    """How the space is searched."""

    auto = "auto"
    bisect = "bisect"
    select = "select"
    tpe = "tpe"
    nsga2 = "nsga2"
    gp = "gp"


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(no_args_is_help=True)(optimize)


def optimize(
    scenario_file: ScenarioFile,
    over: Annotated[
        list[str] | None,
        typer.Option(
            "--over",
            metavar="PATH=VALUES",
            help="What may be chosen: deployments.chat.replicas=1..12, or a,b,c. Repeatable. By default what the scenario's "
            "section optimize says.",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        Method | None,
        typer.Option(
            help="bisect: one number, more of which helps. select: ranking and selection over all combinations. tpe, nsga2, gp: Optuna's "
            "samplers. auto: the first that fits.",
            show_default=False,
        ),
    ] = None,
    minimize: Annotated[
        str | None,
        typer.Option(metavar="FIGURE", help="What should be small. By default usd_per_hour.", show_default=False),
    ] = None,
    replications: Annotated[
        int | None,
        typer.Option(
            "--replications",
            "-n",
            min=2,
            help="At most so many in all. By default 3 a point and 300 at least; 2,000 with a sampler.",
            show_default=False,
        ),
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Of the answer. By default run.confidence, 0.95.", show_default=False),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, help="Differences in cost that do not matter. By default 0.01.", show_default=False
        ),
    ] = None,
    pareto: Annotated[
        str | None,
        typer.Option(
            metavar="FIGURES",
            help="Figures of the Pareto front, by commas. By default usd_per_hour,ttft_p99,slo_attainment.",
            show_default=False,
        ),
    ] = None,
    monotone: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="A number more of which is taken to do no harm, so that what misses rules out what has less. Repeatable; none: "
            "nothing is. By default replicas that nobody scales.",
            show_default=False,
        ),
    ] = None,
    settings: Set = None,
    seed: Seed = None,
    out: Out = None,
    deploy: Annotated[
        Flavour | None,
        typer.Option(help="Write the winner as files to deploy, into DIR/deploy.", show_default=False),
    ] = None,
    jobs: Jobs = None,
    backend: Backend = Backends.loky,
    check: Check = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The cheapest configuration that meets the objectives, how sure that is, and what it would take to be surer.

    Writes optimize.html, optimum.json, points.parquet and winner.yaml. What was simulated is kept: the same command goes on
    where it was interrupted, and one with more --replications adds to it. With --check, exits with 1 if no
    configuration is sure to meet all objectives.
    """
    from sim import config
    from sim.study.optimizing import optimize as search

    scenario = config.load(scenario_file, overrides(settings, seed))
    place = out if out is not None else default_place(scenario, "optimize-{}")
    _claim(place)
    with progress(quiet=quiet) as show:
        found = search(
            scenario,
            over=over_of(over),
            method=None if method is None else method.value,
            minimize=minimize,
            replications=replications,
            confidence=confidence,
            tolerance=tolerance,
            pareto=None if pareto is None else [name.strip() for name in pareto.split(",")],
            monotone=monotone,
            jobs=jobs,
            backend=backend.value,
            store=place / _STORE,
            progress=show,
        )
    found.save(place)
    from sim.report.optimum import write

    write(found, place)
    if deploy is not None:
        _deploy(found, place / "deploy", deploy)
    if as_json:
        print_json(found.to_json())
    elif not quiet:
        _show(found, stdout())
        note(f"written to {place}")
    if check and found.winner is None:
        raise typer.Exit(NOT_MET)


def _claim(place: Path) -> None:
    """ResultError unless ``place`` is new, empty or an earlier optimisation's: better said before the simulation than after it."""
    from sim.observe.store import claim

    if not (place / _STORE).is_dir() and not (place / "optimum.json").is_file():
        claim(place)
        if (place / "summary.json").exists():
            raise ResultError(f"{place}: holds a run or a comparison; name a new folder")


def _deploy(found: Optimum, place: Path, flavour: Flavour) -> None:
    """The winner's files, if there is one."""
    from sim.deploy import Expectation, write

    scenario, figures = found.winner_scenario, found.figures
    if scenario is None or figures is None:
        note("nothing to deploy: no configuration is sure to meet every objective")
        return
    digest = scenario.digest()
    write(place, scenario, flavour=flavour.value, result=Expectation.of_figures(figures, digest, digest))


def _show(found: Optimum, console: Console) -> None:
    """The answer, then the points it was chosen from."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from sim.report.format import label, unit_for
    from sim.report.optimum import known, ordered
    from sim.study.optimizing.words import names

    if found.scenario.question:
        console.print(Text(found.scenario.question, style="bold"))
    rows = ordered(found)
    rows = rows[rows["status"] != "not looked at"]
    paths = list(found.search.candidates[0].point)
    short = names(paths)
    figures = [column for column in rows.columns if f"{column}_half_width" in rows.columns][:4]
    units = {column: unit_for(column.rpartition(".")[2], rows[column].tolist()) for column in figures}
    shown = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1), header_style="bold")
    for path in paths:
        shown.add_column(short[path])
    shown.add_column("")
    shown.add_column("runs", justify="right")
    for column in figures:
        shown.add_column(f"{label(column)}\n{units[column].name}", justify="right")
    for row in rows.head(_ROWS).to_dict("records"):
        values = [units[column].both(known(row[column]), known(row[f"{column}_half_width"])) for column in figures]
        status = Text(row["status"], style=_STYLES.get(row["status"], "dim"))
        shown.add_row(*(str(row[path]) for path in paths), status, f"{row['replications']:,}", *values)
    console.print(shown)
    if len(rows) > _ROWS:
        console.print(Text(f"and {len(rows) - _ROWS:,} more", style="dim"))
    console.print()
    console.print(Text(found.sentence, style="bold"))
    console.print(Text(found.effort, style="dim"))
    for text in found.notes:
        console.print(Text(text, style="dim"))
