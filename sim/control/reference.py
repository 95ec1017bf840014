"""The slow, obvious fleet: arrivals and replicas as SimPy processes, an event a step.

The oracle of :mod:`sim.control.fleet`: same plan, same ledger, to the last bit. At equal times the table's arrivals come
first, in table order, then requests re-issued after a think time, in the order they were issued, then step ends by
replica, and last, in the order they were asked for, what is re-issued without a think time and what the gateway is reminded of: nobody
answers in no time, so the steps that end at that moment are followed by the next ones before such a request arrives.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator
from math import ceil, inf, isinf
from typing import Final

import simpy

from sim.control.floor import Floor
from sim.control.plan import FleetPlan
from sim.control.station import Station
from sim.errors import PolicyError
from sim.perf.steptable import StepTable
from sim.serving.ledger import REJECTED, Ledger
from sim.serving.reference import STEP_END, Replica, at

__all__ = ["ReferenceFleet", "simulate"]

TABLE_ARRIVAL: Final = 1
REISSUED_ARRIVAL: Final = 2
AFTER_ALL_STEPS: Final = STEP_END + 1_000_000


class ReferenceFleet(Floor):
    """As :class:`sim.control.fleet.Fleet`, on a SimPy environment of its own."""

    def __init__(self, plan: FleetPlan) -> None:
        self.env = simpy.Environment()
        self.replicas: list[Replica] = []
        super().__init__(plan)
        self.in_system = 0
        self.changed = 0.0
        self.think = {loop.workload: loop.think for loop in plan.closed_loops}
        self.open_rows = [row for row, workload in enumerate(self.workload) if workload not in self.think]
        self.to_come = len(self.open_rows)  # arrivals that are sure to come
        self.closed_rows: dict[int, list[int]] = defaultdict(list)
        for row, workload in enumerate(self.workload):
            if workload in self.think:
                self.closed_rows[workload].append(row)
        for number, deployment in enumerate(plan.deployments):
            for _ in range(deployment.replicas):
                self.open(self.create(number), 0.0)
        self.env.process(self.open_arrivals())
        for loop in plan.closed_loops:
            for _ in range(loop.users):
                self.issue(loop.workload, 0.0, REISSUED_ARRIVAL)

    def advance(self, until: float) -> bool:
        """Process every event up to and at ``until``, or to the first notice. False when nothing is left to happen."""
        while not self.notices and self.env.peek() <= until and not isinf(self.env.peek()):
            self.env.step()
            for replica in sorted(self.draining):
                if self.idle(replica):
                    self.drained(replica, self.env.now)
        if self.expects() or (self.gateway is not None and self.gateway.open):
            return True
        return not all(self.idle(replica) for replica in range(len(self.replicas)))

    def expects(self) -> bool:
        return self.to_come > 0

    def finish(self) -> Ledger:
        """Close the books."""
        ledger = self.ledger
        if self.gateway is None:
            self.count(0, ledger.end_time)
        else:
            ledger.area += self.gateway.open * ledger.end_time
        return ledger

    def open_arrivals(self) -> Generator[simpy.Event, None, None]:
        for row in self.open_rows:
            yield at(self.env, self.ledger.arrival[row] - self.env.now, TABLE_ARRIVAL)
            self.to_come -= 1
            self.arrive(row)

    def reissue(self, row: int, now: float) -> None:
        think = self.think[self.workload[row]]
        self.issue(self.workload[row], think, REISSUED_ARRIVAL if think > 0.0 else AFTER_ALL_STEPS)

    def issue(self, workload: int, think: float, order: int) -> None:
        """The workload's next request is sent after ``think`` seconds, if there is one and the run goes on."""
        if self.closed_rows[workload] and self.env.now + think < self.plan.horizon:
            row = self.closed_rows[workload].pop(0)
            self.to_come += 1
            self.env.process(self.sent(row, think, order))

    def sent(self, row: int, think: float, order: int) -> Generator[simpy.Event, None, None]:
        yield at(self.env, think, order)
        self.to_come -= 1
        self.ledger.arrival[row] = self.env.now
        self.arrive(row, late=order == AFTER_ALL_STEPS)

    def arrive(self, row: int, late: bool = False) -> None:
        ledger = self.ledger
        ledger.issued += 1
        ledger.end_time = self.env.now
        station = self.station_of[self.workload[row]]
        if self.gateway is not None:
            self.gateway.arrive(row, station, self.env.now, late)
            return
        prompt, output = self.prompt[row], self.output[row]
        settings = station.plan.settings
        reason = ""
        if prompt + output > settings.max_model_len:
            reason = "max_model_len"
        elif ceil((prompt + output - 1) / settings.block_size) > settings.kv_blocks - 1:
            reason = "kv_capacity"  # it could not finish even if it were alone
        if reason:
            ledger.outcome[row] = REJECTED
            ledger.reason[row] = reason
            ledger.end[row] = self.env.now
            if self.closed_loop(row):
                self.reissue(row, self.env.now)
            return
        self.count(+1, self.env.now)
        station.view.now = self.env.now
        station.view.prompt_tokens = prompt
        index = station.router.choose(self.session[row], prompt + output, station.view)
        if not 0 <= index < len(station.eligible):
            raise PolicyError(
                f"the router of deployment '{station.plan.name}' chose replica {index} "
                f"of {len(station.eligible)} (allowed: 0 to {len(station.eligible) - 1})"
            )
        self.deliver(row, station, index, self.env.now, late)

    def ended(self, row: int) -> None:
        """A request finished at the end of a step."""
        replica = self.ledger.replica[row]
        self.gone(replica, row)
        if self.gateway is not None:
            self.gateway.served(self.owner[replica], replica, row, self.env.now)
            return
        self.count(-1, self.env.now)
        if self.closed_loop(row):
            self.reissue(row, self.env.now)

    def count(self, change: int, now: float) -> None:
        """The number of requests in the system changes: add to its time integral."""
        self.ledger.area += self.in_system * (now - self.changed)
        self.in_system += change
        self.changed = now

    # what the gateway and the cluster need (sim.control.floor)

    def at(self, when: float, code: int) -> None:
        self.env.process(self.reminded(when - self.env.now, code))

    def reminded(self, wait: float, code: int) -> Generator[simpy.Event, None, None]:
        yield at(self.env, wait, AFTER_ALL_STEPS)
        if self.gateway is not None and self.gateway.remind(code, self.env.now):
            self.ledger.end_time = self.env.now

    def settle(self, now: float) -> None:
        """Bring the clock to ``now``, at which something outside of this environment happens."""
        if now > self.env.now:
            moment = at(self.env, now - self.env.now, AFTER_ALL_STEPS)
            while not moment.processed:
                self.env.step()

    def snapshot(self, replica: int, now: float) -> tuple[int, int, int]:
        self.settle(now)
        return self.replicas[replica].snapshot()

    def busy(self, replica: int, now: float) -> float:
        self.settle(now)
        return self.replicas[replica].busy_now

    def make(self, number: int, station: Station) -> None:
        settings, step = station.plan.settings, station.plan.step
        self.replicas.append(Replica(self.env, number, settings, step, self.ledger, self.ended))

    def submit(self, replica: int, row: int, now: float, late: bool) -> None:
        self.replicas[replica].submit(row, self.prompt[row], self.output[row], self.priority[row], late)
        # an idle replica has begun a step before the next request comes, which may be the next line of the caller
        while self.env.peek() == now and self.env._queue[0][1] == simpy.events.URGENT:
            self.env.step()

    def abort(self, replica: int, row: int, now: float) -> None:
        self.replicas[replica].abort(row, True)

    def retable(self, replica: int, table: StepTable, now: float) -> None:
        self.replicas[replica].retable(table)

    def destroy(self, replica: int, now: float) -> list[int]:
        return self.replicas[replica].kill()

    def held(self, replica: int) -> list[int]:
        return self.replicas[replica].requests()

    def progress(self, replica: int, now: float) -> dict[int, tuple[int, float]]:
        return self.replicas[replica].progress()

    def idle(self, replica: int) -> bool:
        return self.replicas[replica].idle


def simulate(plan: FleetPlan) -> Ledger:
    """Run one replication of the plan, one event a step. Slow; see :func:`sim.control.fleet.simulate` for the same, fast."""
    fleet = ReferenceFleet(plan)
    while fleet.advance(inf if plan.drain else plan.horizon) and fleet.notices:
        fleet.notices.clear()
    return fleet.finish()
