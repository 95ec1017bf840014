"""``twinfer deploy``: a scenario as files one can deploy."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sim.cli.console import note, print_json
from sim.cli.options import Json, Quiet, ScenarioFile, Set, overrides
from sim.errors import ResultError

__all__ = ["register"]


class Flavour(StrEnum):
    """What runs the replicas."""

    deployment = "deployment"
    kserve = "kserve"
    lws = "lws"


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(no_args_is_help=True)(deploy)


def deploy(
    scenario_file: ScenarioFile,
    option: Annotated[
        str | None, typer.Option(metavar="NAME", help="Deploy this option of the scenario.", show_default=False)
    ] = None,
    settings: Set = None,
    flavour: Annotated[
        Flavour,
        typer.Option(
            help="A Deployment (a Knative Service where the autoscaler is kpa), a KServe InferenceService, or a LeaderWorkerSet."
        ),
    ] = Flavour.deployment,
    run: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="A directory that run or compare wrote: its figures go into annotations.",
            show_default=False,
        ),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(help="The container image. By default vLLM's of the version simulated.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Where to write. By default deploy/SCENARIO[-OPTION].",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a scenario as files one can deploy: vLLM's command line and Kubernetes manifests.

    What was simulated and no file can hold (routers, limits, faults) is listed in README.md; an autoscaler that nobody can
    deploy is refused.
    """
    from sim import config
    from sim.deploy import IMAGE, files, write

    scenario = config.load(scenario_file, overrides(settings))
    if option is not None:
        scenario = scenario.with_option(option)
    elif scenario.option_names():
        names = ", ".join(scenario.option_names())
        note(f"note: without the scenario's options ({names}); --option NAME deploys one", quiet=quiet)
    result = None
    if run is not None:
        from sim.deploy import Expectation
        from sim.observe import load

        try:
            result = Expectation.of(load(run), scenario)
        except ResultError as fault:
            said = str(fault)
            raise ResultError(said if said.startswith(str(run)) else f"{run}: {said}") from None
    else:
        note("note: no expectation is written: --run RUN adds the figures of a run of this scenario", quiet=quiet)
    place = out if out is not None else Path("deploy") / (scenario_file.stem + (f"-{option}" if option else ""))
    chosen = IMAGE if image is None else image
    write(place, scenario, flavour=flavour.value, result=result, image=chosen)
    if as_json:
        print_json({"out": str(place), "files": files(scenario, flavour=flavour.value, result=result, image=chosen)})
    note(f"written to {place}", quiet=quiet)
