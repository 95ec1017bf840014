"""Routers: which replica of a deployment gets a request. Small classes; none touches the clock.

A router reads a :class:`FleetView` and returns an index. Least-something ties are broken in turn, starting after the replica
chosen last, as load balancers do, so that an idle fleet is not served by its first replica alone.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

__all__ = ["FleetView", "Router"]


class FleetView:
    """What a router may read of its deployment's replicas; it must not write.

    ``outstanding[i]``: requests sent to replica ``i`` and not yet ended. ``tokens[i]``: prompt tokens of those requests plus
    output tokens they have declared (a load balancer knows both at arrival), not reduced while a request is served.
    """

    __slots__ = ("outstanding", "tokens")

    def __init__(self, replicas: int) -> None:
        self.outstanding = [0] * replicas
        self.tokens = [0] * replicas


@runtime_checkable
class Router(Protocol):
    """Chooses a replica. Called once a request, in arrival order; keep it fast."""

    def choose(self, session: int, tokens: int, fleet: FleetView) -> int:
        """The index of the replica for a request of ``session`` (-1: none) with ``tokens`` prompt and output tokens."""
        ...
