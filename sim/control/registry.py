"""Policies by family and name: the built-in ones, and those that an installed package offers through the entry-point group
``twinfer.policies``.

A plug-in's entry point is named ``FAMILY.NAME`` (like ``router.mine``) and loads a class; its ``__init__`` takes the scenario's other
keys by keyword, ``generator`` (a numpy Generator, its own stream) and ``knowledge`` (:class:`sim.control.scaling.view.Knowledge`) if it
names such parameters.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from sim.errors import PolicyError, did_you_mean

if TYPE_CHECKING:
    import numpy as np

    from sim.control.router import Router

__all__ = ["FAMILIES", "GROUP", "check", "make", "names", "nested", "parameters", "router"]

GROUP = "twinfer.policies"

FAMILIES: dict[str, dict[str, str]] = {
    "router": {
        "round-robin": "sim.control.routers:RoundRobin",
        "random": "sim.control.routers:RandomChoice",
        "least-outstanding": "sim.control.routers:LeastOutstanding",
        "least-tokens": "sim.control.routers:LeastTokens",
        "power-of-two": "sim.control.routers:PowerOfTwo",
        "session-affinity": "sim.control.routers:SessionAffinity",
        "gateway": "sim.control.routing.gateway:Gateway",
        "sglang": "sim.control.routing.sglang:SglangCacheAware",
        "dynamo": "sim.control.routing.dynamo:DynamoKv",
        "production-stack-session": "sim.control.routing.production_stack_routers:ProductionStackSession",
        "production-stack-prefix": "sim.control.routing.production_stack_routers:ProductionStackPrefix",
        "ray-power-of-two": "sim.control.routing.ray:RayPowerOfTwo",
        "bounded-load": "sim.control.routing.bounded:BoundedLoad",
        "envoy-least-request": "sim.control.routing.least_request:EnvoyLeastRequest",
    },
    "autoscaler": {
        "hpa": "sim.control.scaling.hpa_adapter:HpaScaler",
        "keda": "sim.control.scaling.keda_adapter:KedaScaler",
        "kpa": "sim.control.scaling.kpa:KpaScaler",
        "ray-serve": "sim.control.scaling.rayserve_scaler:RayServeScaler",
        "predictive": "sim.control.scaling.predictive:PredictiveScaler",
        "schedule": "sim.control.scaling.schedule:ScheduleScaler",
        "slo": "sim.control.scaling.slo:SloScaler",
        "oracle": "sim.control.scaling.oracle:OracleScaler",
    },
    "admission": {
        "token-bucket": "sim.control.limits.policies:TokenBucket",
        "envoy-local": "sim.control.limits.policies:EnvoyLocal",
        "concurrency": "sim.control.limits.policies:ConcurrencyLimit",
        "envoy-adaptive": "sim.control.limits.adaptive:EnvoyAdaptive",
        "vegas": "sim.control.limits.adaptive:Vegas",
        "gradient2": "sim.control.limits.adaptive:Gradient2",
        "aimd": "sim.control.limits.adaptive:Aimd",
        "priority-shedding": "sim.control.limits.adaptive:PriorityShedding",
    },
    "pools": {
        "cheapest-first": "sim.control.routing.pools:CheapestFirst",
        "least-latency": "sim.control.routing.pools:LeastLatency",
        "weighted": "sim.control.routing.pools:Weighted",
        "by-length": "sim.control.routing.pools:ByLength",
    },
    "client": {"default": "sim.control.clients.client:Client"},
    "outlier": {"envoy": "sim.control.clients.outliers:OutlierDetection"},
}
"""The built-in policies of each family: name to ``module:class``."""

_CALLS = {
    "router": ("choose", "choose(session, tokens, fleet)"),
    "autoscaler": ("decide", "decide(view)"),
    "admission": ("offer", "offer(ask, now)"),
    "pools": ("choose", "choose(prompt_tokens, output_tokens, pools, now)"),
    "client": ("failed", "failed(now, attempt, previous, reason, u)"),
    "outlier": ("report", "report(host, now, ok)"),
}
_GIVEN = ("generator", "knowledge")  # not the scenario's to give


@cache
def _plug_ins(family: str) -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        kind, _, name = entry.name.partition(".")
        if kind != family or not name:
            continue
        if name in FAMILIES[family] or name in found:
            raise PolicyError(
                f"two {family}s are called {name!r}: one of them is {entry.value} in entry-point group {GROUP}"
            )
        found[name] = entry
    return found


def names(family: str) -> list[str]:
    """Every policy of the family that a scenario can name."""
    return [*FAMILIES[family], *sorted(_plug_ins(family))]


def _policy(family: str, kind: str) -> Any:
    home = FAMILIES[family].get(kind)
    if home is not None:
        module, _, name = home.partition(":")
        return getattr(import_module(module), name)
    entry = _plug_ins(family).get(kind)
    if entry is None:
        known = names(family)
        raise PolicyError(f"{family} {kind!r} is unknown{did_you_mean(kind, known)}; there are {', '.join(known)}")
    try:
        policy = entry.load()
    except Exception as fault:
        raise PolicyError(
            f"{family} {kind!r}: its entry point {entry.value!r} cannot be loaded: {type(fault).__name__}: {fault}"
        ) from fault
    if not callable(policy):
        raise PolicyError(f"{family} {kind!r}: its entry point {entry.value!r} is not a class")
    return policy


def parameters(family: str, kind: str) -> dict[str, inspect.Parameter]:
    """The parameters that a scenario may give the policy, with their annotations and defaults."""
    accepted = inspect.signature(_policy(family, kind)).parameters
    return {name: parameter for name, parameter in accepted.items() if name not in _GIVEN}


def nested(family: str) -> dict[str, Mapping[str, Any]]:
    """Parameters of the family that are policies themselves, named by ``kind``: the classes by kind."""
    if family != "client":
        return {}
    from sim.control.clients.backoff import BACKOFFS
    from sim.control.clients.breakers import BREAKERS
    from sim.control.clients.budgets import BUDGETS

    return {"backoff": BACKOFFS, "budget": BUDGETS, "breaker": BREAKERS}


def make(family: str, kind: str, given: Mapping[str, Any], **extras: Any) -> Any:
    """A fresh policy. ``extras`` are given to those that name such a parameter. PolicyError when there is none of that name, or its
    parameters do not fit."""
    policy = _policy(family, kind)
    accepted = inspect.signature(policy).parameters
    arguments = dict(given)
    for name in arguments:
        if name not in accepted or name in _GIVEN:
            allowed = [key for key in accepted if key not in _GIVEN]
            takes = f"takes {', '.join(allowed)}" if allowed else "takes no parameters"
            raise PolicyError(
                f"{family} {kind!r}: {name!r} is not a parameter of it{did_you_mean(name, allowed)}; it {takes}"
            )
    missing = [
        name
        for name, parameter in accepted.items()
        if name not in arguments
        and name not in extras
        and parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if missing:
        raise PolicyError(f"{family} {kind!r}: needs {', '.join(missing)}")
    arguments |= {name: value for name, value in extras.items() if name in accepted}
    try:
        made = policy(**arguments)
    except (TypeError, ValueError) as fault:
        raise PolicyError(f"{family} {kind!r}: {fault}") from fault
    except Exception as fault:
        raise PolicyError(f"{family} {kind!r}: {type(fault).__name__}: {fault}") from fault
    method, call = _CALLS[family]
    if not callable(getattr(made, method, None)):
        raise PolicyError(f"{family} {kind!r}: {policy!r} has no {call}")
    return made


def check(family: str, kind: str, parameters: Mapping[str, Any]) -> None:
    """PolicyError unless a policy of that name takes these parameters."""
    from sim.kernel.streams import generator

    make(family, kind, parameters, generator=generator(0, 0, "check"), knowledge=None)


def router(kind: str, parameters: Mapping[str, Any], generator: np.random.Generator) -> Router:
    """A fresh router of ``kind``. PolicyError when there is none of that name, or its parameters do not fit."""
    made: Router = make("router", kind, parameters, generator=generator)
    return made
