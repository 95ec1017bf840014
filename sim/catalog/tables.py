"""The catalog's tables: loading them once, looking a row up by name, listing them.

Each table is a YAML file beside this module. Numbers in ``gpus.yaml``, ``links.yaml`` and ``failures.yaml`` are ``[value, unit, source]``;
the other tables state their units at the top and a source on each row. Sources are keys into the file's ``sources``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from sim.catalog.architecture import Architecture
from sim.catalog.rows import Failure, Gpu, Instance, Link, Region, TraceRow
from sim.errors import CatalogError, did_you_mean

__all__ = ["KINDS", "describe", "failure", "gpu", "instance", "link", "model", "names", "region", "rows", "trace"]

KINDS = ("gpus", "models", "instances", "links", "traces", "carbon", "failures")
"""The tables of this package."""

UNITS: dict[str, float] = {
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "GB": 1e9, "GB/s": 1e9, "TB/s": 1e12, "Gbit/s": 1e9 / 8, "MiB/s": 2**20,
    "TFLOP/s": 1e12, "PFLOP/s": 1e15, "W": 1.0, "s": 1.0, "h": 3600.0, "min": 60.0, "ms": 1e-3, "us": 1e-6, "SMs": 1, "CUs": 1,
}  # fmt: skip
"""Units a table may use, in SI (bytes, bytes/s, FLOP/s, watts, seconds)."""


@cache
def _file(kind: str) -> dict[str, Any]:
    if kind not in KINDS:
        raise CatalogError(f"there is no catalog of {kind!r}{did_you_mean(kind, KINDS)}; kinds: {', '.join(KINDS)}")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with Path(__file__).with_name(f"{kind}.yaml").open("rb") as stream:
        content: dict[str, Any] = yaml.load(stream, Loader=loader)
    return content


def _row(kind: str, name: str) -> dict[str, Any]:
    table: dict[str, dict[str, Any]] = _file(kind)["rows"]
    try:
        return table[name]
    except (KeyError, TypeError):
        near = did_you_mean(str(name).lower(), table)
        raise CatalogError(
            f"{name!r} is not in the catalog of {kind}{near}; `twinfer catalog {kind}` lists it"
        ) from None


def _source(kind: str, key: str) -> str:
    """The citation a source key stands for."""
    return str(_file(kind)["sources"][key])


def _si(cell: list[Any] | None) -> float | None:
    return None if cell is None else float(cell[0] * UNITS[cell[1]])


def _sources(kind: str, row: dict[str, Any]) -> dict[str, str]:
    return {field: _source(kind, cell[2]) for field, cell in row.items() if isinstance(cell, list)}


@cache
def gpu(name: str) -> Gpu:
    """The accelerator ``name``; CatalogError with the nearest name if there is none."""
    row = _row("gpus", name)

    def need(field: str) -> float:
        return float(row[field][0] * UNITS[row[field][1]])

    reported, units = _si(row.get("reported_memory")), row.get("sm_count")
    return Gpu(
        name=name,
        title=row["title"],
        memory=round(need("memory")),
        memory_bandwidth=need("memory_bandwidth"),
        bf16_flops=need("bf16_flops"),
        fp8_flops=_si(row.get("fp8_flops")),
        fp4_flops=_si(row.get("fp4_flops")),
        tdp_watts=need("tdp_watts"),
        sm_count=int(units[0]) if units else None,
        nvlink_bandwidth=_si(row.get("nvlink_bandwidth")) or 0.0,
        pcie_bandwidth=need("pcie_bandwidth"),
        reported_memory=None if reported is None else round(reported),
        note=row.get("note", ""),
        sources=_sources("gpus", row),
    )


@cache
def _aliases() -> dict[str, str]:
    """HuggingFace ids, lower case, to catalog names."""
    table: dict[str, dict[str, Any]] = _file("models")["rows"]
    known = ((name, row.get("hf_id", name), *row.get("aliases", ())) for name, row in table.items())
    return {alias.lower(): name for name, *aliases in known for alias in aliases}


@cache
def _catalogued_model(name: str) -> Architecture:
    row = dict(_row("models", name))
    sources = {"*": _source("models", row.pop("source"))}
    row.pop("aliases", None)
    if "shared_ffn" not in row:
        row["shared_ffn"] = row.get("shared_experts", 0) * row.get("moe_ffn", 0)
    if row.get("kv_lora_rank"):
        row["head_dim"] = row["qk_nope_head_dim"] + row["qk_rope_head_dim"]
    return Architecture(name=name, sources=sources, **row)


def model(name_or_path: str | Path) -> Architecture:
    """The architecture of a catalog name, a HuggingFace id, a ``config.json``, or a folder with one.

    Names are tried first: write ``./name`` for a folder that is called like a model. CatalogError if neither is there.
    """
    text = str(name_or_path)
    known = text if text in _file("models")["rows"] else _aliases().get(text.lower())
    if known is not None and not isinstance(name_or_path, Path):
        return _catalogued_model(known)
    try:
        path = Path(text).expanduser()
        on_disk = text != "" and path.exists()
    except (OSError, ValueError, RuntimeError):
        on_disk = False
    if on_disk or text.endswith(".json") or text.startswith(("./", "../", "/", "~")) or isinstance(name_or_path, Path):
        from sim.catalog.huggingface import read_config

        try:
            return read_config(Path(text).expanduser())
        except (OSError, ValueError, RuntimeError) as fault:
            raise CatalogError(f"{text!r}: cannot be read: {fault}") from None
    near = did_you_mean(text.rsplit("/", 1)[-1].lower(), _file("models")["rows"])
    raise CatalogError(
        f"{text!r} is not in the catalog of models{near}, and no file or folder of that name exists; "
        f"`twinfer catalog models` lists it"
    )


@cache
def instance(name: str) -> Instance:
    """The rentable machine ``name``, like ``aws/p5.48xlarge``."""
    row = _row("instances", name)
    return Instance(
        name=name,
        gpu=row["gpu"],
        gpus=row["gpus"],
        usd_per_hour=float(row["usd_per_hour"]),
        spot_usd_per_hour=None if row.get("spot_usd_per_hour") is None else float(row["spot_usd_per_hour"]),
        region=row["region"],
        source=_source("instances", row["source"]),
    )


@cache
def link(name: str) -> Link:
    """The link ``name``, like ``nvlink4`` or ``infiniband-ndr``."""
    row = _row("links", name)
    bandwidth, latency = row["bandwidth"], row.get("latency")
    return Link(
        name=name,
        title=row["title"],
        kind=row["kind"],
        bandwidth=float(bandwidth[0] * UNITS[bandwidth[1]]),
        latency=_si(latency),
        sources=_sources("links", row),
    )


@cache
def trace(name: str) -> TraceRow:
    """The published trace ``name``, like ``azure-2023-conv``."""
    row = dict(_row("traces", name))
    return TraceRow(name=name, **{**row, "source": _source("traces", row["source"])})


@cache
def region(name: str) -> Region:
    """The region ``name`` of a cloud, like ``aws/us-east-1``."""
    row = _row("carbon", name)
    return Region(name, float(row["g_per_kwh"]), float(row["pue"]), _source("carbon", row["source"]))


@cache
def failure(name: str) -> Failure:
    """The published rate of failures ``name``, like ``llama3-405b``."""
    row = _row("failures", name)
    mtbf = _si(row["mtbf"])
    assert mtbf is not None
    return Failure(
        name=name,
        title=row["title"],
        of=row["of"],
        mtbf=mtbf,
        notice=_si(row.get("notice")),
        outage=_si(row.get("outage")),
        sources=_sources("failures", row),
    )


def names(kind: str) -> list[str]:
    """The names in a table, in the file's order."""
    return list(_file(kind)["rows"])


