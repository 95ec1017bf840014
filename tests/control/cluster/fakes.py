"""A data plane that only remembers, and helpers to drive a cluster by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
from simpy import Environment

from sim.control.cluster.cluster import Cluster
from sim.control.cluster.plans import PoolPlan, ReplicaPlan
from sim.kernel.streams import generator


class FakePlane:
    """``busy``: replicas that have something to serve. ``deeds`` are (what, replica, now)."""

    def __init__(self) -> None:
        self.created: list[int] = []  # the deployment of each replica
        self.open_: set[int] = set()
        self.gone: set[int] = set()
        self.cut_: set[int] = set()
        self.busy: set[int] = set()
        self.always_busy = False
        self.paces: dict[int, float] = {}
        self.deeds: list[tuple[str, int, float]] = []

    def create(self, deployment: int) -> int:
        self.created.append(deployment)
        return len(self.created) - 1

    def open(self, replica: int, now: float) -> None:
        assert replica not in self.gone, "a replica that is gone was opened"
        assert replica not in self.open_, "opened twice"
        self.open_.add(replica)
        self.deeds.append(("open", replica, now))

    def close(self, replica: int, now: float) -> None:
        assert replica in self.open_
        self.open_.discard(replica)
        self.deeds.append(("close", replica, now))

    def idle(self, replica: int) -> bool:
        return not self.always_busy and replica not in self.busy

    def kill(self, replica: int, now: float, reason: str) -> int:
        assert replica not in self.gone, "killed twice"
        self.gone.add(replica)
        self.open_.discard(replica)
        self.deeds.append(("kill", replica, now))
        return 0 if self.idle(replica) else 1

    def pace(self, replica: int, factor: float, now: float) -> None:
        self.paces[replica] = factor

    def cut(self, replica: int, on: bool, now: float) -> None:
        assert replica not in self.gone
        (self.cut_.add if on else self.cut_.discard)(replica)
        self.deeds.append(("cut", replica, now))

    def times(self, what: str) -> list[float]:
        return [now for deed, _, now in self.deeds if deed == what]


class Rig:
    """A cluster on a clock of its own; ``log`` holds (kind, now, reason, all else)."""

    def __init__(self, pools: list[PoolPlan], deployments: list[ReplicaPlan], seed: int = 1) -> None:
        self.env = Environment()
        self.plane = FakePlane()
        self.log: list[tuple[str, float, str, dict[str, Any]]] = []
        self.streams: list[str] = []
        self.cluster = Cluster(self.env, self.plane, pools, deployments, self._stream(seed), self._log)

    def _stream(self, seed: int):  # type: ignore[no-untyped-def]
        def make(name: str) -> np.random.Generator:
            self.streams.append(name)
            return generator(seed, 0, name)

        return make

    def _log(
        self, kind: str, now: float, reason: str, *, deployment: str = "", replica: int = -1, **numbers: object
    ) -> None:
        self.log.append((kind, now, reason, {"deployment": deployment, "replica": replica, **numbers}))

    def run(self, until: float) -> None:
        self.env.run(until)

    def kinds(self, *kinds: str) -> list[tuple[float, dict[str, Any]]]:
        return [(now, numbers) for kind, now, _, numbers in self.log if kind in kinds]

    def phases(self, deployment: int = 0) -> list[str]:
        return [state.phase for state in self.cluster.states(deployment)]
