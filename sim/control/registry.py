"""Policies by name: the built-in ones, and those that an installed package offers through the entry-point group ``twinfer.policies``.

A plug-in's entry point is named ``router.NAME`` and loads a class; its ``__init__`` takes the scenario's other keys by keyword,
and ``generator`` (a numpy Generator, its own stream) if it names such a parameter.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from sim.control import routers
from sim.control.router import Router
from sim.errors import PolicyError, did_you_mean

if TYPE_CHECKING:
    import numpy as np

__all__ = ["GROUP", "names", "router"]

GROUP = "twinfer.policies"

_BUILT_IN: dict[str, type[Router]] = {
    "round-robin": routers.RoundRobin,
    "random": routers.RandomChoice,
    "least-outstanding": routers.LeastOutstanding,
    "least-tokens": routers.LeastTokens,
    "power-of-two": routers.PowerOfTwo,
    "session-affinity": routers.SessionAffinity,
}


@cache
def _plug_ins() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        kind, _, name = entry.name.partition(".")
        if kind != "router" or not name:
            continue
        if name in _BUILT_IN or name in found:
            raise PolicyError(
                f"two routers are called {name!r}: one of them is {entry.value} in entry-point group {GROUP}"
            )
        found[name] = entry
    return found


def names() -> list[str]:
    """Every router that a scenario can name."""
    return [*_BUILT_IN, *sorted(_plug_ins())]


def _loaded(kind: str, entry: EntryPoint) -> Any:
    try:
        policy = entry.load()
    except Exception as fault:
        raise PolicyError(
            f"router {kind!r}: its entry point {entry.value!r} cannot be loaded: {type(fault).__name__}: {fault}"
        ) from fault
    if not callable(policy):
        raise PolicyError(f"router {kind!r}: its entry point {entry.value!r} is not a class")
    return policy


def router(kind: str, parameters: Mapping[str, Any], generator: np.random.Generator) -> Router:
    """A fresh router of ``kind``. PolicyError when there is none of that name, or its parameters do not fit."""
    policy: Any = _BUILT_IN.get(kind)
    if policy is None:
        entry = _plug_ins().get(kind)
        if entry is None:
            known = names()
            raise PolicyError(f"router {kind!r} is unknown{did_you_mean(kind, known)}; there are {', '.join(known)}")
        policy = _loaded(kind, entry)
    accepted = inspect.signature(policy).parameters
    arguments = dict(parameters)
    for name in arguments:
        if name not in accepted or name == "generator":
            allowed = [key for key in accepted if key != "generator"]
            takes = f"takes {', '.join(allowed)}" if allowed else "takes no parameters"
            raise PolicyError(
                f"router {kind!r}: {name!r} is not a parameter of it{did_you_mean(name, allowed)}; it {takes}"
            )
    if "generator" in accepted:
        arguments["generator"] = generator
    try:
        made = policy(**arguments)
    except (TypeError, ValueError) as fault:
        raise PolicyError(f"router {kind!r}: {fault}") from fault
    except Exception as fault:
        raise PolicyError(f"router {kind!r}: {type(fault).__name__}: {fault}") from fault
    if not isinstance(made, Router):
        raise PolicyError(f"router {kind!r}: {policy!r} has no choose(session, tokens, fleet)")
    return made
