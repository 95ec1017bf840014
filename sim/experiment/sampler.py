"""A SimPy process that looks at every replica at a fixed period: the timeline of a run."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from simpy import Environment, Event

from sim.kernel.clock import on_grid

if TYPE_CHECKING:
    from sim.control.floor import Floor

__all__ = ["Sampler"]


class Sampler:
    """Columns of samples, a row for each replica and moment: requests, KV blocks in use, busy seconds so far."""

    def __init__(self, fleet: Floor, period: float) -> None:
        self.fleet = fleet
        self.period = on_grid(period)
        self.columns: dict[str, list[float]] = {
            name: [] for name in ("t_s", "replica", "running", "waiting", "kv_used", "busy_s")
        }

    def process(self, env: Environment) -> Generator[Event]:
        """Sample now and every ``period`` seconds, for as long as the simulation goes on."""
        while True:
            self.sample(env.now)
            yield env.timeout(self.period)

    def sample(self, now: float) -> None:
        """One row for each replica that serves as it stands at ``now``."""
        columns = self.columns
        for replica in self.fleet.serving:
            running, waiting, kv_used = self.fleet.snapshot(replica, now)
            columns["t_s"].append(now)
            columns["replica"].append(replica)
            columns["running"].append(running)
            columns["waiting"].append(waiting)
            columns["kv_used"].append(kv_used)
            columns["busy_s"].append(self.fleet.busy(replica, now))
