"""How pools grow and shrink, what their machines have beside GPUs, and how the loss of one is noticed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from sim.config import units
from sim.config.startup import Size, Spread
from sim.config.units import number, shown
from sim.config.values import Flag, Part, Seconds, fault, real, whole

if TYPE_CHECKING:
    from sim.control.cluster.plans import PoolPlan

__all__ = ["Bandwidth", "Growth", "Loss", "Storage", "pool_plan"]

BANDWIDTH = r"^\s*[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?\s*(?:[KMGT]i?B|B|[KMGT]?bit)\s*/\s*s\s*$"
_BITS = {"bit": 1.0, "Kbit": 1e3, "Mbit": 1e6, "Gbit": 1e9, "Tbit": 1e12}


def _bandwidth(value: Any) -> float:
    found = number(value)
    if found is None and isinstance(value, str) and len(value) <= 100 and re.match(BANDWIDTH, value):
        amount = value.rpartition("/")[0].strip()
        bits = re.fullmatch(r"(\S*?)\s*([KMGT]?bit)", amount)
        found = float(bits[1]) * _BITS[bits[2]] / 8.0 if bits else units.size(amount)
    if found is None:
        raise ValueError(f"{shown(value)} is not a bandwidth: bytes a second, or with a unit like 2GB/s, 100Gbit/s")
    return found


_BANDWIDTH_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": BANDWIDTH}],
    "description": "Bytes a second, or with a unit, like 2GB/s, 100Gbit/s.",
}
Bandwidth = Annotated[
    float, real(0.0, 1e15, above=True, read=_bandwidth, schema=_BANDWIDTH_SCHEMA, unit=" bytes a second")
]
"""Bytes a second, ``2GB/s``, ``100Gbit/s``."""


class Growth(Part):
    """How many machines a pool may have, and how it comes by them, as a cluster autoscaler does. Without it: those at the start."""

    least: Annotated[int, whole(0, 100_000)] | None = Field(
        default=None, description="Fewest machines. Default: nodes."
    )
    most: Annotated[int, whole(0, 100_000)] | None = Field(default=None, description="Most machines. Default: nodes.")
    provision: Spread | None = Field(
        default=None,
        description="From when a machine is asked for until it can be used. Default: about 3 min, assumed.",
    )
    idle: Seconds = Field(default=600.0, description="A machine that is empty for so long is released.")
    after_add: Seconds = Field(default=600.0, description="None is released so soon after one was asked for.")
    spare: Annotated[int, whole(0, 100_000)] = Field(
        default=0, description="Machines kept empty for what comes next, as placeholder pods keep them."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Growth:
        if self.least is not None and self.most is not None and self.least > self.most:
            raise fault(f"{self.least} is more than most, {self.most}", "least")
        return self

    def bounds(self, nodes: int) -> tuple[int, int]:
        """Fewest and most machines of a pool that starts with ``nodes``."""
        most = nodes if self.most is None else self.most
        return min(nodes, most) if self.least is None else self.least, most


class Storage(Part):
    """What loads share on a machine, and what stays there of what was loaded."""

    network: Bandwidth | None = Field(default=None, description="Of one machine. Default: never what limits.")
    disk: Bandwidth | None = Field(
        default=None, description="Of one machine's own disk. Default: what the cold start was measured with."
    )
    volume: Bandwidth | None = Field(
        default=None, description="Of one machine's network disk. Default: what the cold start was measured with."
    )
    store: Bandwidth | None = Field(
        default=None, description="Of registry and object store, for the whole pool. Default: never what limits."
    )
    disk_cache: Size = Field(
        default=0.0, description="Weights that came over the network stay on a machine's disk, up to so much."
    )
    host_memory: Size | None = Field(
        default=None,
        description="Weights stay in a machine's memory, up to so much. Default: twice the memory of its GPUs, as cloud machines have.",
    )
    prepulled: Flag = Field(default=False, description="New machines have all images.")


class Loss(Part):
    """How the loss of a machine is noticed. Defaults: those of Kubernetes."""

    noticed: Seconds = Field(
        default=40.0,
        description="Until then requests are sent there, and fail (node-monitor-grace-period: 40 s, in newer versions 50 s).",
    )
    toleration: Seconds = Field(
        default=300.0, description="So long after that its replicas are replaced (tolerationSeconds of unreachable)."
    )


def pool_plan(
    name: str,
    gpus: int,
    nodes: int,
    *,
    growth: Growth,
    storage: Storage,
    loss: Loss,
    gpu_memory: float = 0.0,
    zones: tuple[str, ...] = ("a",),
    placement: str = "pack",
    disk: float | None = None,
    volume: float | None = None,
    images: frozenset[str] = frozenset(),
    provision: Any = None,
) -> PoolPlan:
    """The pool resolved. ``gpu_memory`` is one GPU's; ``disk``, ``volume`` and ``provision`` are as its deployments' cold starts know
    them, for where nothing is said; ``images`` those of its deployments."""
    from sim.control.cluster import phases
    from sim.control.cluster.plans import PoolPlan

    least, most = growth.bounds(nodes)
    taken = provision if growth.provision is None else growth.provision.distribution()
    infinite = float("inf")

    def first(*values: float | None) -> float:
        return next((value for value in values if value is not None), infinite)

    return PoolPlan(
        name=name,
        gpus=gpus,
        nodes=nodes,
        least=least,
        most=most,
        provision=phases.provision() if taken is None else taken,
        idle=growth.idle,
        after_add=growth.after_add,
        spare=growth.spare,
        zones=zones,
        placement=placement,
        network=first(storage.network),
        disk=first(storage.disk, disk),
        volume=first(storage.volume, volume),
        store=first(storage.store),
        disk_cache=storage.disk_cache,
        host_memory=2.0 * gpus * gpu_memory if storage.host_memory is None else storage.host_memory,
        images=images if storage.prepulled else frozenset(),
        monitor=loss.noticed,
        toleration=loss.toleration,
    )
