"""Fewest requests, as Envoy, nginx and HAProxy mean it: they differ in weights and in ties.

Sources: envoyproxy/envoy .../least_request/least_request_lb.cc and common/load_balancer_impl.cc, nginx/nginx
src/http/modules/ngx_http_upstream_least_conn_module.c, haproxy/haproxy src/lb_fwlc.c.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from sim.control.routing.draws import seeded

if TYPE_CHECKING:
    from sim.control.router import FleetView

__all__ = [
    "EnvoyLeastRequest",
    "HaproxyLeastConn",
    "NginxLeastConn",
    "WeightedLeastRequest",
    "pick_full_scan",
    "pick_n_choices",
]

Draw = Callable[[], int]
"""Gives a random whole number, 0 or more."""


def pick_n_choices(active: Sequence[int], draw: Draw, choice_count: int = 2) -> int | None:
    """Envoy, equal weights: of ``choice_count`` hosts drawn (with repetition) the one with the fewest requests, the first of equals.

    ``active``: requests by host; None without hosts.
    """
    if not active:
        return None
    chosen = draw() % len(active)
    for _ in range(choice_count - 1):
        sampled = draw() % len(active)
        if active[sampled] < active[chosen]:
            chosen = sampled
    return chosen


def pick_full_scan(active: Sequence[int], draw: Draw) -> int | None:
    """Envoy's FULL_SCAN: the fewest requests of all, each of k equals with a chance of 1/k (a draw for each after the first).

    None without hosts.
    """
    if not active:
        return None
    chosen, ties = 0, 1
    for i in range(1, len(active)):
        if active[i] < active[chosen]:
            chosen, ties = i, 1
        elif active[i] == active[chosen]:
            ties += 1
            if draw() % ties == 0:
                chosen = i
    return chosen


class WeightedLeastRequest:
    """Envoy, unequal weights (or, since 2026, a configured ``active_request_bias``): earliest deadline first.

    A host's weight is weight/(active + 1)^bias at the time it is scheduled; each pick moves its deadline on by 1/weight, and equal
    deadlines go in the order they were set. ``active``: requests when the schedule was made (None: none). ``seed``: Envoy's random
    offset: seed mod hosts picks are thrown away at first.
    """

    __slots__ = ("_heap", "_now", "_order", "active_request_bias", "weights")

    def __init__(
        self,
        weights: Sequence[float],
        active_request_bias: float = 1.0,
        active: Sequence[int] | None = None,
        seed: int = 0,
    ) -> None:
        if any(weight <= 0 for weight in weights):
            raise ValueError(f"weights must be positive, not {list(weights)}")
        self.weights = list(weights)
        self.active_request_bias = active_request_bias if active_request_bias >= 0.0 else 1.0  # Envoy warns and takes 1
        self._heap: list[tuple[float, int, int]] = []
        self._now, self._order = 0.0, 0
        requests = active if active is not None else [0] * len(self.weights)
        for i in range(len(self.weights)):
            self._schedule(i, requests)
        for _ in range(seed % len(self.weights) if self.weights else 0):
            self.choose(requests)

    def _schedule(self, host: int, active: Sequence[int]) -> None:
        weight = self.weights[host] / (active[host] + 1) ** self.active_request_bias
        heapq.heappush(self._heap, (self._now + 1.0 / weight, self._order, host))
        self._order += 1

    def choose(self, active: Sequence[int]) -> int:
        """The next host, with the requests that hosts have now."""
        self._now, _, host = heapq.heappop(self._heap)
        self._schedule(host, active)
        return host


class NginxLeastConn:
    """nginx ``least_conn``: fewest connections by weight; equals in turn, by smooth weighted round robin among them."""

    __slots__ = ("_current", "weights")

    def __init__(self, weights: Sequence[int]) -> None:
        if any(weight <= 0 for weight in weights):
            raise ValueError(f"weights must be positive, not {list(weights)}")
        self.weights = list(weights)
        self._current = [0] * len(self.weights)

    def choose(self, conns: Sequence[int]) -> int:
        """The next server, with the connections that servers have now."""
        best, weights, current = 0, self.weights, self._current
        many = False
        for i in range(1, len(weights)):
            ours, theirs = conns[i] * weights[best], conns[best] * weights[i]
            if ours < theirs:
                best, many = i, False
            elif ours == theirs:
                many = True
        if not many:
            return best
        total, first = 0, best
        for i in range(first, len(weights)):
            if conns[i] * weights[best] != conns[best] * weights[i]:
                continue
            current[i] += weights[i]
            total += weights[i]
            if current[i] > current[best]:
                best = i
        current[best] -= total
        return best


class HaproxyLeastConn:
    """HAProxy ``leastconn``: fewest connections by weight; of equals the one that has had that number longest.

    Servers lie in a tree by served · 4096/weight, and are put behind their equals whenever their connections change.
    """

    __slots__ = ("_order", "_places", "served", "weights")

    def __init__(self, weights: Sequence[int]) -> None:
        if any(weight <= 0 for weight in weights):
            raise ValueError(f"weights must be positive, not {list(weights)}")
        self.weights = list(weights)
        self.served = [0] * len(self.weights)
        self._places = [(0, i) for i in range(len(self.weights))]
        self._order = len(self.weights)

    def _move(self, server: int) -> None:
        self._places[server] = (self.served[server] * 4096 // self.weights[server], self._order)
        self._order += 1

    def choose(self) -> int:
        """The next server; it has a connection more from now on."""
        chosen = min(range(len(self.weights)), key=lambda i: self._places[i])
        self.served[chosen] += 1
        self._move(chosen)
        return chosen

    def drop(self, server: int) -> None:
        """A connection of ``server`` has ended."""
        self.served[server] -= 1
        self._move(server)


class EnvoyLeastRequest:
    """Envoy's LEAST_REQUEST over replicas of equal weight: two (``choice_count``) are drawn, and may be the same.

    ``active_request_bias``: None leaves it out, as most do; a number makes it weighted (see :class:`WeightedLeastRequest`).
    """

    __slots__ = ("_built", "_generator", "_schedule", "active_request_bias", "choice_count", "selection_method")

    def __init__(
        self,
        choice_count: int = 2,
        selection_method: Literal["n_choices", "full_scan"] = "n_choices",
        active_request_bias: float | None = None,
        generator: np.random.Generator | None = None,
    ) -> None:
        if choice_count < 2:
            raise ValueError(f"choice_count must be 2 or more, not {choice_count}")
        if selection_method not in ("n_choices", "full_scan"):
            raise ValueError(f"selection_method must be n_choices or full_scan, not {selection_method!r}")
        if active_request_bias is not None and active_request_bias < 0.0:
            raise ValueError(f"active_request_bias must be 0 or more, not {active_request_bias}")
        self.choice_count = choice_count
        self.selection_method = selection_method
        self.active_request_bias = active_request_bias
        self._generator = seeded(generator)
        self._schedule = WeightedLeastRequest(())
        self._built: tuple[int, int] = (-1, -1)

    def _draw(self) -> int:
        return int(self._generator.integers(1 << 62))

    def choose(self, session: int, tokens: int, fleet: FleetView) -> int:
        """A replica with few requests."""
        active = fleet.outstanding
        if self.active_request_bias is not None:
            if self._built != (fleet.version, len(active)):
                ones = [1.0] * len(active)
                self._schedule = WeightedLeastRequest(ones, self.active_request_bias, active, self._draw())
                self._built = (fleet.version, len(active))
            return self._schedule.choose(active)
        scan = self.selection_method == "full_scan"
        chosen = pick_full_scan(active, self._draw) if scan else pick_n_choices(active, self._draw, self.choice_count)
        if chosen is None:
            raise ValueError("there are no replicas to choose from")
        return chosen
