"""Routers: which replica of a deployment gets a request. Small classes; none touches the clock.

A router reads a :class:`FleetView` and returns a position in it. Least-something ties are broken in turn, starting after the
replica chosen last, as load balancers do, so that an idle fleet is not served by its first replica alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

__all__ = ["FleetView", "Look", "Router"]


class Look(NamedTuple):
    """What one replica's engine exports: requests running and waiting, share of KV blocks in use, KV blocks it has."""

    running: int
    waiting: int
    kv_usage: float
    kv_blocks: int = 0


class FleetView:
    """What a router may read of its deployment's replicas that are ready; it must not write.

    All lists are by position. ``outstanding[i]``: requests sent to replica ``i`` and not yet ended. ``tokens[i]``: prompt tokens of
    those requests plus output tokens they have declared (a load balancer knows both at arrival), not reduced while a
    request is served. ``ids[i]``: the replica's number within the deployment, which it keeps when others come and go;
    ``version`` changes whenever ``ids`` does. ``now``: the moment of the choice, in seconds; ``prompt_tokens`` of the request.
    ``look(i)`` is what the engine would answer this very moment; a router that asks less often keeps what it was told.
    """

    __slots__ = ("ids", "look", "now", "outstanding", "prompt_tokens", "tokens", "version")

    def __init__(self, replicas: int, look: Callable[[int], Look] | None = None) -> None:
        self.outstanding = [0] * replicas
        self.tokens = [0] * replicas
        self.ids = list(range(replicas))
        self.version = 0
        self.now = 0.0
        self.prompt_tokens = 0
        self.look: Callable[[int], Look] = look if look is not None else self._by_outstanding

    def _by_outstanding(self, position: int) -> Look:
        """All that is known without an engine: as if everything sent were running."""
        return Look(self.outstanding[position], 0, 0.0)


@runtime_checkable
class Router(Protocol):
    """Chooses a replica. Called once a request, in arrival order; keep it fast."""

    def choose(self, session: int, tokens: int, fleet: FleetView) -> int:
        """The position of the replica for a request of ``session`` (-1: none) with ``tokens`` prompt and output tokens."""
        ...
