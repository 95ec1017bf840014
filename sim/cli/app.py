"""The ``twinfer`` application: its commands, and those that installed packages add to the group ``twinfer.commands``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

import sim
from sim.cli import deploying, listing, optimizing, scenarios, sensing, simulating, sweeping, tracing
from sim.errors import TwinferError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["GROUP", "app"]

GROUP = "twinfer.commands"

_OWN = {"calibrate": "Profiles of hardware and engines, from measurements."}


class Commands(TyperGroup):
    """Our own commands, and plug-ins that are found by name and imported only when they are called."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All names: ours in the order they were added, then the plug-ins'."""
        return [*super().list_commands(ctx), *sorted(set(_plug_ins()) - set(self.commands))]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name. For a listing a plug-in's stand-in is enough; to call it, it is imported."""
        own = super().get_command(ctx, cmd_name)
        entry = _plug_ins().get(cmd_name)
        if own is not None or entry is None:
            return own
        return _stand_in(entry) if _listing(ctx) else _loaded(entry)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As typer does it, with the plug-ins among what can be suggested."""
        ctx.meta["twinfer.calling"] = True
        if args and args[0] not in self.commands and args[0] not in _plug_ins():
            self.commands = {**self.commands, **{name: _stand_in(entry) for name, entry in _plug_ins().items()}}
        return super().resolve_command(ctx, args)


def _plug_ins() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _listing(ctx: Any) -> bool:
    return not ctx.meta.get("twinfer.calling", False)


def _stand_in(entry: EntryPoint) -> Any:
    package = entry.dist.name if entry.dist is not None else entry.module
    return TyperGroup(name=entry.name, help=_OWN.get(entry.name, f"Added by the package {package}."))


def _loaded(entry: EntryPoint) -> Any:
    try:
        command = entry.load()
    except Exception as fault:
        raise TwinferError(f"command {entry.name!r} ({entry.value}) cannot be loaded: {fault}") from fault
    if isinstance(command, typer.Typer):
        command = typer.main.get_command(command)
    command.name = entry.name
    return command


app = typer.Typer(
    name="twinfer",
    cls=Commands,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"twinfer {sim.__version__}")
        raise typer.Exit


@app.callback()
def twinfer(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Which serving architecture meets my latency objective, at what cost, and what breaks first?

    Exit codes: 0 done, 1 objective not met under --check, 2 bad input, 130 interrupted.
    """


for module in (simulating, sweeping, scenarios, listing, tracing, deploying, sensing, optimizing):
    module.register(app)