def _gpu_cells(name: str) -> dict[str, Any]:
    row = gpu(name)

    def tera(flops: float | None) -> float | None:
        return None if flops is None else round(flops / 1e12, 1)

    return {
        "name": name,
        "memory_GiB": round(row.memory / 2**30, 1),
        "bandwidth_TB/s": round(row.memory_bandwidth / 1e12, 3),
        "bf16_TFLOP/s": tera(row.bf16_flops),
        "fp8_TFLOP/s": tera(row.fp8_flops),
        "fp4_TFLOP/s": tera(row.fp4_flops),
        "nvlink_GB/s": round(row.nvlink_bandwidth / 1e9, 1),
        "tdp_W": row.tdp_watts,
    }


def _model_cells(name: str) -> dict[str, Any]:
    row = _catalogued_model(name)
    return {
        "name": name,
        "parameters_B": round(row.parameters() / 1e9, 2),
        "active_B": round(row.active_parameters() / 1e9, 2),
        "layers": row.layers,
        "kv_bytes/token": row.kv_bytes_per_token(),
        "max_model_len": row.max_model_len,
        "checkpoint": row.native_dtype,
        "hf_id": row.hf_id,
    }


def _instance_cells(name: str) -> dict[str, Any]:
    row = instance(name)
    return {
        "name": name,
        "gpu": row.gpu,
        "gpus": row.gpus,
        "usd/h": row.usd_per_hour,
        "spot_usd/h": row.spot_usd_per_hour,
        "usd/gpu/h": round(row.usd_per_hour / row.gpus, 4),
        "region": row.region,
    }


