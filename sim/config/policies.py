"""Policies as a scenario names them: ``kind``, and beside it the policy's own parameters, read with their units."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from sim.config import units
from sim.config.units import shown
from sim.config.values import fault

__all__ = ["Admission", "Autoscaler", "Policy", "PoolChoice", "Router"]

_UNITS = {"seconds": units.duration, "per second": units.rate}


class Policy(BaseModel):
    """Keys other than ``kind`` are the policy's own parameters."""

    model_config = ConfigDict(extra="allow", frozen=True)

    family: ClassVar[str] = ""

    kind: str

    @model_validator(mode="before")
    @classmethod
    def _kind_alone(cls, given: Any) -> Any:
        return {"kind": given} if isinstance(given, str) else given

    @field_validator("kind", mode="before")
    @classmethod
    def _known(cls, kind: Any) -> str:
        from sim.control import registry
        from sim.errors import did_you_mean

        known = registry.names(cls.family)
        if kind not in known:
            near = did_you_mean(kind, known) if isinstance(kind, str) else ""
            article = "an" if cls.family[0] in "ao" else "a"
            raise ValueError(
                f"{shown(kind)} is not {article} {_called(cls.family)}{near}; there are {', '.join(known)}"
            )
        return str(kind)

    @model_validator(mode="after")
    def _parameters_fit(self) -> Policy:
        from sim.control import registry
        from sim.errors import PolicyError

        try:
            registry.check(self.family, self.kind, self.parameters)
        except PolicyError as error:
            raise fault(str(error)) from None
        return self

    @property
    def parameters(self) -> dict[str, Any]:
        """The policy's own parameters; those with units as numbers, in seconds or per second."""
        from sim.control import registry

        found = _read(dict(self.__pydantic_extra__ or {}), registry.parameters(self.family, self.kind))
        for name, kinds in registry.nested(self.family).items():
            inner = found.get(name)
            if isinstance(inner, Mapping) and inner.get("kind") in kinds:
                rest = {key: value for key, value in inner.items() if key != "kind"}
                accepted = inspect.signature(kinds[inner["kind"]]).parameters
                found[name] = {"kind": inner["kind"], **_read(rest, accepted)}
        return found


def _read(given: dict[str, Any], accepted: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """``given`` with what has a unit as numbers."""
    for name, value in given.items():
        unit = _unit(accepted[name].annotation) if name in accepted else None
        if unit is not None and value is not None:
            try:
                given[name] = _UNITS[unit](value)
            except ValueError as error:
                raise fault(str(error), name) from None
    return given


def _called(family: str) -> str:
    return {"admission": "admission policy", "pools": "way to choose a pool", "client": "kind of client"}.get(
        family, family
    )


def _unit(annotation: Any) -> str | None:
    """The unit of a parameter: of its annotation, or of one alternative of it. As text it is not evaluated: what it names may only be
    imported for type checkers."""
    if isinstance(annotation, str):
        words = re.findall(r"\w+", annotation)
        return "seconds" if "Seconds" in words else "per second" if "PerSecond" in words else None
    for part in (annotation, *typing.get_args(annotation)):
        for note in getattr(part, "__metadata__", ()):
            if note in _UNITS:
                return str(note)
    return None


class Router(Policy):
    """Which replica gets a request."""

    family: ClassVar[str] = "router"

    kind: str = Field(
        default="round-robin",
        description="A built-in router or a registered plug-in's.",
        json_schema_extra={"x-names": "router"},
    )


class Autoscaler(Policy):
    """How many replicas there should be."""

    family: ClassVar[str] = "autoscaler"

    kind: str = Field(
        description="A built-in autoscaler or a registered plug-in's.", json_schema_extra={"x-names": "autoscaler"}
    )


class Admission(Policy):
    """Who is let in."""

    family: ClassVar[str] = "admission"

    kind: str = Field(
        description="A built-in admission policy or a registered plug-in's.",
        json_schema_extra={"x-names": "admission"},
    )


class PoolChoice(Policy):
    """Which of several deployments gets a request."""

    family: ClassVar[str] = "pools"

    kind: str = Field(
        default="cheapest-first",
        description="A built-in way to choose or a registered plug-in's.",
        json_schema_extra={"x-names": "pools"},
    )
