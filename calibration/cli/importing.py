"""``twinfer calibrate import``: profiles from what others measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calibration.cli.console import write

__all__ = ["register"]

importing = typer.Typer(help="Make a profile from kernel timings that others measured.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
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
    write(lambda: import_layers(folder, model, gpu, tp, dtype, command), out)


@importing.command("kernels")
def kernels(folder: Folder, model: Model, gpu: Gpu, out: Output, tp: Parallel = 1, dtype: Dtype = None) -> None:
    """Kernel tables of aiconfigurator (gemm_perf, context_attention_perf, generation_attention_perf, all-reduce, moe_perf)."""
    from calibration.importers.kernels import import_kernels

    command = _command("kernels", model, gpu, tp, dtype)
    write(lambda: import_kernels(folder, model, gpu, tp, dtype, command), out)


def _command(kind: str, model: str, gpu: str, tp: int, dtype: str | None) -> str:
    """The command as provenance: the folder it ran on differs between machines and is left out."""
    return f"twinfer calibrate import {kind} DIR --model {model} --gpu {gpu} --tp {tp}" + (
        f" --dtype {dtype}" if dtype else ""
    )
