"""A cluster with faults, on a clock and a data plane of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sim.control.cluster.distribution import Fixed
from sim.control.cluster.plans import PoolPlan, ReplicaPlan, Start
from sim.control.faults import FaultPlan, start
from tests.control.cluster.fakes import Rig

TEN = Start(after={"engine": Fixed(10.0)}, readiness_period=0.0)
"""Starts in ten seconds."""


class Seer:
    """Stands for the autoscalers' loop."""

    def __init__(self) -> None:
        self.blind = 0


class Stage(Rig):
    """One deployment ``d`` on pool ``p``, and what goes wrong with it."""

    def __init__(
        self, pools: list[PoolPlan], deployments: list[ReplicaPlan], faults: Sequence[FaultPlan], seed: int = 1
    ) -> None:
        super().__init__(pools, deployments, seed)
        self.operator = Seer()
        self.cluster.start()
        self.scene = start(
            self.env, self.cluster, self.plane, self.operator, faults, self._stream(seed), self._log
        )  # fmt: skip


def stage(
    replicas: int,
    faults: Sequence[FaultPlan],
    *,
    others: Sequence[PoolPlan] = (),
    begin: Start = TEN,
    grace: float = 30.0,
    seed: int = 1,
    **pool: Any,
) -> Stage:
    """``pool``: fields of the pool other than its defaults (one machine of one GPU)."""
    options: dict[str, Any] = {"gpus": 1, "nodes": 1} | pool
    deployment = ReplicaPlan("d", "p", replicas, start=begin, grace=grace)
    return Stage([PoolPlan("p", **options), *others], [deployment], faults, seed)
