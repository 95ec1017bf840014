"""The flags that commands share, and what becomes of them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sim.errors import ConfigError, Problem

if TYPE_CHECKING:
    from sim.config import Scenario

__all__ = [
    "Backend",
    "Backends",
    "Check",
    "Jobs",
    "Json",
    "Out",
    "Over",
    "Quiet",
    "Replications",
    "ScenarioFile",
    "Seed",
    "Set",
    "default_place",
    "over_of",
    "overrides",
]


class Backends(StrEnum):
    """Who works."""

    loky = "loky"
    ray = "ray"
    dask = "dask"


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
Backend = Annotated[
    Backends,
    typer.Option(
        help="Processes of this machine, or a Ray or Dask cluster: that of RAY_ADDRESS or DASK_SCHEDULER_ADDRESS, else one started here."
    ),
]
Over = Annotated[
    list[str] | None,
    typer.Option(
        "--over",
        metavar="PATH=VALUES",
        help="What varies, in place of what the scenario says: 1..8, 0.5..4:8, '1..64:7 log', a,b,c. Repeatable.",
        show_default=False,
    ),
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


def default_place(scenario: Scenario, form: str = "{}", digest: str | None = None) -> Path:
    """runs/NAME-DIGEST, where nobody says where to write: NAME is the scenario's, as ``form`` has it; ``digest`` that of everything that
    is run, by default the scenario's."""
    name = scenario.path.stem if scenario.path is not None else "scenario"
    return Path("runs") / f"{form.format(name)}-{(digest or scenario.digest())[:10]}"


def over_of(settings: list[str] | None) -> dict[str, Any] | None:
    """``--over`` as a space: ``PATH=1..8``, ``PATH=0.5..4:8 log``, ``PATH=a,b,c``, or a list or mapping in brackets as in a scenario.

    None if there is none. ConfigError if one is not PATH=VALUES.
    """
    from sim.config import document
    from sim.config.tree import Place

    if not settings:
        return None
    answer: dict[str, Any] = {}
    problems = []
    for setting in settings:
        path, equals, text = (part.strip() for part in setting.partition("="))
        if not (path and equals and text):
            problems.append(Problem(f"{setting!r} is not of the form PATH=VALUES", path="--over"))
        elif path in answer:
            problems.append(Problem(f"{path} is given twice", path="--over"))
        elif text[0] in "[{":
            node, found = document.parse(text, Place(source=f"--over {path}", target=path))
            problems += found
            answer[path] = node.plain()
        elif ".." in text:
            answer[path] = text
        else:
            answer[path] = [document.scalar(value.strip()) for value in text.split(",")]
    if problems:
        raise ConfigError(problems)
    return answer
