"""What must be known beside what happened, to read a replication: workloads, deployments, pools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sim.observe.alone import Alone
from sim.observe.bill import Terms
from sim.observe.energy import PowerCurve, Site
from sim.serving.settings import EngineSettings

__all__ = ["DeploymentFacts", "PoolFacts", "WorkloadFacts"]


@dataclass(frozen=True)
class WorkloadFacts:
    """One workload as its rows are read: the model it asks for, its tenant, its objectives (``{"ttft_p99": 2.0}``, seconds)."""

    name: str
    model: str = ""
    tenant: str = "default"
    objectives: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class DeploymentFacts:
    """One deployment as its replicas are read.

    ``replicas`` at the start; ``gpus`` and ``usd_per_hour`` are those of all of them together; ``kv_blocks`` is what one replica can
    give to requests (vLLM's count less the reserved block 0). ``request_overhead`` seconds pass until a request that was sent is
    seen by the engine: its ledger's clock, on which a request arrives when it is sent, is late by as much. ``pool`` names one of the
    record's pools, which then say what is paid in place of ``usd_per_hour``. ``replica_gpus`` is needed when there are no replicas at
    the start. ``power`` is what one of its GPUs draws, None: not known.

    What a wait is explained by, None where it is not known: ``alone``, what its requests would take with nobody beside them;
    ``engine``, the settings of its engines; ``ceiling``, the most replicas its autoscaler may ask for.
    """

    name: str
    replicas: int
    gpus: int
    usd_per_hour: float
    kv_blocks: int
    request_overhead: float = 0.0
    pool: str = ""
    replica_gpus: int | None = None
    power: PowerCurve | None = None
    alone: Alone | None = None
    engine: EngineSettings | None = None
    ceiling: int | None = None

    @property
    def gpus_each(self) -> float:
        """GPUs of one replica."""
        if self.replica_gpus is not None:
            return float(self.replica_gpus)
        return self.gpus / self.replicas if self.replicas else float(self.gpus)


@dataclass(frozen=True)
class PoolFacts:
    """One pool of machines: what it is billed by, and what it draws.

    ``machines`` are there at the start, and all the time where nothing says otherwise, with ``gpus`` each. ``site`` says what they draw
    beside their busy GPUs, None: not known.
    """

    name: str
    terms: Terms
    machines: int = 1
    gpus: float = 1.0
    gpu: str = ""
    site: Site | None = None
