"""What a run says: records of replications, their figures and tables, results, comparisons, run directories.

record       one replication: rows of requests, totals of replicas
metrics      its figures
objectives   figures over replications with their intervals; who keeps which objective
tables       requests, timeline and events as tables
verdict      which option to take, and how sure that is
result       Result and Comparison
store        run directories
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.observe.objectives import Estimate, Standing
    from sim.observe.record import DeploymentFacts, ReplicationRecord, WorkloadFacts
    from sim.observe.result import Comparison, Result, load
    from sim.observe.verdict import Pair, Verdict

_HOMES = {
    "Comparison": "result",
    "DeploymentFacts": "record",
    "Estimate": "objectives",
    "Pair": "verdict",
    "ReplicationRecord": "record",
    "Result": "result",
    "Standing": "objectives",
    "Verdict": "verdict",
    "WorkloadFacts": "record",
    "load": "result",
}

__all__ = [
    "Comparison",
    "DeploymentFacts",
    "Estimate",
    "Pair",
    "ReplicationRecord",
    "Result",
    "Standing",
    "Verdict",
    "WorkloadFacts",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
