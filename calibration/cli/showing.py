"""``twinfer calibrate show``: what is in a profile, in a table and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calibration.cli.console import exits, print_json, stdout

if TYPE_CHECKING:
    from rich.table import Table

    from calibration.sections import Section

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("show", no_args_is_help=True)(show)


def show(
    profile: Annotated[str, typer.Argument(metavar="PROFILE", help="A shipped name or a file.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="Draw it: FILE.png, or a page, FILE.html.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")] = False,
) -> None:
    """Show a profile: its parts and how good they are, how long a start takes, memory, power; and draw it."""
    with exits():
        from calibration.digest import digest
        from calibration.sections import heading, sections
        from sim import profiles

        found = profiles.load(profile)
        facts = digest(found)
        if out is not None:
            from calibration.drawing.page import picture
            from calibration.drawing.style import put

            put(picture(found, facts, out), out)
    if as_json:
        print_json(facts)
        return
    console = stdout()
    console.print(facts["name"], style="bold")
    for line in heading(facts):
        console.print(line, style="dim")
    for section in sections(facts):
        console.print()
        console.print(section.title, style="bold")
        console.print(_table(section))
        for note in section.notes:
            console.print(note, style="dim")
    for note in facts["notes"]:
        console.print()
        console.print(f"note: {note}")


def _table(section: Section) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    titled = any(section.head)
    table = Table(
        box=SIMPLE_HEAD if titled else None,
        show_header=titled,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1),
        header_style="dim",
    )
    for number, name in enumerate(section.head):
        words = number < section.texts
        table.add_column(name, justify="left" if words else "right", no_wrap=not words, overflow="fold")
    for row in section.rows:
        table.add_row(*row)
    return table
