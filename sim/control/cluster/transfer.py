"""Bytes on their way over links that they share: n at once on a link get an nth of it each, worked out anew when one joins or leaves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from simpy import Environment, Event

from sim.kernel.clock import QUANTUM, on_grid

__all__ = ["Flow", "Link", "Traffic", "shares"]

_INFINITE: Final = float("inf")


class Link:
    """Something with so many bytes a second for all that use it at once: a node's network interface, its disk, a registry."""

    __slots__ = ("bandwidth", "flows", "name")

    def __init__(self, name: str, bandwidth: float) -> None:
        self.name = name
        self.bandwidth = bandwidth
        self.flows: dict[Flow, None] = {}  # an ordered set


class Flow:
    """One load. ``pace`` is what it would reach alone, in bytes a second; ``done`` happens when all bytes are there."""

    __slots__ = ("done", "left", "links", "pace", "rate", "since")

    def __init__(self, size: float, pace: float, links: Sequence[Link], done: Event, now: float) -> None:
        self.left = size
        self.pace = pace
        self.links = links
        self.done = done
        self.rate = 0.0
        self.since = now


def shares(flows: Iterable[Flow]) -> dict[Flow, float]:
    """Bytes a second of each: links are shared equally, and what a flow cannot use (its own pace, another link) the others get
    (max-min fairness, by progressive filling: Bertsekas and Gallager, Data Networks, 6.5.2)."""
    waiting = dict.fromkeys(flows)
    rates: dict[Flow, float] = {}
    spare = {link: link.bandwidth for flow in waiting for link in flow.links}
    users = {link: sum(1 for flow in link.flows if flow in waiting) for link in spare}
    while waiting:
        level = min(spare[link] / users[link] for link in spare if users[link]) if any(users.values()) else _INFINITE
        slow = [flow for flow in waiting if flow.pace <= level]
        if not slow:
            # a link is full: its flows have their rates, and no flow has more
            full = {link for link in spare if users[link] and spare[link] / users[link] <= level}
            slow = [flow for flow in waiting if any(link in full for link in flow.links)]
        for flow in slow:
            rates[flow] = min(flow.pace, level)
            del waiting[flow]
            for link in flow.links:
                spare[link] = max(spare[link] - rates[flow], 0.0)
                users[link] -= 1
    return rates


class Traffic:
    """All loads of a cluster."""

    def __init__(self, env: Environment) -> None:
        self.env = env
        self._version: dict[Flow, int] = {}

    def send(self, size: float, seconds: float, links: Iterable[Link]) -> Flow:
        """Start to move ``size`` bytes, which alone would take ``seconds``. Of no size, or over links that limit nothing, they
        take just that."""
        limited = tuple(dict.fromkeys(link for link in links if link.bandwidth < _INFINITE))
        now = self.env.now
        done = self.env.event()
        if size <= 0.0 or seconds <= 0.0 or not limited:
            flow = Flow(0.0, _INFINITE, (), done, now)
            self._later(seconds, flow)
            return flow
        flow = Flow(size, size / seconds, limited, done, now)
        for link in limited:
            link.flows[flow] = None
        self._share(flow)
        return flow

    def stop(self, flow: Flow) -> None:
        """The load is given up: what it used is there for others. ``done`` never happens."""
        if self._version.pop(flow, None) is not None and flow.links:
            self._leave([flow])

    def _later(self, seconds: float, flow: Flow) -> None:
        version = self._version.get(flow, 0) + 1
        self._version[flow] = version
        timer = self.env.timeout(on_grid(seconds))
        timer.callbacks.append(lambda _: self._due(flow, version))

    def _due(self, flow: Flow, version: int) -> None:
        if self._version.get(flow) != version:
            return
        if not flow.links:
            del self._version[flow]
            flow.done.succeed()
            return
        together = _connected(flow)
        self._advance(together)
        finished = [other for other in together if other is flow or other.left <= other.rate * QUANTUM]
        for other in finished:
            self._version.pop(other, None)
        self._leave(finished)
        for other in finished:
            other.done.succeed()

    def _leave(self, flows: Sequence[Flow]) -> None:
        together = _connected(flows[0])
        self._advance(together)
        for flow in flows:
            for link in flow.links:
                link.flows.pop(flow, None)
        seen: set[Flow] = set(flows)
        for other in together:
            if other not in seen:
                seen.update(self._share(other))

    def _share(self, flow: Flow) -> list[Flow]:
        """Work out the rates of ``flow`` and all it shares links with, however far; those flows."""
        together = _connected(flow)
        self._advance(together)
        for other, rate in shares(together).items():
            if rate != other.rate or other not in self._version:
                other.rate = rate
                self._later(other.left / rate, other)
        return together

    def _advance(self, flows: Iterable[Flow]) -> None:
        now = self.env.now
        for flow in flows:
            flow.left = max(flow.left - flow.rate * (now - flow.since), 0.0)
            flow.since = now


def _connected(flow: Flow) -> list[Flow]:
    found = {flow: None}
    frontier = [flow]
    while frontier:
        for link in frontier.pop().links:
            for other in link.flows:
                if other not in found:
                    found[other] = None
                    frontier.append(other)
    return list(found)
