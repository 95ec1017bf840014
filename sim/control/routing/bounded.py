"""Consistent hashing with bounded loads: no server gets more than a factor times its share (Mirrokni, Thorup, Zadimoghaddam 2016).

Three readings of it: the paper's, Envoy's (``hash_balance_factor``, random probing seeded by the key) and HAProxy's
(``hash-balance-factor``, next on the ring). Loads are requests sent and not yet ended.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from sim.control.routing.consistent import HashTable, Maglev, Rendezvous, RingHash, normalised
from sim.control.routing.hashing import xxhash64

if TYPE_CHECKING:
    from sim.control.router import FleetView

__all__ = [
    "BoundedLoad",
    "bounded_capacity",
    "choose_envoy",
    "choose_on_ring",
    "haproxy_eligible",
    "haproxy_slots",
    "overload_factor",
    "shuffled",
]


def bounded_capacity(active: int, servers: int, c: float = 1.25) -> int:
    """The paper's bound on each of ``servers``: ceil(c·(m + 1)/n), with ``active`` requests there and one to come."""
    if c < 1.0:
        raise ValueError(f"c must be 1 or more, not {c}")
    # c·(m+1)/n is often a whole number that doubles just miss
    return math.ceil(c * (active + 1) / servers - 1e-9)


def choose_on_ring(table: RingHash, key: int, active: Sequence[int], capacities: Sequence[int]) -> int:
    """The first host from ``key`` on along the ring that has fewer than its capacity; the least loaded by share if none has."""
    first = table.choose(key)
    if first is None:
        raise ValueError("there are no hosts to choose from")
    if active[first] < capacities[first]:
        return first
    seen: set[int] = set()
    for step in range(len(table.ring)):
        host = table.choose(key, step)
        if host is None or host in seen:
            continue
        if active[host] < capacities[host]:
            return host
        seen.add(host)
        if len(seen) == len(active):
            break
    return min(range(len(active)), key=lambda i: active[i] / capacities[i])


def overload_factor(active: int, overall_active: int, weight: float, hash_balance_factor: int) -> float:
    """Envoy's: requests of a host over its slots, max(1, ceil(ceil((m + 1)·factor/100)·weight)); up to 1 is not overloaded.

    ``weight`` is the host's share, ``hash_balance_factor`` in percent (100 or more where it is configured).
    """
    total_slots = ((overall_active + 1) * hash_balance_factor + 99) // 100
    return active / max(math.ceil(total_slots * weight), 1)


def shuffled(hosts: int, seed: int) -> list[int]:
    """The order in which Envoy tries the hosts after the first, the same for the same key: a shuffle by std::mt19937(seed)."""
    import numpy as np

    twister = np.random.RandomState(seed & 0xFFFFFFFF)
    order = list(range(hosts))
    for i in range(hosts):
        k = hosts - i
        x = k
        while x >= k:
            x = int.from_bytes(twister.bytes(4), "little") // ((1 << 32) // k)
        order[i], order[i + x] = order[i + x], order[i]
    return order


def choose_envoy(
    table: HashTable, key: int, hosts: int, factor_of: Callable[[int], float], attempt: int = 0
) -> int | None:
    """Envoy's BoundedLoadHashingLoadBalancer: the table's host, unless overloaded; then the first of a shuffle that is not.

    ``factor_of(position)`` is the overload factor; when all are over 1, the least overloaded (the first found). None without hosts.
    """
    host = table.choose(key, attempt)
    if host is None:
        return None
    least, least_factor = host, factor_of(host)
    if least_factor <= 1.0:
        return host
    for other in shuffled(hosts, key):
        if other == host:
            continue
        factor = factor_of(other)
        if factor <= 1.0:
            return other
        if factor < least_factor:
            least, least_factor = other, factor
    return least


def haproxy_slots(served: int, weights: Sequence[int], hash_balance_factor: int) -> list[int]:
    """HAProxy's slots by server: ceil((served + 1)·factor/100) shared out by whole weights, in order, and never 0.

    ``served``: requests of the whole backend. Source: haproxy src/lb_chash.c, chash_server_is_eligible.
    """
    total = sum(weights)
    slots = ((served + 1) * hash_balance_factor + 99) // 100
    each, remainder = divmod(slots, total)
    shares, cumulative = [], 0
    for weight in weights:
        rest = (cumulative + weight) * remainder // total - cumulative * remainder // total
        shares.append(max(weight * each + rest, 1))
        cumulative += weight
    return shares


