"""Measured profiles: their schema, the shipped ones, and reading any other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sim.profiles.device import described_by_profile, device
from sim.profiles.library import ROOFLINE, dumps, find, load, names, save

if TYPE_CHECKING:
    from sim.profiles.schema import Profile

__all__ = ["ROOFLINE", "Profile", "described_by_profile", "device", "dumps", "find", "load", "names", "save"]


def __getattr__(name: str) -> Any:
    if name == "Profile":  # pydantic only once a profile is wanted
        from sim.profiles.schema import Profile

        return Profile
    raise AttributeError(name)
