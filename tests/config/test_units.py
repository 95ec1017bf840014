"""Numbers with units."""

from __future__ import annotations

import re

import pytest

from sim.config import units


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("2h", 7200.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        ("1.5s", 1.5),
        (".5s", 0.5),
        ("90", 90.0),
        (90, 90.0),
        (0.25, 0.25),
        ("20us", 20e-6),
        ("20µs", 20e-6),
        ("3min", 180.0),
        ("2d", 172800.0),
        ("1e3 ms", 1.0),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert units.duration(text) == pytest.approx(seconds, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "rate"), [("12/s", 12.0), ("300/min", 5.0), ("300/m", 5.0), ("1800/h", 0.5), ("86400 / d", 1.0), (7, 7.0)]
)
def test_rates(text: object, rate: float) -> None:
    assert units.rate(text) == pytest.approx(rate, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [
        ("80GiB", 80 * 2**30),
        ("16GB", 16e9),
        ("512 MiB", 2**29),
        ("1TB", 1e12),
        ("3KB", 3e3),
        ("7B", 7.0),
        (4096, 4096.0),
    ],
)
def test_sizes(text: object, bytes_: float) -> None:
    assert units.size(text) == bytes_


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), (0.05, 0.05), ("12.5 %", 0.125)])
def test_fractions(text: object, share: float) -> None:
    assert units.fraction(text) == pytest.approx(share, rel=1e-15)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "h",
        "1h30",
        "30 parsecs",
        "-1s",
        "1,5s",
        "12:30",
        -1,
        True,
        None,
        [],
        float("nan"),
        float("inf"),
        "1e999s",
        10**400,
    ],
)
def test_what_is_no_duration_is_refused_with_what_would_be(text: object) -> None:
    with pytest.raises(ValueError, match="is not a duration: seconds, or with a unit like 250ms"):
        units.duration(text)


@pytest.mark.parametrize(("read", "texts"), [
    (units.rate, ["12", "12/fortnight", "12/", "/s", -3, False]),
    (units.size, ["80gib", "80 GiBs", "GiB", "80", -1]),
    (units.fraction, ["5", "5%%", "%", -0.1, None]),
])  # fmt: skip
def test_other_units_are_refused_too(read: object, texts: list[object]) -> None:
    for text in texts:
        with pytest.raises(ValueError, match="is not a"):
            read(text)  # type: ignore[operator]


@pytest.mark.parametrize("text", ["1h30m", "250ms", "90", "1.5s"])
def test_the_patterns_that_editors_use_accept_what_is_read(text: str) -> None:
    assert re.search(units.DURATION, text)
