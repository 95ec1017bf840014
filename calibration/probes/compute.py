"""The step times of a decoder on this device: each part where it is worth measuring, then whole steps to see what the parts leave out.

Journal keys name what was timed and the batch: ``512+1024`` is a chunk and its past, ``16x2048`` decodes and their context,
``512+0,16x2048`` both; ``step`` and ``eager`` are whole steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import product
from math import inf
from operator import attrgetter
from typing import Final

from calibration.campaign import Campaign, Record
from calibration.probes.busy import Witness
from calibration.probes.design import Axis, Point, Snap, Survey, Work, aside, explore, free, plain
from calibration.probes.engine import ATTENTION, SEQUENCES, Batch, Engine
from calibration.probes.room import Limits
from calibration.probes.sections import Stopwatch
from calibration.probes.timing import Patience, WallClock, noise, timed
from sim.errors import ProfileError

__all__ = ["Compute", "Found", "whole_steps"]

SHARES: Final = {"tokens": 0.25, "sequences": 0.1, "decode": 0.35, "prefill": 0.45}
"""Of the time that is left when a part begins, how much its refinement may take; the rest is for what comes after it."""
MOST: Final = {1: 24, 2: 60}  # points of a part, by the number of its axes
RATIO: Final = 4.0  # of neighbouring points to start with
CHECKS: Final = 6
GRAIN: Final = 16  # with CUDA graphs batches are padded to multiples of this, or of 8


BATCHES: Final[dict[str, Callable[[Point], Batch]]] = {
    "tokens": lambda point: Batch(chunk=point[0]),
    "sequences": lambda point: Batch(decodes=point[0]),
    "decode": lambda point: Batch(decodes=point[0], context=point[1]),
    "prefill": lambda point: Batch(chunk=point[0], past=point[1]),
}
"""The step that is run for a point of a part."""


@dataclass
class Found:
    """What was measured of the parts of a step, in microseconds of a whole model."""

    surveys: dict[str, Survey] = field(default_factory=dict)
    """By part, as in ``BATCHES``."""
    sections: dict[Batch, dict[str, float]] = field(default_factory=dict)
    """Everything that was timed of a batch for some part, what is kept aside included."""
    mixed: dict[Batch, float] = field(default_factory=dict)
    whole: dict[Batch, float] = field(default_factory=dict)
    held: dict[Batch, float] = field(default_factory=dict)
    """Whole steps: those the host's share is taken from, and those kept aside."""
    eager: dict[Batch, float] = field(default_factory=dict)
    """Whole decode steps without CUDA graphs, where ``whole`` has them with."""


@dataclass(frozen=True)
class Plan:
    """How one part is explored: every corner, a point about every two octaves, and some between them that are kept aside."""

    part: str
    axes: tuple[Axis, ...]
    sections: tuple[str, ...]
    work: Work = plain
    snap: Snap = free

    def points(self, fits: Callable[[Batch], bool]) -> tuple[list[Point], list[Point]]:
        """To start with, and to keep aside."""
        batch = BATCHES[self.part]
        coarse = product(*(axis.coarse(RATIO) for axis in self.axes))
        start = dict.fromkeys(self.snap(point) for point in coarse if fits(batch(point)))
        others = aside(self.axes, CHECKS, start, lambda point: fits(batch(self.snap(point))))
        checks = dict.fromkeys(self.snap(point) for point in others)
        return list(start), [point for point in checks if point not in start]


