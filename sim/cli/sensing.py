"""``twinfer sensitivity``: what moves the answer, what breaks first, how wrong the profile may be."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sim.cli.console import note, print_json, progress, stdout
from sim.cli.options import (
    Backend,
    Backends,
    Jobs,
    Json,
    Quiet,
    Replications,
    ScenarioFile,
    Seed,
    Set,
    default_place,
    over_of,
    overrides,
)

if TYPE_CHECKING:
    from rich.console import Console

    from sim.study.sensitivity import SensitivityResult

__all__ = ["register"]


class Method(StrEnum):
    """What is asked."""

    tornado = "tornado"
    sobol = "sobol"
    breaks = "breaks"
    profile = "profile"
    all = "all"


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(no_args_is_help=True)(sensitivity)


def sensitivity(
    scenario_file: ScenarioFile,
    over: Annotated[
        list[str] | None,
        typer.Option(
            "--over",
            metavar="PATH=LOW..HIGH",
            help="Vary this, or a,b,c; PATH may be load, prompt_tokens, output_tokens, step_times or price, as factors:"
            " load=0.8..1.2. Repeatable. By default what the scenario suggests.",
            show_default=False,
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="M",
            help="Watch this figure: ttft_p99, or chat.ttft_p99 of a workload. Repeatable. By default the objectives.",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        list[Method] | None,
        typer.Option(
            help="tornado: one parameter at a time. breaks: the load at which objectives fail. sobol: shares of the variance. profile: how"
            " wrong step times may be. Repeatable. By default tornado and breaks.",
            show_default=False,
        ),
    ] = None,
    option: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of this option of the scenario.", show_default=False)
    ] = None,
    points: Annotated[
        int | None,
        typer.Option(min=2, help="Rows of the Sobol design, a power of two. By default 64.", show_default=False),
    ] = None,
    draws: Annotated[int, typer.Option(min=2, max=100_000, help="Draws from the doubt of the profiles.")] = 40,
    settings: Set = None,
    seed: Seed = None,
    replications: Replications = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Where to write; that of a run or comparison, and its report shows it. By default runs/SCENARIO-DIGEST.",
            show_default=False,
        ),
    ] = None,
    jobs: Jobs = None,
    backend: Backend = Backends.loky,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """What moves the figures, what breaks first as load grows, and how wrong the profile may be.

    All points see the same requests. Writes sensitivity.json and sensitivity.html; in the directory of a run or comparison,
    twinfer report shows them too.
    """
    from sim import config
    from sim.observe.store import claim
    from sim.study.sensitivity import sensitivity as study

    scenario = config.load(scenario_file, overrides(settings, seed, replications))
    if option is not None:
        chosen = scenario.with_option(option)
    else:
        chosen = scenario
        if scenario.option_names():
            names = ", ".join(scenario.option_names())
            note(f"note: of the scenario without its options ({names}); --option NAME takes one", quiet=quiet)
    place = out if out is not None else default_place(chosen)
    claim(place)
    ranges = over_of(over)
    with progress(quiet=quiet) as show:
        found = study(
            scenario,
            over=ranges,
            metrics=metric or (),
            methods=[one.value for one in method] if method else ("tornado", "breaks"),
            option=option,
            points=points,
            draws=draws,
            jobs=jobs,
            backend=backend.value,
            progress=show,
        )
    found.save(place)
    from sim.report.sensitivity import write

    page = write(found, place)
    if as_json:
        print_json(found.to_json())
    elif not quiet:
        _show(found, stdout())
    for text in (*found.notes, *(f"warning: {warning}" for warning in found.warnings)):
        note(text, quiet=quiet)
    if not as_json:
        note(f"written: {page}", quiet=quiet)


def _show(found: SensitivityResult, console: Console) -> None:
    """The sentences, then a table for each thing that was asked."""
    from rich.table import Table

    from sim.report.format import label, unit_for

    for sentence in found.summary:
        console.print(sentence)
    figures = dict.fromkeys((effect.workload, effect.metric) for effect in found.effects)
    watched = {*figures, *((spread.workload, spread.metric) for spread in found.spreads)}
    several = len({workload for workload, _ in watched}) > 1

    def named(workload: str, metric: str) -> str:
        return f"{workload} {label(metric)}" if several and workload else label(metric)

    for workload, metric in figures:
        rows = [effect for effect in found.effects if (effect.workload, effect.metric) == (workload, metric)]
        unit = unit_for(metric, [rows[0].base])
        title = f"{named(workload, metric)}: {unit.both(rows[0].base, rows[0].base_half)} {unit.name}"
        shown = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
        for head, side in (
            ("parameter", "left"),
            ("value", "right"),
            (f"change, {unit.name}", "right"),
            ("p", "right"),
            ("", "left"),
        ):
            shown.add_column(head, justify="right" if side == "right" else "left")
        for effect in rows:
            change = unit.both(effect.change, effect.half_width)
            told = "cannot be run" if effect.error else "breaks the objective" if effect.kept is False else ""
            p = "" if math.isnan(effect.p) else f"{effect.p:.3f}"
            shown.add_row(effect.label, effect.value, f"+{change}" if effect.change > 0.0 else change, p, told)
        console.print()
        console.print(shown)
    for spread in found.spreads:
        rest = [one for one in found.indices if (one.workload, one.metric) == (spread.workload, spread.metric)]
        noise = "" if math.isnan(spread.noise) else f"; {spread.noise:.1%} of the variance is chance"
        shown = Table(
            title=f"{named(spread.workload, spread.metric)}: shares of the variance{noise}",
            title_justify="left",
            title_style="bold",
            box=None,
            pad_edge=False,
        )
        for head in ("parameter", "over", "alone", "with interactions"):
            shown.add_column(head, justify="left" if head in ("parameter", "over") else "right")
        for index in rest:
            numbers = ((index.first, index.first_half), (index.total, index.total_half))
            shown.add_row(index.label, index.over, *("–" if math.isnan(v) else f"{v:.2f} ±{h:.2f}" for v, h in numbers))
        console.print()
        console.print(shown)
