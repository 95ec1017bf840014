"""``twinfer calibrate``: from measurements to profiles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sim.errors import TwinferError

if TYPE_CHECKING:
    from sim.profiles import Profile

__all__ = ["app"]

app = typer.Typer(
    name="calibrate",
    help="Profiles of hardware and engines, from measurements.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
importing = typer.Typer(help="Make a profile from kernel timings that others measured.", no_args_is_help=True)
app.add_typer(importing, name="import")

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder with the measured tables.", show_default=False)]
Model = Annotated[str, typer.Option("--model", help="Catalog name of the model, or a config.json.", show_default=False)]
Gpu = Annotated[str, typer.Option("--gpu", help="Catalog name of the GPU.", show_default=False)]
Parallel = Annotated[int, typer.Option("--tp", min=1, help="GPUs of the tensor-parallel group.")]
Dtype = Annotated[
    str | None, typer.Option("--dtype", help="Format of the weights.", show_default="as measured, or bf16")
]
Output = Annotated[Path, typer.Option("--out", "-o", help="Profile file to write.", show_default=False)]


@importing.command("layers")
def layers(folder: Folder, model: Model, gpu: Gpu, out: Output, tp: Parallel = 1, dtype: Dtype = None) -> None:
    """Layer timings of LLMServingSim's vLLM profiler (dense.csv, per_sequence.csv, attention.csv, skew.csv, moe.csv)."""
    from calibration.importers.layers import import_layers

    command = _command("layers", model, gpu, tp, dtype)
    _write(lambda: import_layers(folder, model, gpu, tp, dtype, command), out)


@importing.command("kernels")
def kernels(folder: Folder, model: Model, gpu: Gpu, out: Output, tp: Parallel = 1, dtype: Dtype = None) -> None:
    """Kernel tables of aiconfigurator (gemm_perf, context_attention_perf, generation_attention_perf, all-reduce, moe_perf)."""
    from calibration.importers.kernels import import_kernels

    command = _command("kernels", model, gpu, tp, dtype)
    _write(lambda: import_kernels(folder, model, gpu, tp, dtype, command), out)


def _command(kind: str, model: str, gpu: str, tp: int, dtype: str | None) -> str:
    """The command as provenance: the folder it ran on differs between machines and is left out."""
    return f"twinfer calibrate import {kind} DIR --model {model} --gpu {gpu} --tp {tp}" + (
        f" --dtype {dtype}" if dtype else ""
    )


def _write(make: Callable[[], Profile], out: Path) -> None:
    from sim.profiles import save

    try:
        profile = make()
        save(profile, out)
    except TwinferError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    typer.echo(f"{out}: {profile.name}, {profile.engine}, {profile.provenance.points} measured points")
    for part in ("tokens", "sequences", "prefill", "decode", "mixed", "spread"):
        held = getattr(getattr(profile.step, part), "held_out", None)
        if held is not None:
            typer.echo(
                f"  {part:<10} held-out error {held.median:.1%} median, {held.p90:.1%} p90 ({held.points} points: {held.method})"
            )
    for note in profile.provenance.notes:
        typer.echo(f"  note: {note}")
