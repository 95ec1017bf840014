"""The autoscaler that sees the future: the fewest replicas that serve what will come, started just in time.

It is the bound that others are measured against, not something to run: it knows every request beforehand.
"""

from __future__ import annotations

from math import isnan

import numpy as np

from sim.control.parameters import Seconds
from sim.control.scaling.foresight import Plan, foresee
from sim.control.scaling.limits import limits
from sim.control.scaling.sizing import Bounds, positive
from sim.control.scaling.view import Decision, DeploymentView, Knowledge

__all__ = ["OracleScaler"]


class OracleScaler:
    """Carries out a plan made from all requests to come (:mod:`sim.control.scaling.foresight`), made when it first decides.

    ``attainment``: the share of requests that must keep every latency limit; a limit on a lower quantile (``ttft_p50``) only that
    share of them, so that it does not pay for what nobody asked. ``ttft``, ``tpot``: limits on the 99th percentile that replace the
    objectives of that metric. ``headroom``: what the model's need is raised by before the first rehearsal (0.1: a tenth).
    ``rehearsals``: how often the plan may be tried on the requests, each as long as simulating them takes; 0 believes the model.
    ``lead``: seconds that a start takes, None: the cold start as it is expected; where starts vary, longer ones come late.

    It sees neither faults nor the start of a replica that takes longer than expected, and it meets every limit no better than it must: an
    autoscaler that is cheaper attains less. ValueError for closed loops, whose arrivals nobody knows beforehand.
    """

    def __init__(
        self,
        *,
        min: int = 1,
        max: int = 100,
        period: Seconds = 10.0,
        attainment: float = 0.99,
        headroom: float = 0.0,
        rehearsals: int = 16,
        lead: Seconds | None = None,
        ttft: Seconds | None = None,
        tpot: Seconds | None = None,
        knowledge: Knowledge | None = None,
    ) -> None:
        self.bounds = Bounds(min, max)
        self.period = positive("period", period)
        self.sample_period = 0.0
        if not 0.0 < attainment < 1.0:
            raise ValueError(f"attainment is {attainment}; it must lie between 0 and 1")
        if not -1.0 < headroom < float("inf"):
            raise ValueError(f"headroom is {headroom}; it must be a number above -1")
        if rehearsals < 0:
            raise ValueError(f"rehearsals is {rehearsals}; it must be a whole number from 0")
        self.attainment = attainment
        self.headroom = headroom
        self.rehearsals = rehearsals
        own = {
            f"{name}_p99": positive(name, value)
            for name, value in (("ttft", ttft), ("tpot", tpot))
            if value is not None
        }
        self.limits = limits(own)
        self.lead = None if lead is None else positive("lead", lead, zero=True)
        self.plan: Plan | None = None
        self._knowledge = knowledge
        if knowledge is not None:
            known = {name: v for name, v in knowledge.objectives.items() if f"{name.partition('_')[0]}_p99" not in own}
            self.limits = limits(own | known)
            if not self.limits:
                raise ValueError("there is no latency objective to keep; give ttft or tpot, or the workload objectives")
            if np.isnan(knowledge.arrival).any():
                raise ValueError(
                    "it cannot foresee closed loops: when their requests come depends on how they are served"
                )

    def observe(self, view: DeploymentView) -> None:
        """Nothing: it is never called."""

    def decide(self, view: DeploymentView) -> Decision:
        """What the plan says of now. ValueError when nothing is known."""
        knowledge = self._knowledge
        if knowledge is None:
            raise ValueError("it needs to know what will come")
        if self.plan is None:
            self.plan = foresee(
                knowledge,
                self.limits,
                bounds=self.bounds,
                initial=view.target,
                period=self.period,
                lead=knowledge.cold_start if self.lead is None else self.lead,
                attainment=self.attainment,
                headroom=self.headroom,
                rehearsals=self.rehearsals,
            )
        plan = self.plan
        numbers = {"rehearsals": float(plan.rehearsals), "replica_seconds": plan.replica_seconds}
        if not isnan(plan.attained):
            numbers["attained"] = plan.attained
        return Decision(
            self.bounds.within(plan.at(view.now)), "plan" if plan.kept else "plan that falls short", numbers
        )
