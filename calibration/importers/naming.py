"""Whether measured tables are of the model, card and parallelism they are imported as; and what the profile is then called."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim import catalog
from sim.catalog.dtypes import DTYPE_BYTES
from sim.errors import CatalogError, ProfileError, did_you_mean
from sim.perf.operations import check_split

if TYPE_CHECKING:
    from sim.catalog import Architecture, Gpu

__all__ = ["check_card", "check_same", "check_split", "dtype_name", "profile_name"]

ALIASES = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float8": "fp8", "fp8_block": "fp8"}


def _plain(text: object) -> str:
    return re.sub(r"[^a-z0-9]", "", str(text).lower())


def profile_name(gpu: str, model: str, shape: Architecture, tp: int, dtype: str) -> str:
    """``gpu/model/tpN``, the dtype after it where it is not bf16."""
    label = shape.name if "/" in model or model.endswith(".json") else model
    return f"{gpu}/{label}/tp{tp}" + ("" if dtype == "bf16" else f"-{dtype}")


def dtype_name(asked: str | None, measured: object, path: Path | None) -> str:
    """The dtype of the profile: what was asked for, else what the tables say, else bf16.

    :raises ProfileError: unknown, or not what was measured.
    """
    said = ALIASES.get(str(measured).split("-")[0], str(measured).split("-")[0]) if measured else None
    if asked is None:
        return said if said in DTYPE_BYTES else "bf16"
    name = ALIASES.get(asked, asked)
    if name not in DTYPE_BYTES:
        raise ProfileError(f"dtype {asked!r} is not one of {', '.join(DTYPE_BYTES)}{did_you_mean(asked, DTYPE_BYTES)}")
    if said in DTYPE_BYTES and said != name:
        raise ProfileError(f"{path}: variant: measured as {said}, not {name}")
    return name


def check_card(path: Path, field: str, said: str, gpu: str) -> None:
    """:raises ProfileError: ``said`` (a device's own name) is not the card ``gpu`` names."""
    device = _plain(said)
    numbers = [
        _plain(part) for part in gpu.split("-") if any(char.isdigit() for char in part) and not part.endswith("gb")
    ]
    if _plain(gpu) not in device and not any(number in device for number in numbers):
        raise ProfileError(f"{path}: {field}: measured on {said!r}, not on {gpu}")


def check_same(path: Path, meta: Mapping[str, Any], shape: Architecture, model: str, card: Gpu, tp: int) -> None:
    """:raises ProfileError: ``meta`` names another model, card or none of this parallelism."""
    if meta.get("model") and not _same_model(str(meta["model"]), shape, model):
        raise ProfileError(f"{path}: model: measured {meta['model']!r}, not {model}")
    said = " ".join(str(meta[key]) for key in ("gpu", "hardware") if key in meta)
    if said:
        check_card(path, "gpu", said, card.name)
    degrees = meta.get("tp_degrees")
    if isinstance(degrees, list) and degrees and tp not in degrees:
        raise ProfileError(f"{path}: tp_degrees: measured for {', '.join(map(str, degrees))}, not {tp}")


def _same_model(measured: str, shape: Architecture, model: str) -> bool:
    """Whether the tables are of that shape, where the catalog knows them; else whether their names go together."""
    for name in (measured, measured.rsplit("/", 1)[-1]):
        try:
            known = catalog.model(name)
        except CatalogError:
            continue
        sizes = ("layers", "hidden", "heads", "kv_heads", "ffn", "vocab", "experts", "moe_ffn")
        return all(getattr(known, size) == getattr(shape, size) for size in sizes)
    if "/" in model or model.endswith(".json"):
        return True  # a model of the user's own
    words = [_plain(word) for word in model.split("-")]
    return all(word in _plain(measured) for word in words)
