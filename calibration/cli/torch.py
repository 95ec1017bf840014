"""``twinfer calibrate torch``: a model on a device of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from calibration.cli.console import exits, interruptible, print_json, progress, quantity, stdout

if TYPE_CHECKING:
    from sim.profiles import Profile
    from sim.profiles.schema import HeldOut

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("torch", no_args_is_help=True)(measure)


def measure(
    model: Annotated[
        str,
        typer.Option(
            help="Catalog name of a model, a config.json, or an encoder, vision or reranking model such as bert-base, vit-b-16, "
            "resnet-50, bge-reranker-v2-m3.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Profile file to write.", show_default=False)],
    device: Annotated[str, typer.Option(help="cpu, cuda, or cuda:N.")] = "cuda",
    dtype: Annotated[str, typer.Option(help="bf16, fp16 or fp32.")] = "bf16",
    tp: Annotated[int, typer.Option(min=1, help="GPUs of the tensor-parallel group, one of which is measured.")] = 1,
    parts: Annotated[str, typer.Option(help="What to measure.")] = "step,power,memory,load",
    budget: Annotated[str, typer.Option(metavar="TIME", help="How long it may take, as 90s or 10m.")] = "10m",
    error: Annotated[
        str, typer.Option(metavar="SHARE", help="Add points until those kept aside are predicted within this (p90).")
    ] = "5%",
    repeats: Annotated[int, typer.Option(min=3, help="Samples of a point, at the least.")] = 5,
    max_seqs: Annotated[
        int | None,
        typer.Option(min=1, help="Largest batch, in sequences or inputs.", show_default="16 on a CPU, 256 on a GPU"),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Most tokens of a step.", show_default="512 on a CPU, 8192 on a GPU")
    ] = None,
    max_context: Annotated[
        int | None, typer.Option(min=1, help="Longest context.", show_default="2048 on a CPU, 16384 on a GPU")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="SIZE",
            help="One input of a model that does not generate.",
            show_default="128 tokens, or the image of its training",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Safetensors to load.",
            show_default="files of the real size, written beside the profile",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No bar, and one line at the end.")] = False,
) -> None:
    """Measure a model on this machine: step times, memory, power and load.

    Weights are random, so only the shape is needed; of a model too large for the device a few layers are measured. Points are added
    where interpolation between them is worst, until --error or --budget is reached. What was measured is kept beside the file that is
    written: interrupted, the same command goes on from there.
    """
    with exits():
        from calibration.campaign import Campaign
        from calibration.device import find
        from sim.profiles import save

        seconds, share = _read(budget, "--budget", "duration"), _read(error, "--error", "fraction")
        find(device)  # says what is missing, torch itself included, before it is imported
        from calibration.probes.local import Request, calibrated, found

        request = Request(
            model=model,
            device=device,
            out=out,
            dtype=dtype,
            tp=tp,
            parts=tuple(dict.fromkeys(part.strip() for part in parts.split(","))),
            budget=seconds,
            error=share,
            repeats=repeats,
            sequences=max_seqs,
            tokens=max_tokens,
            context=max_context,
            input=size,
            weights=weights,
            command=_command(model, device, dtype, tp, size),
        )
        target = found(request)
        with (
            progress(quiet=quiet or as_json) as show,
            Campaign(out, target.identity(), seconds, show) as campaign,
            interruptible(campaign),
        ):
            profile = calibrated(target, campaign)
            save(profile, out)
            campaign.finish()
    if as_json:
        print_json({"profile": str(out), **_digest(profile)})
        return
    typer.echo(f"{out}: {profile.name}, {profile.engine}, {profile.provenance.points} measurements")
    if not quiet:
        _show(profile)


def _read(text: str, option: str, kind: Literal["duration", "fraction"]) -> float:
    from sim.errors import ProfileError

    value = quantity(text, option, kind)
    if value <= 0.0:
        raise ProfileError(f"{option}: {text!r} must be more than 0")
    return value


def _command(model: str, device: str, dtype: str, tp: int, size: str | None) -> str:
    """The command as provenance: without the folders of this machine and what only bounds the effort."""
    name = Path(model).name if "/" in model or model.endswith(".json") else model
    more = (f" --tp {tp}" if tp > 1 else "") + (f" --input '{size}'" if size else "")
    return f"twinfer calibrate torch --model {name} --device {device} --dtype {dtype}{more}"


def _rows(profile: Profile) -> Iterator[tuple[str, int, HeldOut | None]]:
    """Each part of the times: its name, its points, its error at those that were kept aside."""
    if profile.batch is not None:
        yield "batch", len(profile.batch.at), profile.batch.held_out
    if (step := profile.step) is None:
        return
    for name, curves in (("tokens", step.tokens), ("sequences", step.sequences)):
        yield name, len({size for curve in curves.parts.values() for size in curve.at}), curves.held_out
    for name, grid in (("prefill", step.prefill), ("decode", step.decode)):
        yield name, sum(value is not None for row in grid.us for value in row), grid.held_out
    if step.mixed is not None:
        yield "mixed", sum(value is not None for block in step.mixed.blocks for value in block.us), step.mixed.held_out
    yield "whole steps", 0, step.held_out


def _digest(profile: Profile) -> dict[str, Any]:
    """What the table says, for machines."""
    from statistics import median

    load = profile.load
    return {
        "name": profile.name,
        "engine": profile.engine,
        "measurements": profile.provenance.points,
        "parts": {
            name: {"points": points, "held_out": None if held is None else held.model_dump()}
            for name, points, held in _rows(profile)
        },
        "host_us": None if profile.step is None else profile.step.host.us,
        "load_seconds": {} if load is None else {name: median(s.values) for name, s in load.phases.items()},
        "read_bytes_per_second": {}
        if load is None
        else {tier: median(way.bytes_per_second.values) for tier, way in load.read.items()},
        "memory": profile.memory.model_dump(),
        "power": None if profile.power is None else profile.power.model_dump(),
        "notes": list(profile.provenance.notes),
    }


def _show(profile: Profile) -> None:
    from statistics import median

    from rich import box
    from rich.table import Table

    console = stdout()
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    table.add_column("part")
    for title in ("points", "kept aside", "median error", "p90", "bias"):
        table.add_column(title, justify="right")
    for name, points, held in _rows(profile):
        figures = ("-",) * 4 if held is None else _figures(held)
        table.add_row(name, str(points) if points else "-", *figures)
    console.print(table)
    if profile.step is not None:
        console.print(f"host       {profile.step.host.us:,.0f} µs a step")
    if profile.load is not None:
        phases = (f"{name} {median(one.values):.3g} s" for name, one in profile.load.phases.items())
        console.print("load      ", ", ".join(phases))
        reads = (
            f"{name} {median(one.bytes_per_second.values) / 1e9:.3g} GB/s" for name, one in profile.load.read.items()
        )
        console.print("read      ", ", ".join(reads))
    memory = profile.memory
    kept = f"weights {_mib(memory.weights_bytes)}, context {_mib(memory.context_bytes)}"
    tokens = f"{memory.activation_bytes_per_token:,} B of activations, {memory.kv_bytes_per_token:,} B of cache"
    console.print(f"memory     {kept}, a token {tokens}")
    if profile.power is not None:
        loads = (f"{watts:.0f} W at {at}" for at, watts in zip(profile.power.at, profile.power.watts, strict=True))
        console.print(f"power      {profile.power.idle_watts:.0f} W idle,", ", ".join(loads))
    for note in profile.provenance.notes:
        console.print(f"note: {note}")


def _figures(held: HeldOut) -> tuple[str, ...]:
    bias = "-" if held.bias is None else f"{held.bias:+.1%}"
    return str(held.points), f"{held.median:.1%}", f"{held.p90:.1%}", bias


def _mib(size: float) -> str:
    return f"{size / 2**20:,.0f} MiB"
