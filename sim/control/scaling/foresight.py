"""A plan for requests that are known: how many replicas, slot by slot, so that latencies are kept by the fewest.

**Need.** In slots of one decision period: the replica-seconds of the requests that come in it, by the step times
(:mod:`sim.control.scaling.capacity`), rounded up to whole replicas.

**Target.** Replicas asked for at slot k are those needed at any slot from k to k + L, L slots being a cold start: each is started in
time, and not let go when it would be started again within L. Keeping a replica through a gap costs the gap, letting it go costs the
start, which is paid for as well: so the break-even gap is the cold start, and this is the offline optimum for each replica apart (Lu
and Chen, "Simple and Effective Dynamic Provisioning for Power-Proportional Data Centers", arXiv 1112.0442; Lin et al., INFOCOM 2011).

**Rehearsal.** A model errs, and a bound must not: the plan is tried on the requests (:mod:`sim.control.scaling.rehearsal`). Where
more of them miss a limit than may, the slots in which a run of misses begins get replicas; where none do there may be too many. The
cheapest plan that kept everything is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import TYPE_CHECKING, Final

import numpy as np

from sim.control.scaling.capacity import Capacity, Traffic, capacity
from sim.control.scaling.limits import Limit
from sim.control.scaling.rehearsal import Change, Latencies, rehearse
from sim.control.scaling.sizing import Bounds
from sim.control.scaling.view import Knowledge

if TYPE_CHECKING:
    import numpy.typing as npt

    Whole = npt.NDArray[np.int64]
    Real = npt.NDArray[np.float64]

__all__ = ["Plan", "foresee", "lookahead", "replicas_busy", "serving"]

_LESS: Final = 0.8  # by which the model's need is scaled down at a time
_NEAR: Final = 1.08  # scales that differ by no more are one
_BITE: Final = 0.06  # share of all replica-slots to do without at first
_STEEP: Final = 0.3  # share of a slot's replicas that are added at most where all of its requests miss


@dataclass(frozen=True)
class Plan:
    """``target[k]`` replicas from ``k * period`` on, ``least`` after the last. ``attained``: the share of requests that kept every
    limit when it was rehearsed (NaN: it was not), after ``rehearsals``; ``kept``: that is enough."""

    period: float
    target: tuple[int, ...]
    least: int
    attained: float
    kept: bool
    rehearsals: int

    def at(self, now: float) -> int:
        """Replicas to ask for at ``now``."""
        slot = int(now / self.period + 1e-9)
        return self.target[slot] if slot < len(self.target) else self.least

    @property
    def replica_seconds(self) -> float:
        """What it asks for, starts included."""
        return sum(self.target) * self.period


def lookahead(need: Sequence[int], slots: int) -> list[int]:
    """The most needed at each slot and the ``slots`` after it."""
    return [max(need[k : k + slots + 1]) for k in range(len(need))]


def serving(target: Sequence[int], period: float, cold_start: float) -> list[Change]:
    """The replicas that serve when ``target`` is asked for: what was wanted all of the ``cold_start`` seconds before.

    ``target[0]`` are there from the beginning.
    """
    edges = [k * period for k in range(len(target))]
    times = sorted({*edges, *(edge + cold_start for edge in edges[1:])})
    changes: list[Change] = []
    for time in times:
        first = int((time - cold_start) / period + 1e-9) if time >= cold_start else 0
        last = min(len(target) - 1, int(time / period + 1e-9))
        count = min(target[min(first, last) : last + 1])
        if not changes or changes[-1].replicas != count:
            changes.append(Change(time, count))
    return changes


def replicas_busy(knowledge: Knowledge, found: Capacity, period: float) -> Real:
    """Replicas kept busy by slot, from 0 to the last arrival: the replica-seconds of what comes.

    A request costs ``1 / found.rate`` replica-seconds on average: those of its prompt, in the slot it comes, and those of its output, in
    the slots while it decodes. ``found`` is the capacity within the limits; ValueError where it is 0.
    """
    at = found.at
    if at is None:
        raise ValueError(f"{found.bound_by} cannot be kept by any number of replicas")
    arrival = knowledge.arrival
    slots = int(arrival.max() / period) + 1 if len(arrival) else 1
    prompt = at.token * knowledge.prompt_tokens
    steps = np.maximum(knowledge.output_tokens - 1, 0)
    rest = max(1.0 / found.rate - at.token * at.traffic.prompt, 0.0)
    decode = rest * steps / max(at.traffic.output - 1.0, 1.0) if at.traffic.output > 1.0 else np.zeros(len(arrival))
    middle = np.minimum(((arrival + steps * at.step / 2.0) / period).astype(np.int64), slots - 1)
    work = np.bincount((arrival / period).astype(np.int64), prompt, slots) + np.bincount(middle, decode, slots)
    return np.asarray(work / period)


class _Judge:
    """Which requests a rehearsal leaves without what they were promised.

    A limit on a quantile may be missed by the rest of the requests, and by no more than the rest of ``attainment``: limits that
    are that strict or stricter are kept together. A limit on a mean is taken as one on the median.
    """

    def __init__(self, limits: Sequence[Limit], attainment: float) -> None:
        self.groups: dict[float, list[Limit]] = {}
        for limit in limits:
            if limit.metric != "itl":  # of tokens, not of requests: TPOT stands for it
                share = min(attainment, 0.5 if limit.quantile is None else limit.quantile)
                self.groups.setdefault(share, []).append(limit)

    def missed(self, latencies: Latencies) -> tuple[float, npt.NDArray[np.bool_], float]:
        """Requests too many that missed (0: none), who missed where too many did (or, if nowhere, at all), share that kept all."""
        everyone = np.zeros(len(latencies.ttft), dtype=bool)
        too_many = np.zeros_like(everyone)
        excess = 0.0
        for share, limits in self.groups.items():
            missed = np.zeros_like(everyone)
            for limit in limits:
                missed |= getattr(latencies, limit.metric) > limit.seconds
            everyone |= missed
            over = float(missed.sum()) - (1.0 - share) * len(missed) - 1e-6
            if over > 0.0:
                excess = max(excess, over)
                too_many |= missed
        return excess, too_many if excess else everyone, 1.0 - float(everyone.mean())


def foresee(
    knowledge: Knowledge,
    limits: Sequence[Limit],
    *,
    bounds: Bounds,
    initial: int,
    period: float,
    lead: float,
    attainment: float,
    headroom: float,
    rehearsals: int,
) -> Plan:
    """The plan for all that ``knowledge`` says will come. ``initial`` replicas are there at 0; the first decision is at ``period``.

    At most ``rehearsals`` tries, each about as long as the simulation itself; 0: the model is believed, with ``headroom``.
    """
    if not len(knowledge.arrival):
        return Plan(period, (initial,), bounds.least, 1.0, True, 0)
    prompt, output = knowledge.prompt_tokens, knowledge.output_tokens
    traffic = Traffic(
        *(max(float(a.mean()), 1.0) for a in (prompt, output)),
        *(float(a.var() / a.mean() ** 2) for a in (prompt, output)),
    )
    found = capacity(knowledge.step, knowledge.settings, traffic, limits)
    if found.at is None:  # no number of replicas keeps it: as many as keep the others busy at most
        found = capacity(knowledge.step, knowledge.settings, traffic)
    load = replicas_busy(knowledge, found, period)
    slots = ceil(lead / period - 1e-9)
    rows = (knowledge.arrival.tolist(), prompt.tolist(), output.tolist())
    slot_of = (knowledge.arrival / period).astype(np.int64)
    arrivals = np.bincount(slot_of, minlength=len(load))
    judge = _Judge(limits, attainment)
    trials = _Trials(load, headroom, np.where(arrivals > 0, max(bounds.least, 1), bounds.least), bounds, slots)
    for tried in range(1, rehearsals + 1):
        target = [initial, *lookahead(trials.need.tolist(), slots)[1:]]
        served = rehearse(knowledge.step, knowledge.settings, *rows, serving(target, period, lead))
        excess, missed, attained = judge.missed(served)
        plan = Plan(period, tuple(target), bounds.least, attained, not excess, tried)
        misses = np.bincount(slot_of[missed], minlength=len(load))
        if not trials.next(plan, misses, arrivals, excess):
            break
    if trials.best is not None:
        return trials.best
    return Plan(period, (initial, *lookahead(trials.need.tolist(), slots)[1:]), bounds.least, float("nan"), False, 0)


class _Trials:
    """What to rehearse next.

    First the scale is sought at which the model's need is just too little; then what misses is mended, slot by slot; last the cheapest plan
    that kept everything is asked to do with one replica fewer in the stretches that would be least busy. A stretch where that
    fails is left alone, and half as much is tried.
    """

    def __init__(self, load: Real, headroom: float, lowest: Whole, bounds: Bounds, slots: int) -> None:
        self.best: Plan | None = None
        self._load = load  # by the model, in replicas
        self._scale = 1.0 + headroom
        self._most: float | None = None  # the least scale that kept everything
        self._least: float | None = None  # the largest that did not
        self._short: tuple[Whole, Whole, float] | None = None  # its need, misses and excess
        self._lowest = lowest
        self._bounds = bounds
        self._slots = slots
        self._phase = "scale"
        self._lowered: list[tuple[int, int]] = []
        self._bite = _BITE
        self._excess = float("inf")
        self.need = self._kept = self._scaled()

    def next(self, plan: Plan, misses: Whole, arrivals: Whole, excess: float) -> bool:
        """``plan`` came out so: set ``need`` to what comes next. False: nothing more to try."""
        best = self.best
        dearer = best is not None and best.kept and plan.replica_seconds > best.replica_seconds
        if plan.kept and not dearer:
            self.best, self._kept = plan, self.need
        elif not (best is not None and best.kept) and excess < self._excess:
            self.best, self._excess = plan, excess
        if self._phase == "scale":
            if plan.kept:
                self._most = self._scale
            else:
                self._least = self._scale
                self._short = (self.need, misses, excess)
            if self._rescaled():
                return True
            self._phase = "mend"
            if self._short is not None:
                self.need = self._mended(*self._short, arrivals)
                return True
        if self._phase == "mend" and not plan.kept and not dearer:
            before, self.need = self.need, self._mended(self.need, misses, excess, arrivals)
            return bool((self.need != before).any())
        if self._phase == "lower" and not plan.kept:
            begins = misses > 0
            begins[1:] &= misses[:-1] == 0
            failed = [stretch for stretch in self._lowered if begins[max(0, stretch[0] - 1) : stretch[1] + 1].any()]
            for start, end in failed or self._lowered:
                self._lowest[start:end] = np.maximum(self._lowest[start:end], self.need[start:end] + 1)
            self._bite /= 2.0
        return self._lower()

    def _rescaled(self) -> bool:
        """Between what was too little and what was enough, or past the one there is. False: near enough, or nothing changes."""
        if self._most is None or self._least is None:
            self._scale *= _LESS if self._least is None else 1.0 / _LESS
        elif self._most / self._least > _NEAR:
            self._scale = sqrt(self._most * self._least)
        else:
            return False
        before, self.need = self.need, self._scaled()
        return bool((self.need != before).any())

    def _mended(self, need: Whole, misses: Whole, excess: float, arrivals: Whole) -> Whole:
        return np.minimum(_raised(need, misses, arrivals, excess), self._bounds.most)

    def _scaled(self) -> Whole:
        wanted = np.ceil(self._load * self._scale - 1e-9).astype(np.int64)
        return np.clip(wanted, self._lowest, self._bounds.most)

    def _lower(self) -> bool:
        """One replica fewer in some stretches of what was kept."""
        self._phase = "lower"
        serving = _closed(self._kept, self._slots)
        stretch = self._slots + 1
        changes = (np.flatnonzero(np.diff(serving)) + 1).tolist()
        starts = sorted({0, *changes, *range(0, len(serving), stretch)})
        pieces = []
        for start, end in zip(starts, [*starts[1:], len(serving)], strict=True):
            replicas = int(serving[start])
            beside = [int(serving[k]) for k in (start - 1, end) if 0 <= k < len(serving)]
            dips = end - start >= stretch or len(beside) < 2 or min(beside) < replicas  # else it is filled again
            if dips and replicas > int(self._lowest[start:end].max()):
                busy = float(self._load[start:end].mean()) / (replicas - 1) if replicas > 1 else 0.0
                pieces.append((busy, start, end))
        budget = self._bite * float(serving.sum())
        self.need = serving.copy()
        self._lowered = []
        for _, start, end in sorted(pieces):
            if budget < end - start and self._lowered:
                break
            budget -= end - start
            self.need[start:end] -= 1
            self._lowered.append((start, end))
        return bool(self._lowered)


def _closed(need: Whole, slots: int) -> Whole:
    """``need`` with every dip of at most ``slots`` slots filled: what is served when it is asked for with that foresight."""
    ahead = lookahead(need.tolist(), slots)
    return np.array([min(ahead[max(0, k - slots) : k + 1]) for k in range(len(ahead))])


def _raised(need: Whole, misses: Whole, arrivals: Whole, excess: float) -> Whole:
    """More replicas where runs of misses begin, those runs first that miss most, until ``excess`` misses are seen to.

    What comes later in a run may only be paying for its beginning.
    """
    again = need.copy()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], misses > 0, [0]])))
    runs = sorted(
        zip(edges[::2], edges[1::2], strict=True), key=lambda run: (-int(misses[run[0] : run[1]].sum()), run[0])
    )
    left = excess
    for start, end in runs:
        if left <= 0.0:
            break
        left -= float(misses[start:end].sum())
        for slot in range(start, start + (end - start + 1) // 2):
            share = misses[slot] / arrivals[slot] if arrivals[slot] else 0.0
            again[slot] = need[slot] + max(1, ceil(_STEEP * share * need[slot]))
    return again
