"""Clients who do not wait for as long as it takes: they give up, try again, ask twice, or go on to a larger model.

A client sends each attempt as a row of its own; the request's row gets what the attempt that was answered had. Clients see an
engine's clock late by the deployment's overhead: they give up by their own clock, and what they do next reaches the engine by the
same way.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from sim.control.calls import Attempt, Call
from sim.control.gateway import CLIENTS, KINDS
from sim.control.plan import Cascade, Choice, GatewayPlan
from sim.control.station import Station
from sim.serving.ledger import FAILED, OK, OUTCOMES, REJECTED, TIMEOUT

if TYPE_CHECKING:
    from sim.control.clients.client import Client
    from sim.control.gateway import Gateway
    from sim.control.routing.pools import PoolRouter

__all__ = ["Callers"]

_TIMEOUT: Final = CLIENTS
_AGAIN: Final = CLIENTS + 1
_HEDGE: Final = CLIENTS + 2
_DEADLINE: Final = CLIENTS + 3
_PATIENCE: Final = CLIENTS + 4
_OUTDONE: Final = CLIENTS + 5
_ONWARD: Final = CLIENTS + 6


class Callers:
    """The clients of all workloads, and their calls that are not over."""

    def __init__(self, gateway: Gateway, plan: GatewayPlan) -> None:
        self.gateway = gateway
        self.clients: list[Client | None] = [None if make is None else make() for make in plan.clients]
        self.choices: list[Choice | None] = list(plan.choices)
        self.routers: list[PoolRouter | None] = [None if choice is None else choice.router() for choice in plan.choices]
        self.cascades: list[Cascade | None] = list(plan.cascades)
        self.calls: dict[int, Call] = {}
        self.outdone: dict[int, Attempt] = {}  # hedges whose twin was answered first
        self.generator = plan.generator()
        self.draws: list[float] = []

    def simple(self, workload: int, station: Station) -> bool:
        """Whether requests of the workload are sent once and waited for."""
        if self.clients[workload] is not None or self.cascades[workload] is not None:
            return False
        return self.gateway.terms[station.number].on_loss == "fail"

    def choose(self, workload: int, row: int, now: float) -> Station:
        """The deployment that a request of a workload with a choice goes to."""
        from sim.control.routing.pools import PoolView

        floor = self.gateway.floor
        choice, router = self.choices[workload], self.routers[workload]
        assert choice is not None
        assert router is not None
        pools = []
        for number, usd, pace in zip(choice.deployments, choice.usd_per_hour, choice.seconds_per_token, strict=True):
            station = floor.stations[number]
            view = station.view
            pools.append(
                PoolView(
                    name=station.plan.name,
                    ready=len(station.eligible),
                    outstanding=sum(view.outstanding),
                    queued=len(self.gateway.lines[number]),
                    seats=station.plan.settings.max_num_seqs * len(station.eligible),
                    tokens=sum(view.tokens),
                    usd_per_hour=usd,
                    seconds_per_token=pace,
                )
            )
        return floor.stations[choice.deployments[router.choose(floor.prompt[row], floor.output[row], pools, now)]]

    def _draw(self) -> float:
        if not self.draws:
            self.draws = self.generator.random(256).tolist()
        return self.draws.pop()

    # a call

    def begin(self, request: int, station: Station, now: float, late: bool) -> None:
        """A request comes whose client will do more than wait."""
        floor = self.gateway.floor
        client = self.clients[floor.workload[request]]
        call = Call(request, station, client)
        self.calls[request] = call
        if client is not None:
            overhead = self.gateway.terms[station.number].overhead
            if client.deadline is not None:
                floor.at(max(now + client.deadline - overhead, now), _DEADLINE + KINDS * request)
            if client.patience is not None:
                floor.at(max(now + client.patience - overhead, now), _PATIENCE + KINDS * request)
            if not client.first(now):
                self._finish(call, request, now, REJECTED, "circuit breaker open")
                return
        self._attempt(call, now, late)

    def _attempt(self, call: Call, now: float, late: bool) -> None:
        """Send it, once more or for the first time."""
        gateway = self.gateway
        floor = gateway.floor
        request = call.request
        station = call.station
        row = floor.add_attempt(
            request, floor.prompt[request] + call.generated, floor.output[request] - call.generated, now
        )
        call.sent += 1
        client = call.client
        if client is not None:
            overhead = gateway.terms[station.number].overhead
            if client.timeout is not None:
                floor.at(max(now + client.timeout - overhead, now), _TIMEOUT + KINDS * row)
            wait = client.hedge(now, call.sent)
            if wait < inf:
                floor.at(now + wait, _HEDGE + KINDS * request)
        gateway.enter(row, station, call, now, late)

    def ended(self, call: Call, attempt: Attempt, now: float, outcome: int, reason: str) -> None:
        """An attempt of the call is over."""
        call.live = [other for other in call.live if other is not attempt]
        if call.done:
            return
        if outcome == OK:
            self._answered(call, attempt, now)
            return
        terms = self.gateway.terms[attempt.station.number]
        if outcome == FAILED and terms.on_loss != "fail" and call.resent < terms.resends:
            call.resent += 1
            if terms.on_loss == "migrate":
                self._keep(call, attempt)
            self.gateway.floor.at(now, _AGAIN + KINDS * call.request)
            return
        client = call.client
        if client is None:
            self._finish(call, attempt.row, now, outcome, reason)
            return
        seen = now + terms.overhead  # by the client
        pause = client.failed(seen, call.sent, call.previous, OUTCOMES[outcome], self._draw())
        if call.live:
            return  # its twin may still be answered
        arrival = self.gateway.floor.ledger.arrival[call.request]
        if pause == inf or (client.deadline is not None and seen + pause >= arrival + client.deadline):
            self._finish(call, attempt.row, now, outcome, reason)
            return
        call.previous = pause
        self.gateway.floor.at(seen + pause, _AGAIN + KINDS * call.request)

    def _keep(self, call: Call, attempt: Attempt) -> None:
        """What the attempt has generated is not lost with its replica: another goes on from there."""
        ledger = self.gateway.floor.ledger
        row = attempt.row
        generated = self.gateway.floor.generated.pop(row, 0)
        if call.first_token != call.first_token:
            call.first_token = ledger.first_token[row]
        if call.scheduled != call.scheduled:
            call.scheduled = ledger.scheduled[row]
        call.preemptions += ledger.preemptions[row]
        call.lost += ledger.lost[row]
        call.generated += generated

    def _answered(self, call: Call, attempt: Attempt, now: float) -> None:
        floor = self.gateway.floor
        if call.client is not None:
            call.client.succeeded(now)
        cascade = self.cascades[floor.workload[call.request]]
        others = call.live
        if cascade is not None and not call.escalated and self._draw() < cascade.share:
            call.escalated = True
            call.station = floor.stations[cascade.to]
            floor.at(now + self.gateway.terms[attempt.station.number].overhead, _ONWARD + KINDS * call.request)
        else:
            self._finish(call, attempt.row, now, OK, "")
        for other in others:
            self.outdone[other.row] = other
            floor.at(now, _OUTDONE + KINDS * other.row)

    def _finish(self, call: Call, row: int, now: float, outcome: int, reason: str) -> None:
        """The request is over; what attempt ``row`` had is its."""
        gateway = self.gateway
        ledger = gateway.floor.ledger
        request = call.request
        call.done = True
        self.calls.pop(request, None)
        if call.sent > 1:
            gateway.tries[request] = call.sent
        if row != request:
            ledger.replica[request] = ledger.replica[row]
            began = ledger.arrival[row]
            if began != ledger.arrival[request]:
                gateway.began[request] = began
            if row in gateway.sent or began != ledger.arrival[request]:
                gateway.sent[request] = gateway.sent.pop(row, began)
            first, scheduled = ledger.first_token[row], ledger.scheduled[row]
            ledger.first_token[request] = first if call.first_token != call.first_token else call.first_token
            ledger.scheduled[request] = scheduled if call.scheduled != call.scheduled else call.scheduled
            ledger.preemptions[request] = ledger.preemptions[row] + call.preemptions
            ledger.lost[request] = ledger.lost[row] + call.lost
        gateway.close(request, row, now, outcome, reason)

    def _give_up(self, call: Call, now: float, reason: str) -> None:
        """Whatever is on its way for the call is withdrawn."""
        call.done = True
        row = call.request
        for attempt in list(call.live):
            row = attempt.row
            self.gateway.withdraw(attempt, now, TIMEOUT, reason)
        if call.client is not None:
            call.client.failed(now, call.sent, inf, "deadline", 0.0)
        self._finish(call, row, now, TIMEOUT, reason)

    def remind(self, kind: int, number: int, now: float) -> bool:
        """As :meth:`Gateway.remind`."""
        gateway = self.gateway
        if kind == _OUTDONE:
            outdone = self.outdone.pop(number, None)
            if outdone is None or number not in gateway.attempts:
                return False
            gateway.withdraw(outdone, now, OK, "")
            return True
        if kind == _TIMEOUT:
            attempt = gateway.attempts.get(number)
            if attempt is None:
                return False
            gateway.withdraw(attempt, now, TIMEOUT, "timeout")
            return True
        call = self.calls.get(number)
        if call is None:
            return False
        if kind == _DEADLINE:
            self._give_up(call, now, "deadline")
        elif kind == _PATIENCE:
            ledger = gateway.floor.ledger
            if any(ledger.first_token[attempt.row] == ledger.first_token[attempt.row] for attempt in call.live):
                return False
            if call.escalated or call.first_token == call.first_token:
                return False
            self._give_up(call, now, "abandoned")
        elif kind == _HEDGE:
            if not call.live:
                return False
            self._attempt(call, now, True)
        else:
            if kind == _AGAIN and call.live:
                return False
            self._attempt(call, now, True)
        return True
