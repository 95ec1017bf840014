"""Numbers with units, as people write them: ``250ms``, ``1h30m``, ``80GiB``, ``300/min``, ``5%``.

Each reader takes what YAML gave (a number or text) and returns a float in seconds, bytes, per second, or 1. ValueError says
what was written and what is allowed.
"""

from __future__ import annotations

import math
import re
from typing import Any

__all__ = ["DURATION", "FRACTION", "RATE", "SIZE", "duration", "fraction", "number", "rate", "shown", "size"]

_NUMBER = r"[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?"
_SECONDS = {"us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1.0} | {
    f"{prefix}{suffix}": float(base ** (power + 1))
    for suffix, base in (("iB", 1024), ("B", 1000))
    for power, prefix in enumerate("KMGT")
}
_TIME_UNIT = "us|µs|μs|ms|s|min|m|h|d"

DURATION = rf"^\s*(?:{_NUMBER}|(?:{_NUMBER}\s*(?:{_TIME_UNIT})\s*)+)\s*$"
"""Pattern of a duration as text; the patterns below likewise. JSON Schema for editors uses them too."""
RATE = rf"^\s*{_NUMBER}\s*/\s*(?:s|min|m|h|d)\s*$"
SIZE = rf"^\s*{_NUMBER}\s*(?:[KMGT]i?)?B\s*$"
FRACTION = rf"^\s*{_NUMBER}\s*%\s*$"

_PART = re.compile(rf"({_NUMBER})\s*({_TIME_UNIT})")


def shown(value: Any) -> str:
    """``value`` as a message quotes it: scalars as they were written, cut to a readable length."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = (
        {None: "null", True: "true", False: "false"}.get(value, value)
        if value is None or value is True or value is False
        else value
    )
    if isinstance(text, float) and text.is_integer() and abs(text) < 1e15:
        text = int(text)
    try:
        plain = str(text)
    except ValueError:  # an integer with more digits than Python prints
        return "a huge number"
    return repr(plain if len(plain) <= 60 else f"{plain[:57]}...")


def number(value: Any) -> float | None:
    """``value`` as a finite float if it is a number; None otherwise (text and booleans are not numbers)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def duration(value: Any) -> float:
    """Seconds. A bare number is seconds; text may add parts: ``1h30m``. Never negative."""
    found = number(value)
    if found is None and isinstance(value, str) and len(value) <= 100 and re.match(DURATION, value):
        parts = _PART.findall(value)
        found = sum(float(amount) * _SECONDS[unit] for amount, unit in parts) if parts else float(value)
    if found is None or not 0.0 <= found < math.inf:
        raise ValueError(f"{shown(value)} is not a duration: seconds, or with a unit like 250ms, 90s, 1h30m, 2h")
    return found


def rate(value: Any) -> float:
    """Per second. A bare number is per second; text names the period: ``12/s``, ``300/min``, ``1000/h``."""
    found = number(value)
    if found is None and isinstance(value, str) and len(value) <= 100 and re.match(RATE, value):
        amount, _, period = value.partition("/")
        found = float(amount) / _SECONDS[period.strip()]
    if found is None or not 0.0 <= found < math.inf:
        raise ValueError(
            f"{shown(value)} is not a rate: a number per second, or with a period like 12/s, 300/min, 1000/h"
        )
    return found


def size(value: Any) -> float:
    """Bytes. A bare number is bytes; text names the unit: ``80GiB`` (2**30), ``16GB`` (1e9)."""
    found = number(value)
    if found is None and isinstance(value, str) and len(value) <= 100 and re.match(SIZE, value):
        match = re.match(rf"\s*({_NUMBER})\s*(\S+)", value)
        assert match is not None
        found = float(match[1]) * _BYTES[match[2]]
    if found is None or not 0.0 <= found < math.inf:
        raise ValueError(f"{shown(value)} is not a size: bytes, or with a unit like 80GiB, 16GB, 512MiB")
    return found


def fraction(value: Any) -> float:
    """A share: ``0.05`` or ``5%``."""
    found = number(value)
    if found is None and isinstance(value, str) and len(value) <= 100 and re.match(FRACTION, value):
        found = float(value.strip().rstrip("%")) / 100.0
    if found is None or not 0.0 <= found < math.inf:
        raise ValueError(f"{shown(value)} is not a fraction: a number like 0.05, or a percentage like 5%")
    return found
