"""What a user wrote, as a tree that remembers where each value stands.

A :class:`Node` never changes; a changed tree shares what stayed the same. Mappings hold nodes by key, lists hold nodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sim.config.units import shown
from sim.errors import Problem

__all__ = ["Node", "Place", "dotted", "merge", "node_of"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value was written: a line of a file, and the option or ``--set`` that put it where it is, if one did."""

    file: str | None = None
    line: int | None = None
    folder: str = ""
    """What relative paths are relative to; empty for the working directory."""
    source: str | None = None
    """``--set PATH=VALUE`` or ``options.NAME.PATH``."""
    target: str = ""
    """The path that the source sets."""
    batch: str | None = None
    """The option's name or ``--set``: values set together do not displace each other."""

    def problem(self, message: str, path: str = "") -> Problem:
        """A problem of the value at ``path`` of the scenario, which was written here."""
        where, message = _one_line(path, 200), _one_line(message, 1000)
        if self.source is not None:
            if path not in ("", self.target):
                message = f"{_one_line(path.removeprefix(f'{self.target}.'), 200)}: {message}"
            where = _one_line(self.source, 200)
        return Problem(message, path=where, file=self.file, line=self.line)

    def on(self, line: int | None) -> Place:
        """The same, on another line."""
        return replace(self, line=line)


def _one_line(text: str, longest: int) -> str:
    """``text`` as one printable line, cut to a readable length."""
    plain = text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return plain if len(plain) <= longest else f"{plain[: longest - 3]}..."


@dataclass(frozen=True, slots=True)
class Node:
    """A value with its place. ``value``: a dict of nodes by key, a list of nodes, or a scalar."""

    value: Any
    place: Place = field(default=Place(), compare=False)
    text: str | None = field(default=None, compare=False)
    """A scalar as it was written."""
    weight: int = field(default=1, compare=False)
    """Nodes in this tree, aliases written out."""

    @property
    def fields(self) -> dict[str, Node]:
        """The mapping's nodes; empty if this is none."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> list[Node]:
        """The list's nodes; empty if this is none."""
        return self.value if isinstance(self.value, list) else []

    @property
    def name(self) -> str | None:
        """The ``name`` of a mapping that has one."""
        found = self.fields.get("name")
        return None if found is None or isinstance(found.value, dict | list) else str(found.value)

    def child(self, step: str | int) -> Node | None:
        """The node under a key, or at an index."""
        if isinstance(self.value, dict):
            found: Node | None = self.value.get(str(step))
            return found
        if isinstance(self.value, list) and isinstance(step, int) and 0 <= step < len(self.value):
            item: Node = self.value[step]
            return item
        return None

    def sourced(self, place: Place) -> Node:
        """This tree as something that the option or ``--set`` of ``place`` sets; lines stay."""
        own = replace(self.place, source=place.source, target=place.target, batch=place.batch)
        value: Any = self.value
        if isinstance(value, dict):
            value = {key: node.sourced(place) for key, node in value.items()}
        elif isinstance(value, list):
            value = [node.sourced(place) for node in value]
        return replace(self, value=value, place=own)

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def shown(self) -> str:
        """The value as messages quote it."""
        return shown(self.value if self.text is None else self.text)

    def with_child(self, step: str | int, child: Node | None) -> Node:
        """This node with another (or without, for None) child."""
        if isinstance(self.value, list):
            items = list(self.value)
            items[int(step)] = child
            return replace(self, value=items)
        fields = {key: node for key, node in self.fields.items() if key != step or child is not None}
        if child is not None:
            fields[str(step)] = child
        return replace(self, value=fields)


def node_of(value: Any, place: Place) -> Node:
    """A tree of ordinary Python data, all of it at one place."""
    if isinstance(value, Mapping):
        return Node({str(key): node_of(item, place) for key, item in value.items()}, place)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return Node([node_of(item, place) for item in value], place)
    if hasattr(value, "__fspath__"):
        return Node(str(value.__fspath__()), place)
    if not isinstance(value, bool) and hasattr(value, "item") and getattr(value, "shape", None) == ():
        return Node(value.item(), place)  # a numpy scalar
    return Node(value, place)


