"""Paths into a scenario, as ``--set`` and options write them, and setting what they name.

Steps are joined by dots; an item of a list is named by its ``name`` or its index: ``deployments.chat.engine.kv_blocks``,
``workloads.0.arrivals.rate``. Names that hold dots are recognised. A path may name a field that the file leaves out, but not
something that no scenario has.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Union

from pydantic import BaseModel

from sim.config.scenario import Scenario
from sim.config.tree import Node, displace, dotted
from sim.config.units import shown
from sim.errors import did_you_mean

__all__ = ["assign", "schema_at", "steps_of"]

_INDEX = re.compile(r"\[([0-9]{1,6})\]")


def steps_of(root: Node, path: str) -> list[str | int]:
    """The keys and indices that ``path`` stands for. ValueError, with the nearest name, if it names nothing."""
    parts = _INDEX.sub(r".\1", path).split(".")
    if not all(part.strip() for part in parts):
        raise ValueError("is not a path: names joined by dots, like deployments.chat.replicas")
    steps: list[str | int] = []
    node: Node | None = root
    schema: Any = Scenario
    while parts:
        step, used = _step(node, schema, parts, steps, dotted(root, steps) or "a scenario")
        node = node.child(step) if node is not None else None
        schema = _below(schema, step)
        steps.append(step)
        parts = parts[used:]
    return steps


def _step(
    node: Node | None, schema: Any, parts: Sequence[str], steps: Sequence[str | int], where: str
) -> tuple[str | int, int]:
    """The step that the first of ``parts`` make, and how many of them it takes."""
    if _is_model(schema):
        fields, first = schema.model_fields, parts[0]
        if first in fields or schema.model_config.get("extra") == "allow":
            return first, 1
        raise ValueError(_nothing(first, where, fields))
    if len(steps) == 2 and steps[0] == "options":
        return ".".join(parts), len(parts)
    origin = typing.get_origin(schema)
    items = node.items if node is not None else []
    if origin is tuple and (node is None or isinstance(node.value, list)):
        names = [item.name for item in items]
        joined, used = _longest(parts, [name for name in names if name is not None])
        if used:
            return names.index(joined), used
        if parts[0].isdecimal() and len(parts[0]) < 7:
            if int(parts[0]) < len(items):
                return int(parts[0]), 1
            raise ValueError(f"there is no item {parts[0]} in {where}, which has {len(items)}")
        raise ValueError(_nothing(parts[0], where, [name for name in names if name is not None]))
    if origin is dict or (node is not None and isinstance(node.value, dict)):
        keys = list(node.fields) if node is not None else []
        joined, used = _longest(parts, keys)
        if used:
            return joined, used
        if steps and steps[0] == "workloads":  # objectives and quantiles: any key, judged when it is read
            return ".".join(parts), len(parts)
        raise ValueError(_nothing(parts[0], where, keys))
    raise ValueError(f"{where} is a single value: there is no {shown(parts[0])} in it")


def _longest(parts: Sequence[str], names: Iterable[str]) -> tuple[str, int]:
    """The longest beginning of ``parts``, joined, that is one of ``names``; 0 parts if none is."""
    known = set(names)
    for used in range(len(parts), 0, -1):
        joined = ".".join(parts[:used])
        if joined in known:
            return joined, used
    return "", 0


def _nothing(name: str, where: str, known: Iterable[str]) -> str:
    names = list(known)
    there = f"; there are {', '.join(names)}" if names else ""
    return f"{shown(name)} is not in {where}{did_you_mean(name, names)}{there}"


def _is_model(schema: Any) -> bool:
    return isinstance(schema, type) and issubclass(schema, BaseModel)


def _bare(schema: Any) -> Any:
    """A field's type without Annotated and None."""
    while True:
        origin = typing.get_origin(schema)
        if origin is Annotated:
            schema = typing.get_args(schema)[0]
        elif origin in (Union, types.UnionType):
            rest = [kind for kind in typing.get_args(schema) if kind is not type(None)]
            if len(rest) != 1:
                return None
            schema = rest[0]
        else:
            return schema


def _below(schema: Any, step: str | int) -> Any:
    """The type of what is one step below; None if it is a plain value or unknown."""
    if _is_model(schema):
        found = schema.model_fields.get(str(step))
        return None if found is None else _bare(found.annotation)
    arguments = typing.get_args(schema)
    if typing.get_origin(schema) in (tuple, dict) and arguments:
        return _bare(arguments[1] if typing.get_origin(schema) is dict else arguments[0])
    return None


def schema_at(steps: Iterable[str | int]) -> Any:
    """The type that a scenario has at ``steps``: a model class, a tuple or dict type, or None for a plain value."""
    schema: Any = Scenario
    for step in steps:
        schema = _below(schema, step)
    return schema


def assign(root: Node, path: str, value: Node) -> Node:
    """``root`` with ``value`` at ``path``. ValueError if the path names nothing.

    The value replaces what is there, mappings included; null takes it away. Where a mapping has one of several ways to say
    something (``arrivals``), setting another way replaces it (:func:`sim.config.tree.displace`).
    """
    return _put(root, steps_of(root, path), value, [])


def _put(node: Node | None, steps: Sequence[str | int], value: Node, done: list[str | int]) -> Node:
    if not steps:
        return value
    if node is None or not isinstance(node.value, dict | list):
        node = Node({}, value.place)
    step = steps[0]
    if isinstance(step, str):
        node = displace(node, step, value.place, done)
    return node.with_child(step, _put(node.child(step), steps[1:], value, [*done, step]))