class Compute:
    """Measures an engine into a campaign. ``target`` is the wanted error at points kept aside; ``left()`` the seconds that the step's
    parts may still take.

    :raises ProfileError: the time is up before every part has its coarse points; what was measured is in the journal.
    """

    def __init__(
        self,
        engine: Engine,
        stopwatch: Stopwatch,
        campaign: Campaign,
        witness: Witness,
        *,
        target: float,
        patience: Patience,
        left: Callable[[], float],
    ) -> None:
        self.engine, self.stopwatch, self.campaign, self.witness = engine, stopwatch, campaign, witness
        self.target, self.patience, self.left = target, patience, left
        self.graphs = engine.device.kind == "cuda"
        self.limits = engine.limits
        self.steps = whole_steps(engine.limits, engine.room.decodes)
        self.found = Found()
        self.notes: list[str] = []

    def run(self) -> Found:
        """All parts, then whole steps, then chunk and decodes together."""
        plans = self._plans()
        for plan in plans:
            self.campaign.expect(sum(map(len, plan.points(self.engine.fits))))
        self.campaign.expect(sum(len(batches) for batches in self.steps.values()) + 16)
        largest = [batch for batch in self.steps["held"] if self.engine.fits(batch)]
        for size in ("tokens", "room"):  # as an engine starts: the allocator then holds what the largest steps need
            self.engine.step(max(largest, key=attrgetter(size)), graphs=False)()
        for plan in plans:
            self.found.surveys[plan.part] = self._survey(plan)
        self._whole()
        self._mixed()
        return self.found

    # -- parts --------------------------------------------------------------------------------------------------------

    def _plans(self) -> list[Plan]:
        limits = self.limits
        budget, batch = Axis(1, max(limits.tokens, limits.sequences)), Axis(1, limits.sequences)
        context = Axis(max(1, min(16, limits.context // 16)), limits.context)
        chunk = Axis(max(1, min(16, limits.tokens // 16)), limits.tokens)
        past = Axis(max(1, min(128, limits.context // 4)), limits.context, zero=True)
        return [
            Plan("tokens", (budget,), self.engine.token_sections, snap=_snapped if self.graphs else free),
            Plan("sequences", (batch,), SEQUENCES),
            Plan("decode", (batch, context), ATTENTION),
            Plan("prefill", (chunk, past), ATTENTION, _prompt_work),
        ]

    def _survey(self, plan: Plan) -> Survey:
        start, checks = plan.points(self.engine.fits)
        survey = explore(
            lambda point: self._sum(BATCHES[plan.part](point), plan.sections),
            start,
            checks,
            target=self.target,
            most=MOST[len(plan.axes)],
            in_time=lambda: self.left() > 0.0,
            worth_more=self._until(SHARES[plan.part]),
            work=plan.work,
            snap=plan.snap,
        )
        if len(survey.points) < len(start):
            raise ProfileError(
                f"the budget is too short: {plan.part} was not measured; {len(self.campaign.records)} measurements are kept in "
                f"{self.campaign.path}, and the same command goes on from there"
            )
        if not survey.complete:
            self.notes.append(f"{plan.part}: the time was up at an error of {survey.error(plan.work):.1%}")
        return survey

    def _until(self, share: float) -> Callable[[], bool]:
        now = self.left()
        end = -inf if now == inf else now * (1.0 - share)
        return lambda: self.left() > end

    def _sum(self, batch: Batch, sections: Iterable[str]) -> tuple[float, float]:
        """Microseconds of those sections together, and their relative noise."""
        found = self.stopwatch.measured(batch, sections)
        self.found.sections.setdefault(batch, {}).update({name: one["median"] for name, one in found.items()})
        total = sum(one["median"] for one in found.values())
        own = sum(one["median"] * noise(one) for one in found.values()) / total
        return total, max(own, self.witness.unsteadiness() / 2.0)  # twice the noise is the least that is refined

    # -- whole steps --------------------------------------------------------------------------------------------------

    def _whole(self) -> None:
        for kind, batches in self.steps.items():
            into: dict[Batch, float] = getattr(self.found, kind)
            for batch in self._in_time("whole steps", batches):
                into[batch] = self._step(batch, graphs=self.graphs and not batch.chunk)
        if self.graphs:
            alone = [batch for batch in self.found.whole if not batch.chunk]
            for batch in self._in_time("whole steps without CUDA graphs", alone):
                self.found.eager[batch] = self._step(batch, graphs=False)

    def _step(self, batch: Batch, *, graphs: bool) -> float:
        # The tokens come back to the host, so wall time is the time of the step on any device.
        def probe() -> Record:
            return timed(self.engine.step(batch, graphs=graphs), WallClock(), self.patience)

        self.witness.glance()
        kind = "step" if graphs or not self.graphs or batch.chunk else "eager"
        return float(self.campaign.measure(f"{kind}/{batch}", probe)["median"])

    # -- chunk and decodes together -----------------------------------------------------------------------------------

    def _mixed(self) -> None:
        limits = self.limits
        most = max(limits.tokens - limits.sequences, limits.tokens // 2, 1)
        decodes = _pair(limits.sequences)
        context = _pair(min(limits.context // 2, self.engine.room.decodes // decodes[-1] - 1))
        grid = [Batch(*numbers) for numbers in product(_pair(most), (0, limits.context // 2), decodes, context)]
        for batch in self._in_time("chunk and decodes together", grid):
            self.found.mixed[batch] = self._sum(batch, ATTENTION)[0]

    def _in_time(self, what: str, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Those that fit, as long as there is time; a note if there was not."""
        possible = [batch for batch in dict.fromkeys(batches) if self.engine.fits(batch)]
        for i, batch in enumerate(possible):
            if self.left() <= 0.0:
                self.notes.append(f"{what}: {len(possible) - i} of {len(possible)} were not measured, the time was up")
                return
            yield batch


def whole_steps(limits: Limits, capacity: int) -> dict[str, list[Batch]]:
    """Whole steps: ``whole``, which the host's share is taken from, and ``held``, which only check; decodes of at most ``capacity`` tokens
    in all alone, then chunks."""
    n, x = limits.sequences, limits.context
    few, half = _power(n // 4), _power(n // 2)

    def decodes(count: int, context: int) -> Batch:
        return Batch(decodes=count, context=min(context, capacity // count - 1))

    def mixed(tokens: int, past: int, count: int, context: int) -> Batch:
        tokens = tokens // GRAIN * GRAIN or tokens  # with graphs, the next size is the size itself
        alone = decodes(count, context) if count else Batch()
        return Batch(max(tokens - count, 1), past, alone.decodes, alone.context)

    budget = limits.tokens
    return {
        "whole": [
            decodes(1, x // 4),
            decodes(few, x // 16),
            decodes(n, x // 4),
            mixed(budget // 4, 0, few, x // 4),
            mixed(budget, 0, 0, 0),
        ],
        "held": [
            decodes(1, x // 2),
            decodes(half, x // 8),
            decodes(half, x // 2),
            decodes(n, x // 8),
            mixed(budget // 2, 0, 0, 0),
            mixed(budget // 2, x // 2, half, x // 8),
            mixed(budget, x // 4, few, x // 2),
            mixed(budget, 0, half, x // 4),
        ],
    }


def _snapped(point: Point) -> Point:
    return tuple(max(GRAIN, round(x / GRAIN) * GRAIN) if x > GRAIN else x for x in point)


def _power(number: int) -> int:
    """The largest power of two that is not above ``number``, or 1."""
    return 1 << max(number.bit_length() - 1, 0) if number else 1


def _pair(high: int) -> tuple[int, ...]:
    return tuple(sorted({max(1, high // 8), max(1, high)}))


def _prompt_work(point: Point, axis: int) -> float:
    """Attention of a chunk is linear in q (2 p + q) between chunks, and in p along a past, as sim.perf has it."""
    chunk, past = point
    return float(past) if axis else float(chunk * (2 * past + chunk))
