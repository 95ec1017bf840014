"""Broken trace files: seeded damage of the kinds that files suffer, for tests of the readers and of the command line."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable

__all__ = ["mutate"]

_CELLS = (
    *(
        "",
        " ",
        "nan",
        "inf",
        "-inf",
        "-1",
        "-0.0",
        "0",
        "1e400",
        "1e18",
        "99999999999999999999",
        "12.5",
        "1_000",
        "0x10",
    ),
    *(
        "abc",
        "true",
        "None",
        '"',
        "'",
        "\x00",
        "2023-13-40 99:00:00",
        "2023-11-16",
        "9999-12-31 23:59:59",
        "१२",
        "\U0001f600",
    ),
)
_JSON = (None, True, "x", -1, 0, 2.5, 1e400, float("nan"), [], {}, "1", 10**30, "2023-11-16 18:00:00", -1e-300)


def mutate(content: bytes, seed: int) -> bytes:
    """``content`` of a trace file (text, or gzip of one) with one to three faults; the same for the same seed."""
    rng = random.Random(seed)
    packed = content[:2] == b"\x1f\x8b"
    if packed and rng.random() < 0.3:
        return _bytes(rng, content)
    data = gzip.decompress(content) if packed else content
    for _ in range(rng.randint(1, 3)):
        data = rng.choice(_FAULTS)(rng, data)
    if packed or rng.random() < 0.1:
        data = gzip.compress(data, mtime=0)
        if rng.random() < 0.2:
            data = data[: rng.randrange(len(data))]
    return data


def _bytes(rng: random.Random, data: bytes) -> bytes:
    """Some bytes changed, or the end missing."""
    if rng.random() < 0.3:
        return data[: rng.randrange(len(data) + 1)]
    damaged = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if damaged:
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
    return bytes(damaged)


def _lines(rng: random.Random, data: bytes) -> bytes:
    """A line dropped, doubled, moved, cut, or replaced."""
    lines = data.split(b"\n")
    row = rng.randrange(len(lines))
    other = rng.randrange(len(lines))
    kind = rng.randrange(6)
    if kind == 0:
        del lines[row]
    elif kind == 1:
        lines.insert(other, lines[row])
    elif kind == 2:
        lines[row], lines[other] = lines[other], lines[row]
    elif kind == 3:
        lines[row] = lines[row][: rng.randrange(len(lines[row]) + 1)]
    elif kind == 4:
        lines[row] = rng.choice((b"", b",,,", b"[]", b"{}", b"null", b"{", b'{"a": 1}', b"#", b"\xff\xfe", b'"'))
    else:
        del lines[row:]
    return b"\n".join(lines)


def _cell(rng: random.Random, data: bytes) -> bytes:
    """A value, or a column's name, replaced by one that cannot be right."""
    lines = data.split(b"\n")
    row = rng.choice((0, rng.randrange(len(lines))))
    try:
        value = json.loads(lines[row])
    except ValueError:
        cells = lines[row].split(b",")
        cells[rng.randrange(len(cells))] = rng.choice(_CELLS).encode()
        lines[row] = b",".join(cells)
        return b"\n".join(lines)
    if isinstance(value, dict) and value:
        key = rng.choice(sorted(value))
        if rng.random() < 0.2:
            value[key + "x"] = value.pop(key)
        else:
            value[key] = rng.choice(_JSON)
        lines[row] = json.dumps(value).encode()
    return b"\n".join(lines)


def _whole(rng: random.Random, data: bytes) -> bytes:
    """Another encoding, another line end, another delimiter, or nothing."""
    change: Callable[[bytes], bytes] = rng.choice(
        (
            lambda text: text.decode("utf-8", "replace").encode("utf-16"),
            lambda text: text.replace(b"\n", b"\r\n"),
            lambda text: text.replace(b"\n", b"\r"),
            lambda text: text.replace(b",", b";"),
            lambda text: text.replace(b",", b" "),
            lambda text: b"\xef\xbb\xbf" + text,
            lambda text: text.upper(),
            lambda _: b"",
            lambda _: b"\n\n",
            lambda text: b"PAR1" + text,
            lambda text: text + b"1,2,3,4,5,6,7\n",
            lambda text: text * 2,
        )
    )
    return change(data)


_FAULTS: tuple[Callable[[random.Random, bytes], bytes], ...] = (_bytes, _lines, _cell, _cell, _cell, _whole)
