"""The data plane: arrivals, routing and every replica's steps, in one lean calendar. SimPy keeps the clock of all that decides.

Events at equal times: arrivals first (in table order, closed-loop re-issues after), then step ends by replica. A finished request
leaves before its replica's next step is formed. A closed-loop user who does not think re-issues at the very time its request ended:
that request arrives after all step ends of that time, since no client answers in no time.
"""

from __future__ import annotations

import operator
from heapq import heappop, heappush, heapreplace
from typing import Final

from sim.control.plan import DeploymentPlan, FleetPlan
from sim.control.router import FleetView
from sim.errors import PolicyError
from sim.serving.ledger import REJECTED, Ledger
from sim.serving.replica import Replica

__all__ = ["Fleet", "simulate"]

_NEVER: Final = float("inf")


class _Station:
    """A deployment at work: its replicas, and what a request meets on its way to one."""

    __slots__ = ("first", "most_tokens", "plan", "replicas", "router", "view")

    def __init__(self, plan: DeploymentPlan, first: int, ledger: Ledger) -> None:
        settings = plan.settings
        self.plan = plan
        self.first = first  # index of its first replica in the fleet
        self.replicas = [Replica(first + i, settings, plan.step, ledger) for i in range(plan.replicas)]
        self.router = plan.router()
        self.view = FleetView(plan.replicas)
        # a request's last token is never written to the cache
        self.most_tokens = min(settings.max_model_len, (settings.kv_blocks - 1) * settings.block_size + 1)

    def choose(self, session: int, tokens: int) -> int:
        """The router's choice. PolicyError when there is no such replica, or when the router fails."""
        try:
            choice = operator.index(self.router.choose(session, tokens, self.view))
        except Exception as fault:
            import traceback

            frame = traceback.extract_tb(fault.__traceback__)[-1]
            place, said = f"{frame.filename}:{frame.lineno}", f"{type(fault).__name__}: {fault}"
            raise PolicyError(f"deployments.{self.plan.name}.router: failed: {said} ({place})") from fault
        if not 0 <= choice < len(self.replicas):
            raise PolicyError(
                f"deployments.{self.plan.name}.router: chose replica {choice}; there are {len(self.replicas)}, from 0"
            )
        return choice


class Fleet:
    """All deployments of one replication, advanced in bulk by :meth:`advance`; what happened is in ``ledger``."""

    def __init__(self, plan: FleetPlan) -> None:
        table = plan.table
        arrivals: list[float] = table.arrival.tolist()
        self.plan = plan
        self.prompt: list[int] = table.prompt_tokens.tolist()
        self.output: list[int] = table.output_tokens.tolist()
        self.priority: list[int] = table.priority.tolist()
        self.session: list[int] = table.session.tolist()
        self.workload: list[int] = table.workload.tolist()
        self.open_rows = sum(1 for t in arrivals if t == t)  # closed-loop rows (NaN) come last
        self.cursor = 0
        self.ledger = Ledger(arrivals, sum(d.replicas for d in plan.deployments))
        self.stations: list[_Station] = []
        self.replicas: list[Replica] = []
        self.owner: list[_Station] = []  # of each replica
        for deployment in plan.deployments:
            station = _Station(deployment, len(self.replicas), self.ledger)
            self.stations.append(station)
            self.replicas += station.replicas
            self.owner += [station] * deployment.replicas
        self.station_of = [self.stations[number] for number in plan.deployment_of]
        self.calendar: list[tuple[float, int]] = [(_NEVER, -1)]  # (step end, replica), and one that is never reached
        # closed loops: rows not yet issued, by workload; issues to come, in order
        self.think: dict[int, float] = {loop.workload: loop.think for loop in plan.closed_loops}
        self.supply: dict[int, list[int]] = {loop.workload: [] for loop in plan.closed_loops}
        for row in range(len(arrivals) - 1, self.open_rows - 1, -1):
            self.supply[self.workload[row]].append(row)
        self.issues: list[tuple[float, int, int, int]] = []  # (when, 1 if born then, issue number, row)
        self.issue_number = 0
        for loop in plan.closed_loops:
            for _ in range(loop.users):
                self._issue(loop.workload, 0.0, 0)

    def advance(self, until: float) -> bool:
        """Process every event up to and at ``until``. False when nothing is left to happen."""
        calendar = self.calendar
        replicas = self.replicas
        issues = self.issues
        arrivals = self.ledger.arrival
        cursor = self.cursor
        open_rows = self.open_rows
        next_open = arrivals[cursor] if cursor < open_rows else _NEVER
        last = self.ledger.end_time
        while True:
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
                    arrivals[row] = arrival
                self._arrive(row, arrival, late)
                last = arrival
        self.cursor = cursor
        self.ledger.end_time = last
        return len(calendar) > 1 or next_open != _NEVER or bool(issues)

    def _arrive(self, row: int, now: float, late: bool) -> None:
        ledger = self.ledger
        ledger.issued += 1
        station = self.station_of[self.workload[row]]
        prompt = self.prompt[row]
        output = self.output[row]
        tokens = prompt + output
        if tokens > station.most_tokens:
            self._reject(row, "max_model_len" if tokens > station.plan.settings.max_model_len else "kv_capacity", now)
            return
        choice = station.choose(self.session[row], tokens) if len(station.replicas) > 1 else 0
        view = station.view
        view.outstanding[choice] += 1
        view.tokens[choice] += tokens
        ledger.area -= now  # and its end is added
        replica = station.replicas[choice]
        ledger.replica[row] = replica.index
        if replica.arrive(row, prompt, output, self.priority[row], now, late):
            heappush(self.calendar, (replica.end, replica.index))

    def _release(self, finished: list[int], index: int, now: float) -> None:
        station = self.owner[index]
        view = station.view
        choice = index - station.first
        view.outstanding[choice] -= len(finished)
        self.ledger.area += now * len(finished)
        for row in finished:
            view.tokens[choice] -= self.prompt[row] + self.output[row]
            if row >= self.open_rows:
                self._reissue(row, now)

    def _reject(self, row: int, reason: str, now: float) -> None:
        self.ledger.outcome[row] = REJECTED
        self.ledger.reason[row] = reason
        self.ledger.end[row] = now
        if row >= self.open_rows:
            self._reissue(row, now)

    def _reissue(self, row: int, now: float) -> None:
        """The user whose request ``row`` ended issues the next."""
        workload = self.workload[row]
        think = self.think[workload]
        self._issue(workload, now + think, 0 if think > 0.0 else 1)

    def _issue(self, workload: int, when: float, born: int) -> None:
        supply = self.supply[workload]
        if supply and when < self.plan.horizon:
            self.issue_number += 1
            heappush(self.issues, (when, born, self.issue_number, supply.pop()))

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
        for station in self.stations:
            ledger.area += sum(station.view.outstanding) * ledger.end_time
        return ledger


def simulate(plan: FleetPlan) -> Ledger:
    """Run one replication of ``plan`` to its end, without control processes."""
    fleet = Fleet(plan)
    fleet.advance(_NEVER if plan.drain else plan.horizon)
    return fleet.finish()
