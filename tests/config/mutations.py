"""Scenario files as people (and disks, and editors) break them.

``mutations(seed, n)`` gives n (name, content) pairs, each a shipped scenario with a few faults; some still are right.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator

from tests.paths import SCENARIOS

__all__ = ["mutations"]

WORDS = (
    "", "~", "null", "yes", "no", "0", "-1", "1e9", "1e400", ".nan", "-.inf", "0o17", "0x1F", "12:30", "2026-11-23", "x", "3.5",
    "99999999999999999999", "'quoted", '"4"', "[]", "{}", "[1, 2]", "{a: 1}", "&a [*a]", "*missing", "!!python/object:os.system x",
    "!!int x", "5%", "250ms", "12/s", "80GiB", "2h30", "- 1", "? a", "<<: {a: 1}", "%TAG", "@x", "`x`", "a: b: c", "|", ">",
    "../../etc/passwd", "/dev/zero", "a" * 5000, "\u00e9\u4e16", "\"\\0\"", "h100-sxm", "llama-3.1-8b", "least-tokens", "true", "1_000",
    "azure-2023-conv", "lognormal", "deployments", "options.a.b", "name", "[[0, 1], [1h, 2/s]]", "{p50: 3, p99: 1}", "-0", "+.5",
)  # fmt: skip

Mutation = Callable[[random.Random, str], str]


def _value(rng: random.Random, text: str) -> str:
    """Another value after some colon."""
    spots = list(re.finditer(r": *([^,}{\n#]+)", text))
    if not spots:
        return text
    spot = rng.choice(spots)
    return text[: spot.start(1)] + rng.choice(WORDS) + " " + text[spot.end(1) :]


def _key(rng: random.Random, text: str) -> str:
    """A key misspelt, or another word."""
    spots = list(re.finditer(r"([A-Za-z_0-9.-]+):", text))
    if not spots:
        return text
    spot = rng.choice(spots)
    key = spot[1]
    at = rng.randrange(len(key))
    new = rng.choice(
        [key[:at] + key[at + 1 :], key[:at] + rng.choice("aez_.-") + key[at:], key.upper(), rng.choice(WORDS)]
    )
    return text[: spot.start(1)] + new + text[spot.end(1) :]


def _line_gone(rng: random.Random, text: str) -> str:
    lines = text.splitlines(keepends=True)
    del lines[rng.randrange(len(lines))]
    return "".join(lines)


def _line_twice(rng: random.Random, text: str) -> str:
    lines = text.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    lines.insert(rng.randrange(len(lines)), lines[at])
    return "".join(lines)


def _lines_swapped(rng: random.Random, text: str) -> str:
    lines = text.splitlines(keepends=True)
    a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]
    return "".join(lines)


def _indented(rng: random.Random, text: str) -> str:
    lines = text.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    lines[at] = rng.choice([" " * rng.randrange(1, 5) + lines[at], lines[at].lstrip(), "\t" + lines[at]])
    return "".join(lines)


def _character(rng: random.Random, text: str) -> str:
    at = rng.randrange(len(text))
    new = rng.choice(
        [
            "",
            "\0",
            "\x07",
            "\u2028",
            "\ufeff",
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "#",
            "&",
            "*",
            "!",
            "|",
            "\t",
            "'",
            '"',
            "-",
            "\U0001f600",
        ]
    )
    return text[:at] + new + text[at + rng.randrange(2) :]


def _cut(rng: random.Random, text: str) -> str:
    return text[: rng.randrange(len(text))]


def _wrapped(rng: random.Random, text: str) -> str:
    """Something around or before the whole."""
    deep = rng.choice([10, 100, 3000])
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}, *a{i - 1}]\n" for i in range(1, 30))
    return rng.choice([text + "\n---\n" + text, "---\n" + text + "...\n", "[" * deep + text, "x: " + "{a: " * deep + "\n" + text,
                       bomb + text, "%YAML 1.1\n---\n" + text, text.replace("\n", "\r\n"), text + text, "- " + text])  # fmt: skip


def _extended(rng: random.Random, text: str) -> str:
    target = rng.choice(
        ["chat_capacity.yaml", "nowhere.yaml", ".", "self.yaml", "3", "[a]", "~", "chat_capacity.yml", "/", '"\\0"']
    )
    return f"extends: {target}\n{text if rng.random() < 0.5 else ''}"


_EDITS: tuple[Mutation, ...] = (
    _value, _value, _value, _value, _key, _key, _line_gone, _line_twice, _lines_swapped, _indented, _character, _cut, _wrapped, _extended,
)  # fmt: skip


def mutations(seed: int, n: int) -> Iterator[tuple[str, bytes]]:
    """``n`` broken (or not) scenario files: a name that says which, and the content."""
    rng = random.Random(seed)
    sources = [(path.stem, path.read_text(encoding="utf-8")) for path in sorted(SCENARIOS.glob("*.yaml"))]
    for number in range(n):
        name, text = rng.choice(sources)
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            if len(text) > 10:
                text = rng.choice(_EDITS)(rng, text)
        content = text.encode("utf-8", "surrogatepass")
        if rng.random() < 0.03 and content:
            at = rng.randrange(len(content))
            content = content[:at] + bytes([rng.randrange(128, 256)]) + content[at + 1 :]
        yield f"{name}-{number}", content
