"""What the gateway remembers of a request that may be sent more than once, and of each time it is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.control.limits.ask import Ask
from sim.control.station import Station

if TYPE_CHECKING:
    from sim.control.clients.client import Client

__all__ = ["Attempt", "Call"]


class Call:
    """A request as its client sees it: until one attempt is answered, or it gives up.

    ``live`` attempts are on their way; ``sent`` counts all; ``previous`` is the last pause between two. ``first_token`` is that of an
    attempt whose answer was continued elsewhere, NaN if there is none; ``generated`` the tokens it had by then.
    """

    __slots__ = (
        "client",
        "done",
        "escalated",
        "first_token",
        "generated",
        "live",
        "lost",
        "paused",
        "preemptions",
        "previous",
        "reason",
        "request",
        "resent",
        "scheduled",
        "sent",
        "station",
    )

    def __init__(self, request: int, station: Station, client: Client | None) -> None:
        self.request = request
        self.station = station
        self.client = client
        self.live: list[Attempt] = []
        self.sent = 0
        self.resent = 0  # by the gateway, after a replica was lost
        self.previous = 0.0
        self.paused = False  # between two attempts
        self.reason = "failed"  # why the attempt before the last had failed
        self.done = False
        self.escalated = False
        self.first_token = float("nan")
        self.scheduled = float("nan")
        self.generated = 0
        self.preemptions = 0
        self.lost = 0.0


class Attempt:
    """One time that a request is sent. ``began``: when; ``admitted``: when it was let in, NaN before; ``passed``: how many admission
    policies it has passed; ``sent``: to a replica."""

    __slots__ = ("admitted", "ask", "began", "call", "number", "passed", "row", "sent", "station")

    def __init__(self, row: int, station: Station, call: Call | None, ask: Ask | None, began: float) -> None:
        self.row = row
        self.station = station
        self.call = call
        self.ask = ask
        self.began = began
        self.admitted = float("nan")
        self.number = 1  # of the client's attempts; what the gateway sends again keeps its number
        self.passed = 0
        self.sent = False
