"""The cheapest configuration that meets the objectives, and how sure that is.

    found = sim.optimize(sim.load("scenario.yaml"), over={"deployments.chat.replicas": "1..12"})
    print(found.sentence)

evidence     tests that may be looked at after every replication
evaluation   who is asked what a point costs and how it does
candidate    a point, what is known of it, what that decides
order        which points are taken to do no worse than which
search       candidates and what was spent; selecting and sampling decide where replications go
optimization, optimum: the question and the answer; words, winner: how it is said and written
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.study.optimizing.optimization import optimize
    from sim.study.optimizing.optimum import Optimum

_HOMES = {"Optimum": "optimum", "optimize": "optimization"}

__all__ = ["Optimum", "optimize"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
