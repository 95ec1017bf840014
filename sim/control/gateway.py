"""What stands between clients and replicas: admission, the waiting line, routing, and what becomes of requests whose replica is lost.

Everything is done at arrivals, at the end of engine steps and at reminders the gateway set itself. What it does in answer to a step end
happens after all step ends of that moment, as nobody answers in no time. Requests that are only sent once, past no admission policy, are
rows and nothing else; for any other there is an :class:`Attempt` each time it is sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sim.control.calls import Attempt
from sim.control.ejection import Ejection
from sim.control.limits.ask import ADMIT, DROPPED, REFUSE, AdmissionPolicy, Ask
from sim.control.limits.line import line
from sim.control.plan import GatewayPlan, Terms
from sim.control.station import Station
from sim.kernel.clock import on_grid
from sim.serving.ledger import FAILED, OK, REJECTED, TIMEOUT, UNFINISHED

if TYPE_CHECKING:
    from sim.control.floor import Floor

__all__ = ["KINDS", "Gateway"]

_NAN: Final = float("nan")
_NEVER: Final = float("inf")

# What a reminder is about, with the number of a row (of an attempt, of a request) or of a deployment.
WAITED: Final = 0
ADMITTED: Final = 1
UNREACHED: Final = 2
DISPATCH: Final = 3
TICK: Final = 4
CLIENTS: Final = 5  # and above: what clients are reminded of
KINDS: Final = 16


class Gateway:
    """``open``: requests that have arrived and not ended. By request row, only where there is something to say: ``tries`` (attempts of the
    client), ``began`` (when the attempt that was answered was sent), ``sent`` (when a replica got it)."""

    def __init__(self, floor: Floor, plan: GatewayPlan) -> None:
        from sim.control.callers import Callers

        self.floor = floor
        self.plan = plan
        self.open = 0
        self.tries: dict[int, int] = {}
        self.began: dict[int, float] = {}
        self.sent: dict[int, float] = {}
        self.terms: list[Terms] = list(plan.terms)
        self.lines = [line(terms.order) for terms in plan.terms]
        self.fair = [terms.order == "fair" for terms in plan.terms]
        self.resends = [terms.on_loss != "fail" for terms in plan.terms]
        self.policies: list[list[AdmissionPolicy]] = [list(terms.admission()) for terms in plan.terms]
        self.inflight = [0 for _ in plan.terms]  # attempts let in and not ended
        self.ejections: list[Ejection | None] = [
            None if terms.outlier is None else Ejection(floor, station, terms.outlier())
            for station, terms in zip(floor.stations, plan.terms, strict=True)
        ]
        self.attempts: dict[int, Attempt] = {}
        self.waiting: dict[int, Station] = {}  # rows in a line, and whose line it is
        self.due: set[int] = set()  # deployments that are to be dispatched at the end of this moment
        self.callers = Callers(self, plan)
        for station, terms, ejection in zip(floor.stations, plan.terms, self.ejections, strict=True):
            station.watched = terms.watched
            if ejection is not None:
                self.remember(ejection.outlier.interval, TICK, station.number)

    def remember(self, when: float, kind: int, number: int) -> float:
        """To be reminded at ``when``, on the time grid; the time that is. Never, if it is infinite."""
        if when == _NEVER:
            return when
        when = on_grid(when)
        self.floor.at(when, kind + KINDS * number)
        return when

    # a request comes

    def arrive(self, row: int, station: Station, now: float, late: bool) -> None:
        """Request ``row`` arrives; ``station`` serves its workload, unless it may choose."""
        self.open += 1
        self.floor.ledger.area -= now
        callers = self.callers
        workload = self.floor.workload[row]
        if callers.choices[workload] is not None:
            station = callers.choose(workload, row, now)
        if callers.plain[workload]:
            self.enter(row, station, None, now, late)
        else:
            callers.begin(row, station, now, late)

    def enter(self, row: int, station: Station, attempt: Attempt | None, now: float, late: bool) -> None:
        """Attempt ``row`` comes to the gateway of its deployment. ``attempt``: what its client knows of it, None if that is nothing."""
        floor = self.floor
        prompt = floor.prompt[row]
        output = floor.output[row]
        station.inside += 1
        station.area -= now
        station.arrived += 1
        station.prompt_tokens += prompt
        station.output_tokens += output
        number = station.number
        guarded = bool(self.policies[number])
        if guarded and attempt is None:
            attempt = Attempt(row, station, None, now)
        if attempt is not None:
            self.attempts[row] = attempt
        if prompt + output > station.most_tokens:
            self._refuse(row, attempt, station, station.refusal(prompt + output), now)
        elif attempt is None:
            self._forward(row, station, now, late)
        else:
            if guarded:
                plan, workload = self.plan, floor.workload[row]
                tenant, model = plan.tenants[workload], plan.models[workload]
                attempt.ask = Ask(row, tenant, model, floor.priority[row], prompt, output)
            self._ask(attempt, now, late)

    def _ask(self, attempt: Attempt, now: float, late: bool) -> None:
        """Have the policies decide, from where it stands; then forward it."""
        station = attempt.station
        number = station.number
        policies = self.policies[number]
        ask = attempt.ask
        while ask is not None and attempt.passed < len(policies):
            policy = policies[attempt.passed]
            ask.inflight = self.inflight[number]
            wait = policy.offer(ask, now)
            if wait == REFUSE:
                self._return(attempt, now)
                self._refuse(attempt.row, attempt, station, policy.reason, now)
                return
            attempt.passed += 1
            if wait > ADMIT:
                self.remember(now + wait, ADMITTED, attempt.row)
                return
        attempt.admitted = now
        self.inflight[number] += 1
        self._forward(attempt.row, station, now, late)

    def _return(self, attempt: Attempt, now: float) -> None:
        """It has passed some policies and will not be let in: they are told."""
        if attempt.ask is not None:
            for policy in self.policies[attempt.station.number][: attempt.passed]:
                policy.cancelled(attempt.ask, now)
        attempt.passed = 0

    def _refuse(self, row: int, attempt: Attempt | None, station: Station, reason: str, now: float) -> None:
        station.rejected += 1
        self.ended(row, attempt, station, now, REJECTED, reason)

    # to a replica

    def _forward(self, row: int, station: Station, now: float, late: bool) -> None:
        """Send it, or have it wait in line."""
        number = station.number
        queue = self.lines[number]
        waiting = len(queue)
        if not waiting and not self.fair[number] and self._room(station):
            self._send(row, station, now, late)
            return
        terms = self.terms[number]
        if terms.queue_limit is not None and waiting >= terms.queue_limit and not self._room(station):
            self._refuse(row, self.attempts.get(row), station, "queue full", now)
            return
        floor = self.floor
        if not waiting and not station.ready:
            floor.notices.append((now, "wanted", number))
        tenant = self.plan.tenants[floor.workload[row]]
        queue.push(tenant, row, priority=floor.priority[row], prompt_tokens=floor.prompt[row])
        self.waiting[row] = station
        if self.fair[number]:
            self._dispatch(station, now, late)
        if row in self.waiting:
            self.remember(now + terms.queue_timeout, WAITED, row)

    def _room(self, station: Station) -> bool:
        if not station.eligible:
            return False
        most = self.terms[station.number].per_replica
        return most is None or min(station.view.outstanding) < most

    def _send(self, row: int, station: Station, now: float, late: bool) -> None:
        floor = self.floor
        position = 0
        if len(station.eligible) > 1:
            prompt = floor.prompt[row]
            position = station.choose(floor.session[row], prompt, prompt + floor.output[row], now)
            most = self.terms[station.number].per_replica
            outstanding = station.view.outstanding
            if most is not None and outstanding[position] >= most:
                position = outstanding.index(min(outstanding))
        attempt = self.attempts.get(row) if self.attempts else None
        if floor.severed:
            replica = station.numbers[station.eligible[position]]
            if replica in floor.severed:
                floor.ledger.replica[row] = replica
                if attempt is None:
                    attempt = self.attempts[row] = Attempt(row, station, None, now)
                self.remember(now + self.terms[station.number].connect_timeout, UNREACHED, row)
                return
        if attempt is not None:
            attempt.sent = True
            attempt.queued = now
        if (attempt is None or attempt.call is None) and floor.ledger.arrival[row] != now:
            self.sent[row] = now
        floor.deliver(row, station, position, now, late)

    def opened(self, station: Station, index: int, now: float) -> None:
        """A replica has become ready: who waits is sent on."""
        ejection = self.ejections[station.number]
        if ejection is not None:
            ejection.opened(index, now)
        self._dispatch(station, now, True)

    def closed(self, station: Station, index: int, now: float) -> None:
        """A replica is no longer to be sent anything."""
        ejection = self.ejections[station.number]
        if ejection is not None:
            ejection.closed(index, now)
            self._soon(station, now)

    def _dispatch(self, station: Station, now: float, late: bool) -> None:
        queue = self.lines[station.number]
        while len(queue) and self._room(station):
            row = queue.pop()
            del self.waiting[row]
            self._send(row, station, now, late)

    def _soon(self, station: Station, now: float) -> None:
        """Dispatch at the end of this moment, if somebody waits."""
        number = station.number
        if len(self.lines[number]) and number not in self.due:
            self.due.add(number)
            self.remember(now, DISPATCH, number)

    # back from a replica

    def served(self, station: Station, replica: int, row: int, now: float) -> None:
        """A step end has answered ``row``."""
        number = station.number
        ejection = self.ejections[number]
        if ejection is not None:
            ejection.answered(self.floor.ordinal[replica], now)
        if self.fair[number]:
            tenant = self.plan.tenants[self.floor.workload[row]]
            self.lines[number].charge(tenant, self.floor.output[row])
        self.ended(row, self.attempts.get(row) if self.attempts else None, station, now, OK, "")
        if self.waiting:
            self._soon(station, now)

    def lost(self, station: Station, replica: int, rows: list[int], now: float, reason: str) -> None:
        """What was in a replica is lost with it."""
        attempts = [self.attempts.get(row) for row in rows]
        for attempt in attempts:
            if attempt is not None:
                attempt.sent = False
        for row, attempt in zip(rows, attempts, strict=True):
            self._failed(station, replica, now, 503)
            if attempt is None or row in self.attempts:  # not yet withdrawn, as its twin was lost too
                self.ended(row, attempt, station, now, FAILED, reason)
        self._soon(station, now)

    def _failed(self, station: Station, replica: int, now: float, code: int) -> None:
        ejection = self.ejections[station.number]
        if ejection is not None:
            ejection.failed(self.floor.ordinal[replica], now, code)
            self._soon(station, now)

    def ended(self, row: int, attempt: Attempt | None, station: Station, now: float, outcome: int, reason: str) -> None:
        """Attempt ``row`` is over, however it went; UNFINISHED: nobody cares any more."""
        station.inside -= 1
        station.area += now
        station.ended += 1
        if outcome == FAILED and self.resends[station.number] and (attempt is None or attempt.call is None):
            attempt = self.callers.adopt(row, station, attempt)
        if attempt is None:
            self.close(row, now, outcome, reason)
            return
        del self.attempts[row]
        if attempt.admitted == attempt.admitted:
            self.inflight[station.number] -= 1
            ask = attempt.ask
            if ask is not None:
                for policy in self.policies[station.number]:
                    if outcome == UNFINISHED:
                        policy.cancelled(ask, now)  # it says nothing of how things are
                    else:
                        policy.ended(ask, now, now - attempt.admitted if outcome == OK else DROPPED)
        elif attempt.passed:
            self._return(attempt, now)
        call = attempt.call
        if call is None:
            self.close(row, now, outcome, reason)
        else:
            self.callers.ended(call, attempt, now, outcome, reason)

    def withdraw(self, attempt: Attempt, now: float, outcome: int, reason: str) -> None:
        """Its client will not wait for its answer any longer (TIMEOUT), or is not interested in it any more (UNFINISHED)."""
        row = attempt.row
        station = attempt.station
        if row in self.waiting:
            del self.waiting[row]
            self.lines[station.number].remove(row)
        elif attempt.sent:
            self.floor.withdraw(row, now)
            if outcome == TIMEOUT:
                self._failed(station, self.floor.ledger.replica[row], now, 504)
            self._soon(station, now)
        self.ended(row, attempt, station, now, outcome, reason)

    def close(self, request: int, now: float, outcome: int, reason: str) -> None:
        """A request is over."""
        floor = self.floor
        ledger = floor.ledger
        self.open -= 1
        ledger.area += now
        ledger.outcome[request] = outcome
        ledger.end[request] = now
        if reason:
            ledger.reason[request] = reason
        if outcome == OK:
            station = floor.owner[ledger.replica[request]]
            if station.watched:
                arrival, first, tokens = ledger.arrival[request], ledger.first_token[request], floor.output[request]
                late = self.terms[station.number].overhead
                tpot = (now - first) / (tokens - 1) if tokens > 1 else _NAN
                station.remember(now, first - arrival + late, tpot, now - arrival + late)
        if floor.closed_loop(request):
            floor.reissue(request, now)

    # reminders

    def remind(self, code: int, now: float) -> bool:
        """What was to be done at ``now``. Whether there was anything left to do."""
        kind, number = code % KINDS, code // KINDS
        if kind >= CLIENTS:
            return self.callers.remind(kind, number, now)
        if kind == WAITED:
            station = self.waiting.pop(number, None)
            if station is None:
                return False
            self.lines[station.number].remove(number)
            self.ended(number, self.attempts.get(number), station, now, TIMEOUT, "waited too long at the gateway")
        elif kind == DISPATCH:
            self.due.discard(number)
            self._dispatch(self.floor.stations[number], now, True)
        elif kind == TICK:
            self._tick(self.floor.stations[number], now)
            return False
        else:
            attempt = self.attempts.get(number)
            if attempt is None:
                return False
            if kind == ADMITTED:
                self._ask(attempt, now, True)
            else:
                self._failed(attempt.station, self.floor.ledger.replica[number], now, 503)
                self.ended(number, attempt, attempt.station, now, FAILED, "unreachable")
        return True

    def _tick(self, station: Station, now: float) -> None:
        """The end of an interval of outlier detection. There is another one unless all is over."""
        ejection = self.ejections[station.number]
        if ejection is not None and (self.open or self.floor.expects()):
            ejection.tick(now)
            self._soon(station, now)
            self.remember(now + ejection.outlier.interval, TICK, station.number)
