"""``twinfer calibrate endpoint``: what a server does, seen from outside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calibration.cli.console import environment, exits, interruptible, print_json, progress, quantity, summary

if TYPE_CHECKING:
    from calibration.campaign import Campaign
    from calibration.endpoint.observations import Observations
    from calibration.endpoint.profile import About
    from calibration.endpoint.run import Wanted
    from sim.catalog import Architecture

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("endpoint", no_args_is_help=True)(endpoint)


def endpoint(
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL", help="Root of an OpenAI-compatible API, as http://localhost:8000/v1.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.", show_default=False)],
    model: Annotated[str | None, typer.Option(metavar="ID", help="Which model, where it serves several.")] = None,
    architecture: Annotated[
        str | None,
        typer.Option(help="Catalog name of the model, or a config.json.", show_default="the model's name"),
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            help="Catalog name of the GPU the server runs on; cpu: the CPU of this machine.",
            show_default="cpu, if the server is on this machine",
        ),
    ] = None,
    tp: Annotated[int, typer.Option(min=1, help="GPUs of the server's tensor-parallel group.")] = 1,
    dtype: Annotated[str, typer.Option(help="Format of the weights.")] = "bf16",
    key: Annotated[
        str | None,
        typer.Option(
            "--api-key-env", metavar="NAME", help="Environment variable that holds the API key.", show_default=False
        ),
    ] = None,
    budget: Annotated[str, typer.Option(metavar="TIME", help="How long it may take, as 90s or 10m.")] = "5m",
    concurrency: Annotated[
        int, typer.Option("--max-concurrency", min=1, max=1024, help="The most requests at once.")
    ] = 32,
    token_budget: Annotated[
        int | None,
        typer.Option(
            "--max-num-batched-tokens", min=1, help="As the server is set.", show_default="found out if possible"
        ),
    ] = None,
    max_num_seqs: Annotated[
        int | None,
        typer.Option("--max-num-seqs", min=1, help="As the server is set.", show_default="found out if possible"),
    ] = None,
    timeout: Annotated[str, typer.Option(metavar="TIME", help="The longest silence to bear.")] = "60s",
    start: Annotated[
        str | None,
        typer.Option("--start-command", metavar="COMMAND", help="Starts the server, and is timed.", show_default=False),
    ] = None,
    starts: Annotated[int, typer.Option(min=1, help="How often to start it.")] = 1,
    start_timeout: Annotated[str, typer.Option(metavar="TIME", help="How long a start may take.")] = "30m",
    requests_out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="Also write the requests of the Poisson load that was kept aside.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the order of loads, and of the Poisson load.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")] = False,
) -> None:
    """Measure an OpenAI-compatible server (vLLM, SGLang, TGI, Triton, NIM) from outside, by short controlled loads.

    Nobody else may use the server meanwhile. What was measured is kept beside the file that is written: interrupted, the same
    command goes on from there.
    """
    with exits():
        _needed()
        from calibration.endpoint.observations import save_requests
        from calibration.endpoint.profile import profile
        from calibration.endpoint.run import Wanted
        from sim.profiles import save

        wanted = Wanted(_seconds(budget, "--budget"), concurrency, token_budget, max_num_seqs, seed)
        limits = _seconds(timeout, "--timeout"), _seconds(start_timeout, "--start-timeout")
        secret = environment(key)
        card = _gpu(url, gpu)
        with _campaign(url, model, architecture, card, out, wanted) as campaign, interruptible(campaign):
            shape, seen = _seen(campaign, url, (model, architecture), secret, wanted, limits, start, starts, out)
            made = profile(seen, _about(url, shape, card, tp, dtype), campaign.records)
            save(made, out)
            if requests_out is not None and seen.mix is not None:
                save_requests(seen.mix, requests_out)
            campaign.finish()
    if as_json:
        print_json({"profile": made.dump(), "observations": seen.dump()})
        return
    facts = seen.facts
    typer.echo(
        f"{out}: {made.name}, {made.engine}; {facts.measurements} loads, {len(seen.samples)} samples of steps, "
        f"{len(seen.prompted)} first tokens, {len(seen.mix or ())} requests kept aside"
    )
    for begun in seen.starts:
        typer.echo(
            f"  start: port after {begun.port:.1f} s, models {begun.models:.1f} s, first token {begun.token:.1f} s"
        )
    host = made.steps.host
    typer.echo(
        f"  {host.us / 1e3:.2f} ms a step of the host, {host.request_us / 1e3:.2f} ms a request outside of steps"
    )
    for line in summary(made):
        typer.echo(f"  {line}")


def _gpu(url: str, gpu: str | None) -> str:
    """Where the server runs: a catalog name, or cpu for this machine's. :raises ProfileError: it is elsewhere, and nobody says on what."""
    from urllib.parse import urlsplit

    from sim.errors import ProfileError

    here = urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")
    if gpu is None and not here:
        raise ProfileError(f"--gpu: say on which GPU {url} runs (twinfer catalog gpus)")
    if gpu == "cpu" and not here:
        raise ProfileError(f"--gpu cpu: means the CPU of this machine, but {url} is elsewhere")
    return gpu or "cpu"


