"""``twinfer traces``: published traces and one's own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sim.atomic import replacing
from sim.cli.console import downloading, note, print_json, stdout
from sim.cli.listing import show_rows
from sim.cli.options import Json, Quiet
from sim.errors import TraceError

if TYPE_CHECKING:
    from sim.workload.inspect import Inspection

__all__ = ["register"]

traces = typer.Typer(name="traces", no_args_is_help=True, help="Workload traces: list, fetch, inspect, fit.")

Format = Annotated[
    str,
    typer.Option("--format", metavar="FORMAT", help="azure, mooncake, csv, jsonl, parquet, or auto: by the content."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.add_typer(traces)


@traces.command("list")
def list_(as_json: Json = False) -> None:
    """The published traces of the catalog, their licence, and whether they have been fetched."""
    from sim import catalog
    from sim.workload.fetch import cached

    rows = []
    for row in catalog.rows("traces"):
        where = cached(row["name"])
        rows.append({**row, "fetched": str(where) if where is not None else None})
    if as_json:
        print_json(rows)
        return
    shown = ("name", "requests", "format", "MB", "licence", "fetched")
    show_rows([{key: row[key] for key in shown} | {"fetched": row["fetched"] is not None} for row in rows])


@traces.command()
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A trace of the catalog.", show_default=False)],
    directory: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help="Instead of the user's cache.", show_default=False),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the server.")] = 30.0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Download a published trace once, check it against the catalog's checksum, and print its path."""
    from sim import catalog
    from sim.workload.fetch import fetch as download

    row = catalog.trace(name)
    note(f"{row.name}: {row.title}\nlicence: {row.licence}\nfrom: {row.url}", quiet=quiet)
    with downloading(quiet=quiet) as show:
        path = download(row, directory, timeout=timeout, progress=show)
    if as_json:
        print_json({"name": row.name, "path": str(path), "licence": row.licence, "url": row.url, "sha256": row.sha256})
    else:
        typer.echo(str(path))


@traces.command()
def inspect(
    trace: Annotated[
        str,
        typer.Argument(
            metavar="TRACE", help="A file, a preset, or a fetched trace of the catalog.", show_default=False
        ),
    ],
    format: Format = "auto",
    as_json: Json = False,
) -> None:
    """The figures of a trace; of a preset, how far its draws are from the data it was fitted to."""
    from sim.workload.inspect import inspect as look

    found = look(trace, format)
    if as_json:
        print_json(found.to_json())
    else:
        _show(found)


@traces.command()
def fit(
    trace: Annotated[
        str, typer.Argument(metavar="TRACE", help="A file, or a fetched trace of the catalog.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="Where to write the preset. By default stdout.", show_default=False
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The preset's name. By default the file's.", show_default=False)
    ] = None,
    format: Format = "auto",
    licence: Annotated[str, typer.Option(help="The licence of the data.")] = "unknown",
    citation: Annotated[str, typer.Option(help="How the data wants to be cited.", show_default=False)] = "",
    quiet: Quiet = False,
) -> None:
    """Fit a preset (arrivals and lengths) to a trace, for use as `arrivals: {preset: FILE.json}`."""
    from sim.workload.fit import fit as fitted
    from sim.workload.fit import to_text
    from sim.workload.inspect import inspect as look
    from sim.workload.presets import from_content
    from sim.workload.readers import read

    called = name or Path(trace).name.split(".")[0]
    content = fitted(read(trace, format), called, source=Path(trace).name, licence=licence, citation=citation)
    text = to_text(content)
    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        with replacing(out) as scratch:
            scratch.write_text(text, encoding="utf-8")
    except OSError as error:
        raise TraceError(f"{out}: cannot be written: {error.strerror or error}") from error
    if not quiet:
        _show(look(from_content(content)))
        note(f"written to {out}")


def _show(found: Inspection) -> None:
    console = stdout()
    console.print(f"{found.name} ({found.kind}{f', {found.format}' if found.format else ''})", style="bold")
    for text in (found.source if found.source != found.name else "", found.citation, *found.notes):
        if text:
            console.print(text)
    if found.licence:
        console.print(f"licence: {found.licence}")
    rows: list[dict[str, Any]] = []
    for key, value in found.figures.items():
        row: dict[str, Any] = {"figure": key, "value": _figure(value)}
        if found.measured:
            measured, error, spread = found.measured.get(key), found.errors.get(key), found.spread.get(key)
            row["of the data"] = _figure(measured)
            row["error"] = "–" if error is None else f"{error:+.3f}" if key == "rank_correlation" else f"{error:+.1%}"
            row["80 % of draws"] = "–" if spread is None else f"{_figure(spread[0])} to {_figure(spread[1])}"
        rows.append(row)
    show_rows(rows, right=True)
    for part, basis in found.basis.items():
        console.print(f"{part}: {basis}")


def _figure(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
