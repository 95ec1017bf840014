"""The kinds of values that fields of a scenario take: each reads what YAML gave, or says what would be right.

They replace pydantic's own coercions, so that ``replicas: "4"``, ``replicas: 3.5`` and ``replicas: yes`` are all refused, in
one voice, and editors get a pattern and a description.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from sim.config import units
from sim.config.units import shown
from sim.errors import TwinferError, did_you_mean

__all__ = [
    "FRACTION_SCHEMA",
    "Flag",
    "Name",
    "Part",
    "Period",
    "Rate",
    "Reader",
    "Seconds",
    "Share",
    "Text",
    "checked",
    "choice",
    "fault",
    "real",
    "whole",
]


def fault(message: str, field: str | int | None = None) -> PydanticCustomError:
    """An error of a whole part of the scenario that points at one of its fields."""
    return PydanticCustomError("fault", "{text}", {"text": message, "field": field})


@dataclass(frozen=True)
class Reader:
    """How a field's value is read (ValueError if it cannot be) and what editors are told of it."""

    read: Callable[[Any], Any]
    schema: dict[str, Any] = field(hash=False)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.read, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return dict(self.schema)


class Part(BaseModel):
    """Base of everything in a scenario: frozen, no unknown keys; a key with nothing after it counts as left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_absent(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        return {key: value for key, value in given.items() if value is not None or key not in cls.model_fields}


def whole(low: int, high: int = 10**15) -> Reader:
    """Whole numbers in [low, high]; ``1e6`` is one."""
    span = f"{low} or more" if high >= 10**15 else f"from {low} to {high}"

    def read(value: Any) -> int:
        found = units.number(value)
        if found is None or found != math.floor(found):
            raise ValueError(f"{shown(value)} is not a whole number; allowed: {span}")
        if not low <= found <= high:
            raise ValueError(f"{shown(value)} is out of range; allowed: {span}")
        return int(value)

    schema: dict[str, Any] = {"type": "integer", "minimum": low}
    return Reader(read, schema if high >= 10**15 else schema | {"maximum": high})


def real(
    low: float = 0.0,
    high: float = math.inf,
    *,
    above: bool = False,
    below: bool = False,
    read: Callable[[Any], float] | None = None,
    schema: Mapping[str, Any] | None = None,
    unit: str = "",
) -> Reader:
    """Numbers in [low, high]; ``above`` and ``below`` exclude the ends. ``read`` understands units."""
    least, most = (
        f"{'more than' if above else 'at least'} {low:g}{unit}",
        f"{'less than' if below else 'at most'} {high:g}{unit}",
    )
    span = least if high == math.inf else f"{least}, {most}"

    def check(value: Any) -> float:
        found = units.number(value) if read is None else read(value)
        if found is None:
            raise ValueError(f"{shown(value)} is not a number; allowed: {span}")
        if not (low < found if above else low <= found) or not (found < high if below else found <= high):
            raise ValueError(f"{shown(value)} is out of range; allowed: {span}")
        return found

    plain: dict[str, Any] = {"type": "number", "exclusiveMinimum" if above else "minimum": low}
    if high < math.inf:
        plain["exclusiveMaximum" if below else "maximum"] = high
    return Reader(check, dict(schema) if schema else plain)


def choice(*allowed: str) -> Reader:
    """One of a few words."""

    def read(value: Any) -> str:
        if not isinstance(value, str) or value not in allowed:
            near = did_you_mean(value.lower(), allowed) if isinstance(value, str) else ""
            raise ValueError(f"{shown(value)} is not {'one of ' if len(allowed) > 1 else ''}{', '.join(allowed)}{near}")
        return value

    return Reader(read, {"type": "string", "enum": list(allowed)})


def _text(value: Any) -> str:
    if not isinstance(value, str):
        quote = f'; quote it to make it text: "{value}"' if isinstance(value, bool | int | float) else ""
        raise ValueError(f"{shown(value)} is not text{quote}")
    if not value.strip():
        raise ValueError(f"{shown(value)} is empty")
    return value


def _name(value: Any) -> str:
    text = _text(value)
    if len(text) > 100 or text != text.strip() or not text.isprintable() or set(text) & set("/\\=[]") or text[0] == ".":
        raise ValueError(
            f"{shown(value)} is not a name: at most 100 characters, without / \\ = [ ], not starting with a dot or a space"
        )
    return text


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        near = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}.get(
            str(value).lower(), ""
        )
        raise ValueError(f"{shown(value)} is not true or false" + (f" (did you mean {near}?)" if near else ""))
    return value


def checked(lookup: Callable[[str], object], catalog: str | None = None) -> Reader:
    """Text that ``lookup`` accepts: it raises a TwinferError for any other. ``catalog``: whose names editors should offer."""

    def read(value: Any) -> str:
        text = _text(value)
        if len(text) > 4096:
            raise ValueError(f"{shown(value)} is too long to be a name or a path")
        try:
            lookup(text)
        except TwinferError as error:
            problems = getattr(error, "problems", None)
            words = problems[0].message if problems else str(error)
            if text not in words:
                words = f"{text}: {words}"
            raise ValueError(words.replace(text, shown(text)[1:-1])) from None
        except OSError as error:
            raise ValueError(f"{shown(value)} cannot be read: {error.strerror or error}") from None
        return text

    return Reader(read, {"type": "string"} | ({"x-names": catalog} if catalog else {}))


def _units_schema(pattern: str, description: str) -> dict[str, Any]:
    ways = [{"type": "number", "minimum": 0}, {"type": "string", "pattern": pattern}]
    return {"anyOf": ways, "description": description}


DURATION_SCHEMA = _units_schema(units.DURATION, "A duration: seconds, or with units, like 250ms, 90s, 1h30m, 2h.")
RATE_SCHEMA = _units_schema(units.RATE, "A rate: per second, or with a period, like 12/s, 300/min, 1000/h.")
FRACTION_SCHEMA = _units_schema(units.FRACTION, "A fraction like 0.05, or a percentage like 5%.")

Text = Annotated[str, Reader(_text, {"type": "string"})]
Name = Annotated[str, Reader(_name, {"type": "string", "minLength": 1, "maxLength": 100})]
Flag = Annotated[bool, Reader(_flag, {"type": "boolean"})]
Seconds = Annotated[float, real(read=units.duration, high=366 * 86400.0, schema=DURATION_SCHEMA, unit=" s")]
"""Zero or more seconds, at most 366 days."""
Period = Annotated[float, real(above=True, read=units.duration, high=366 * 86400.0, schema=DURATION_SCHEMA, unit=" s")]
"""More than zero seconds, at most 366 days."""
Rate = Annotated[float, real(read=units.rate, high=1e6, schema=RATE_SCHEMA, unit="/s")]
Share = Annotated[float, real(0.0, 1.0, above=True, read=units.fraction, schema=FRACTION_SCHEMA)]
"""A fraction, or a percentage, that is not zero."""
