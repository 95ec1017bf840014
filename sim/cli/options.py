"""The flags that commands share, and what becomes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sim.errors import ConfigError, Problem

__all__ = ["Check", "Jobs", "Json", "Out", "Quiet", "Replications", "ScenarioFile", "Seed", "Set", "overrides"]

ScenarioFile = Annotated[Path, typer.Argument(metavar="SCENARIO", help="A scenario file (YAML).", show_default=False)]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Replace one value of the scenario, e.g. deployments.chat.replicas=4. Repeatable.",
        show_default=False,
    ),
]
Seed = Annotated[
    int | None, typer.Option(min=0, max=2**53, help="Instead of the scenario's run.seed.", show_default=False)
]
Replications = Annotated[
    int | None,
    typer.Option(
        "--replications",
        "-n",
        min=1,
        max=10_000,
        help="Instead of the scenario's run.replications.",
        show_default=False,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", metavar="DIR", help="Where to write. By default runs/SCENARIO-DIGEST.", show_default=False
    ),
]
Jobs = Annotated[
    int | None, typer.Option("--jobs", "-j", min=1, help="Processes. By default one a core.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notes, no table: only errors.")]
Check = Annotated[bool, typer.Option("--check", help="Exit with 1 if the objectives are not met.")]


def overrides(settings: list[str] | None, seed: int | None = None, replications: int | None = None) -> dict[str, Any]:
    """``--set``, ``--seed`` and ``--replications`` as the overrides of ``sim.config.load``; ConfigError if one is not PATH=VALUE."""
    answer: dict[str, Any] = {}
    problems = []
    for setting in settings or []:
        path, equals, value = setting.partition("=")
        if equals and path.strip():
            answer[path.strip()] = value
        else:
            problems.append(Problem(f"{setting!r} is not of the form PATH=VALUE", path="--set"))
    if problems:
        raise ConfigError(problems)
    if seed is not None:
        answer["run.seed"] = seed
    if replications is not None:
        answer["run.replications"] = replications
    return answer
