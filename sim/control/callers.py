"""Clients who do not wait for as long as it takes: they give up, try again, ask twice, or go on to a larger model.

A client sends each attempt as a row of its own; the request's row gets what the attempt that was answered had. Clients see an
engine's clock late by the deployment's overhead: they give up by their own clock, and what they do next reaches the engine by the
same way.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from sim.control.calls import Attempt, Call, Kept
from sim.control.gateway import CLIENTS
from sim.control.plan import Cascade, Choice, GatewayPlan
from sim.control.station import Station
from sim.serving.ledger import FAILED, OK, OUTCOMES, REJECTED, TIMEOUT, UNFINISHED

if TYPE_CHECKING:
    from sim.control.clients.client import Client
    from sim.control.gateway import Gateway
    from sim.control.routing.pools import PoolRouter

__all__ = ["Callers"]

# What a reminder is about, with the number of an attempt's row ...
_TIMEOUT: Final = CLIENTS
_OUTDONE: Final = CLIENTS + 1
_RESEND: Final = CLIENTS + 2
# ... or of a request.
_DEADLINE: Final = CLIENTS + 3
_PATIENCE: Final = CLIENTS + 4
_HEDGE: Final = CLIENTS + 5
_AGAIN: Final = CLIENTS + 6
_ONWARD: Final = CLIENTS + 7


class Callers:
    """The clients of all workloads, and their calls that are not over."""

    def __init__(self, gateway: Gateway, plan: GatewayPlan) -> None:
        self.gateway = gateway
        self.clients: list[Client | None] = [None if make is None else make() for make in plan.clients]
        self.choices: list[Choice | None] = list(plan.choices)
        self.routers: list[PoolRouter | None] = [None if choice is None else choice.router() for choice in plan.choices]
        self.cascades: list[Cascade | None] = list(plan.cascades)
        # workloads whose requests are sent once and waited for, unless a gateway sends them again
        self.plain = [
            client is None and cascade is None for client, cascade in zip(self.clients, self.cascades, strict=True)
        ]
        self.calls: dict[int, Call] = {}
        self.outdone: dict[int, Attempt] = {}  # copies that are of no use any more, as another was answered
        self.resends: dict[int, Attempt] = {}  # attempts that were lost, and that the gateway sends again
        self.generator = plan.generator()
        self.draws: list[float] = []

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

    # a call and its attempts

    def begin(self, request: int, station: Station, now: float, late: bool) -> None:
        """A request comes whose client, or gateway, will do more than wait."""
        gateway = self.gateway
        client = self.clients[gateway.floor.workload[request]]
        call = Call(request, station, client)
        self.calls[request] = call
        if client is not None:
            early = now - gateway.terms[station.number].overhead
            if client.deadline is not None:
                gateway.remember(max(early + client.deadline, now), _DEADLINE, request)
            if client.patience is not None:
                gateway.remember(max(early + client.patience, now), _PATIENCE, request)
        self._first(call, now, late)

    def adopt(self, request: int, station: Station, attempt: Attempt | None) -> Attempt:
        """A request that was sent once and waited for is lost with its replica, and the gateway will send it again: a call after all."""
        gateway = self.gateway
        call = self.calls[request] = Call(request, station, None)
        call.sent = call.tried = 1
        if attempt is None:
            arrival = gateway.floor.ledger.arrival[request]
            attempt = gateway.attempts[request] = Attempt(request, station, call, arrival)
            attempt.queued = gateway.sent.get(request, arrival)
        attempt.call = call
        call.live.append(attempt)
        return attempt

    def _first(self, call: Call, now: float, late: bool) -> None:
        """The first attempt at a deployment."""
        if call.client is not None and not call.client.first(now):
            self._finish(call, None, now, REJECTED, "circuit breaker open")
        else:
            self._next(call, now, late)

    def _next(self, call: Call, now: float, late: bool) -> None:
        """The client sends the next attempt."""
        call.sent += 1
        call.tried += 1
        if call.client is not None:
            wait = call.client.hedge(now, call.tried)
            call.hedge_at = self.gateway.remember(now + wait, _HEDGE, call.request)
        self._send(call, call.tried, now, None, now, late)

    def _send(self, call: Call, number: int, began: float, kept: Kept | None, now: float, late: bool) -> None:
        gateway = self.gateway
        floor = gateway.floor
        request, station, client = call.request, call.station, call.client
        generated = 0 if kept is None else kept.generated
        row = floor.add_attempt(request, floor.prompt[request] + generated, floor.output[request] - generated, now)
        if client is not None and client.timeout is not None:
            timeout = began - gateway.terms[station.number].overhead + client.timeout
            gateway.remember(max(timeout, now), _TIMEOUT, row)
        attempt = Attempt(row, station, call, began, number)
        attempt.kept = kept
        call.live.append(attempt)
        gateway.enter(row, station, attempt, now, late)

    def ended(self, call: Call, attempt: Attempt, now: float, outcome: int, reason: str) -> None:
        """An attempt of the call is over."""
        client = call.client
        if attempt.kept is not None:
            self._bridge(attempt, attempt.kept)
        outdone = self.outdone.pop(attempt.row, None) is not None
        if call.done or outdone:
            if client is not None:
                client.cancelled(now, attempt.number)
            return
        if outcome == OK:
            call.live.remove(attempt)
            self._answered(call, attempt, now)
            return
        terms = self.gateway.terms[attempt.station.number]
        if outcome == FAILED and terms.on_loss != "fail" and call.resent < terms.resends:
            call.resent += 1
            self._keep(attempt)
            self.resends[attempt.row] = attempt
            self.gateway.remember(now, _RESEND, attempt.row)
            return
        call.live.remove(attempt)
        if client is None:
            self._finish(call, attempt, now, outcome, reason)
        else:
            self._failed(call, client, attempt, now, outcome, reason)

    def _failed(self, call: Call, client: Client, attempt: Attempt, now: float, outcome: int, reason: str) -> None:
        """The client learns that an attempt has failed, and does what it does then."""
        gateway = self.gateway
        seen = now + gateway.terms[attempt.station.number].overhead
        call.failure = (attempt, outcome, reason)
        call.reason = OUTCOMES[outcome]
        pause = client.failed(
            seen,
            attempt.number,
            call.previous,
            call.reason,
            self._draw(),
            duration=seen - attempt.began,
            sent=call.tried,
        )
        if client.hedge_after is not None:
            call.hedge_at = gateway.remember(seen + pause, _HEDGE, call.request)
            if pause < inf or (call.live and call.reason in client.retry_on):
                return  # another copy is still to come, or to be answered
        last = gateway.floor.ledger.arrival[call.request] + (inf if client.deadline is None else client.deadline)
        if pause == inf or seen + pause >= last:
            if pause < inf:
                client.dropped(seen)
            self._withdraw(call, now, UNFINISHED)
            self._finish(call, attempt, now, outcome, reason)
            return
        call.previous = pause
        call.paused = True
        gateway.remember(seen + pause, _AGAIN, call.request)

    def _keep(self, attempt: Attempt) -> None:
        """What the attempt has generated is not lost with its replica, if the gateway has seen to that: another goes on from there."""
        floor = self.gateway.floor
        ledger = floor.ledger
        row = attempt.row
        had = floor.generated.get(row)
        if had is None:
            return
        kept = attempt.kept
        if kept is None:
            kept = attempt.kept = Kept(
                ledger.arrival[row], attempt.queued, ledger.scheduled[row], ledger.first_token[row]
            )
        kept.generated += had[0]
        kept.last_token = had[1]
        kept.preemptions += ledger.preemptions[row]
        kept.lost += ledger.lost[row]

    def _bridge(self, attempt: Attempt, kept: Kept) -> None:
        """Count the latency from the last token that was kept to the first after it; only once the attempt is over."""
        ledger = self.gateway.floor.ledger
        first = ledger.first_token[attempt.row]
        if first == first:
            ledger.itl.add(first - kept.last_token, 1)

    def _answered(self, call: Call, attempt: Attempt, now: float) -> None:
        floor = self.gateway.floor
        seen = now + self.gateway.terms[attempt.station.number].overhead
        if call.client is not None:
            call.client.succeeded(seen, attempt.number, duration=seen - attempt.began, reason=call.reason)
        for other in call.live:
            self.outdone[other.row] = other
            self.gateway.remember(now, _OUTDONE, other.row)
        cascade = self.cascades[floor.workload[call.request]]
        if cascade is None or call.escalated or self._draw() >= cascade.share:
            self._finish(call, attempt, now, OK, "")
            return
        call.escalated = True
        call.station = floor.stations[cascade.to]
        call.live = []
        call.tried = 0
        call.previous = 0.0
        call.failure = None
        call.hedge_at = inf
        self.gateway.remember(seen, _ONWARD, call.request)

    def _finish(self, call: Call, attempt: Attempt | None, now: float, outcome: int, reason: str) -> None:
        """The request is over; what ``attempt`` had is its."""
        gateway = self.gateway
        ledger = gateway.floor.ledger
        request = call.request
        call.done = True
        del self.calls[request]
        if call.sent > 1:
            gateway.tries[request] = call.sent
        if attempt is not None:
            row = attempt.row
            kept = attempt.kept
            if kept is None:
                kept = Kept(ledger.arrival[row], attempt.queued, ledger.scheduled[row], ledger.first_token[row])
            arrival = ledger.arrival[request]
            if kept.began != arrival:
                gateway.began[request] = kept.began
            gateway.sent.pop(request, None)  # of an attempt that was lost
            if kept.queued == kept.queued and kept.queued != arrival:
                gateway.sent[request] = kept.queued
            ledger.replica[request] = ledger.replica[row]
            ledger.first_token[request] = kept.first_token
            ledger.scheduled[request] = kept.scheduled
            ledger.preemptions[request] = ledger.preemptions[row] + kept.preemptions
            ledger.lost[request] = ledger.lost[row] + kept.lost
        gateway.close(request, now, outcome, reason)

    def _withdraw(self, call: Call, now: float, outcome: int) -> Attempt | None:
        """Nothing more comes of the attempts that are on their way; the last of them."""
        call.done = True
        last = None
        for attempt in list(call.live):
            last = attempt
            if self.resends.pop(attempt.row, None) is None:
                self.gateway.withdraw(attempt, now, outcome, "")
            elif call.client is not None:
                call.client.cancelled(now, attempt.number)
        return last

    def _give_up(self, call: Call, now: float, outcome: int, reason: str) -> None:
        """The deadline has passed, or the user leaves (UNFINISHED: that says nothing of the replicas)."""
        if call.paused and call.client is not None:
            call.client.dropped(now)
        last = self._withdraw(call, now, outcome)
        if last is None and call.failure is not None:
            last = call.failure[0]
        self._finish(call, last, now, TIMEOUT, reason)

    # reminders

    def remind(self, kind: int, number: int, now: float) -> bool:
        """As :meth:`Gateway.remind`."""
        if kind < _DEADLINE:
            return self._remind_attempt(kind, number, now)
        call = self.calls.get(number)
        if call is None:
            return False
        client = call.client
        if kind == _DEADLINE:
            self._give_up(call, now, TIMEOUT, "deadline")
        elif kind == _PATIENCE:
            if self._has_begun(call):
                return False
            self._give_up(call, now, UNFINISHED, "abandoned")
        elif kind == _HEDGE:
            if now != call.hedge_at or client is None:
                return False
            call.hedge_at = inf
            if client.again(now, hedge=True):
                self._next(call, now, True)
            elif not call.live:
                assert call.failure is not None
                self._finish(call, call.failure[0], now, call.failure[1], call.failure[2])
        elif kind == _AGAIN:
            call.paused = False
            workload = self.gateway.floor.workload[number]
            if client is not None and not client.again(now):
                self._finish(call, None, now, REJECTED, "circuit breaker open")
            else:
                if self.choices[workload] is not None and not call.escalated:
                    call.station = self.choose(workload, number, now)
                self._next(call, now, True)
        else:
            self._first(call, now, True)
        return True

    def _remind_attempt(self, kind: int, row: int, now: float) -> bool:
        gateway = self.gateway
        if kind == _RESEND:
            lost = self.resends.pop(row, None)
            if lost is None:
                return False
            call = lost.call
            assert call is not None
            call.live.remove(lost)
            self._send(call, lost.number, lost.began, lost.kept, now, True)
            return True
        attempt = gateway.attempts.get(row)
        if attempt is None:
            return False
        if kind == _TIMEOUT:
            gateway.withdraw(attempt, now, TIMEOUT, "timeout")
        else:
            gateway.withdraw(attempt, now, UNFINISHED, "")
        return True

    def _has_begun(self, call: Call) -> bool:
        """Whether its user has seen a token."""
        first = self.gateway.floor.ledger.first_token
        return call.escalated or any(
            attempt.kept is not None or first[attempt.row] == first[attempt.row] for attempt in call.live
        )