def _about(url: str, shape: Architecture, card: str, tp: int, dtype: str) -> About:
    from datetime import UTC, datetime

    from calibration.device import cpu
    from calibration.endpoint.profile import About

    device = cpu() if card == "cpu" else None
    return About(
        shape=shape,
        gpu=card,
        command=f"twinfer calibrate endpoint URL --architecture {shape.name} --gpu {card} --tp {tp} --dtype {dtype}",
        tensor_parallel=tp,
        dtype=dtype,
        hardware=device.hardware() if device else None,
        host=device.host() if device else None,
        measured_at=datetime.now(tz=UTC).date().isoformat(),
    )


def _needed() -> None:
    from importlib.util import find_spec

    from sim.errors import ProfileError

    if find_spec("httpx") is None:
        raise ProfileError("calibrating an endpoint needs httpx: pip install 'twinfer[calibrate]'")


@contextmanager
def _campaign(
    url: str, model: str | None, architecture: str | None, gpu: str, out: Path, wanted: Wanted
) -> Iterator[Campaign]:
    """The journal beside ``out``, of this server and no other."""
    from calibration.campaign import Campaign
    from sim import catalog

    if architecture is not None:
        catalog.model(architecture)
    if gpu != "cpu":
        catalog.gpu(gpu)
    identity = {"endpoint": url, "model": model, "architecture": architecture, "gpu": gpu, "seed": wanted.seed}
    with progress() as show, Campaign(out, identity, show=show) as campaign:
        try:
            yield campaign
        finally:
            if not campaign.records:  # nothing to go on from
                campaign.finish()


def _seen(
    campaign: Campaign,
    url: str,
    names: tuple[str | None, str | None],
    secret: str | None,
    wanted: Wanted,
    limits: tuple[float, float],
    start: str | None,
    starts: int,
    out: Path,
) -> tuple[Architecture, Observations]:
    """The model's shape, known before anything is measured, and what was seen. ``names``: the server's for it, and the catalog's."""
    from calibration.endpoint.client import Client
    from calibration.endpoint.faults import EndpointError
    from calibration.endpoint.run import calibrate, started
    from calibration.endpoint.server import Server

    model, architecture = names

    def measured() -> tuple[Architecture, Observations]:
        with Client(url, model=model, key=secret, timeout=limits[0]) as client:
            return _shape(architecture, client.served.model), calibrate(client, campaign, wanted)

    if start is None:
        return measured()
    log = out.with_name(f"{out.name}.server.log")
    with Server(start, url, log, model=model, key=secret, timeout=limits[1]) as server:
        started(server, campaign, starts)
        try:
            return measured()
        except EndpointError as error:
            if server.running:
                raise
            raise EndpointError(f"{error}; the server has ended, and the end of {log} is:{server.tail()}") from None


def _shape(architecture: str | None, served: str) -> Architecture:
    from sim import catalog
    from sim.errors import CatalogError, ProfileError

    if architecture is not None:
        return catalog.model(architecture)
    try:
        return catalog.model(served)
    except CatalogError:
        raise ProfileError(
            f"the server's model {served!r} is not in the catalog: say what it is with --architecture NAME or config.json"
        ) from None


def _seconds(text: str, option: str) -> float:
    from sim.errors import ProfileError

    found = quantity(text, option, "duration")
    if found <= 0.0:
        raise ProfileError(f"{option}: must be more than nothing, not {text!r}")
    return found
