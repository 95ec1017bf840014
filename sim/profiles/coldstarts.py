"""Cold starts that others measured: how long one model took to load, by storage and loader. Presets for a profile's load part."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from sim.errors import ProfileError, did_you_mean
from sim.profiles.library import layout, write_text
from sim.profiles.parts import Part, Positive
from sim.profiles.schema import Load, Provenance

__all__ = ["SHIPPED", "ColdStart", "load", "names", "save"]

SHIPPED = Path(__file__).parent / "coldstart"


class ColdStart(Part):
    """What was loaded (``weights_bytes`` over all GPUs of the ``tensor_parallel`` group), where, by what, and how long it took.

    ``model`` and ``gpu`` are catalog names where the catalog knows them. Times that were measured are samples of them; those that
    somebody wrote down without measurements have the source ``assumed``.
    """

    version: Literal[1] = 1
    name: str
    title: str
    model: str
    weights_bytes: Positive
    gpu: str
    tensor_parallel: Positive = 1
    engine: str
    load: Load
    provenance: Provenance

    def dump(self) -> dict[str, Any]:
        """As plain JSON data, unset optional parts left out."""
        return {"version": self.version} | self.model_dump(mode="json", exclude_defaults=True)


def names() -> list[str]:
    """Names of the shipped presets, sorted."""
    return sorted(path.stem for path in SHIPPED.glob("*.json"))


def load(name_or_path: str | Path) -> ColdStart:
    """The preset of that name, or in that file. :raises ProfileError: unknown, unreadable or malformed; one line."""
    text = str(name_or_path)
    shipped = SHIPPED / f"{text}.json"
    path = shipped if text in names() else Path(text)
    if path != shipped and not (text.endswith(".json") or path.is_file()):
        known = names()
        hint = did_you_mean(text, known) or f" (shipped: {', '.join(known)})"
        raise ProfileError(f"cold start {text!r} is neither shipped nor a file{hint}")
    try:
        return _read(path, path.stat().st_mtime_ns, text)
    except OSError as error:
        raise ProfileError(f"{text}: {error.strerror or error}") from None


@lru_cache(maxsize=64)
def _read(path: Path, stamp: int, shown: str) -> ColdStart:
    try:
        return ColdStart.model_validate(json.loads(path.read_bytes()))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "cold start"
        raise ProfileError(f"{shown}: {where}: {first['msg']}") from None
    except (ValueError, RecursionError):
        raise ProfileError(f"{shown}: is not a cold start: not a JSON text") from None


def save(preset: ColdStart, path: str | Path) -> None:
    """Write ``preset``, whole or not at all. :raises ProfileError: the place cannot be written."""
    write_text(path, layout(preset.dump()))
