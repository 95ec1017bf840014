"""YAML by version 1.2's core schema, with lines; what cannot be a scenario is refused in one sentence."""

from __future__ import annotations

import math
from typing import Any

import pytest

from sim.config.document import parse, scalar
from sim.config.tree import Place
from sim.errors import ConfigError

PLACE = Place(file="s.yaml", line=1)


def problems_of(data: bytes | str) -> list[str]:
    """What parsing says, whether or not it leaves a tree."""
    try:
        return [str(problem) for problem in parse(data, PLACE)[1]]
    except ConfigError as error:
        return [str(problem) for problem in error.problems]


# YAML 1.2.2, section 10.3.2, core schema; the comments say what YAML 1.1 (PyYAML) reads
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e9", 1e9),  # text in PyYAML
        ("1e-3", 1e-3),
        ("+.5", 0.5),
        ("12.", 12.0),
        ("0o17", 15),  # text
        ("017", 17),  # 15
        ("0x1F", 31),
        ("-7", -7),
        ("no", "no"),  # False
        ("on", "on"),  # True
        ("yes", "yes"),
        ("off", "off"),
        ("True", True),
        ("FALSE", False),
        ("12:30", "12:30"),  # 750
        ("1_000", "1_000"),  # 1000
        ("0b101", "0b101"),  # 5
        ("2026-11-23", "2026-11-23"),  # a date
        ("=", "="),
        ("~", None),
        ("", None),
        ("Null", None),
        ("nULL", "nULL"),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("1.2.3", "1.2.3"),
    ],
)
def test_plain_scalars_are_read_by_the_core_schema(text: str, value: Any) -> None:
    found = scalar(text)
    assert found == value
    assert type(found) is type(value)
    assert math.isnan(scalar(".NaN"))


def test_quoted_and_tagged_scalars() -> None:
    tree, problems = parse("a: '1e9'\nb: \"no\"\nc: !!str 12\nd: !!float 3\ne: ! 12\nf: |\n  12\n", PLACE)
    assert problems == []
    assert tree.plain() == {"a": "1e9", "b": "no", "c": "12", "d": 3, "e": "12", "f": "12\n"}


def test_keys_are_text_as_written() -> None:
    assert parse("no: 1\n1e9: 2\n12:30: 3\n~: 4\n", PLACE)[0].plain() == {"no": 1, "1e9": 2, "12:30": 3, "~": 4}


def test_every_value_has_the_line_of_its_key() -> None:
    tree, _ = parse("a:\n\n  b:\n    - x\n    - y: 1\n      z: [1,\n  2]\nc: |\n  text\n", PLACE)
    a, b = tree.fields["a"], tree.fields["a"].fields["b"]
    assert (a.place.line, b.place.line, tree.fields["c"].place.line) == (1, 3, 8)
    assert [item.place.line for item in b.items] == [4, 5]
    assert b.items[1].fields["z"].place.line == 6
    assert b.items[1].fields["z"].items[1].place.line == 7


def test_an_alias_is_its_value_at_the_line_that_uses_it() -> None:
    tree, problems = parse("a: &x {k: 1}\nb: *x\n", PLACE)
    assert problems == []
    assert tree.plain() == {"a": {"k": 1}, "b": {"k": 1}}
    assert tree.fields["b"].place.line == 2


def test_every_duplicate_key_is_an_error_with_both_lines() -> None:
    assert problems_of("a: 1\nb: {c: 1, c: 2}\na: 3\na: [4]\n") == [
        "s.yaml:2: key 'c' is given twice (first on line 2)",
        "s.yaml:3: key 'a' is given twice (first on line 1)",
        "s.yaml:4: key 'a' is given twice (first on line 1)",
    ]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("", "s.yaml:1: is empty"),
        ("# nothing\n", "s.yaml:1: is empty"),
        ("a: [1\n", "s.yaml:2: is not YAML: "),
        ("a: 1\n\tb: 2\n", "s.yaml:2: is not YAML: a tab cannot indent"),
        ("a: 1\n--- \nb: 2\n", "s.yaml:2: a second document starts here"),
        ("a: *x\n", "s.yaml:1: alias *x has no anchor &x before it"),
        ("a: &x\n  b: *x\n", "s.yaml:2: alias *x stands inside what it refers to"),
        ("a: 1\nb: !!python/object/apply:os.system [x]\n", "s.yaml:2: tag 'tag:yaml.org,2002:python/object/apply:os.system'"),
        ("a: !mine 3\n", "s.yaml:1: tag '!mine' is not used in scenarios"),
        ("a: !!int x\n", "s.yaml:1: 'x' is not of the kind its tag says, !!int"),
        ("<<: {a: 1}\n", "s.yaml:1: merge keys (<<) are not in YAML 1.2"),
        ("? [a, b]\n: 1\n", "s.yaml:1: a list cannot be a key"),
        ('"": 1\n', "s.yaml:1: a key is missing before ':'"),
        (b"a: 1\nb: \xff\n", "s.yaml:2: is not UTF-8 text: byte 0xff"),
        (b"PK\x03\x04\0\0", "s.yaml:1: is not text: it has NUL bytes"),
        ("a: 1\nb: \x07\n", "s.yaml:2: character U+0007 is not allowed"),
        ("[" * 100_000, "s.yaml:1: nested deeper than 50 levels"),
        ("{a: " * 100_000, "s.yaml:1: nested deeper than 50 levels"),
    ],
)  # fmt: skip
def test_what_is_no_scenario_is_refused_with_its_line(data: bytes | str, said: str) -> None:
    found = problems_of(data)
    assert len(found) == 1
    assert found[0].startswith(said)


def test_aliases_that_grow_without_end_are_refused_at_once() -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 40))
    assert problems_of(bomb)[0].endswith("more than 50000 values (aliases written out); a scenario is a page")


def test_a_byte_order_mark_and_windows_line_ends_are_fine() -> None:
    assert parse(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n", PLACE)[0].plain() == {"a": 1, "b": 2}