def haproxy_eligible(active: Sequence[int], weights: Sequence[int], hash_balance_factor: int) -> list[bool]:
    """Which servers HAProxy would still give a request, by requests they have."""
    slots = haproxy_slots(sum(active), weights, hash_balance_factor)
    return [count < limit for count, limit in zip(active, slots, strict=True)]


class BoundedLoad:
    """A router that keeps sessions on their replica unless it has more than ``hash_balance_factor`` % of its share of requests.

    ``probing``: ``envoy`` tries the others in an order drawn from the key, ``ring`` the next on the ring (the paper; HAProxy), with
    the paper's bound. ``table``: how keys are placed; ``ring`` probing needs ``ring_hash``. Requests without a session are hashed one by
    one, as Envoy does without a hash policy. The table is rebuilt when replicas come or go.
    """

    __slots__ = (
        "_built", "_names", "_request", "_shares", "_table", "hash_balance_factor", "minimum_ring_size", "probing",
        "table", "table_size",
    )  # fmt: skip

    def __init__(
        self,
        hash_balance_factor: int = 125,
        table: Literal["ring_hash", "maglev", "rendezvous_hash"] = "ring_hash",
        probing: Literal["envoy", "ring"] = "envoy",
        minimum_ring_size: int = 1024,
        table_size: int = 65537,
    ) -> None:
        if hash_balance_factor < 100:
            raise ValueError(f"hash_balance_factor must be 100 (percent) or more, not {hash_balance_factor}")
        if table not in ("ring_hash", "maglev", "rendezvous_hash"):
            raise ValueError(f"table must be ring_hash, maglev or rendezvous_hash, not {table!r}")
        if probing not in ("envoy", "ring"):
            raise ValueError(f"probing must be envoy or ring, not {probing!r}")
        if probing == "ring" and table != "ring_hash":
            raise ValueError(f"probing 'ring' needs table 'ring_hash', not {table!r}")
        if not 1 <= minimum_ring_size <= 8 * 1024 * 1024:
            raise ValueError(f"minimum_ring_size must be within 1 to 8388608, not {minimum_ring_size}")
        if table == "maglev":
            Maglev((), None, table_size)  # a prime, or ValueError
        self.hash_balance_factor = hash_balance_factor
        self.table = table
        self.probing = probing
        self.minimum_ring_size = minimum_ring_size
        self.table_size = table_size
        self._names: list[str] = []
        self._shares: list[float] = []
        self._built: tuple[int, int] = (-1, -1)
        self._table: HashTable = Rendezvous(())
        self._request = 0

    def _rebuild(self, fleet: FleetView) -> None:
        self._names = [f"replica-{index}" for index in fleet.ids]
        self._shares = normalised(self._names, None)
        self._built = (fleet.version, len(fleet.ids))
        if self.table == "ring_hash":
            self._table = RingHash(self._names, None, self.minimum_ring_size)
        elif self.table == "maglev":
            self._table = Maglev(self._names, None, self.table_size)
        else:
            self._table = Rendezvous(self._names)

    def choose(self, session: int, tokens: int, fleet: FleetView) -> int:
        """The session's replica, or the next that is not overloaded."""
        if self._built != (fleet.version, len(fleet.ids)):
            self._rebuild(fleet)
        if session < 0:
            self._request += 1
            key = xxhash64(f"request-{self._request}".encode())
        else:
            key = xxhash64(f"session-{session}".encode())
        active, total, n = fleet.outstanding, sum(fleet.outstanding), len(fleet.outstanding)
        if self.probing == "ring" and isinstance(self._table, RingHash):
            capacity = bounded_capacity(total, n, self.hash_balance_factor / 100)
            return choose_on_ring(self._table, key, active, [capacity] * n)
        factor, shares = self.hash_balance_factor, self._shares
        chosen = choose_envoy(self._table, key, n, lambda i: overload_factor(active[i], total, shares[i], factor))
        if chosen is None:
            raise ValueError("there are no replicas to choose from")
        return chosen
