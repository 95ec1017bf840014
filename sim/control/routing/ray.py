"""Ray Serve's request router: power of two choices on cached queue lengths.

Source: ray-project/ray python/ray/serve/_private/request_router/{request_router,pow_2_router,common}.py, constants.py.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sim.control.parameters import Seconds
from sim.control.routing.draws import seeded

if TYPE_CHECKING:
    from sim.control.router import FleetView

__all__ = [
    "LocalityRouting",
    "QueueLengthCache",
    "RayPowerOfTwo",
    "Replica",
    "backoff_s",
    "backoff_sequence",
    "choose_candidates",
    "probe_deadline_s",
    "rank_by_locality",
    "select_replica",
]


def backoff_s(
    attempt: int, initial_backoff_s: float = 0.025, backoff_multiplier: float = 2.0, max_backoff_s: float = 0.5
) -> float:
    """How long the router sleeps after try ``attempt`` + 2 has failed: initial · multiplier^attempt, at most the maximum."""
    return min(initial_backoff_s * backoff_multiplier**attempt, max_backoff_s)


def backoff_sequence(
    tries: int, initial_backoff_s: float = 0.025, backoff_multiplier: float = 2.0, max_backoff_s: float = 0.5
) -> list[float]:
    """The sleeps after the first, second, ... try: none after the first, then exponential."""
    sleeps = [backoff_s(i, initial_backoff_s, backoff_multiplier, max_backoff_s) for i in range(max(tries - 1, 0))]
    return ([0.0] if tries > 0 else []) + sleeps


def probe_deadline_s(
    backoff_index: int,
    queue_len_response_deadline_s: float = 0.1,
    max_queue_len_response_deadline_s: float = 1.0,
) -> float:
    """How long a replica may take to answer a probe: deadline · 2^index, at most the maximum (which is at least the deadline)."""
    most = max(queue_len_response_deadline_s, max_queue_len_response_deadline_s)
    return most if backoff_index > 1000 else min(queue_len_response_deadline_s * 2.0**backoff_index, most)


class QueueLengthCache:
    """Queue lengths by replica, each good for ``staleness_timeout_s`` after it was set."""

    __slots__ = ("_entries", "staleness_timeout_s")

    def __init__(self, staleness_timeout_s: Seconds = 10.0) -> None:
        self.staleness_timeout_s = staleness_timeout_s
        self._entries: dict[Hashable, tuple[int, float]] = {}

    def get(self, replica: Hashable, now: float) -> int | None:
        """The queue length, None if unknown or older than the timeout (as old as it is still good)."""
        entry = self._entries.get(replica)
        return None if entry is None or now - entry[1] > self.staleness_timeout_s else entry[0]

    def update(self, replica: Hashable, queue_len: int, now: float) -> None:
        """The replica said so, or a request was sent to it."""
        self._entries[replica] = (queue_len, now)

    def on_send_request(self, replica: Hashable, now: float) -> None:
        """One more than known (one, if nothing is)."""
        self.update(replica, (self.get(replica, now) or 0) + 1, now)

    def decrement(self, replica: Hashable, now: float) -> None:
        """A request has ended (releases since 2.50): one less, not below 0; nothing if nothing is known."""
        known = self.get(replica, now)
        if known is not None:
            self.update(replica, max(known - 1, 0), now)

    def invalidate(self, replica: Hashable) -> None:
        """The replica could not be reached: it must be probed before it is used again."""
        self._entries.pop(replica, None)

    def keep_only(self, replicas: Sequence[Hashable]) -> None:
        """Forget replicas that are gone."""
        present = set(replicas)
        self._entries = {replica: entry for replica, entry in self._entries.items() if replica in present}


@dataclass(frozen=True, slots=True)
class Replica:
    """A replica as the router knows it; ``node_id`` and ``availability_zone`` say how near it is."""

    name: str
    max_ongoing_requests: int = 5
    node_id: str = ""
    availability_zone: str | None = None


@dataclass(slots=True)
class LocalityRouting:
    """Which replicas one request may go to: those on its own node once, in its own zone once, then all; one object a request.

    ``should_backoff`` says whether a failed try is followed by a sleep: not by one among the near.
    """

    self_node_id: str | None = None
    self_availability_zone: str | None = None
    prefer_local_node_routing: bool = False
    prefer_local_az_routing: bool = False
    tried_same_node: bool = False
    tried_same_az: bool = False
    should_backoff: bool = False

    def candidates(self, replicas: Sequence[Replica]) -> list[Replica]:
        """The replicas of the next try."""
        node = [r for r in replicas if self.self_node_id is not None and r.node_id == self.self_node_id]
        zone = [
            r
            for r in replicas
            if self.self_availability_zone is not None and r.availability_zone == self.self_availability_zone
        ]
        self.should_backoff = False
        if self.prefer_local_node_routing and not self.tried_same_node and node:
            self.tried_same_node = True
            return node
        if self.prefer_local_az_routing and not self.tried_same_az and zone:
            self.tried_same_az = True
            return zone
        self.should_backoff = True
        return list(replicas)


def rank_by_locality(
    replicas: Sequence[Replica], self_node_id: str | None, self_availability_zone: str | None
) -> list[list[Replica]]:
    """Replicas on the same node, of the rest those in the same zone, and the rest."""
    ranked: list[list[Replica]] = [[], [], []]
    for replica in replicas:
        if self_node_id is not None and replica.node_id == self_node_id:
            ranked[0].append(replica)
        elif self_availability_zone is not None and replica.availability_zone == self_availability_zone:
            ranked[1].append(replica)
        else:
            ranked[2].append(replica)
    return ranked


def choose_candidates(count: int, generator: np.random.Generator) -> list[int]:
    """Two different positions below ``count`` in random order; fewer if there are fewer."""
    if count <= 1:
        return list(range(count))
    first, second = int(generator.integers(count)), int(generator.integers(count - 1))
    return [first, second + 1 if second >= first else second]


def select_replica(
    candidates: Sequence[int],
    cached: Callable[[int], int | None],
    probe: Callable[[int], int | None],
    max_ongoing_requests: Callable[[int], int],
) -> tuple[int | None, list[int]]:
    """The candidate with the shortest queue that is not full, the first of equals, and the candidates to be probed.

    ``cached(i)`` is the cached length; who has none, or a full one, is probed now when nobody else will do, and in the
    background otherwise. ``probe(i)`` is what the replica answers, None if it does not in time. None: all are full or silent.
    """
    chosen, shortest = None, float("inf")
    unknown = []
    for candidate in candidates:
        length = cached(candidate)
        if length is None or length >= max_ongoing_requests(candidate):
            unknown.append(candidate)
        elif length < shortest:
            chosen, shortest = candidate, length
    if chosen is None:
        for candidate in unknown:
            length = probe(candidate)
            if length is not None and length < max_ongoing_requests(candidate) and length < shortest:
                chosen, shortest = candidate, length
    return chosen, unknown


class RayPowerOfTwo:
    """Ray Serve's default router, with what it believes of queue lengths as old as it is there.

    A replica's queue length is the requests sent to it and not ended. A replica chosen by a cached length that is full by now
    rejects the request and says how long its queue is. Tries follow each other at once, as a simulated request cannot wait in
    the router: after ``max_tries`` it goes to the shortest queue of the last two. ``max_ongoing_requests`` None: no replica is full
    (Ray's own default, 5, is for replicas that do not batch). ``decrement_on_completion`` is not simulated: the router is not told
    of ends, so the cache is what replicas said when they were sent something, as up to 2.49.
    """

    __slots__ = (
        "_cache",
        "_generator",
        "_version",
        "max_ongoing_requests",
        "max_tries",
        "queue_length_cache_timeout_s",
    )

    def __init__(
        self,
        max_ongoing_requests: int | None = None,
        queue_length_cache_timeout_s: Seconds = 10.0,
        max_tries: int = 20,
        generator: np.random.Generator | None = None,
    ) -> None:
        if max_ongoing_requests is not None and max_ongoing_requests <= 0:
            raise ValueError(f"max_ongoing_requests must be positive, not {max_ongoing_requests}")
        if queue_length_cache_timeout_s < 0.0:
            raise ValueError(f"queue_length_cache_timeout_s must be 0 or more, not {queue_length_cache_timeout_s}")
        if max_tries <= 0:
            raise ValueError(f"max_tries must be positive, not {max_tries}")
        self.max_ongoing_requests = max_ongoing_requests
        self.queue_length_cache_timeout_s = queue_length_cache_timeout_s
        self.max_tries = max_tries
        self._generator = seeded(generator)
        self._cache = QueueLengthCache(queue_length_cache_timeout_s)
        self._version = -1

    def choose(self, session: int, tokens: int, fleet: FleetView) -> int:
        """One of two replicas, by the queue lengths known."""
        now, ids, queues, cache = fleet.now, fleet.ids, fleet.outstanding, self._cache
        if self._version != fleet.version:
            cache.keep_only(ids)
            self._version = fleet.version
        limit = self.max_ongoing_requests if self.max_ongoing_requests is not None else 1 << 62

        def probe(i: int) -> int:
            cache.update(ids[i], queues[i], now)
            return queues[i]

        candidates: list[int] = []
        for _ in range(self.max_tries):
            candidates = choose_candidates(len(ids), self._generator)
            chosen, unknown = select_replica(candidates, lambda i: cache.get(ids[i], now), probe, lambda _: limit)
            for i in unknown:  # by now, or in the background
                probe(i)
            if chosen is None:
                continue
            if queues[chosen] < limit:
                cache.update(ids[chosen], queues[chosen] + 1, now)  # its answer, this request among them
                return chosen
            probe(chosen)  # rejected
        return min(candidates, key=lambda i: queues[i])
