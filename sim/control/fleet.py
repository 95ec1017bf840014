"""The data plane: arrivals, routing and every replica's steps, in one lean calendar. SimPy keeps the clock of all that decides.

Events at equal times: arrivals first (in table order, closed-loop re-issues after), then step ends by replica. A finished request
leaves before its replica's next step is formed. A closed-loop user who does not think re-issues at the very time its request ended:
that request arrives after all step ends of that time, since no client answers in no time.
"""

from __future__ import annotations

from heapq import heappop, heappush, heapreplace
from typing import Final

from sim.control.plan import FleetPlan
from sim.control.router import FleetView
from sim.errors import PolicyError
from sim.serving.ledger import REJECTED, Ledger
from sim.serving.replica import Replica

__all__ = ["Fleet", "simulate"]

_NEVER: Final = float("inf")


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
        deployment_of = list(plan.deployment_of)
        workloads: list[int] = table.workload.tolist()
        self.deployment = [deployment_of[w] for w in workloads] if len(plan.deployments) > 1 else [0] * len(workloads)
        self.workload = workloads
        self.open_rows = sum(1 for t in arrivals if t == t)  # closed-loop rows (NaN) come last
        self.cursor = 0
        self.ledger = Ledger(arrivals, sum(d.replicas for d in plan.deployments))
        self.replicas: list[Replica] = []
        self.first_replica: list[int] = []
        self.owner: list[int] = []  # deployment of each replica
        self.views = [FleetView(d.replicas) for d in plan.deployments]
        self.routers = [d.router() for d in plan.deployments]
        for number, deployment in enumerate(plan.deployments):
            self.first_replica.append(len(self.replicas))
            for _ in range(deployment.replicas):
                index = len(self.replicas)
                self.replicas.append(Replica(index, deployment.settings, deployment.step, self.ledger))
                self.owner.append(number)
        self.calendar: list[tuple[float, int, int]] = []  # (step end, replica, its epoch)
        self.in_system = 0
        self.changed_at = 0.0
        # closed loops: rows not yet issued, by workload; issues to come, in order
        self.think: dict[int, float] = {loop.workload: loop.think for loop in plan.closed_loops}
        self.supply: dict[int, list[int]] = {loop.workload: [] for loop in plan.closed_loops}
        for row in range(len(arrivals) - 1, self.open_rows - 1, -1):
            self.supply[workloads[row]].append(row)
        self.issues: list[tuple[float, int, int, int]] = []  # (when, 1 if born then, issue number, row)
        self.issue_number = 0
        for loop in plan.closed_loops:
            for _ in range(loop.users):
                self._issue(loop.workload, 0.0, 0)

    def advance(self, until: float) -> bool:
        """Process every event up to and at ``until``. False when nothing is left to happen."""
        calendar = self.calendar
        replicas = self.replicas
        arrivals = self.ledger.arrival
        closed = bool(self.think)
        open_rows = self.open_rows
        cursor = self.cursor
        next_open = arrivals[cursor] if cursor < open_rows else _NEVER
        ledger = self.ledger
        while True:
            arrival = next_open
            late = False
            if closed and self.issues and self.issues[0][0] < arrival:
                arrival = self.issues[0][0]
                late = self.issues[0][1] == 1
            if calendar and (calendar[0][0] < arrival or (late and calendar[0][0] == arrival)):
                if calendar[0][0] > until:
                    break
                now, index, epoch = calendar[0]
                replica = replicas[index]
                if replica.epoch != epoch:
                    heappop(calendar)
                    continue
                finished = replica.complete(now)
                if finished:
                    self._release(finished, index, now, closed)
                replica.begin(now)
                if replica.end != _NEVER:
                    heapreplace(calendar, (replica.end, index, replica.epoch))
                else:
                    heappop(calendar)
                ledger.end_time = now
                continue
            if arrival > until or arrival == _NEVER:
                break
            if arrival == next_open:
                row = cursor
                cursor += 1
                next_open = arrivals[cursor] if cursor < open_rows else _NEVER
            else:
                row = heappop(self.issues)[3]
                arrivals[row] = arrival
            ledger.end_time = arrival
            self._arrive(row, arrival, late, closed)
        self.cursor = cursor
        return bool(calendar) or next_open != _NEVER or bool(self.issues)

    def _arrive(self, row: int, now: float, late: bool, closed: bool) -> None:
        ledger = self.ledger
        ledger.issued += 1
        prompt = self.prompt[row]
        output = self.output[row]
        number = self.deployment[row]
        deployment = self.plan.deployments[number]
        settings = deployment.settings
        tokens = prompt + output
        if tokens > settings.max_model_len:
            self._reject(row, "max_model_len", now, closed)
            return
        if -(-(tokens - 1) // settings.block_size) > settings.kv_blocks - 1:
            self._reject(row, "kv_capacity", now, closed)
            return
        view = self.views[number]
        choice = 0
        if deployment.replicas > 1:
            choice = self.routers[number].choose(self.session[row], tokens, view)
            if not 0 <= choice < deployment.replicas:
                raise PolicyError(
                    f"deployments.{deployment.name}.router: chose replica {choice}; there are {deployment.replicas}, from 0"
                )
        view.outstanding[choice] += 1
        view.tokens[choice] += tokens
        ledger.area += self.in_system * (now - self.changed_at)
        self.changed_at = now
        self.in_system += 1
        index = self.first_replica[number] + choice
        ledger.replica[row] = index
        replica = self.replicas[index]
        if replica.arrive(row, prompt, output, self.priority[row], now, late):
            heappush(self.calendar, (replica.end, index, replica.epoch))

    def _release(self, finished: list[int], index: int, now: float, closed: bool) -> None:
        number = self.owner[index]
        view = self.views[number]
        choice = index - self.first_replica[number]
        count = len(finished)
        view.outstanding[choice] -= count
        for row in finished:
            view.tokens[choice] -= self.prompt[row] + self.output[row]
        self.ledger.area += self.in_system * (now - self.changed_at)
        self.changed_at = now
        self.in_system -= count
        if closed:
            for row in finished:
                self._reissue(row, now)

    def _reject(self, row: int, reason: str, now: float, closed: bool) -> None:
        self.ledger.outcome[row] = REJECTED
        self.ledger.reason[row] = reason
        self.ledger.end[row] = now
        if closed:
            self._reissue(row, now)

    def _reissue(self, row: int, now: float) -> None:
        workload = self.workload[row]
        if row >= self.open_rows:
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
            scheduler = replica.scheduler
            ledger.busy[replica.index] = replica.busy
            ledger.steps[replica.index] = replica.steps
            ledger.sequence_seconds[replica.index] = replica.sequence_seconds
            ledger.prefill_tokens[replica.index] = replica.prefill_tokens
            ledger.decode_tokens[replica.index] = replica.decode_tokens
            ledger.peak_running[replica.index] = scheduler.most_running
            ledger.peak_blocks[replica.index] = scheduler.usable_blocks - scheduler.least_free
        ledger.area += self.in_system * (ledger.end_time - self.changed_at)
        self.changed_at = ledger.end_time
        return ledger


def simulate(plan: FleetPlan) -> Ledger:
    """Run one replication of ``plan`` to its end, without control processes."""
    fleet = Fleet(plan)
    fleet.advance(_NEVER if plan.drain else plan.horizon)
    return fleet.finish()
