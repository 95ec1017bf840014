"""``twinfer calibrate import``: profiles from what others measured, and from what a server logged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calibration.cli.console import exits, write

if TYPE_CHECKING:
    from calibration.importers.logged import About

__all__ = ["register"]

importing = typer.Typer(
    help="Make a profile, or a part of one, from what others measured or a server logged.", no_args_is_help=True
)


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

    command = _command("layers DIR", model, gpu, tp, dtype)
    write(lambda: import_layers(folder, model, gpu, tp, dtype, command), out)


@importing.command("kernels")
def kernels(folder: Folder, model: Model, gpu: Gpu, out: Output, tp: Parallel = 1, dtype: Dtype = None) -> None:
    """Kernel tables of aiconfigurator (gemm_perf, context_attention_perf, generation_attention_perf, all-reduce, moe_perf)."""
    from calibration.importers.kernels import import_kernels

    command = _command("kernels DIR", model, gpu, tp, dtype)
    write(lambda: import_kernels(folder, model, gpu, tp, dtype, command), out)


AnyGpu = Annotated[str, typer.Option("--gpu", help="Catalog name of the GPU, or cpu.", show_default=False)]
Log = Annotated[Path, typer.Argument(metavar="LOG", help="Log of the server, packed or not.", show_default=False)]
Memory = Annotated[
    str | None, typer.Option(metavar="SIZE", help="Of the machine, with --gpu cpu, as 24GiB.", show_default=False)
]


@importing.command("iterations")
def iterations(
    log: Log,
    model: Model,
    gpu: AnyGpu,
    out: Output,
    requests: Annotated[
        Path | None,
        typer.Option(
            "--requests",
            help="The requests it served: a CSV file, or a result of vllm bench serve, guidellm or aiperf.",
            show_default=False,
        ),
    ] = None,
    format: Annotated[str, typer.Option(help="Of the requests: csv, vllm, guidellm, aiperf.")] = "auto",
    number: Annotated[
        int | None, typer.Option(min=0, help="Which run, where the file of requests has several.", show_default=False)
    ] = None,
    engine: Annotated[
        int | None, typer.Option(min=0, help="Which engine, where several wrote to the log.", show_default=False)
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option("--budget-tokens", min=1, help="Token budget of a step.", show_default="as the log says"),
    ] = None,
    tp: Parallel = 1,
    dtype: Dtype = None,
    memory: Memory = None,
) -> None:
    """vLLM's log of iterations (--enable-logging-iteration-details), or a CSV file of them, and the requests it served."""
    from calibration.importers.logged import Run, import_iterations

    run = Run(requests, format, number) if requests is not None else None
    about = _about("iterations LOG" + (" --requests FILE" if run else ""), model, gpu, tp, dtype, memory)
    write(lambda: import_iterations(log, about(), run, engine, budget), out)


@importing.command("steps")
def steps(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="A step a row.", show_default=False)],
    model: Model,
    gpu: AnyGpu,
    out: Output,
    engine: Annotated[str, typer.Option(help="Name of the engine.")] = "unknown engine",
    tp: Parallel = 1,
    dtype: Dtype = None,
    memory: Memory = None,
) -> None:
    """Step times of any engine: prefill_tokens, decodes, context_tokens, seconds or ms; also prompts and past_tokens if known."""
    from calibration.importers.logged import import_steps

    about = _about("steps FILE.csv", model, gpu, tp, dtype, memory, engine)
    write(lambda: import_steps(file, about()), out)


@importing.command("start")
def start(
    logs: Annotated[
        list[Path], typer.Argument(metavar="LOG...", help="Logs of starts, packed or not.", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the load part alone.", show_default=False)
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option("--into", metavar="PROFILE", help="Put it into this profile file.", show_default=False),
    ] = None,
) -> None:
    """How long a start takes, by phase, from vLLM's server logs; each start in them is one observation."""
    from calibration.importers.serverstart import load_of, read_starts
    from sim import profiles
    from sim.errors import ProfileError
    from sim.profiles.library import layout, write_text

    with exits():
        if (out is None) == (into is None):
            raise ProfileError("say either --out, a file to write, or --into, a profile file to put it into")
        starts = [start for log in logs for start in read_starts(log)]
        if into is not None:
            profile = profiles.load(str(into.absolute()))
            load = load_of(starts, profile.memory.weights_bytes * profile.tensor_parallel)
            profiles.save(profile.model_copy(update={"load": load}), into)
        elif out is not None:
            load = load_of(starts)
            write_text(out, layout(load.model_dump(mode="json", exclude_defaults=True)))
    typer.echo(f"{into or out}: {load.notes[0]}")
    for name, samples in load.phases.items():
        low, high = samples.values[0], samples.values[-1]
        typer.echo(f"  {name:<13} {low:g} s" + (f" to {high:g} s" if high > low else ""))


def _about(
    kind: str, model: str, gpu: str, tp: int, dtype: str | None, memory: str | None, engine: str = "vllm"
) -> Callable[[], About]:
    def about() -> About:
        from calibration.importers.logged import About
        from sim.config.document import scalar
        from sim.config.units import size
        from sim.errors import ProfileError

        try:
            held = None if memory is None else round(size(scalar(memory.strip())))
        except ValueError as error:
            raise ProfileError(f"--memory: {error}") from None
        command = _command(kind, model, gpu, tp, dtype)
        return About(model, gpu, tp, dtype, held, engine, command)

    return about


def _command(kind: str, model: str, gpu: str, tp: int, dtype: str | None) -> str:
    """The command as provenance: the folder it ran on differs between machines and is left out."""
    return f"twinfer calibrate import {kind} --model {model} --gpu {gpu} --tp {tp}" + (
        f" --dtype {dtype}" if dtype else ""
    )
