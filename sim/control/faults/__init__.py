"""What breaks, how often and for how long, and what operators do on purpose: processes over a cluster.

times, slots                         when and who, without a clock
plans                                what is to go wrong, resolved
breakage, disturbance, spot, rollout one process a fault
ailments                             between cluster and data plane: slow and unreachable replicas
start                                all of them at once
"""

from sim.control.faults.plans import (
    FaultPlan,
    GpuFailure,
    MetricsOutage,
    NodeFailure,
    Partition,
    ReplicaCrash,
    Rollout,
    Slowdown,
    SpotReclaim,
    ZoneLoss,
)
from sim.control.faults.start import start
from sim.control.faults.times import At, Renewal

__all__ = [
    "At",
    "FaultPlan",
    "GpuFailure",
    "MetricsOutage",
    "NodeFailure",
    "Partition",
    "Renewal",
    "ReplicaCrash",
    "Rollout",
    "Slowdown",
    "SpotReclaim",
    "ZoneLoss",
    "start",
]
