"""From what pydantic found wrong to problems in the user's words, at the place where each was written."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from sim.config.paths import schema_at
from sim.config.tree import Node, Place, dotted
from sim.config.units import shown
from sim.errors import Problem, did_you_mean

__all__ = ["problem_at", "problems"]


def problem_at(root: Node, steps: Sequence[str | int], message: str) -> Problem:
    """A problem of what stands at ``steps``, or of the innermost mapping that should hold it."""
    return _place(root, steps).problem(message, dotted(root, steps))


def _place(root: Node, steps: Sequence[str | int]) -> Place:
    node = root
    for step in steps:
        found = node.child(step)
        if found is None:
            break
        node = found
    return node.place


def _node(root: Node, steps: Sequence[str | int]) -> Node | None:
    node: Node | None = root
    for step in steps:
        node = None if node is None else node.child(step)
    return node


def problems(error: ValidationError, root: Node) -> list[Problem]:
    """A problem for each fault that pydantic found in the scenario of the tree ``root``."""
    return [_problem(fault, root) for fault in error.errors(include_url=False)]


def _problem(fault: Any, root: Node) -> Problem:
    steps: list[str | int] = [step for step in fault["loc"] if step != "[key]"]
    kind, context = fault["type"], fault.get("ctx", {})
    if kind == "fault" and context.get("field") is not None:
        steps.append(context["field"])
    while (
        steps
        and _node(root, steps) is None
        and _node(root, steps[:-1]) is not None
        and kind not in ("missing", "fault")
    ):
        steps.pop()  # a value in short form: {fixed: 512} written as 512
    node = _node(root, steps)
    if kind == "missing":
        message = f"is missing{_wanted(steps)}"
    elif kind == "extra_forbidden":
        name, steps = str(steps[-1]), steps[:-1]
        allowed = _keys(steps)
        place = node.place if node is not None else _place(root, steps)
        said = f"unknown key {shown(name)}{did_you_mean(name.lower(), allowed)}; allowed: {', '.join(allowed)}"
        return place.problem(said, dotted(root, steps))
    elif kind in ("model_type", "model_attributes_type", "dict_type"):
        keys = _keys(steps)
        of = f" with the keys {', '.join(keys)}" if keys else " of names to values"
        message = f"{_shown(node, fault)} is not a mapping{of}"
    elif kind in ("tuple_type", "list_type"):
        message = f"{_shown(node, fault)} is not a list"
    elif kind == "value_error":
        message = str(context["error"])
    elif kind == "fault":
        message = str(context["text"])
    else:
        message = f"{_shown(node, fault)} cannot be used: {fault['msg']}"
    return problem_at(root, steps, message)


def _shown(node: Node | None, fault: Any) -> str:
    return node.shown() if node is not None else Node(fault["input"]).shown()


def _keys(steps: Sequence[str | int]) -> list[str]:
    schema = schema_at(steps)
    return list(schema.model_fields) if isinstance(schema, type) and issubclass(schema, BaseModel) else []


def _wanted(steps: Sequence[str | int]) -> str:
    """What a missing field is for."""
    schema = schema_at(steps[:-1])
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        found = schema.model_fields.get(str(steps[-1]))
        if found is not None and found.description:
            return f": {found.description}"
    return f" in {typing.get_origin(schema)}" if schema is not None else ""
