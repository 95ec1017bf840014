"""Reading YAML as version 1.2's core schema has it, each value with its line.

So ``1e9`` is a number, ``no``, ``on``, ``12:30`` and dates are text, ``0o17`` is octal, and a key given twice is an error. Files
that cannot be a scenario (binary, not UTF-8, nested without end, aliases that grow without end) are refused, never loaded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from sim.config.tree import Node, Place
from sim.config.units import shown
from sim.errors import ConfigError, Problem

__all__ = ["parse", "scalar"]

MAX_BYTES = 4 * 2**20
MAX_DEPTH = 50
MAX_NODES = 50_000

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_INT = re.compile(r"[-+]?[0-9]{1,300}$")
_OCTAL = re.compile(r"0o[0-7]{1,300}$")
_HEX = re.compile(r"0x[0-9a-fA-F]{1,300}$")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$")
_INFINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)$")
_NOTHING = {"", "~", "null", "Null", "NULL"}
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_TAG = "tag:yaml.org,2002:"


def scalar(text: str) -> Any:
    """A plain (unquoted) scalar, by the core schema of YAML 1.2."""
    if text in _NOTHING:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.match(text):
        return int(text)
    if _OCTAL.match(text):
        return int(text, 8)
    if _HEX.match(text):
        return int(text, 16)
    if _FLOAT.match(text):
        return float(text)
    if _INFINITE.match(text):
        return float(text.replace(".", "", 1))
    if text in (".nan", ".NaN", ".NAN"):
        return float("nan")
    return text


@dataclass
class _Open:
    """A mapping or list whose end has not come yet."""

    place: Place
    anchor: str | None
    mapping: bool
    fields: dict[str, Node] = field(default_factory=dict)
    items: list[Node] = field(default_factory=list)
    lines: dict[str, int | None] = field(default_factory=dict)
    key: str | None = None
    dropped: bool = False
    """The value to come belongs to a key that is no use; its problem is known."""
    weight: int = 1


class _Reader:
    """Builds the tree from the parser's events; collects problems and goes on where it can."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.problems: list[Problem] = []
        self.open: list[_Open] = []
        self.anchors: dict[str, Node | None] = {}
        self.root: Node | None = None
        self.documents = 0

    def at(self, event: Any) -> Place:
        return self.place.on(None if self.place.line is None else event.start_mark.line + 1)

    def complain(self, place: Place, message: str) -> None:
        self.problems.append(place.problem(message))

    def stop(self, place: Place, message: str) -> ConfigError:
        return ConfigError([*self.problems, place.problem(message)])

    def take(self, event: Any) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self.add(self.scalar_node(event), event)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self.begin(event)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self.end()
        elif isinstance(event, yaml.AliasEvent):
            self.add(self.alias(event), event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                raise self.stop(self.at(event), "a second document starts here; a scenario is one document")

    def begin(self, event: Any) -> None:
        place, mapping = self.at(event), isinstance(event, yaml.MappingStartEvent)
        if len(self.open) >= MAX_DEPTH:
            raise self.stop(place, f"nested deeper than {MAX_DEPTH} levels")
        if event.tag not in (None, "!", _TAG + ("map" if mapping else "seq")):
            self.complain(place, f"tag {shown(event.tag)} is not used in scenarios")
        if event.anchor:
            self.anchors[event.anchor] = None
        self.open.append(_Open(place, event.anchor, mapping))

    def end(self) -> None:
        done = self.open.pop()
        node = Node(done.fields if done.mapping else done.items, done.place, None, done.weight)
        if done.anchor:
            self.anchors[done.anchor] = node
        self.add(node, None)

    def alias(self, event: Any) -> Node:
        place = self.at(event)
        if event.anchor not in self.anchors:
            raise self.stop(place, f"alias *{event.anchor} has no anchor &{event.anchor} before it")
        found = self.anchors[event.anchor]
        if found is None:
            raise self.stop(place, f"alias *{event.anchor} stands inside what it refers to")
        return found

    def scalar_node(self, event: Any) -> Node:
        place, tag, text = self.at(event), event.tag, event.value
        value: Any = text
        if tag in (None, "!"):
            value = scalar(text) if event.implicit[0] and tag is None else text
        elif tag in (_TAG + "int", _TAG + "float", _TAG + "bool", _TAG + "null"):
            value = scalar(text)
            kinds: dict[str, Any] = {"int": int, "float": int | float, "bool": bool, "null": type(None)}
            if not isinstance(value, kinds[tag.removeprefix(_TAG)]):
                self.complain(place, f"{shown(text)} is not of the kind its tag says, !!{tag.removeprefix(_TAG)}")
        elif tag != _TAG + "str":
            self.complain(place, f"tag {shown(tag)} is not used in scenarios")
        node = Node(value, place, text)
        if event.anchor:
            self.anchors[event.anchor] = node
        return node

    def add(self, node: Node, event: Any) -> None:
        """Put a finished value where it belongs: a key, a field's value, a list item, or the whole document."""
        if not self.open:
            self.root = node
            return
        parent = self.open[-1]
        parent.weight += node.weight
        if parent.weight > MAX_NODES:
            raise self.stop(node.place, f"more than {MAX_NODES} values (aliases written out); a scenario is a page")
        if not parent.mapping:
            parent.items.append(node)
        elif parent.dropped:
            parent.dropped = False
        elif parent.key is None:
            self.key(parent, node, event)
        else:
            # a value's line is its key's: that is where a reader looks, and where a block or an alias is used
            parent.fields[parent.key] = replace(node, place=node.place.on(parent.lines[parent.key]))
            parent.key = None

    def key(self, parent: _Open, node: Node, event: Any) -> None:
        place = node.place if event is None else self.at(event)
        if node.text is None or isinstance(node.value, dict | list):
            self.complain(place, f"{shown(node.value)} cannot be a key")
            parent.dropped = True
        elif not node.text:
            self.complain(place, "a key is missing before ':'")
            parent.dropped = True
        elif node.text == "<<" and node.value == "<<":
            self.complain(place, "merge keys (<<) are not in YAML 1.2; use extends, or an alias for a whole value")
            parent.dropped = True
        elif node.text in parent.fields:
            first = parent.lines[node.text]
            where = f" (first on line {first})" if first is not None else ""
            self.complain(place, f"key {shown(node.text)} is given twice{where}")
            parent.dropped = True
        else:
            parent.key = node.text
            parent.lines[node.text] = place.line


def parse(data: bytes | str, place: Place) -> tuple[Node, list[Problem]]:
    """The tree of a YAML text whose first line is at ``place``, and what is wrong with it but leaves a tree.

    Raises ConfigError if there is no tree to be had.
    """
    text = _decoded(data, place)
    reader = _Reader(place)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            reader.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None or place.line is None else mark.line + 1
        at = place.on(line)
        words = ", ".join(part for part in (error.problem, error.context) if part)
        lines = text.split("\n")
        if mark is not None and mark.line < len(lines) and lines[mark.line].lstrip(" ").startswith("\t"):
            words = "a tab cannot indent, only spaces can"
        if "nesting depth" in words:  # libyaml's own limit, met while it looked ahead
            raise reader.stop(at, f"nested deeper than {MAX_DEPTH} levels") from None
        raise reader.stop(at, f"is not YAML: {words or 'it breaks off'}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise reader.stop(place, f"is not YAML: {' '.join(str(error).split())}") from None
    if reader.root is None:
        raise reader.stop(place, "is empty" if place.source is None else "has no value")
    return reader.root, reader.problems


def _decoded(data: bytes | str, place: Place) -> str:
    if isinstance(data, bytes):
        if b"\0" in data[:4096]:
            raise ConfigError(
                [place.problem("is not text: it has NUL bytes (a binary file, or UTF-16; scenarios are UTF-8)")]
            )
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            at = place.on(None if place.line is None else line)
            raise ConfigError([at.problem(f"is not UTF-8 text: byte 0x{data[error.start]:02x}")]) from None
    else:
        text = data
    bad = _UNPRINTABLE.search(text)
    if bad:
        line = text.count("\n", 0, bad.start()) + 1
        at = place.on(None if place.line is None else line)
        raise ConfigError([at.problem(f"character U+{ord(bad[0]):04X} is not allowed in YAML")])
    return text
