"""Consistent hashing as Envoy does it: a ketama ring, a Maglev table, rendezvous. A 64-bit hash of the key in, a position out.

Source: envoyproxy/envoy source/extensions/load_balancing_policies/{ring_hash,maglev,rendezvous_hash}. ``weights`` are the hosts', in
any unit (they are normalised; None: equal). ``attempt`` counts host-selection retries, 0 for the first.
"""

from __future__ import annotations

import math
import struct
from bisect import bisect_left
from collections.abc import Sequence
from typing import Literal, Protocol

from sim.control.routing.hashing import murmur_hash2, xxhash64

__all__ = ["HashTable", "Maglev", "Rendezvous", "RingHash", "normalised"]

_MASK = (1 << 64) - 1


class HashTable(Protocol):
    """Finds the host of a hash."""

    def choose(self, key: int, attempt: int = 0) -> int | None:
        """The position of the host for the 64-bit ``key``; None when there are no hosts."""
        ...


def normalised(hosts: Sequence[str], weights: Sequence[float] | None) -> list[float]:
    """Weights that sum to one. ValueError where there are not as many as hosts, or one is not positive."""
    if weights is None:
        return [1.0 / len(hosts)] * len(hosts) if hosts else []
    if len(weights) != len(hosts) or any(weight <= 0 for weight in weights):
        raise ValueError(f"weights must be positive, one for each of {len(hosts)} hosts, not {list(weights)}")
    total = sum(weights)
    return [weight / total for weight in weights]


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, math.isqrt(number) + 1))


class RingHash:
    """``ring_hash``: each host at several points, keyed ``host_i``; a key belongs to the first point at or after it.

    The least-weighted host gets a whole number of points, so that there are ``minimum_ring_size`` or more, and at most
    ``maximum_ring_size``, in all. ``ring``: (point, position) in order.
    """

    __slots__ = ("_points", "ring")

    def __init__(
        self,
        hosts: Sequence[str],
        weights: Sequence[float] | None = None,
        minimum_ring_size: int = 1024,
        maximum_ring_size: int = 8 * 1024 * 1024,
        hash_function: Literal["xx_hash", "murmur_hash_2"] = "xx_hash",
    ) -> None:
        if minimum_ring_size > maximum_ring_size:
            raise ValueError(f"minimum_ring_size ({minimum_ring_size}) > maximum_ring_size ({maximum_ring_size})")
        hashed = xxhash64 if hash_function == "xx_hash" else murmur_hash2
        shares = normalised(hosts, weights)
        self.ring: list[tuple[int, int]] = []
        if hosts:
            least = min(shares)
            scale = min(math.ceil(least * minimum_ring_size) / least, float(maximum_ring_size))
            current, target = 0, 0.0
            for position, host in enumerate(hosts):
                target += scale * shares[position]
                i = 0
                while current < target:
                    self.ring.append((hashed(f"{host}_{i}".encode()), position))
                    i += 1
                    current += 1
            self.ring.sort(key=lambda entry: entry[0])
        self._points = [point for point, _ in self.ring]

    def choose(self, key: int, attempt: int = 0) -> int | None:
        """The position of the host for ``key``; a retry takes the ``attempt``-th point after."""
        if not self.ring:
            return None
        at = bisect_left(self._points, key) % len(self.ring)
        return self.ring[(at + attempt) % len(self.ring)][1]


class Maglev:
    """``maglev``: a table of ``table_size`` (a prime) slots that hosts fill in turn, each by its own permutation of the slots."""

    __slots__ = ("table",)

    def __init__(self, hosts: Sequence[str], weights: Sequence[float] | None = None, table_size: int = 65537) -> None:
        if not _is_prime(table_size):
            raise ValueError(f"table_size must be prime, not {table_size}")
        shares = normalised(hosts, weights)
        self.table: list[int] = []
        if not hosts:
            return
        order = sorted(range(len(hosts)), key=lambda i: hosts[i])
        names = [hosts[i].encode() for i in order]
        offsets = [xxhash64(name) % table_size for name in names]
        skips = [xxhash64(name, 1) % (table_size - 1) + 1 for name in names]
        targets, steps = [0.0] * len(order), [0] * len(order)
        heaviest = max(shares)
        slots = [-1] * table_size
        filled, iteration = 0, 0
        while filled < table_size:
            iteration += 1
            for i, position in enumerate(order):
                if filled == table_size:
                    break
                if iteration * shares[position] < targets[i]:
                    continue
                targets[i] += heaviest
                while slots[slot := (offsets[i] + skips[i] * steps[i]) % table_size] >= 0:
                    steps[i] += 1
                slots[slot] = position
                steps[i] += 1
                filled += 1
        self.table = slots

    def choose(self, key: int, attempt: int = 0) -> int | None:
        """The position of the host for ``key``."""
        if not self.table:
            return None
        return self.table[_retried(key, attempt) % len(self.table)]


def _retried(key: int, attempt: int) -> int:
    return key ^ ((_MASK - attempt + 1) & _MASK) if attempt > 0 else key


def _fast_log2(x: float) -> float:
    """Envoy's rational approximation of log2."""
    (bits,) = struct.unpack("<Q", struct.pack("<d", x))
    exponent, mantissa = (bits >> 52) & 0x7FF, bits & ((1 << 52) - 1)
    shifted = 1023 ^ (mantissa >> 51)
    (near,) = struct.unpack("<d", struct.pack("<Q", (shifted << 52) | mantissa))
    t = near - 1.0
    approximation: float = t * (0.338953 * t + 2.198599) / (t + 1.523692)
    return float(exponent - shifted) + approximation


class Rendezvous:
    """``rendezvous_hash``: the host with the highest -weight/ln(mixed hash of key and host), the first of equals."""

    __slots__ = ("_hosts",)

    def __init__(self, hosts: Sequence[str], weights: Sequence[float] | None = None) -> None:
        shares = normalised(hosts, weights)
        self._hosts = [(xxhash64(host.encode()), share) for host, share in zip(hosts, shares, strict=True)]

    @staticmethod
    def score(key: int, host_hash: int, weight: float) -> float:
        """How much ``key`` wants the host."""
        x = key ^ host_hash
        x ^= x >> 12
        x ^= (x << 25) & _MASK
        x ^= x >> 27
        mixed = x * 2685821657736338717 & _MASK
        share = (mixed & ((1 << 53) - 1)) * 2.0**-53
        return -weight / (_fast_log2(share) * 0.6931471805599453)

    def choose(self, key: int, attempt: int = 0) -> int | None:
        """The position of the host for ``key``."""
        if not self._hosts:
            return None
        hashed = _retried(key, attempt)
        scores = [self.score(hashed, host_hash, weight) for host_hash, weight in self._hosts]
        return scores.index(max(scores))
