"""A deployment at work: its replicas as a router sees them, and what a request meets before it gets to one."""

from __future__ import annotations

import operator
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from typing import Final

from sim.control.plan import DeploymentPlan
from sim.control.router import FleetView, Look
from sim.errors import PolicyError

__all__ = ["Station"]

_REMEMBERED: Final = 600.0  # seconds of latencies that are kept for whoever watches


class Station:
    """One deployment. ``look`` says what a replica's engine exports, by its number in the fleet. ``eligible`` are the replicas
    that the router may choose, in order of creation; ``view`` is about these.

    ``numbers[i]`` is the number in the fleet of its i-th replica. ``inside`` requests are at the gateway or in a replica;
    ``area`` + ``inside`` x now is the time integral of their number.
    """

    __slots__ = (
        "area",
        "arrived",
        "away",
        "eligible",
        "ended",
        "inside",
        "latencies",
        "look",
        "most_tokens",
        "number",
        "numbers",
        "output_tokens",
        "plan",
        "prompt_tokens",
        "ready",
        "rejected",
        "router",
        "view",
        "watched",
    )

    def __init__(self, plan: DeploymentPlan, number: int, look: Callable[[int, float], Look]) -> None:
        settings = plan.settings
        self.plan = plan
        self.number = number
        self.look = look
        self.numbers: list[int] = []
        self.eligible: list[int] = []  # indices within the deployment
        self.ready = 0  # replicas that are open, those that a proxy avoids included
        self.away: dict[
            int, tuple[int, int]
        ] = {}  # of those that are not eligible: requests and tokens they still have
        self.router = plan.router()
        self.view = FleetView(0, self._look)
        # a request's last token is never written to the cache
        self.most_tokens = min(settings.max_model_len, (settings.kv_blocks - 1) * settings.block_size + 1)
        self.inside = 0
        self.area = 0.0
        self.arrived = 0
        self.ended = 0
        self.rejected = 0
        self.prompt_tokens = 0
        self.output_tokens = 0
        self.watched = False
        self.latencies: deque[tuple[float, float, float, float]] = deque()

    def _look(self, position: int) -> Look:
        return self.look(self.numbers[self.eligible[position]], self.view.now)

    def enter(self, index: int) -> int:
        """Replica ``index`` may be chosen from now on; its position."""
        position = bisect_left(self.eligible, index)
        outstanding, tokens = self.away.pop(index, (0, 0))
        view = self.view
        self.eligible.insert(position, index)
        view.ids.insert(position, index)
        view.outstanding.insert(position, outstanding)
        view.tokens.insert(position, tokens)
        view.version += 1
        return position

    def leave(self, index: int) -> int:
        """Replica ``index`` is not chosen any more; the position it had, -1 if it had none."""
        position = bisect_left(self.eligible, index)
        if position == len(self.eligible) or self.eligible[position] != index:
            return -1
        view = self.view
        del self.eligible[position]
        del view.ids[position]
        self.away[index] = (view.outstanding.pop(position), view.tokens.pop(position))
        view.version += 1
        return position

    def released(self, index: int, requests: int, tokens: int) -> None:
        """A replica that is not eligible has ended so many requests."""
        had = self.away.get(index)
        if had is not None:
            self.away[index] = (had[0] - requests, had[1] - tokens)

    def choose(self, session: int, prompt: int, tokens: int, now: float) -> int:
        """The router's choice, a position. PolicyError when there is no such replica, or when the router fails."""
        view = self.view
        view.now = now
        view.prompt_tokens = prompt
        try:
            choice = operator.index(self.router.choose(session, tokens, view))
        except Exception as fault:
            import traceback

            frame = traceback.extract_tb(fault.__traceback__)[-1]
            place, said = f"{frame.filename}:{frame.lineno}", f"{type(fault).__name__}: {fault}"
            raise PolicyError(f"deployments.{self.plan.name}.router: failed: {said} ({place})") from fault
        if not 0 <= choice < len(self.eligible):
            raise PolicyError(
                f"deployments.{self.plan.name}.router: chose replica {choice}; there are {len(self.eligible)}, from 0"
            )
        return choice

    def refusal(self, tokens: int) -> str:
        """Why no replica could ever serve a request of so many ``tokens``; empty if one can."""
        if tokens <= self.most_tokens:
            return ""
        return "max_model_len" if tokens > self.plan.settings.max_model_len else "kv_capacity"

    def remember(self, now: float, ttft: float, tpot: float, e2e: float) -> None:
        """Keep the latencies of a request that was served, and forget those of long ago."""
        latencies = self.latencies
        latencies.append((now, ttft, tpot, e2e))
        while latencies[0][0] < now - _REMEMBERED:
            latencies.popleft()
