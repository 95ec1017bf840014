"""The data plane: arrivals, routing and every replica's steps, in one lean calendar. SimPy keeps the clock of all that decides.

Events at equal times: arrivals first (in table order, closed-loop re-issues after), then step ends by replica, then what the
gateway was to be reminded of. A finished request leaves before its replica's next step is formed. A closed-loop user who does not
think re-issues at the very time its request ended: that request arrives after all step ends of that time, since no client answers in
no time.
"""

from __future__ import annotations

from heapq import heappop, heappush, heapreplace
from typing import Final

from sim.control.floor import Floor
from sim.control.plan import FleetPlan
from sim.control.station import Station
from sim.perf.steptable import StepTable
from sim.serving.ledger import REJECTED, Ledger
from sim.serving.replica import Replica

__all__ = ["Fleet", "simulate"]

_NEVER: Final = float("inf")


class Fleet(Floor):
    """All deployments of one replication, advanced in bulk by :meth:`advance`; what happened is in ``ledger``."""

    def __init__(self, plan: FleetPlan) -> None:
        self.replicas: list[Replica] = []
        # (when, 1 if after the step ends of that moment, number of the entry, row; or -1 - code of a reminder)
        self.issues: list[tuple[float, int, int, int]] = []
        self.issue_number = 0
        super().__init__(plan)
        arrivals = self.ledger.arrival
        self.open_rows = sum(1 for t in arrivals if t == t)  # closed-loop rows (NaN) come last
        self.cursor = 0
        self.calendar: list[tuple[float, int]] = [(_NEVER, -1)]  # (step end, replica), and one that is never reached
        # closed loops: rows not yet issued, by workload; issues to come, in order
        self.think: dict[int, float] = {loop.workload: loop.think for loop in plan.closed_loops}
        self.supply: dict[int, list[int]] = {loop.workload: [] for loop in plan.closed_loops}
        for row in range(len(arrivals) - 1, self.open_rows - 1, -1):
            self.supply[self.workload[row]].append(row)
        self.to_come = 0  # rows among the issues
        for number, deployment in enumerate(plan.deployments):
            for _ in range(deployment.replicas):
                self.open(self.create(number), 0.0)
        for loop in plan.closed_loops:
            for _ in range(loop.users):
                self._issue(loop.workload, 0.0, 0)

    def advance(self, until: float) -> bool:
        """Process every event up to and at ``until``, or to the first notice. False when nothing is left to happen."""
        calendar = self.calendar
        replicas = self.replicas
        issues = self.issues
        notices = self.notices
        arrivals = self.ledger.arrival
        cursor = self.cursor
        open_rows = self.open_rows
        next_open = arrivals[cursor] if cursor < open_rows else _NEVER
        last = self.ledger.end_time
        while not notices:
            arrival = next_open
            late = False
            if issues and issues[0][0] < arrival:
                arrival = issues[0][0]
                late = issues[0][1] == 1
            end, index = calendar[0]
            if end < arrival or (late and end == arrival):
                if end > until:
                    break
                replica = replicas[index]
                if replica.end != end:
                    heappop(calendar)  # superseded
                    continue
                finished = replica.complete(end)
                if finished:
                    self._release(finished, index, end)
                replica.begin(end)
                if replica.end == _NEVER:
                    heappop(calendar)
                    if index in self.draining:
                        self.drained(index, end)
                else:
                    heapreplace(calendar, (replica.end, index))
                last = end
            else:
                if arrival > until or arrival == _NEVER:
                    break
                if arrival == next_open:
                    row = cursor
                    cursor += 1
                    next_open = arrivals[cursor] if cursor < open_rows else _NEVER
                else:
                    row = heappop(issues)[3]
                    if row < 0:
                        gateway = self.gateway
                        self.cursor = cursor
                        self.late = True
                        if gateway is not None and gateway.remind(-1 - row, arrival):
                            last = arrival
                        continue
                    self.to_come -= 1
                    arrivals[row] = arrival
                self._arrive(row, arrival, late)
                last = arrival
        self.cursor = cursor
        self.late = True
        self.ledger.end_time = last
        if self.expects() or (self.gateway is not None and self.gateway.open):
            return True
        return any(replica.end != _NEVER for replica in replicas)

    def expects(self) -> bool:
        return self.cursor < self.open_rows or self.to_come > 0

    def _arrive(self, row: int, now: float, late: bool) -> None:
        ledger = self.ledger
        ledger.issued += 1
        station = self.station_of[self.workload[row]]
        gateway = self.gateway
        if gateway is not None:
            self.late = late
            gateway.arrive(row, station, now, late)
            return
        prompt = self.prompt[row]
        output = self.output[row]
        tokens = prompt + output
        if tokens > station.most_tokens:
            ledger.outcome[row] = REJECTED
            ledger.reason[row] = station.refusal(tokens)
            ledger.end[row] = now
            if row >= self.open_rows:
                self.reissue(row, now)
            return
        position = 0
        if len(station.eligible) > 1:
            self.late = late
            position = station.choose(self.session[row], prompt, tokens, now)
        ledger.area -= now  # and its end is added
        # as deliver() and submit() do
        view = station.view
        view.outstanding[position] += 1
        view.tokens[position] += tokens
        index = station.numbers[station.eligible[position]]
        ledger.replica[row] = index
        replica = self.replicas[index]
        if replica.arrive(row, prompt, output, self.priority[row], now, late):
            heappush(self.calendar, (replica.end, index))

    def _release(self, finished: list[int], index: int, now: float) -> None:
        station = self.owner[index]
        position = self.position[index]
        tokens = 0
        for row in finished:
            tokens += self.prompt[row] + self.output[row]
        if position >= 0:
            station.view.outstanding[position] -= len(finished)
            station.view.tokens[position] -= tokens
        else:
            station.released(self.ordinal[index], len(finished), tokens)
        gateway = self.gateway
        if gateway is not None:
            for row in finished:
                gateway.served(station, index, row, now)
            return
        self.ledger.area += now * len(finished)
        for row in finished:
            if row >= self.open_rows:
                self.reissue(row, now)

    def reissue(self, row: int, now: float) -> None:
        """The user whose request ``row`` ended issues the next."""
        workload = self.workload[row]
        think = self.think[workload]
        self._issue(workload, now + think, 0 if think > 0.0 else 1)

    def _issue(self, workload: int, when: float, born: int) -> None:
        supply = self.supply[workload]
        if supply and when < self.plan.horizon:
            self.issue_number += 1
            self.to_come += 1
            heappush(self.issues, (when, born, self.issue_number, supply.pop()))

    # what the gateway and the cluster need (sim.control.floor)

    def at(self, when: float, code: int) -> None:
        self.issue_number += 1
        heappush(self.issues, (when, 1, self.issue_number, -1 - code))

    def settle(self, now: float) -> None:
        """Nothing to do: whoever drives it has brought it to ``now``."""

    def snapshot(self, replica: int, now: float) -> tuple[int, int, int]:
        return self.replicas[replica].snapshot(now, self.late)

    def busy(self, replica: int, now: float) -> float:
        return self.replicas[replica].busy_at(now)

    def make(self, number: int, station: Station) -> None:
        self.replicas.append(Replica(number, station.plan.settings, station.plan.step, self.ledger))

    def submit(self, replica: int, row: int, now: float, late: bool) -> None:
        found = self.replicas[replica]
        if found.arrive(row, self.prompt[row], self.output[row], self.priority[row], now, late):
            heappush(self.calendar, (found.end, replica))

    def abort(self, replica: int, row: int, now: float) -> None:
        self._cut_short(replica, self.replicas[replica].abort(row, now, True))

    def retable(self, replica: int, table: StepTable, now: float) -> None:
        self._cut_short(replica, self.replicas[replica].retable(table, now))

    def _cut_short(self, replica: int, changed: bool) -> None:
        end = self.replicas[replica].end
        if changed and end != _NEVER:
            heappush(self.calendar, (end, replica))

    def destroy(self, replica: int, now: float) -> list[int]:
        return self.replicas[replica].kill(now)

    def held(self, replica: int) -> list[int]:
        return self.replicas[replica].requests()

    def progress(self, replica: int, now: float) -> dict[int, tuple[int, float]]:
        return self.replicas[replica].progress(now)

    def idle(self, replica: int) -> bool:
        return self.replicas[replica].end == _NEVER

    def finish(self) -> Ledger:
        """Close the books of a fleet that will not be advanced further: spans in progress, and the totals replicas keep themselves."""
        ledger = self.ledger
        for replica in self.replicas:
            if not self.plan.drain:
                ledger.end_time = max(ledger.end_time, replica.stop(self.plan.horizon))
            index = replica.index
            ledger.busy[index] = replica.busy
            ledger.steps[index] = replica.steps
            ledger.sequence_seconds[index] = replica.decode_seconds + replica.prefill_seconds
            ledger.prefill_tokens[index] = replica.prefill_tokens
            ledger.decode_tokens[index] = replica.decode_tokens
            ledger.peak_running[index] = replica.scheduler.most_running
            ledger.peak_blocks[index] = replica.scheduler.peak_blocks
            ledger.itl.total += replica.decode_seconds
        if self.gateway is not None:
            ledger.area += self.gateway.open * ledger.end_time
        else:
            for station in self.stations:
                ledger.area += sum(station.view.outstanding) * ledger.end_time
        return ledger


def simulate(plan: FleetPlan) -> Ledger:
    """Run one replication of ``plan`` to its end, without control processes."""
    fleet = Fleet(plan)
    while fleet.advance(_NEVER if plan.drain else plan.horizon) and fleet.notices:
        fleet.notices.clear()
    return fleet.finish()
