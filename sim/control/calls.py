"""What the gateway remembers of a request that may be sent more than once, and of each time it is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sim.control.limits.ask import Ask
from sim.control.station import Station

if TYPE_CHECKING:
    from sim.control.clients.client import Client

__all__ = ["Attempt", "Call", "Kept"]

_NAN: Final = float("nan")
_NEVER: Final = float("inf")


class Kept:
    """What is kept of attempts whose replica was lost, when others go on from there.

    ``generated`` output tokens, the last of them at ``last_token``; ``began``, ``queued``, ``scheduled`` and ``first_token`` of the
    attempt that had the first of them; ``preemptions`` and seconds ``lost`` to them of all.
    """

    __slots__ = ("began", "first_token", "generated", "last_token", "lost", "preemptions", "queued", "scheduled")

    def __init__(self, began: float, queued: float, scheduled: float, first_token: float) -> None:
        self.began = began
        self.queued = queued
        self.scheduled = scheduled
        self.first_token = first_token
        self.last_token = first_token
        self.generated = 0
        self.preemptions = 0
        self.lost = 0.0


class Attempt:
    """One time that a request is sent: row ``row`` of the ledger.

    ``began``: when its client sent it; what the gateway sends again keeps this, and ``number``, the client's count. ``queued``: when it
    was sent to a replica, ``admitted``: when it was let in, NaN before. ``passed``: how many admission policies it has passed. ``sent``:
    it is at a replica.
    """

    __slots__ = ("admitted", "ask", "began", "call", "kept", "number", "passed", "queued", "row", "sent", "station")

    def __init__(self, row: int, station: Station, call: Call | None, began: float, number: int = 1) -> None:
        self.row = row
        self.station = station
        self.call = call
        self.began = began
        self.number = number
        self.ask: Ask | None = None
        self.kept: Kept | None = None
        self.admitted = _NAN
        self.queued = _NAN
        self.passed = 0
        self.sent = False


class Call:
    """A request as its client sees it: until one attempt is answered, or it gives up.

    ``live`` attempts are on their way, those that the gateway is about to send again included. The client has ``sent`` so many, ``tried``
    of them to the deployment that it is at (a cascade has two). ``previous``: the last pause between two; ``paused``: it is in one.
    ``hedge_at``: when the next copy goes out. ``failure``: the last attempt that failed, how, and why.
    """

    __slots__ = (
        "client",
        "done",
        "escalated",
        "failure",
        "hedge_at",
        "live",
        "paused",
        "previous",
        "reason",
        "request",
        "resent",
        "sent",
        "station",
        "tried",
    )

    def __init__(self, request: int, station: Station, client: Client | None) -> None:
        self.request = request
        self.station = station
        self.client = client
        self.live: list[Attempt] = []
        self.sent = 0
        self.tried = 0
        self.resent = 0  # by the gateway, after a replica was lost
        self.previous = 0.0
        self.paused = False
        self.hedge_at = _NEVER
        self.failure: tuple[Attempt, int, str] | None = None
        self.reason = "failed"  # why the attempt before the last had failed
        self.done = False
        self.escalated = False
