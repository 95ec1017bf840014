"""``twinfer catalog``: what a scenario can name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sim.cli.console import print_json, stdout
from sim.cli.options import Json
from sim.errors import CatalogError, did_you_mean

if TYPE_CHECKING:
    from rich.table import Table

    from sim.profiles import Profile

__all__ = ["register", "show_rows"]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("catalog", no_args_is_help=True)(catalog)


def catalog(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="gpus, models, instances, links, traces, failures, carbon, profiles, coldstarts, policies or presets.",
            show_default=False,
        ),
    ],
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Everything known of one row, with its sources.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """List what a scenario can name: GPUs, models, prices, traces, profiles, routers."""
    kinds = _kinds()
    if kind not in kinds:
        raise CatalogError(f"there is no catalog of {kind!r}{did_you_mean(kind, kinds)}; kinds: {', '.join(kinds)}")
    rows = _rows(kind) if name is None else _row(kind, name)
    if as_json:
        print_json(rows)
    else:
        show_rows(rows)


def _kinds() -> tuple[str, ...]:
    from sim.catalog import KINDS

    return (*KINDS, "profiles", "coldstarts", "policies", "presets")


def _rows(kind: str) -> list[dict[str, Any]]:
    if kind == "profiles":
        return [_profile_cells(name) for name in _names(kind)]
    if kind == "coldstarts":
        return [_start_cells(name) for name in _names(kind)]
    if kind == "policies":
        from sim.control import registry

        return [{"name": name, "kind": family} for family in registry.FAMILIES for name in registry.names(family)]
    if kind == "presets":
        from sim.workload.presets import preset

        found = [preset(name) for name in _names(kind)]
        return [{"name": one.name, "description": one.description, "licence": one.licence} for one in found]
    from sim import catalog as tables

    return tables.rows(kind)


def _names(kind: str) -> list[str]:
    if kind == "profiles":
        from sim import profiles

        return profiles.names()
    if kind == "policies":
        from sim.control import registry

        return [name for family in registry.FAMILIES for name in registry.names(family)]
    if kind == "coldstarts":
        from sim.profiles import coldstarts

        return coldstarts.names()
    from sim.workload import presets

    return presets.names()


def _profile_cells(name: str) -> dict[str, Any]:
    from sim import profiles

    profile = profiles.load(name)
    return {
        "name": name,
        "engine": profile.engine,
        "dtype": profile.dtype,
        "points": profile.provenance.points,
        "host": f"{profile.step.host.source}, {profile.step.host.us:g} us" if profile.step else "batches only",
        "source": profile.provenance.source.rpartition("/")[2].partition(" ")[0],
    }


def _start_cells(name: str) -> dict[str, Any]:
    from sim.profiles import coldstarts

    found = coldstarts.load(name)
    phases = found.load.phases
    return {
        "name": name,
        "gpu": found.gpu,
        "weights_s": _median(phases["weights"].values) if "weights" in phases else None,
        "ready_s": _median(phases["ready"].values) if "ready" in phases else None,
        "source": next(iter(phases.values())).source,
    }


def _start_facts(name: str) -> dict[str, Any]:
    """Seconds and bytes a second as median, least and most, where they differ."""
    from sim.profiles import coldstarts

    found = coldstarts.load(name)
    facts = {
        key: getattr(found, key) for key in ("title", "model", "weights_bytes", "gpu", "tensor_parallel", "engine")
    }
    samples = {f"{phase}_s": one for phase, one in found.load.phases.items()}
    samples |= {f"{tier}_bytes_per_second": one.bytes_per_second for tier, one in found.load.read.items()}
    for key, one in samples.items():
        low, high = one.values[0], one.values[-1]
        facts[key] = (
            _median(one.values) if low == high else f"{_cell(_median(one.values))} ({_cell(low)} to {_cell(high)})"
        )
        facts[f"{key} from"] = f"{one.source}, {len(one.values)} values" + (f"; {one.note}" if one.note else "")
    return facts | {"load_notes": found.load.notes} | found.provenance.model_dump(mode="json")


def _median(values: Sequence[float]) -> float:
    from statistics import median

    return median(values)


def _host_facts(profile: Profile) -> dict[str, Any]:
    if profile.step is None:
        return {}
    host = profile.step.host
    return {
        "host_us": host.us,
        "host_source": host.source,
        "request_us": host.request_us,
        "request_source": host.request_source,
    }


def _row(kind: str, name: str) -> list[dict[str, Any]]:
    if kind not in ("profiles", "coldstarts", "policies", "presets"):
        from sim import catalog as tables

        return tables.describe(kind, name)
    known = _names(kind)
    if name not in known:
        near = did_you_mean(name, known)
        raise CatalogError(f"{name!r} is not in the catalog of {kind}{near}; `twinfer catalog {kind}` lists it")
    if kind == "profiles":
        from sim import profiles

        found = profiles.load(name)
        facts = {
            "engine": found.engine,
            "model": found.model,
            "gpu": found.gpu,
            "tensor_parallel": found.tensor_parallel,
            "dtype": found.dtype,
            "kv_dtype": found.kv_dtype,
            "weights_bytes": found.memory.weights_bytes,
            "kv_bytes_per_token": found.memory.kv_bytes_per_token,
            **_host_facts(found),
            **found.provenance.model_dump(mode="json"),
        }
    elif kind == "coldstarts":
        facts = _start_facts(name)
    elif kind == "presets":
        from sim.workload.presets import preset

        chosen = preset(name)
        facts = {
            key: getattr(chosen, key) for key in ("description", "source", "licence", "citation", "arrivals", "basis")
        }
        facts |= {f"measured {key}": value for key, value in chosen.measured.items()}
    else:
        facts = {row["name"]: row["kind"] for row in _rows(kind) if row["name"] == name}
    return [{"field": key, "value": value} for key, value in facts.items() if value not in (None, "", [], {})]


def show_rows(rows: Sequence[Mapping[str, Any]], *, right: bool = False) -> None:
    """``rows`` as a table on stdout: numbers (``right``: all but the first column) to the right, unknown values as a dash.

    The last columns are left out where they do not fit, and that is said: a number cut short would be another number.
    """
    from rich.measure import Measurement

    if not rows:
        return
    columns = list(dict.fromkeys(key for row in rows for key in row))
    console = stdout()
    shown = [key for key in columns if console.width >= 160 or key not in _WIDE_ONLY]
    table = _table(rows, shown, right=right)
    while (
        len(shown) > 2
        and "field" not in shown
        and Measurement.get(console, console.options.update(width=10_000), table).minimum > console.width
    ):
        shown.pop()
        table = _table(rows, shown, right=right)
    console.print(table)
    left = [key for key in columns if key not in shown]
    if left:
        console.print(f"not shown for want of width: {', '.join(left)} (--json has all)", style="dim")


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, right: bool) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1), header_style="bold")
    for key in columns:
        numeric = all(isinstance(row.get(key), int | float | None) for row in rows)
        name, underscore, unit = key.rpartition("_")
        heading = f"{name}\n{unit}" if underscore and numeric and len(key) > 8 else key
        narrow = key in ("name", "field") or numeric
        words = [heading, *(_cell(row.get(key)) for row in rows)]
        longest = max(len(word) for text in words for word in text.split() or [""])
        table.add_column(
            heading,
            justify="right" if numeric or (right and key != columns[0]) else "left",
            no_wrap=narrow,
            overflow="fold",
            min_width=max(map(len, words[1:])) if narrow else min(longest, _LONGEST_WORD),
        )
    for row in rows:
        table.add_row(*(_cell(row.get(key)) for key in columns))
    return table


_LONGEST_WORD = 12  # longer ones (addresses) are folded
_WIDE_ONLY = frozenset({"sha256", "url"})


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(_cell(item) for item in value)
    if isinstance(value, Mapping):
        from sim.observe.store import plain_object

        return ", ".join(f"{key}: {_cell(item)}" for key, item in plain_object(value).items())
    return str(value)
