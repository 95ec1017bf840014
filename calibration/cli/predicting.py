"""``twinfer calibrate predict``: a profile of what nobody has measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calibration.cli.console import exits, stdout, summary

if TYPE_CHECKING:
    from rich.table import Table

    from sim.profiles import Profile

__all__ = ["register"]

Model = Annotated[str, typer.Option("--model", help="Catalog name of the model, or a config.json.", show_default=False)]
Gpu = Annotated[str, typer.Option("--gpu", help="Catalog name of the GPU.", show_default=False)]
Parallel = Annotated[int, typer.Option("--tp", min=1, help="GPUs of the tensor-parallel group.")]
Dtype = Annotated[str, typer.Option("--dtype", help="Format of the weights: bf16, fp16 or fp8.")]
KvDtype = Annotated[str, typer.Option("--kv-dtype", help="Format of the KV cache: bf16, fp16 or fp8.")]
Output = Annotated[Path | None, typer.Option("--out", "-o", help="Profile file to write.", show_default="none")]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("predict")(predict)


def predict(
    model: Model, gpu: Gpu, tp: Parallel = 1, dtype: Dtype = "bf16", kv_dtype: KvDtype = "bf16", out: Output = None
) -> None:
    """Predict a profile from the model's shape and the GPU's peaks, and say how far off it may be.

    A scenario needs no such file: where no profile is shipped for a deployment, it predicts this one by itself.
    """
    from sim import catalog
    from sim.perf.roofline import caution
    from sim.perf.roofline import predict as predicted
    from sim.profiles import save

    with exits():
        profile = predicted(catalog.model(model), catalog.gpu(gpu), tp, dtype, kv_dtype)
        if out is not None:
            save(profile, out)
    typer.echo(f"{profile.name if out is None else f'{out}: {profile.name}'}")
    typer.echo(f"  {caution(profile)}")
    stdout().print(_steps(profile))
    for line in summary(profile):
        if profile.provenance.notes[0] not in line:  # said above
            typer.echo(f"  {line}")


def _steps(profile: Profile) -> Table:
    from rich import box
    from rich.table import Table

    from sim.perf.compile import step_table

    batches, contexts, prompts = (1, 16, 64, 256), (512, 2048, 8192), (512, 2048, 8192)
    steps = step_table(profile, max(batches), max(prompts))
    table = Table(box=box.SIMPLE, title="Predicted step times, ms", title_justify="left")
    for name in ("decode at a context of", *(f"{context:,}" for context in contexts)):
        table.add_column(name, justify="right")
    for batch in batches:
        times = (steps.decode_step(batch, batch * context, 0) for context in contexts)
        table.add_row(f"{batch} sequences", *(f"{time * 1e3:,.2f}" for time in times))
    times = (steps.mixed_step(prompt, prompt * prompt, 0, 0, 0, 1) for prompt in prompts)
    table.add_section()
    table.add_row("prompt of as many tokens", *(f"{time * 1e3:,.2f}" for time in times))
    return table
