"""What stands between clients and replicas: admission, the waiting line, routing, and what becomes of requests whose replica is lost.

Everything is done at arrivals, at the end of engine steps and at reminders the gateway set itself. What it does in answer to a step end
happens after all step ends of that moment, as nobody answers in no time. Requests that are only sent once, past no admission policy, are
rows and nothing else; for any other there is an :class:`Attempt` each time it is sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sim.control.calls import Attempt, Call
from sim.control.limits.ask import ADMIT, DROPPED, REFUSE, AdmissionPolicy, Ask
from sim.control.limits.line import line
from sim.control.plan import GatewayPlan, Terms
from sim.control.station import Station
from sim.serving.ledger import FAILED, OK, REJECTED, TIMEOUT, UNFINISHED

if TYPE_CHECKING:
    from sim.control.clients.outliers import OutlierDetection
    from sim.control.floor import Floor

__all__ = ["KINDS", "Gateway"]

_NAN: Final = float("nan")

# What a reminder is about, with the number of a row (of an attempt, of a request) or of a deployment.
WAITED: Final = 0
ADMITTED: Final = 1
UNREACHED: Final = 2
DISPATCH: Final = 3
TICK: Final = 4
CLIENTS: Final = 5  # and above: what clients are reminded of
KINDS: Final = 16


class Gateway:
    """``open``: requests that have arrived and not ended. By request row, only where there is something to say: ``tries`` (attempts),
    ``began`` (when the attempt that was answered was sent), ``sent`` (when a replica got it)."""

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
        self.policies: list[list[AdmissionPolicy]] = [list(terms.admission()) for terms in plan.terms]
        self.inflight = [0 for _ in plan.terms]  # attempts let in and not ended
        self.outliers: list[OutlierDetection | None] = [
            None if terms.outlier is None else terms.outlier() for terms in plan.terms
        ]
        self.guarded = [bool(policies) for policies in self.policies]
        self.attempts: dict[int, Attempt] = {}
        self.waiting: set[int] = set()  # rows in a line
        self.due: set[int] = set()  # deployments that are to be dispatched at the end of this moment
        self.callers = Callers(self, plan)
        for station, terms, outlier in zip(floor.stations, plan.terms, self.outliers, strict=True):
            station.watched = terms.watched
            if outlier is not None:
                floor.at(outlier.interval, TICK + KINDS * station.number)

    # a request comes

    def arrive(self, row: int, station: Station, now: float, late: bool) -> None:
        """Request ``row`` arrives; ``station`` serves its workload, unless it may choose."""
        self.open += 1
        self.floor.ledger.area -= now
        callers = self.callers
        workload = self.floor.workload[row]
        if callers.choices[workload] is not None:
            station = callers.choose(workload, row, now)
        if callers.simple(workload, station):
            self.enter(row, station, None, now, late)
        else:
            callers.begin(row, station, now, late)

    def enter(self, row: int, station: Station, call: Call | None, now: float, late: bool) -> None:
        """Attempt ``row`` comes to the gateway of its deployment."""
        floor = self.floor
        prompt = floor.prompt[row]
        output = floor.output[row]
        station.inside += 1
        station.area -= now
        station.arrived += 1
        station.prompt_tokens += prompt
        station.output_tokens += output
        refusal = station.refusal(prompt + output)
        number = station.number
        if call is None and not self.guarded[number]:
            if refusal:
                self._refuse(row, None, station, refusal, now)
            else:
                self._forward(row, station, now, late)
            return
        workload = floor.workload[row]
        ask = Ask(row, self.plan.tenants[workload], self.plan.models[workload], floor.priority[row], prompt, output, 0)
        attempt = Attempt(row, station, call, ask, now)
        self.attempts[row] = attempt
        if call is not None:
            call.live.append(attempt)
        if refusal:
            self._refuse(row, attempt, station, refusal, now)
        else:
            self._ask(attempt, now, late)

    def _ask(self, attempt: Attempt, now: float, late: bool) -> None:
        """Have the policies decide, from where it stands; then forward it."""
        station = attempt.station
        number = station.number
        policies = self.policies[number]
        ask = attempt.ask
        assert ask is not None or not policies
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
                self.floor.at(now + wait, ADMITTED + KINDS * attempt.row)
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
        if not len(queue) and not self.fair[number] and self._room(station):
            self._send(row, station, now, late)
            return
        terms = self.terms[number]
        attempt = self.attempts.get(row)
        if terms.queue_limit is not None and len(queue) >= terms.queue_limit and not self._room(station):
            self._refuse(row, attempt, station, "queue full", now)
            return
        floor = self.floor
        if not len(queue) and not station.ready:
            floor.notices.append((now, "wanted", number))
        tenant = self.plan.tenants[floor.workload[row]]
        queue.push(tenant, row, priority=floor.priority[row], prompt_tokens=floor.prompt[row])
        self.waiting.add(row)
        if self.fair[number]:
            self._dispatch(station, now, late)
        if row in self.waiting:
            floor.at(now + terms.queue_timeout, WAITED + KINDS * row)

    def _room(self, station: Station) -> bool:
        if not station.eligible:
            return False
        most = self.terms[station.number].per_replica
        return most is None or min(station.view.outstanding) < most

    def _send(self, row: int, station: Station, now: float, late: bool) -> None:
        floor = self.floor
        ledger = floor.ledger
        prompt = floor.prompt[row]
        position = 0
        if len(station.eligible) > 1:
            position = station.choose(floor.session[row], prompt, prompt + floor.output[row], now)
            most = self.terms[station.number].per_replica
            outstanding = station.view.outstanding
            if most is not None and outstanding[position] >= most:
                position = outstanding.index(min(outstanding))
        if ledger.arrival[row] != now:
            self.sent[row] = now
        attempt = self.attempts.get(row) if self.attempts else None
        if floor.severed:
            replica = station.numbers[station.eligible[position]]
            if replica in floor.severed:
                ledger.replica[row] = replica
                if attempt is None:
                    attempt = self.attempts[row] = Attempt(row, station, None, None, now)
                floor.at(now + self.terms[station.number].connect_timeout, UNREACHED + KINDS * row)
                return
        if attempt is not None:
            attempt.sent = True
        floor.deliver(row, station, position, now, late)

    def opened(self, station: Station, index: int, now: float) -> None:
        """A replica has become ready: who waits is sent on."""
        outlier = self.outliers[station.number]
        if outlier is not None:
            outlier.add(index)
        self._dispatch(station, now)

    def closed(self, station: Station, index: int) -> None:
        """A replica is no longer to be sent anything."""
        outlier = self.outliers[station.number]
        if outlier is not None:
            outlier.remove(index)

    def _dispatch(self, station: Station, now: float, late: bool = True) -> None:
        queue = self.lines[station.number]
        while len(queue) and self._room(station):
            row = queue.pop()
            self.waiting.discard(row)
            self._send(row, station, now, late)

    def _soon(self, station: Station, now: float) -> None:
        """Dispatch at the end of this moment."""
        number = station.number
        if len(self.lines[number]) and number not in self.due:
            self.due.add(number)
            self.floor.at(now, DISPATCH + KINDS * number)

    # back from a replica

    def served(self, station: Station, replica: int, row: int, now: float) -> None:
        """A step end has answered ``row``."""
        number = station.number
        outlier = self.outliers[number]
        if outlier is not None:
            outlier.report(self.floor.ordinal[replica], now, True)
        if self.fair[number]:
            tenant = self.plan.tenants[self.floor.workload[row]]
            self.lines[number].charge(tenant, self.floor.output[row])
        attempt = self.attempts.get(row) if self.attempts else None
        self.ended(row, attempt, station, now, OK, "")
        if len(self.lines[number]):
            self._soon(station, now)

    def lost(self, station: Station, replica: int, rows: list[int], now: float, reason: str) -> None:
        """What was in a replica is lost with it."""
        for row in rows:
            attempt = self.attempts.get(row)
            self._reported(station, replica, now, 503)
            self.ended(row, attempt, station, now, FAILED, reason)

    def _reported(self, station: Station, replica: int, now: float, code: int) -> None:
        """A replica has not answered: the proxy's own errors are 503 (no connection) and 504 (too late)."""
        outlier = self.outliers[station.number]
        if outlier is not None:
            outlier.report(self.floor.ordinal[replica], now, False, code)
            self._review(station, outlier, now)

    def ended(self, row: int, attempt: Attempt | None, station: Station, now: float, outcome: int, reason: str) -> None:
        """Attempt ``row`` is over, however it went."""
        station.inside -= 1
        station.area += now
        station.ended += 1
        if attempt is None:
            self.close(row, row, now, outcome, reason)
            return
        self.attempts.pop(row, None)
        if attempt.admitted == attempt.admitted:
            self.inflight[station.number] -= 1
            rtt = now - attempt.admitted if outcome == OK else DROPPED
            ask = attempt.ask
            if ask is not None:
                for policy in self.policies[station.number]:
                    if outcome == UNFINISHED:
                        policy.cancelled(ask, now)  # it was outdone by a copy of it, and says nothing
                    else:
                        policy.ended(ask, now, rtt)
        elif attempt.passed:
            self._return(attempt, now)
        call = attempt.call
        if call is None:
            self.close(row, row, now, outcome, reason)
        else:
            self.callers.ended(call, attempt, now, outcome, reason)

    def withdraw(self, attempt: Attempt, now: float, outcome: int, reason: str) -> None:
        """Its client is no longer interested, or will not get an answer."""
        row = attempt.row
        station = attempt.station
        if row in self.waiting:
            self.waiting.discard(row)
            self.lines[station.number].remove(row)
        elif attempt.sent:
            self.floor.withdraw(row, now)
            if outcome == TIMEOUT:
                self._reported(station, self.floor.ledger.replica[row], now, 504)
            self._soon(station, now)
        self.ended(row, attempt, station, now, outcome, reason)

    def close(self, request: int, row: int, now: float, outcome: int, reason: str) -> None:
        """A request is over; ``row`` is the attempt that ended it."""
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
        floor = self.floor
        if kind == WAITED:
            if number not in self.waiting:
                return False
            self.waiting.discard(number)
            station = self._station_of(number)
            self.lines[station.number].remove(number)
            self.ended(number, self.attempts.get(number), station, now, TIMEOUT, "waited too long at the gateway")
        elif kind == ADMITTED:
            attempt = self.attempts.get(number)
            if attempt is None:
                return False
            self._ask(attempt, now, True)
        elif kind == UNREACHED:
            attempt = self.attempts.get(number)
            if attempt is None:
                return False
            self._reported(attempt.station, floor.ledger.replica[number], now, 503)
            self.ended(number, attempt, attempt.station, now, FAILED, "unreachable")
        elif kind == DISPATCH:
            self.due.discard(number)
            self._dispatch(floor.stations[number], now)
        else:
            self._tick(floor.stations[number], now)
            return False
        return True

    def _station_of(self, row: int) -> Station:
        attempt = self.attempts.get(row)
        return self.floor.station_of[self.floor.workload[row]] if attempt is None else attempt.station

    def _tick(self, station: Station, now: float) -> None:
        """Outlier detection looks at what it has seen: who is avoided from now on, and who no longer."""
        outlier = self.outliers[station.number]
        if outlier is None:
            return
        outlier.tick(now)
        self._review(station, outlier, now)
        self.floor.at(now + outlier.interval, TICK + KINDS * station.number)

    def _review(self, station: Station, outlier: OutlierDetection, now: float) -> None:
        floor = self.floor
        avoided = outlier.avoided(now)
        for index in list(station.eligible):
            if index in avoided:
                floor.exclude(station.numbers[index])
        for index in sorted(station.away):
            number = station.numbers[index]
            if index not in avoided and number not in floor.closed:
                floor.include(number)
        self._soon(station, now)
