"""The built-in routers. Least-something ties are broken in turn: the search starts after the replica chosen last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.control.router import FleetView
from sim.kernel.streams import stable_hash

if TYPE_CHECKING:
    import numpy as np

__all__ = ["LeastOutstanding", "LeastTokens", "PowerOfTwo", "RandomChoice", "RoundRobin", "SessionAffinity"]


def _least(values: list[int], after: int) -> int:
    """The index of the smallest value, the first such one past ``after``, going round."""
    least = min(values)
    if after >= len(values):  # the fleet has shrunk
        after = -1
    if values[after + 1 - len(values)] == least:  # the very next, as in an idle fleet
        return (after + 1) % len(values)
    try:
        return values.index(least, after + 1)
    except ValueError:
        return values.index(least)


class RoundRobin:
    """Each replica in turn, whatever its load: nginx's and Kubernetes services' default idea."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = -1

    def choose(self, session: int, tokens: int, fleet: FleetView) -> int:
        self._last += 1
        if self._last >= len(fleet.outstanding):
            self._last = 0
        return self._last


class LeastOutstanding:
    """The replica with the fewest requests sent and not yet ended (Envoy's and nginx's least-connections, exactly)."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = -1

    def choose(self, session: int, tokens: int, fleet: FleetView) -> int:
        self._last = _least(fleet.outstanding, self._last)
        return self._last


class LeastTokens:
    """The replica with the fewest tokens, prompt and declared output, of requests not yet ended."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = -1

    def choose(self, session: int, tokens: int, fleet: FleetView) -> int:
        self._last = _least(fleet.tokens, self._last)
        return self._last


class _Draws:
    """Uniform numbers from a generator, drawn in blocks: a scalar draw costs ten times more."""

    __slots__ = ("_block", "_generator", "_next")

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._block: list[float] = []
        self._next = 0

    def below(self, n: int) -> int:
        """A whole number in [0, n)."""
        if self._next >= len(self._block):
            self._block = self._generator.random(1024).tolist()
            self._next = 0
        draw = self._block[self._next]
        self._next += 1
        return int(draw * n)


class RandomChoice:
    """Any replica, with equal chance."""

    __slots__ = ("_draws",)

    def __init__(self, generator: np.random.Generator) -> None:
        self._draws = _Draws(generator)

    def choose(self, session: int, tokens: int, fleet: FleetView) -> int:
        return self._draws.below(len(fleet.outstanding))


class PowerOfTwo:
    """Two different replicas at random, then the one with fewer outstanding requests; the first drawn on a tie (Mitzenmacher 2001)."""

    __slots__ = ("_draws",)

    def __init__(self, generator: np.random.Generator) -> None:
        self._draws = _Draws(generator)

    def choose(self, session: int, tokens: int, fleet: FleetView) -> int:
        outstanding = fleet.outstanding
        first = self._draws.below(len(outstanding))
        if len(outstanding) == 1:
            return first
        second = self._draws.below(len(outstanding) - 1)
        if second >= first:
            second += 1
        return second if outstanding[second] < outstanding[first] else first


class SessionAffinity:
    """One replica per session, by rendezvous hashing, so that adding a replica moves only its share; the rest go least outstanding."""

    __slots__ = ("_fallback", "_homes", "_version")

    def __init__(self) -> None:
        self._homes: dict[int, int] = {}
        self._version = 0
        self._fallback = LeastOutstanding()

    def choose(self, session: int, tokens: int, fleet: FleetView) -> int:
        if session < 0:
            return self._fallback.choose(session, tokens, fleet)
        if self._version != fleet.version:
            self._homes.clear()
            self._version = fleet.version
        home = self._homes.get(session, -1)
        if home < 0:
            home = max(range(len(fleet.ids)), key=lambda i: stable_hash(f"{session}/{fleet.ids[i]}"))
            self._homes[session] = home
        return home