def dotted(root: Node, steps: Sequence[str | int]) -> str:
    """``steps`` as ``--set`` writes them: list items by their name where they have one."""
    parts: list[str] = []
    node: Node | None = root
    for step in steps:
        node = node.child(step) if node is not None else None
        named = node.name if isinstance(step, int) and node is not None else None
        parts.append(named or str(step))
    return ".".join(parts)


@dataclass(frozen=True)
class _Alternatives:
    """Keys of which a mapping has one kind. ``keep``: keys that stay when the kind changes."""

    kinds: Mapping[str, str]
    keep: frozenset[str] = frozenset()


def _each(*names: str) -> dict[str, str]:
    return {name: name for name in names}


_ALTERNATIVES: dict[str, _Alternatives] = {
    "workloads.*.arrivals": _Alternatives(_each("rate", "mmpp", "curve", "closed_loop", "preset", "trace")),
    "workloads.*.lengths": _Alternatives({"preset": "preset", "prompt": "own", "output": "own"}),
    "workloads.*.lengths.*": _Alternatives(_each("fixed", "lognormal", "quantiles")),
    "workloads.*.lengths.*.lognormal": _Alternatives({"median": "m", "sigma": "m", "mean": "c", "cv": "c"}),
    "cluster.pools.*": _Alternatives({"instance": "instance", "gpu": "gpu"}, frozenset({"name", "nodes"})),
}


def displace(old: Node, key: str, new: Place, where: Sequence[str | int]) -> Node:
    """``old`` without what cannot stand beside ``key``: the other ways to say the same thing, and what goes with them.

    A workload with ``arrivals: {preset: x, scale: 2}`` that is given ``arrivals.trace`` has these arrivals replaced by it as a
    whole. What the same option (or the same ``--set``s) put there stays.
    """
    alternatives = _ALTERNATIVES.get(_pattern(where))
    if alternatives is None or key not in alternatives.kinds:
        return old
    kind = alternatives.kinds[key]
    if not any(alternatives.kinds.get(other, kind) != kind for other in old.fields):
        return old
    kept = {
        other: node
        for other, node in old.fields.items()
        if other in alternatives.keep
        or alternatives.kinds.get(other) == kind
        or (new.batch is not None and node.place.batch == new.batch)
    }
    return replace(old, value=kept)


def _pattern(where: Sequence[str | int]) -> str:
    steps = [str(step) for step in where]
    for index, parent in ((1, "workloads"), (2, "cluster.pools"), (3, "workloads.*.lengths")):
        if len(steps) > index and ".".join(steps[:index]) == parent:
            steps[index] = "*"
    return ".".join(steps)


def merge(base: Node, over: Node, where: tuple[str | int, ...] = ()) -> Node:
    """``base`` as changed by ``over``: mappings by key, lists of named mappings by name, anything else replaced."""
    if isinstance(base.value, dict) and isinstance(over.value, dict):
        if where and where[0] == "options" and len(where) > 2:
            return over
        merged = base
        for key, node in over.value.items():
            merged = displace(merged, key, node.place, where)
            found = merged.fields.get(key)
            merged = merged.with_child(key, node if found is None else merge(found, node, (*where, key)))
        return replace(merged, place=over.place)
    if _named(base) and _named(over):
        places = {node.name: index for index, node in enumerate(base.value)}
        items = list(base.value)
        for node in over.value:
            index = places.get(node.name)
            if index is None:
                items.append(node)
            else:
                items[index] = merge(items[index], node, (*where, index))
        return replace(over, value=items)
    return over


def _named(node: Node) -> bool:
    return bool(node.items) and all(item.name is not None for item in node.items)
