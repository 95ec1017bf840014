"""``twinfer calibrate validate``: a profile against runs of a real server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calibration.cli.console import environment, exits, print_json, stdout

if TYPE_CHECKING:
    from rich.table import Table

    from calibration.runs import RequestLog
    from calibration.validate import Error, Group, Validation

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("validate", no_args_is_help=True)(validate)


def validate(
    profile: Annotated[str, typer.Argument(metavar="PROFILE", help="A shipped name or a file.", show_default=False)],
    against: Annotated[
        list[str],
        typer.Option(
            metavar="RUN",
            help="Requests of a run: a CSV file, or a result of `vllm bench serve`, guidellm or aiperf; or the URL of a server, to "
            "which a Poisson load is sent. Given twice, for two runs of the same requests, their difference stands beside the error.",
            show_default=False,
        ),
    ],
    architecture: Annotated[
        str | None,
        typer.Option(help="Catalog name of the model, or a config.json.", show_default="the profile's model"),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A setting of the engine that was measured, by its name in scenarios, e.g. max_num_seqs=128. Repeatable.",
            show_default="as served, or vLLM's own",
        ),
    ] = None,
    number: Annotated[
        int | None,
        typer.Option(min=0, help="Which run of a file that holds several, from 0.", show_default=False),
    ] = None,
    rate: Annotated[
        str | None, typer.Option(metavar="RATE", help="Of the load for a URL, as 4 or 90/min.", show_default=False)
    ] = None,
    requests: Annotated[int, typer.Option(min=20, help="How many to send to a URL.")] = 200,
    prompt: Annotated[int, typer.Option(min=1, help="Median tokens of the prompts sent to a URL.")] = 128,
    output: Annotated[int, typer.Option(min=1, help="Median tokens of the answers asked of a URL.")] = 32,
    seed: Annotated[int, typer.Option(min=0, help="Of the load for a URL.")] = 0,
    model: Annotated[
        str | None, typer.Option(metavar="ID", help="Which model of a URL that serves several.", show_default=False)
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--api-key-env", metavar="NAME", help="Environment variable that holds the API key.", show_default=False
        ),
    ] = None,
    requests_out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="Also write the (first) run of a URL.", show_default=False),
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw requests, distributions and errors.", show_default=False),
    ] = None,
    check: Annotated[
        str | None,
        typer.Option(
            metavar="TOL", help="Exit 1 if a mean is off by more, e.g. 5%: TTFT, TPOT or E2E.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")] = False,
) -> None:
    """Replay the requests of real runs with a profile, and say how far off it is and what may be decided with it."""
    with exits():
        from calibration.validate import validate as compare
        from sim import profiles

        tolerance = _tolerance(check)
        settings = _settings(set_ or [])
        loaded = profiles.load(profile)
        urls = [one for one in against if "://" in one]
        if urls:
            sent = _sent(urls, len(against), rate, (requests, prompt, output, seed), model, key)
            runs = sent
            if requests_out is not None:
                from calibration.endpoint.observations import save_requests

                save_requests(sent[0], requests_out)
        else:
            from calibration.importers.requests import read_run

            runs = [read_run(one, number=number) for one in against]
        found = compare(loaded, runs, engine=settings, architecture=architecture)
        if figure is not None:
            from calibration.drawing.style import put
            from calibration.drawing.validation import draw

            put(draw(found), figure)
    if as_json:
        print_json(found.to_json())
    else:
        _show(found)
    if tolerance is not None and any(
        abs(row["mean"].value) > tolerance for metric, row in found.whole.errors.items() if metric != "itl"
    ):
        raise typer.Exit(1)


def _sent(
    urls: list[str], runs: int, rate: str | None, load: tuple[int, int, int, int], model: str | None, key: str | None
) -> list[RequestLog]:
    """What became of the load sent to a server, once for each time it is named."""
    from calibration.endpoint.client import Client
    from calibration.live import Load, measured
    from sim.config.units import rate as per_second
    from sim.errors import ProfileError

    if len(set(urls)) > 1 or len(urls) < runs:
        raise ProfileError("--against: several runs must be files, or the same URL again: spread is that of one server")
    if rate is None:
        raise ProfileError(f"--rate: needed for {urls[0]}: requests a second to send it, as 4 or 90/min")
    try:
        wanted = Load(per_second(_scalar(rate)), *load)
    except ValueError as error:
        raise ProfileError(f"--rate: {error}") from None
    with Client(urls[0], model=model, key=environment(key)) as client:
        return measured(client, wanted, len(urls))


def _tolerance(text: str | None) -> float | None:
    from sim.config.units import fraction
    from sim.errors import ConfigError, Problem

    if text is None:
        return None
    try:
        return fraction(_scalar(text))
    except ValueError as error:
        raise ConfigError([Problem(str(error), path="--check")]) from None


def _scalar(text: str) -> Any:
    from sim.config.document import scalar

    return scalar(text.strip())


def _settings(texts: list[str]) -> dict[str, Any]:
    """Engine settings by name; what they may be is for the scenario to say."""
    from sim.errors import ConfigError, Problem

    settings = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ConfigError([Problem(f"{text!r} is not NAME=VALUE, like max_num_seqs=128", path="--set")])
        settings[name.strip().removeprefix("engine.")] = _scalar(value)
    return settings


# --- for people


def _show(found: Validation) -> None:
    from rich.text import Text

    from calibration.verdict import sentence

    console = stdout()
    sources = " and ".join(run.source for run in found.measured)
    console.print(Text(f"{found.profile} against {sources}", style="bold"))
    rates = [run.rate for run in found.measured if run.concurrency is None]
    how = f"{rates[0]:.3g} requests/s" if rates else f"{found.measured[0].concurrency} users"
    console.print(Text(f"{found.whole.requests} requests, {how}; {_engine(found)}", style="dim"))
    console.print()
    console.print(_errors(found.whole))
    if found.by_load:
        console.print()
        console.print(_by_load([*found.by_load, found.whole]))
    console.print()
    console.print(Text(sentence(found), style="bold"))
    for warning in found.warnings:
        console.print(Text.assemble(("warning  ", "yellow"), warning))


def _engine(found: Validation) -> str:
    settings = found.predicted[0].about["engine"]
    shown = [f"{name} {settings[name]:,}" for name in ("max_num_seqs", "max_num_batched_tokens", "kv_blocks")]
    return ", ".join([*shown, "asynchronous scheduling" if settings["async_scheduling"] else "synchronous scheduling"])


def _table(*columns: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1), header_style="bold")
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    return table


def _errors(group: Group) -> Table:
    """A row a metric: the mean as measured and predicted, its error and interval, those of the quantiles, that of one request."""
    from calibration.verdict import percent

    table = _table("", "measured", "predicted", "error of mean", "p50", "p90", "p99", "median request")
    for metric, row in group.errors.items():
        mean = row["mean"]
        typical = group.typical.get(metric)
        table.add_row(
            metric.upper(),
            _seconds(mean.measured),
            _seconds(mean.predicted),
            _error(mean),
            *(percent(row[name].value) for name in ("p50", "p90", "p99")),
            "" if typical is None else percent(typical, signed=False),
        )
        if mean.spread is not None:
            spreads = [percent(row[name].spread or 0.0, signed=False) for name in ("mean", "p50", "p90", "p99")]
            table.add_row("  runs apart", "", "", *spreads, "", style="dim")
    return table


def _by_load(groups: list[Group]) -> Table:
    """A row a third of the requests: errors of the means."""
    metrics = [metric for metric in groups[-1].errors if metric != "itl"]
    table = _table("load", "requests", "under way", *(f"mean {metric.upper()}" for metric in metrics))
    for group in groups:
        low, high = group.system
        met = f"{low}–{high}" if high > low else str(low)
        cells = [_error(group.errors[metric]["mean"]) if metric in group.errors else "" for metric in metrics]
        table.add_row(group.name, str(group.requests), met, *cells)
    return table


def _error(error: Error) -> str:
    from math import isfinite

    from calibration.verdict import percent

    known = error.half_width is not None and isfinite(error.half_width)
    return percent(error.value) + (f" ±{100.0 * (error.half_width or 0.0):.1f}" if known else "")


def _seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 1.0 else f"{1e3 * value:.3g} ms"
