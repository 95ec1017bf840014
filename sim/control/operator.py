"""The control loops of a run: each autoscaler looks and decides in its own periods, as a SimPy process; the cluster does what it says."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from simpy import Environment, Event

from sim.control.scaling.view import Autoscaler, Decision, DeploymentView, ReplicaView
from sim.kernel.clock import on_grid

if TYPE_CHECKING:
    from sim.control.cluster.cluster import Cluster
    from sim.control.floor import Floor

__all__ = ["Operator"]


class Operator:
    """``scalers[d]`` decides for deployment ``d``, None: nobody does. While ``blind`` is more than 0, nobody who scrapes sees anything."""

    def __init__(self, env: Environment, floor: Floor, cluster: Cluster, scalers: Sequence[Autoscaler | None]) -> None:
        self.env = env
        self.floor = floor
        self.cluster = cluster
        self.scalers = scalers
        self.blind = 0

    def start(self) -> None:
        """Begin all loops."""
        for deployment, scaler in enumerate(self.scalers):
            if scaler is not None:
                self.env.process(self._loop(deployment, scaler))

    def told(self, when: float, what: str, whom: int) -> None:
        """What the data plane has to say: a replica has drained, or a request waits for a deployment without any."""
        if what == "wanted":
            scaler = self.scalers[whom]
            if scaler is not None and self.blind == 0:
                wake = getattr(scaler, "wake", None)  # of those that are told of the first request
                if wake is not None:
                    self._obey(whom, wake(self.view(whom)))
                elif getattr(scaler, "wakes", False):
                    self._decide(whom, scaler)
        else:
            self.cluster.told(when, what, whom)

    def _loop(self, deployment: int, scaler: Autoscaler) -> Generator[Event]:
        """Look every ``sample_period`` and decide every ``period`` seconds; at one moment look first."""
        looks = decisions = 1
        while True:
            decision = on_grid(decisions * scaler.period)
            look = on_grid(looks * scaler.sample_period) if scaler.sample_period > 0.0 else decision
            yield self.env.timeout(max(min(look, decision) - self.env.now, 0.0))
            if look <= decision and scaler.sample_period > 0.0:
                scaler.observe(self.view(deployment))
                looks += 1
            if decision <= look:
                self._decide(deployment, scaler)
                decisions += 1

    def _decide(self, deployment: int, scaler: Autoscaler) -> None:
        self._obey(deployment, scaler.decide(self.view(deployment)))

    def _obey(self, deployment: int, decision: Decision) -> None:
        if decision.replicas is not None:
            self.cluster.scale(deployment, decision.replicas, decision.reason, **decision.numbers)

    def view(self, deployment: int) -> DeploymentView:
        """The deployment as it is now."""
        now = float(self.env.now)
        floor = self.floor
        station = floor.stations[deployment]
        view = station.view
        replicas = []
        for state in self.cluster.states(deployment):
            seen = ReplicaView(state.index, state.phase, state.created, state.started, state.ready_since)
            number = state.replica
            position = floor.position[number]
            look = floor.look(number, now)
            seen.running, seen.waiting, seen.kv_usage = look.running, look.waiting, look.kv_usage
            seen.tokens = view.tokens[position] if position >= 0 else station.away.get(state.index, (0, 0))[1]
            seen.busy_seconds = floor.busy(number, now)
            replicas.append(seen)
        gateway = floor.gateway
        return DeploymentView(
            now=now,
            target=self.cluster.target(deployment),
            replicas=replicas,
            queued=0 if gateway is None else len(gateway.lines[deployment]),
            request_seconds=station.area + station.inside * now,
            arrived=station.arrived,
            ended=station.ended,
            rejected=station.rejected,
            prompt_tokens=station.prompt_tokens,
            output_tokens=station.output_tokens,
            latencies=station.latencies,
            metrics=self.blind == 0,
        )
