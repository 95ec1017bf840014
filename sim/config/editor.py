"""The scenario's JSON Schema, for editors: completion, hovering descriptions, and red underlines before anything is run."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from sim.config.scenario import Scenario
from sim.config.values import DURATION_SCHEMA

__all__ = ["json_schema"]


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a scenario file, with the names that the catalog, the profiles and the routers offer.

    Names are offered, not demanded, where a file or a plug-in may stand for one.
    """
    _, schema = models_json_schema([(Scenario, "validation")], title="twinfer scenario")
    definitions: dict[str, Any] = schema["$defs"]
    root = definitions.pop("Scenario")
    # written by key in a file that extends another; each file is then a part
    root["properties"]["extends"] = {
        "type": "string",
        "description": "A scenario file, relative to this one, that this one changes.",
    }
    root.pop("required", None)
    definitions["Length"] = {"anyOf": [{"type": "integer", "minimum": 1}, definitions["Length"]]}
    definitions["Seconds"] = DURATION_SCHEMA
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "twinfer scenario",
        **root,
        "$defs": definitions,
    }
    offered: dict[str, Any] = _offered(whole, {})
    return offered


def _offered(value: Any, known: dict[str, list[str]]) -> Any:
    """``value`` with each ``x-names`` replaced by the names it stands for."""
    if isinstance(value, list):
        return [_offered(item, known) for item in value]
    if not isinstance(value, dict):
        return value
    plain = {key: _offered(item, known) for key, item in value.items() if key not in ("x-names", "title")}
    kind = value.get("x-names")
    if isinstance(kind, str):
        if kind not in known:
            known[kind] = _names(kind)
        plain.pop("type", None)
        plain["anyOf"] = [{"enum": known[kind]}, {"type": "string"}]
    return plain


def _names(kind: str) -> list[str]:
    from sim import catalog, profiles
    from sim.control import registry
    from sim.profiles import coldstarts
    from sim.workload import presets

    if kind == "presets":
        return presets.names()
    if kind == "profiles":
        return [*profiles.names(), profiles.ROOFLINE]
    if kind == "coldstarts":
        return coldstarts.names()
    if kind in registry.FAMILIES:
        return registry.names(kind)
    if kind in ("dtypes", "kv_dtypes"):
        return [*(["auto"] if kind == "kv_dtypes" else []), *catalog.DTYPE_BYTES]
    return catalog.names(kind)
