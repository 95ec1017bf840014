"""What a run says: records of replications, their figures and tables, results, comparisons, run directories.

facts        workloads, deployments and pools, as records name them
record       one replication: rows of requests, totals of replicas
fleet        replicas and machines that come and go
bill         what machines cost
energy       what they draw
metrics      its figures
objectives   figures over replications with their intervals; who keeps which objective
tables       requests, timeline and events as tables
alone        what a request would take with nobody beside it
presence     when replicas were missing, and why
causes       what the latency of each request was spent on
why          the tail of each objective by cause
limits       what limited throughput
explain      all that in words
course       replicas over time, their starts, the bill of each pool
verdict      which option to take, and how sure that is
result       Result and Comparison
store        run directories
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.observe.bill import Terms
    from sim.observe.energy import PowerCurve, Site
    from sim.observe.facts import DeploymentFacts, PoolFacts, WorkloadFacts
    from sim.observe.objectives import Estimate, Standing
    from sim.observe.record import ReplicationRecord
    from sim.observe.result import Comparison, Result, load
    from sim.observe.verdict import Pair, Verdict

_HOMES = {
    "Comparison": "result",
    "DeploymentFacts": "facts",
    "Estimate": "objectives",
    "Pair": "verdict",
    "PoolFacts": "facts",
    "PowerCurve": "energy",
    "ReplicationRecord": "record",
    "Result": "result",
    "Site": "energy",
    "Standing": "objectives",
    "Terms": "bill",
    "Verdict": "verdict",
    "WorkloadFacts": "facts",
    "load": "result",
}

__all__ = [
    "Comparison",
    "DeploymentFacts",
    "Estimate",
    "Pair",
    "PoolFacts",
    "PowerCurve",
    "ReplicationRecord",
    "Result",
    "Site",
    "Standing",
    "Terms",
    "Verdict",
    "WorkloadFacts",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
