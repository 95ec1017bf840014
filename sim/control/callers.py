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
from sim.serving.ledger import FAILED, OK, OUTCOMES, REJECTED, TIMEOUT, UNFINISHED

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
_RESEND: Final = CLIENTS + 7


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
        self.resends: dict[int, Attempt] = {}  # attempts that were lost, and that the gateway sends again
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
        gateway = self.gateway
        floor = gateway.floor
        client = self.clients[floor.workload[request]]
        call = Call(request, station, client)
        self.calls[request] = call
        if client is not None:
            overhead = gateway.terms[station.number].overhead
            if client.deadline is not None:
                floor.at(max(now + client.deadline - overhead, now), _DEADLINE + KINDS * request)
            if client.patience is not None:
                floor.at(max(now + client.patience - overhead, now), _PATIENCE + KINDS * request)
            if not client.first(now):
                self._finish(call, request, now, REJECTED, "circuit breaker open")
                return
        self._attempt(call, call.sent + 1, now, now, late)

    def _attempt(self, call: Call, number: int, began: float, now: float, late: bool) -> None:
        """Send it, once more or for the first time: attempt ``number`` of the client, which began at ``began``."""
        gateway = self.gateway
        floor = gateway.floor
        request = call.request
        station = call.station
        generated = call.generated
        row = floor.add_attempt(request, floor.prompt[request] + generated, floor.output[request] - generated, now)
        again = number == call.sent  # by the gateway
        call.sent = number
        client = call.client
        if client is not None:
            overhead = gateway.terms[station.number].overhead
            if client.timeout is not None:
                floor.at(max(began + client.timeout - overhead, now), _TIMEOUT + KINDS * row)
            wait = inf if again else client.hedge(now, number)
            if wait < inf:
                floor.at(now + wait, _HEDGE + KINDS * request)
        gateway.enter(row, station, call, now, late)

    def ended(self, call: Call, attempt: Attempt, now: float, outcome: int, reason: str) -> None:
        """An attempt of the call is over."""
        call.live = [other for other in call.live if other is not attempt]
        client = call.client
        terms = self.gateway.terms[attempt.station.number]
        if call.done:
            if client is not None:
                client.cancelled(now, attempt.number)
            return
        if outcome == OK:
            self._answered(call, attempt, now)
            return
        if outcome == FAILED and terms.on_loss != "fail" and call.resent < terms.resends:
            call.resent += 1
            if terms.on_loss == "migrate":
                self._keep(call, attempt)
            self.resends[call.request] = attempt
            self.gateway.floor.at(now, _RESEND + KINDS * call.request)
            return
        if client is None:
            self._finish(call, attempt.row, now, outcome, reason)
        else:
            self._failed(call, client, attempt, now, outcome, reason)

    def _failed(self, call: Call, client: Client, attempt: Attempt, now: float, outcome: int, reason: str) -> None:
        """The client learns that an attempt has failed, and does what it does then."""
        floor = self.gateway.floor
        seen = now + self.gateway.terms[attempt.station.number].overhead
        call.reason = OUTCOMES[outcome]
        pause = client.failed(
            seen,
            attempt.number,
            call.previous,
            call.reason,
            self._draw(),
            duration=seen - attempt.began,
            sent=call.sent,
        )
        hedged = client.hedge_after is not None
        if hedged and pause < inf:
            floor.at(seen + pause, _HEDGE + KINDS * call.request)
            call.paused = not call.live
            return
        if call.live and call.reason in client.retry_on:
            return  # its twin may still be answered
        last = floor.ledger.arrival[call.request] + (inf if client.deadline is None else client.deadline)
        if pause == inf or seen + pause >= last:
            if pause < inf:
                client.dropped(seen)
            self._withdraw(call, now)
            self._finish(call, attempt.row, now, outcome, reason)
            return
        call.previous = pause
        call.paused = True
        floor.at(seen + pause, _AGAIN + KINDS * call.request)

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
        seen = now + self.gateway.terms[attempt.station.number].overhead
        if call.client is not None:
            call.client.succeeded(seen, attempt.number, duration=seen - attempt.began, reason=call.reason)
        for other in call.live:
            self.outdone[other.row] = other
            floor.at(now, _OUTDONE + KINDS * other.row)
        cascade = self.cascades[floor.workload[call.request]]
        if cascade is not None and not call.escalated and self._draw() < cascade.share:
            call.escalated = True
            call.station = floor.stations[cascade.to]
            call.live = []
            floor.at(seen, _ONWARD + KINDS * call.request)
        else:
            self._finish(call, attempt.row, now, OK, "")

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

    def _withdraw(self, call: Call, now: float) -> int:
        """Nothing more comes of the attempts that are on their way; the row of the last of them, or of the request."""
        call.done = True
        row = call.request
        for attempt in list(call.live):
            row = attempt.row
            self.gateway.withdraw(attempt, now, TIMEOUT, "")
        return row

    def _give_up(self, call: Call, now: float, reason: str) -> None:
        """The user leaves, or the deadline has passed."""
        if call.paused and call.client is not None and call.client.hedge_after is None:
            call.client.dropped(now)
        self._finish(call, self._withdraw(call, now), now, TIMEOUT, reason)

    def remind(self, kind: int, number: int, now: float) -> bool:
        """As :meth:`Gateway.remind`."""
        gateway = self.gateway
        if kind == _OUTDONE:
            outdone = self.outdone.pop(number, None)
            if outdone is None or number not in gateway.attempts:
                return False
            gateway.withdraw(outdone, now, UNFINISHED, "")
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
        client = call.client
        if kind == _DEADLINE:
            self._give_up(call, now, "deadline")
        elif kind == _PATIENCE:
            if self._has_begun(call):
                return False
            self._give_up(call, now, "abandoned")
        elif kind == _HEDGE:
            if (
                client is None
                or call.escalated
                or not (call.live or call.paused)
                or call.sent >= client.hedge_max_attempts
            ):
                return False
            if client.again(now, hedge=True):
                call.paused = False
                self._attempt(call, call.sent + 1, now, now, True)
            elif not call.live:
                self._finish(call, call.request, now, REJECTED, "retries exhausted")
        elif kind == _AGAIN:
            call.paused = False
            if client is not None and not client.again(now):
                self._finish(call, call.request, now, REJECTED, "circuit breaker open")
            else:
                self._attempt(call, call.sent + 1, now, now, True)
        elif kind == _RESEND:
            before = self.resends.pop(number)
            self._attempt(call, before.number, before.began, now, True)
        else:
            if client is not None and not client.first(now):
                self._finish(call, call.request, now, REJECTED, "circuit breaker open")
            else:
                self._attempt(call, call.sent + 1, now, now, True)
        return True

    def _has_begun(self, call: Call) -> bool:
        """Whether its user has seen a token."""
        first = self.gateway.floor.ledger.first_token
        seen = call.first_token == call.first_token
        return call.escalated or seen or any(first[attempt.row] == first[attempt.row] for attempt in call.live)
