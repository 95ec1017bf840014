"""When things break: at given times, or at random by a mean time between. Pure; every place has a random stream of its own.

What is drawn for a place depends on that place alone: how often others break, whether anything stands there, and what an option
changes do not move it. So options that are compared meet the same faults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace
from math import gamma
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from sim.control.cluster.distribution import Distribution

__all__ = ["At", "Lottery", "Place", "Renewal", "Streams", "Strike", "Ticket", "When", "first", "gap", "strikes"]

Streams = Callable[[str], "np.random.Generator"]
"""The generator of a purpose."""

_INFINITE = float("inf")


@dataclass(frozen=True, slots=True)
class At:
    """At these times, seconds from the start, in rising order."""

    times: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.times or min(self.times) < 0.0 or list(self.times) != sorted(self.times):
            raise ValueError(f"times {list(self.times)}: one or more seconds, none negative, in rising order")


@dataclass(frozen=True, slots=True)
class Renewal:
    """Again and again, ``mean`` seconds apart on average: exponential (``shape`` 1), or Weibull of another ``shape`` (less than 1: those
    that broke lately break sooner). Only between ``after`` and ``until``. Nothing is new at the start: by ``t`` there were ``t / mean``
    on average, whatever the shape."""

    mean: float
    shape: float = 1.0
    after: float = 0.0
    until: float = _INFINITE

    def __post_init__(self) -> None:
        if not self.mean > 0.0:
            raise ValueError(f"mean {self.mean}: more than 0 s are needed")
        if not 0.1 <= self.shape <= 10.0:
            raise ValueError(f"shape {self.shape}: from 0.1 to 10")
        if not 0.0 <= self.after <= self.until:
            raise ValueError(f"after {self.after}, until {self.until}: must rise from 0")


When = At | Renewal


def gap(generator: np.random.Generator, when: Renewal) -> float:
    """Seconds from one to the next."""
    scale = float(when.mean / gamma(1.0 + 1.0 / when.shape))
    return scale * float(generator.weibull(when.shape))


def first(generator: np.random.Generator, when: Renewal) -> float:
    """Seconds to the first, seen from any time: what is left of the gap that this time falls into. Long gaps are met more often, in
    proportion to their length (its power of ``shape`` is then gamma distributed, of 1 + 1/shape), and anywhere in them.
    """
    scale = float(when.mean / gamma(1.0 + 1.0 / when.shape))
    met = float(generator.standard_gamma(1.0 + 1.0 / when.shape) ** (1.0 / when.shape))
    return scale * met * float(generator.random())


@dataclass(frozen=True, slots=True)
class Place:
    """Where something may stand: a slot of a pool (its machines), of a deployment (its replicas); the group "": the whole fleet.

    ``parts`` break one by one: the GPUs of a machine."""

    group: str = ""
    slot: int = 0
    parts: int = 1

    @property
    def label(self) -> str:
        """As it stands in the name of its stream."""
        return f"/{self.group}/{self.slot}" if self.group else ""


@dataclass(frozen=True, slots=True)
class Strike:
    """``part`` of ``place`` breaks at ``time``, for ``seconds`` (NaN: for as long as it takes)."""

    time: float
    place: Place
    part: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Ticket:
    """A place's lot when some are to be hit at once: the lowest ``rank`` goes first."""

    rank: float
    place: Place
    part: int
    seconds: float


def strikes(
    fault: str, when: Renewal, places: Sequence[Place], lasts: Distribution | None, streams: Streams
) -> Iterator[Strike]:
    """All strikes on all places in order of time, without end unless ``when`` has one. Streams: ``fault/<fault>/<group>/<slot>``, and the
    same with ``/lasts`` for how long they last: who changes that does not move when they come."""
    generators = [streams(f"fault/{fault}{place.label}") for place in places]
    lengths = _Lengths(fault, lasts, streams)
    heap = [
        (first(generators[index], when), index, part)
        for index, place in enumerate(places)
        for part in range(place.parts)
    ]
    heapify(heap)
    while heap:
        time, index, part = heap[0]
        if time > when.until or time == _INFINITE:
            return
        heapreplace(heap, (time + gap(generators[index], when), index, part))
        seconds = lengths.draw(places[index])
        if time >= when.after:
            yield Strike(time, places[index], part, seconds)


class _Lengths:
    """How long each strike lasts, of every place from a stream of its own."""

    def __init__(self, fault: str, lasts: Distribution | None, streams: Streams) -> None:
        self._fault = fault
        self._lasts = lasts
        self._streams = streams
        self._generators: dict[Place, np.random.Generator] = {}

    def draw(self, place: Place) -> float:
        """Seconds; NaN: for as long as it takes."""
        if self._lasts is None:
            return float("nan")
        if place not in self._generators:
            self._generators[place] = self._streams(f"fault/{self._fault}{place.label}/lasts")
        return self._lasts.draw(self._generators[place])


class Lottery:
    """Who is hit when some of all are: each time, every place draws from its own stream, be there something or not."""

    def __init__(self, fault: str, places: Sequence[Place], lasts: Distribution | None, streams: Streams) -> None:
        self._places = places
        self._lengths = _Lengths(fault, lasts, streams)
        self._generators = [streams(f"fault/{fault}{place.label}") for place in places]

    def draw(self) -> list[Ticket]:
        """All tickets, the first to be hit in front."""
        tickets = []
        for place, generator in zip(self._places, self._generators, strict=True):
            rank, part = float(generator.random()), int(generator.random() * place.parts)
            tickets.append(Ticket(rank, place, part, self._lengths.draw(place)))
        return sorted(tickets, key=lambda ticket: ticket.rank)
