"""``twinfer validate``, ``schema`` and ``init``: scenario files before they are run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sim.atomic import replacing
from sim.cli.console import note, print_json
from sim.cli.options import Json, Quiet, Set, overrides
from sim.errors import ConfigError, Problem, TwinferError

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    for command in (validate, schema, init):
        app.command()(command)


def validate(
    scenarios: Annotated[list[Path], typer.Argument(metavar="SCENARIO...", help="Scenario files.", show_default=False)],
    settings: Set = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check scenario files and all their options; show every fault."""
    from sim import config
    from sim.experiment.build import build

    found: list[dict[str, Any]] = []
    faults: list[str] = []
    for path in scenarios:
        try:
            scenario = config.load(path, overrides(settings))
            warnings = list(build(scenario).warnings)
            for name in scenario.option_names():
                warnings += build(scenario.with_option(name)).warnings
        except TwinferError as fault:
            problems = fault.problems if isinstance(fault, ConfigError) else (Problem(str(fault), file=str(path)),)
            found.append(
                {"scenario": str(path), "valid": False, "problems": [_fields(problem) for problem in problems]}
            )
            faults.append(str(fault))
            continue
        options = scenario.option_names()
        found.append(
            {
                "scenario": str(path),
                "valid": True,
                "options": options,
                "digest": scenario.digest(),
                "problems": [],
                "warnings": list(dict.fromkeys(warnings)),
            }
        )
        if not as_json:
            note(f"{path}: valid{f', {len(options)} options' if options else ''}", quiet=quiet)
            for warning in dict.fromkeys(warnings):
                note(f"{path}: warning: {warning}", quiet=quiet)
    if as_json:
        print_json(found)
    if faults:
        raise TwinferError("\n".join(faults))


def _fields(problem: Problem) -> dict[str, Any]:
    return {"file": problem.file, "line": problem.line, "path": problem.path, "message": problem.message}


def schema(
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Where to write it. By default stdout.", show_default=False),
    ] = None,
) -> None:
    """Print the JSON Schema of scenario files, for editors.

    In a scenario: # yaml-language-server: $schema=twinfer.schema.json
    """
    from sim import config

    text = json.dumps(config.json_schema(), indent=2) + "\n"
    if out is None:
        typer.echo(text, nl=False)
    else:
        _write(out, text)


def init(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The scenario to write.")] = Path("scenario.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    quiet: Quiet = False,
) -> None:
    """Write a first scenario, ready to run and to be changed."""
    from sim import config

    if path.exists() and not force:
        raise ConfigError([Problem("is there already; --force replaces it", file=str(path))])
    _write(path, config.template())
    note(f"{path} written; try: twinfer compare {path}", quiet=quiet)


def _write(path: Path, text: str) -> None:
    try:
        with replacing(path) as scratch:
            scratch.write_text(text, encoding="utf-8")
    except OSError as error:
        why = "is a folder" if path.is_dir() else f"cannot be written: {error.strerror or error}"
        raise ConfigError([Problem(why, file=str(path))]) from error
