"""Finding and reading profiles: those shipped with twinfer by name, any other by path."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.atomic import replacing
from sim.errors import ProfileError, did_you_mean

if TYPE_CHECKING:
    from sim.profiles.schema import Profile

__all__ = ["ROOFLINE", "dumps", "find", "load", "names", "save"]

SHIPPED = Path(__file__).parent / "shipped"
ROOFLINE = "roofline"
"""What a scenario calls the profile that is predicted, in place of a measured one."""


def names() -> list[str]:
    """Names of the shipped profiles, ``gpu/model/tpN`` (``-dtype`` after tpN where it is not bf16), sorted."""
    return sorted(path.relative_to(SHIPPED).with_suffix("").as_posix() for path in SHIPPED.glob("*/*/*.json"))


def find(model: str, gpu: str, tensor_parallel: int, dtype: str = "bf16") -> str | None:
    """The shipped profile of that model, GPU (catalog names), parallelism and dtype, or None."""
    suffix = "" if dtype == "bf16" else f"-{dtype}"
    name = f"{gpu}/{model}/tp{tensor_parallel}{suffix}"
    return name if (SHIPPED / f"{name}.json").is_file() else None


def load(name_or_path: str | Path) -> Profile:
    """The profile of that name, or in that file.

    A shipped name wins over a file of the same relative path. :raises ProfileError: unknown, unreadable or malformed; one line.
    """
    text = str(name_or_path)
    shipped = SHIPPED / f"{text}.json"
    if not text.startswith((".", "/")) and shipped.is_file():
        return _read(shipped, text)
    path = Path(text)
    if path.is_file():
        return _read(path, text)
    if path.is_dir():
        raise ProfileError(f"{text}: is a folder, not a profile file")
    if text.endswith(".json") or text.startswith((".", "/")):
        raise ProfileError(f"{text}: no such profile file")
    known = names()
    hint = did_you_mean(text, known) or f" (shipped: {', '.join(known)})"
    raise ProfileError(f"profile {text!r} is neither shipped nor a file{hint}")


def _read(path: Path, shown: str) -> Profile:
    try:
        stamp = path.stat().st_mtime_ns
        return _parse(str(path), stamp, shown)
    except OSError as error:
        raise ProfileError(f"{shown}: {error.strerror or error}") from None


@lru_cache(maxsize=32)
def _parse(path: str, stamp: int, shown: str) -> Profile:
    from pydantic import ValidationError

    from sim.profiles.schema import SCHEMA_VERSION, Profile

    try:
        data = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        at = f": line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else ""
        raise ProfileError(f"{shown}: is not a profile: not a JSON text{at}") from None
    if not isinstance(data, dict):
        raise ProfileError(f"{shown}: is not a profile: a JSON {type(data).__name__} instead of an object")
    if "version" not in data:
        raise ProfileError(f"{shown}: is not a profile: it has no version; `twinfer calibrate import` makes profiles")
    if data.get("version") != SCHEMA_VERSION:
        raise ProfileError(f"{shown}: version: {data.get('version')!r}, this twinfer reads {SCHEMA_VERSION}")
    try:
        return Profile.model_validate(data)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False)
        first = faults[0]
        where = ".".join(str(step) for step in first["loc"]) or "profile"
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise ProfileError(f"{shown}: {where}: {first['msg']}{more}") from None


def dumps(profile: Profile) -> str:
    """``profile`` as :func:`layout` writes it."""
    return layout(profile.dump())


def layout(data: Any) -> str:
    """Compact JSON, readable: short lists on one line each."""
    return "".join(_lines(data, "")) + "\n"


def _lines(value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, dict) and value:
        yield "{\n"
        inner = indent + " "
        for index, (key, item) in enumerate(value.items()):
            yield f"{inner}{json.dumps(key)}: "
            yield from _lines(item, inner)
            yield ",\n" if index + 1 < len(value) else "\n"
        yield indent + "}"
    else:
        yield json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def save(profile: Profile, path: str | Path) -> None:
    """Write ``profile``; see :func:`write_text`."""
    write_text(path, dumps(profile))


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` under a temporary name, then rename. :raises ProfileError: the place cannot be written."""
    target = Path(path)
    try:
        with replacing(target) as scratch:
            scratch.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ProfileError(f"{path}: {error.strerror or error}") from None
