"""Everything twinfer raises on purpose.

    TwinferError
    ├── ConfigError        a scenario file, an option or a --set that cannot be right; carries every Problem at once
    ├── CatalogError       a name that is not in the catalog, or a model file that cannot be read as one
    ├── ProfileError       a profile that is missing, malformed, or does not cover what was asked of it
    ├── TraceError         a workload trace that cannot be read
    ├── PolicyError        a router (or other policy) that is unknown, misconfigured or breaks its contract
    ├── ResultError        a run directory that is missing, incomplete or not ours
    └── SimulationError    an invariant of the simulation did not hold: a fault of twinfer, never of the input

Messages are one line a fault, in the user's words: what, where, the value, what is allowed, the nearest valid name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

__all__ = [
    "CatalogError",
    "ConfigError",
    "PolicyError",
    "Problem",
    "ProfileError",
    "ResultError",
    "SimulationError",
    "TraceError",
    "TwinferError",
    "did_you_mean",
]


class TwinferError(Exception):
    """Base of every error that twinfer raises on purpose; ``str()`` of it is fit to be shown to a user."""


@dataclass(frozen=True)
class Problem:
    """One fault in what a user wrote: where it stands, what stands there, and what is wrong with it."""

    message: str
    path: str = ""
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.file and self.line else f"{self.file}: " if self.file else ""
        field = f"{self.path}: " if self.path else ""
        return f"{place}{field}{self.message}"


class ConfigError(TwinferError):
    """A scenario that cannot be right. ``problems`` lists every fault found, in file order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[type[ConfigError], tuple[tuple[Problem, ...]]]:
        return (type(self), (self.problems,))


class CatalogError(TwinferError):
    """A name that is not in the catalog, or a model description that cannot be used."""


class ProfileError(TwinferError):
    """A profile that is missing, malformed, or does not cover what was asked of it."""


class TraceError(TwinferError):
    """A workload trace that cannot be read."""


class PolicyError(TwinferError):
    """A policy that is unknown, misconfigured, or breaks its contract."""


class ResultError(TwinferError):
    """A run directory that is missing, incomplete, or was not written by twinfer."""


class SimulationError(TwinferError):
    """An invariant of the simulation did not hold. This is a fault of twinfer, never of the input."""


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the nearest of ``allowed``, else one that holds ``name``; empty when there is none."""
    known = list(allowed)
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    if not near and len(name) > 2:
        near = [other for other in known if name.lower() in other.lower()]
    return f" (did you mean {near[0]!r}?)" if near else ""
