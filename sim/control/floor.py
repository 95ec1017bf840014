"""What the fast fleet and the reference have in common: deployments, which of their replicas are open, and who is told what.

Neither knows of the other. A fleet adds the calendar, and the replicas with their steps; the few abstract methods here are all that
the gateway and the cluster need of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import insort

from sim.control.gateway import Gateway
from sim.control.plan import FleetPlan
from sim.control.router import Look
from sim.control.station import Station
from sim.perf.steptable import StepTable
from sim.serving.ledger import Ledger

__all__ = ["Floor"]


class Floor(ABC):
    """Columns of the requests, by row; attempts of clients that try again are rows past those of the table. Replicas by number."""

    def __init__(self, plan: FleetPlan) -> None:
        table = plan.table
        self.plan = plan
        self.prompt: list[int] = table.prompt_tokens.tolist()
        self.output: list[int] = table.output_tokens.tolist()
        self.priority: list[int] = table.priority.tolist()
        self.session: list[int] = table.session.tolist()
        self.workload: list[int] = table.workload.tolist()
        self.rows = len(self.prompt)  # of the table
        self.ledger = Ledger(table.arrival.tolist(), 0)
        self.stations = [Station(deployment, number, self.look) for number, deployment in enumerate(plan.deployments)]
        self.station_of = [self.stations[number] for number in plan.deployment_of]
        self.owner: list[Station] = []  # of each replica
        self.ordinal: list[int] = []  # its index within the deployment
        self.position: list[int] = []  # in its deployment's view; -1: not in it
        self.serving: list[int] = []  # those that are open, or closed and not gone
        self.closed: set[int] = set()  # those that get nothing new, and are not gone
        self.draining: set[int] = set()  # of these, those that are to be told of when they have nothing left
        self.severed: set[int] = set()  # those that the gateway cannot reach
        self.notices: list[tuple[float, str, int]] = []
        # of rows that are being lost: output tokens that they had, and when the last of them came
        self.generated: dict[int, tuple[int, float]] = {}
        self.late = True  # the steps that end at this moment have ended
        closed_loops = {loop.workload for loop in plan.closed_loops}
        self.loops = [number in closed_loops for number in range(len(plan.deployment_of))]
        self.gateway: Gateway | None = None if plan.gateway is None else Gateway(self, plan.gateway)

    # what a fleet must add

    @abstractmethod
    def advance(self, until: float) -> bool:
        """Process every event up to and at ``until``, or to the first notice. False when nothing is left to happen."""

    @abstractmethod
    def finish(self) -> Ledger:
        """Close the books of a fleet that will not be advanced further."""

    @abstractmethod
    def settle(self, now: float) -> None:
        """Something outside happens at ``now``, after all that happens here by then."""

    @abstractmethod
    def expects(self) -> bool:
        """Whether more requests will come."""

    @abstractmethod
    def snapshot(self, replica: int, now: float) -> tuple[int, int, int]:
        """Requests running and waiting in a replica, and KV blocks in use, at ``now``."""

    @abstractmethod
    def busy(self, replica: int, now: float) -> float:
        """Seconds that the replica has spent in steps by ``now``."""

    @abstractmethod
    def make(self, number: int, station: Station) -> None:
        """A new replica."""

    @abstractmethod
    def submit(self, replica: int, row: int, now: float, late: bool) -> None:
        """Row ``row`` arrives at the replica."""

    @abstractmethod
    def abort(self, replica: int, row: int, now: float) -> None:
        """Row ``row`` is to leave the replica."""

    @abstractmethod
    def destroy(self, replica: int, now: float) -> list[int]:
        """The replica is no more; the rows that were in it."""

    @abstractmethod
    def retable(self, replica: int, table: StepTable, now: float) -> None:
        """Steps of the replica take other times."""

    @abstractmethod
    def held(self, replica: int) -> list[int]:
        """The rows in the replica."""

    @abstractmethod
    def progress(self, replica: int, now: float) -> dict[int, tuple[int, float]]:
        """Of the rows in the replica that have output tokens by ``now``: how many, and when the last of them came."""

    @abstractmethod
    def idle(self, replica: int) -> bool:
        """Whether the replica has nothing to serve."""

    @abstractmethod
    def at(self, when: float, code: int) -> None:
        """Have the gateway reminded of ``code`` (0 or more) at ``when``, a point of the time grid, after all step ends of that moment."""

    @abstractmethod
    def reissue(self, row: int, now: float) -> None:
        """A closed-loop user's request ``row`` ended: the next one is issued, in its time."""

    def look(self, replica: int, now: float) -> Look:
        """What the engine of a replica exports at ``now``."""
        running, waiting, used = self.snapshot(replica, now)
        blocks = self.owner[replica].plan.settings.kv_blocks - 1
        return Look(running, waiting, used / blocks, blocks)

    # the rows

    def closed_loop(self, request: int) -> bool:
        """Whether a closed-loop user waits for ``request``."""
        return self.loops[self.workload[request]]

    def add_attempt(self, request: int, prompt: int, output: int, now: float) -> int:
        """A further row, of the same kind as ``request``."""
        row = self.ledger.add_row(now)
        self.prompt.append(prompt)
        self.output.append(output)
        self.priority.append(self.priority[request])
        self.session.append(self.session[request])
        self.workload.append(self.workload[request])
        return row

    def deliver(self, row: int, station: Station, position: int, now: float, late: bool) -> None:
        """Send ``row`` to the replica at ``position`` of the station's view."""
        view = station.view
        view.outstanding[position] += 1
        view.tokens[position] += self.prompt[row] + self.output[row]
        replica = station.numbers[station.eligible[position]]
        self.ledger.replica[row] = replica
        self.submit(replica, row, now, late)

    def withdraw(self, row: int, now: float) -> None:
        """Row ``row`` is to leave the replica that it was sent to."""
        replica = self.ledger.replica[row]
        self.gone(replica, row)
        self.abort(replica, row, now)

    def gone(self, replica: int, row: int) -> None:
        """What is known outside of the replica: it has one request less."""
        station = self.owner[replica]
        position = self.position[replica]
        tokens = self.prompt[row] + self.output[row]
        if position >= 0:
            station.view.outstanding[position] -= 1
            station.view.tokens[position] -= tokens
        else:
            station.released(self.ordinal[replica], 1, tokens)

    # the replicas (sim.control.cluster.plane.DataPlane)

    def create(self, deployment: int) -> int:
        """A new replica, not yet ready: no request goes there. Its number."""
        station = self.stations[deployment]
        number = self.ledger.add_replica()
        self.owner.append(station)
        self.ordinal.append(len(station.numbers))
        self.position.append(-1)
        station.numbers.append(number)
        self.make(number, station)
        return number

    def open(self, replica: int, now: float) -> None:
        """It is ready: requests go there, those that wait at the gateway first."""
        self.settle(now)
        station = self.owner[replica]
        station.ready += 1
        insort(self.serving, replica)
        self.include(replica)
        if self.gateway is not None:
            self.gateway.opened(station, self.ordinal[replica], now)

    def include(self, replica: int) -> None:
        """The router may choose it."""
        station = self.owner[replica]
        station.enter(self.ordinal[replica])
        self._place(station)

    def exclude(self, replica: int) -> None:
        """The router may not choose it."""
        station = self.owner[replica]
        if station.leave(self.ordinal[replica]) >= 0:
            self.position[replica] = -1
            self._place(station)

    def _place(self, station: Station) -> None:
        for position, index in enumerate(station.eligible):
            self.position[station.numbers[index]] = position

    def close(self, replica: int, now: float) -> None:
        """It gets nothing new and serves what it has."""
        self.settle(now)
        self.closed.add(replica)
        self._shut(replica, now)
        if self.idle(replica):
            self.notices.append((now, "drained", replica))
        else:
            self.draining.add(replica)

    def _shut(self, replica: int, now: float) -> None:
        station = self.owner[replica]
        station.ready -= 1
        self.exclude(replica)
        if self.gateway is not None:
            self.gateway.closed(station, self.ordinal[replica], now)

    def drained(self, replica: int, now: float) -> None:
        """A replica that is draining has nothing left."""
        self.draining.discard(replica)
        self.notices.append((now, "drained", replica))

    def kill(self, replica: int, now: float, reason: str) -> int:
        """It is gone, at once. What it was serving fails for ``reason``; how many requests that were."""
        self.settle(now)
        station = self.owner[replica]
        opened = replica in self.serving
        if opened:
            self.serving.remove(replica)
        if opened and replica not in self.closed:
            self.closed.add(replica)  # so that nobody brings it back
            self._shut(replica, now)
        self.closed.discard(replica)
        self.draining.discard(replica)
        self.severed.discard(replica)
        station.away.pop(self.ordinal[replica], None)
        self._note(station, replica, now)
        rows = self.destroy(replica, now)
        self._lose(station, replica, rows, now, reason)
        return len(rows)

    def pace(self, replica: int, factor: float, now: float) -> None:
        """From its next step on, its steps take ``factor`` times what its profile says."""
        self.settle(now)
        step = self.owner[replica].plan.step
        self.retable(replica, step if factor == 1.0 else step.scaled(factor), now)

    def cut(self, replica: int, on: bool, now: float) -> None:
        """Whether the gateway can no longer reach it: what it was serving fails, and what is sent to it will."""
        self.settle(now)
        if not on:
            self.severed.discard(replica)
            return
        self.severed.add(replica)
        station = self.owner[replica]
        self._note(station, replica, now)
        rows = self.held(replica)
        for row in rows:
            self.withdraw(row, now)
        self._lose(station, replica, rows, now, "unreachable")

    def _note(self, station: Station, replica: int, now: float) -> None:
        if self.gateway is not None and self.gateway.terms[station.number].on_loss == "migrate":
            self.generated = self.progress(replica, now)

    def _lose(self, station: Station, replica: int, rows: list[int], now: float, reason: str) -> None:
        if rows and self.gateway is not None:
            self.ledger.end_time = now
            self.gateway.lost(station, replica, rows, now, reason)
        self.generated = {}