def _link_cells(name: str) -> dict[str, Any]:
    row = link(name)
    return {
        "name": name,
        "kind": row.kind,
        "bandwidth_GB/s": round(row.bandwidth / 1e9, 3),
        "latency_us": None if row.latency is None else round(row.latency * 1e6, 3),
        "title": row.title,
    }


def _trace_cells(name: str) -> dict[str, Any]:
    row = trace(name)
    return {
        "name": name,
        "requests": row.requests,
        "format": row.format,
        "MB": None if row.bytes is None else round(row.bytes / 1e6, 2),
        "licence": row.licence,
        "sha256": row.sha256 or "not published",
        "url": row.url,
    }


def _region_cells(name: str) -> dict[str, Any]:
    row = region(name)
    return {"name": name, "gCO2e/kWh": row.g_per_kwh, "pue": row.pue}


def _failure_cells(name: str) -> dict[str, Any]:
    row = failure(name)
    return {
        "name": name,
        "of": row.of,
        "mtbf_h": round(row.mtbf / 3600.0, 1),
        "notice_s": row.notice,
        "outage_min": None if row.outage is None else round(row.outage / 60.0, 1),
        "title": row.title,
    }


_CELLS: dict[str, Callable[[str], dict[str, Any]]] = {
    "gpus": _gpu_cells,
    "models": _model_cells,
    "instances": _instance_cells,
    "links": _link_cells,
    "traces": _trace_cells,
    "carbon": _region_cells,
    "failures": _failure_cells,
}


def rows(kind: str) -> list[dict[str, Any]]:
    """A table as the command line shows it: one mapping a row, the unit in the column's name; None where unknown."""
    return [_CELLS[kind](name) for name in names(kind)]


def describe(kind: str, name: str) -> list[dict[str, Any]]:
    """Everything the catalog says of one row: mappings of ``field``, ``value``, ``unit`` and ``source``."""
    if kind == "models":
        name = _aliases().get(str(name).lower(), name)
    row, units = _row(kind, name), _file(kind).get("units", {})
    whole = _source(kind, row["source"]) if "source" in row else ""
    found = []
    for field, cell in row.items():
        if field == "source":
            continue
        if isinstance(cell, list) and field != "aliases":
            found.append({"field": field, "value": cell[0], "unit": cell[1], "source": _source(kind, cell[2])})
        else:
            found.append({"field": field, "value": cell, "unit": units.get(field, ""), "source": whole})
    return found
