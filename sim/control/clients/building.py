"""From what a scenario writes under ``backoff:``, ``budget:``, ``breaker:`` to the object it names."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

__all__ = ["build"]


def build(what: str, kinds: Mapping[str, type[Any]], given: Mapping[str, Any] | str) -> Any:
    """An object of ``kinds[given["kind"]]`` with the other keys as its parameters; text stands for a kind with its defaults.

    ValueError with one line that begins with ``what`` when there is no such kind or parameter, or a value does not fit.
    """
    parameters: dict[str, Any] = {"kind": given} if isinstance(given, str) else dict(given)
    kind = parameters.pop("kind", None)
    made = kinds.get(kind) if isinstance(kind, str) else None
    if made is None:
        raise ValueError(f"{what}: kind {kind!r}; there are {', '.join(kinds)}")
    accepted = inspect.signature(made).parameters
    for name in parameters:
        if name not in accepted:
            raise ValueError(f"{what}: {name!r} is not a parameter of {kind}; it takes {', '.join(accepted)}")
    try:
        return made(**parameters)
    except (TypeError, ValueError) as fault:
        raise ValueError(f"{what}: {fault}") from fault
