"""The slow, obvious fleet: arrivals, closed-loop users, routers and replicas as SimPy processes.

The oracle of :mod:`sim.control.fleet`: same plan, same ledger, to the last bit. At equal times the table's arrivals come
first, in table order, then requests re-issued after a think time, in the order they were issued, then step ends by
replica, and last what is re-issued without a think time: nobody answers in no time, so the steps that end at that moment
are followed by the next ones before such a request arrives.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator
from math import ceil, inf, isinf
from typing import Final

import simpy

from sim.control.plan import ClosedLoop, DeploymentPlan, FleetPlan
from sim.control.router import FleetView
from sim.errors import PolicyError
from sim.serving.ledger import REJECTED, Ledger
from sim.serving.reference import STEP_END, Replica, at

__all__ = ["simulate"]

TABLE_ARRIVAL: Final = 1
REISSUED_ARRIVAL: Final = 2


class _Deployment:
    """The replicas behind one router."""

    def __init__(self, plan: DeploymentPlan, replicas: list[Replica], first: int) -> None:
        self.plan = plan
        self.replicas = replicas
        self.first = first  # global index of replicas[0]
        self.router = plan.router()
        self.view = FleetView(plan.replicas)


class _Fleet:
    def __init__(self, plan: FleetPlan) -> None:
        table = plan.table
        self.plan = plan
        self.arrival: list[float] = table.arrival.tolist()
        self.workload: list[int] = table.workload.tolist()
        self.prompt: list[int] = table.prompt_tokens.tolist()
        self.output: list[int] = table.output_tokens.tolist()
        self.priority: list[int] = table.priority.tolist()
        self.session: list[int] = table.session.tolist()
        self.env = simpy.Environment()
        self.ledger = Ledger(list(self.arrival), sum(deployment.replicas for deployment in plan.deployments))
        self.deployments: list[_Deployment] = []
        first = 0
        for deployment in plan.deployments:
            replicas = [
                Replica(self.env, first + i, deployment.settings, deployment.step, self.ledger, self.ended)
                for i in range(deployment.replicas)
            ]
            self.deployments.append(_Deployment(deployment, replicas, first))
            first += deployment.replicas
        closed = {loop.workload for loop in plan.closed_loops}
        self.open_rows = [row for row, workload in enumerate(self.workload) if workload not in closed]
        self.closed_rows: dict[int, list[int]] = defaultdict(list)
        for row, workload in enumerate(self.workload):
            if workload in closed:
                self.closed_rows[workload].append(row)
        self.after_all_steps = STEP_END + first
        self.done: dict[int, simpy.Event] = {}  # of closed-loop rows in the system: their users wait for it
        self.in_system = 0
        self.changed = 0.0

    def run(self) -> Ledger:
        env, plan, ledger = self.env, self.plan, self.ledger
        env.process(self.open_arrivals())
        for loop in plan.closed_loops:
            for _ in range(loop.users):
                env.process(self.user(loop))
        if plan.drain or isinf(plan.horizon):
            env.run()
        while env.peek() <= plan.horizon < inf:  # what happens at the horizon still counts
            env.step()
        self.count(0, ledger.end_time)
        return ledger

    def open_arrivals(self) -> Generator[simpy.Event, None, None]:
        for row in self.open_rows:
            yield at(self.env, self.arrival[row] - self.env.now, TABLE_ARRIVAL)
            self.arrive(row)

    def user(self, loop: ClosedLoop) -> Generator[simpy.Event, None, None]:
        think, order = 0.0, REISSUED_ARRIVAL
        while self.env.now + think < self.plan.horizon:
            yield at(self.env, think, order)
            if not self.closed_rows[loop.workload]:
                return
            row = self.closed_rows[loop.workload].pop(0)
            done = self.done[row] = self.env.event()
            self.ledger.arrival[row] = self.env.now
            self.arrive(row, late=order == self.after_all_steps)
            yield done
            think = loop.think
            order = REISSUED_ARRIVAL if think > 0.0 else self.after_all_steps

    def arrive(self, row: int, late: bool = False) -> None:
        ledger = self.ledger
        ledger.issued += 1
        ledger.end_time = self.env.now
        deployment = self.deployments[self.plan.deployment_of[self.workload[row]]]
        prompt, output = self.prompt[row], self.output[row]
        settings = deployment.plan.settings
        reason = ""
        if prompt + output > settings.max_model_len:
            reason = "max_model_len"
        elif ceil((prompt + output - 1) / settings.block_size) > settings.kv_blocks - 1:
            reason = "kv_capacity"  # it could not finish even if it were alone
        if reason:
            ledger.outcome[row] = REJECTED
            ledger.reason[row] = reason
            ledger.end[row] = self.env.now
            self.release(row)
            return
        self.count(+1, self.env.now)
        index = deployment.router.choose(self.session[row], prompt + output, deployment.view)
        if not 0 <= index < len(deployment.replicas):
            raise PolicyError(
                f"the router of deployment '{deployment.plan.name}' chose replica {index} "
                f"of {len(deployment.replicas)} (allowed: 0 to {len(deployment.replicas) - 1})"
            )
        deployment.view.outstanding[index] += 1
        deployment.view.tokens[index] += prompt + output
        ledger.replica[row] = deployment.first + index
        deployment.replicas[index].submit(row, prompt, output, self.priority[row], late)

    def ended(self, row: int) -> None:
        """A request finished at the end of a step."""
        deployment = self.deployments[self.plan.deployment_of[self.workload[row]]]
        index = self.ledger.replica[row] - deployment.first
        deployment.view.outstanding[index] -= 1
        deployment.view.tokens[index] -= self.prompt[row] + self.output[row]
        self.count(-1, self.env.now)
        self.release(row)

    def release(self, row: int) -> None:
        """Let the closed-loop user of the row, if it has one, go on at once: before the replica schedules again."""
        done = self.done.pop(row, None)
        if done is not None:
            done._ok = True
            done._value = None
            self.env.schedule(done, priority=simpy.events.URGENT)

    def count(self, change: int, now: float) -> None:
        """The number of requests in the system changes: add to its time integral."""
        self.ledger.area += self.in_system * (now - self.changed)
        self.in_system += change
        self.changed = now


def simulate(plan: FleetPlan) -> Ledger:
    """Run one replication of the plan, one event a step. Slow; see :func:`sim.control.fleet.simulate` for the same, fast."""
    return _Fleet(plan).run()
