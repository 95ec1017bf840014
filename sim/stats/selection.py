"""Which of several systems is best, or good enough, with as few replications as the answer takes.

Procedures are state machines: ``wanted()`` says which systems need one more observation, ``add({system: value, ...})`` takes that
round, ``decided`` says when to stop. They simulate nothing and draw nothing. Systems are numbered from 0.

All of them hold under common random numbers: observation r of all systems may be dependent, rounds are independent of each other.
Single observations are taken as normal: a replication's mean is nearly so, a single request's latency is not.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from sim.stats.intervals import t_quantile

__all__ = ["Feasibility", "KimNelson", "ocba", "screen"]


class _Rounds(ABC):
    """What both procedures share: observations by rounds, of which the first ``first`` only estimate variances."""

    def __init__(self, systems: int, confidence: float, first: int) -> None:
        if systems < 1:
            raise ValueError(f"systems: {systems}; at least 1")
        if not 0.0 < confidence < 1.0:
            raise ValueError(f"confidence: {confidence}; between 0 and 1")
        if first < 2:
            raise ValueError(f"first: {first}; at least 2 rounds, as variances are taken from them")
        self.systems = systems
        self.first = first
        self.rounds = 0
        self._sums = np.zeros(systems)
        self._seen = np.zeros(systems, dtype=np.int64)
        self._stage = np.zeros((first, systems))

    @abstractmethod
    def wanted(self) -> list[int]:
        """The systems that need one more observation, in ascending order; none when decided."""

    @abstractmethod
    def _judge(self) -> None:
        """Draw what conclusions the rounds allow; called once ``first`` rounds are in, and after every further one."""

    @property
    def decided(self) -> bool:
        """Whether nothing more is wanted."""
        return not self.wanted()

    @property
    def seen(self) -> tuple[int, ...]:
        """How many observations each system has had."""
        return tuple(int(n) for n in self._seen)

    @property
    def means(self) -> tuple[float, ...]:
        """The mean of what each system has been observed to do; NaN before its first observation."""
        return tuple(float(s / n) if n else math.nan for s, n in zip(self._sums, self._seen, strict=True))

    def add(self, values: Mapping[int, float]) -> None:
        """Take one round: a value for each system that is wanted. Others are ignored, so that rounds may be run ahead in batches.

        ValueError where a wanted one is missing or not finite; the round is then not taken.
        """
        wanted = self.wanted()
        if not wanted:
            return
        missing = [system for system in wanted if system not in values]
        if missing:
            raise ValueError(f"round {self.rounds + 1}: no value of system {missing[0]}, which is wanted")
        new = np.array([float(values[system]) for system in wanted])
        if not np.isfinite(new).all():
            wrong = wanted[int(np.flatnonzero(~np.isfinite(new))[0])]
            raise ValueError(f"round {self.rounds + 1}: system {wrong}: {values[wrong]}; a finite number")
        if self.rounds < self.first:
            self._stage[self.rounds, wanted] = new
        self._sums[wanted] += new
        self._seen[wanted] += 1
        self.rounds += 1
        if self.rounds >= self.first:
            self._judge()


class KimNelson(_Rounds):
    """The best of ``systems``, by the fully sequential procedure KN.

    With chance ``confidence`` at least, the system that is left is the best, if the best is better than the others by ``delta`` or more;
    if others are nearer, one within ``delta`` of the best may be left instead. Best is the lowest mean, or with ``highest`` the highest.
    After ``first`` rounds (10 to 20 do well) a system goes as soon as another one leads it by more than chance allows.

    S.-H. Kim, B. Nelson, "A fully sequential procedure for indifference-zone selection in simulation", ACM TOMACS 11 (2001), with
    their recommended c = 1: eta = ((2 alpha / (k - 1))^(-2/(n0 - 1)) - 1) / 2, h^2 = 2 eta (n0 - 1); i goes at round r if some j leads
    it by more than max(0, h^2 S_ij^2 / delta - delta r) / (2r), with S_ij^2 the variance of their difference over the first n0 rounds.
    Where nothing is left to chance two that are equal are told apart by their numbers: the first one stays.
    """

    def __init__(
        self, systems: int, delta: float, confidence: float = 0.95, first: int = 10, *, highest: bool = False
    ) -> None:
        super().__init__(systems, confidence, first)
        if not 0.0 < delta < math.inf:
            raise ValueError(f"delta: {delta}; greater than 0, the least difference that matters")
        if confidence <= 1.0 / systems < 1.0:
            raise ValueError(
                f"confidence: {confidence}; above 1/{systems}, which picking any of {systems} systems would have"
            )
        self.delta = delta
        self.eta = 0.0
        if systems > 1:
            self.eta = 0.5 * ((2.0 * (1.0 - confidence) / (systems - 1)) ** (-2.0 / (first - 1)) - 1.0)
        self.h2 = 2.0 * self.eta * (first - 1)
        self.gone: dict[int, tuple[int, int]] = {}
        """Who is out: system -> (round, the system that led it by most)."""
        self._sign = -1.0 if highest else 1.0
        self._left = list(range(systems))
        self._spread = np.zeros((systems, systems))  # h^2 S_ij^2

    def wanted(self) -> list[int]:
        """The systems that are still in, if more than one is."""
        return list(self._left) if len(self._left) > 1 else []

    @property
    def survivors(self) -> list[int]:
        """The systems that are still in, in ascending order; one when decided."""
        return list(self._left)

    @property
    def most_rounds(self) -> int | None:
        """The round by which it will be decided whatever comes; None before the variances are known."""
        if self.rounds < self.first:
            return None
        widest = float(self._spread[np.ix_(self._left, self._left)].max())
        return max(self.rounds, math.ceil(widest / (self.delta * self.delta)))

    def _judge(self) -> None:
        if self.rounds == self.first:
            for i in range(self.systems):
                self._spread[i] = self.h2 * (self._stage[:, [i]] - self._stage).var(axis=0, ddof=1)
        left = np.array(self._left)
        sums = self._sign * self._sums[left]
        behind = sums[:, None] - sums[None, :]
        spread = self._spread[np.ix_(left, left)]
        room = np.maximum(0.0, spread / self.delta - self.delta * self.rounds) / 2.0
        beaten = (behind > room) | ((behind == room) & (room == 0.0) & (left[:, None] > left[None, :]))
        for row in np.flatnonzero(beaten.any(axis=1)):
            leader = int(left[np.argmax(np.where(beaten[row], behind[row], -np.inf))])
            self.gone[int(left[row])] = (self.rounds, leader)
        self._left = [system for system in self._left if system not in self.gone]


class Feasibility(_Rounds):
    """Which of ``systems`` have a mean of at most ``target`` (with ``above``: at least).

    With chance ``confidence`` at least, *all* systems that are ``tolerance`` or more on either side of the target are judged rightly;
    those nearer may be judged either way. A system is wanted until it is judged.

    S. Andradottir, S.-H. Kim, "Fully sequential procedures for comparing constrained systems via simulation", Naval Research Logistics
    57 (2010), phase I, with c = 1: feasible when sum(y - target) <= -R(r), infeasible when it is >= R(r), with
    R(r) = max(0, h^2 S^2 / tolerance - tolerance r) / 2, h^2 = 2 eta (n0 - 1), eta = ((2 beta)^(-2/(n0 - 1)) - 1) / 2. beta is
    alpha / k, which holds whatever the dependence between systems. For several objectives share alpha out among them.
    """

    def __init__(
        self,
        systems: int,
        target: float,
        tolerance: float,
        confidence: float = 0.95,
        first: int = 10,
        *,
        above: bool = False,
    ) -> None:
        super().__init__(systems, confidence, first)
        if not math.isfinite(target):
            raise ValueError(f"target: {target}; a finite number")
        if not 0.0 < tolerance < math.inf:
            raise ValueError(
                f"tolerance: {tolerance}; greater than 0, how far off the target a system may be misjudged"
            )
        error = (1.0 - confidence) / systems
        if error >= 0.5:
            raise ValueError(f"confidence: {confidence}; above 0.5, which a coin would have")
        self.target = target
        self.tolerance = tolerance
        self.eta = 0.5 * ((2.0 * error) ** (-2.0 / (first - 1)) - 1.0)
        self.h2 = 2.0 * self.eta * (first - 1)
        self._sign = -1.0 if above else 1.0
        self._verdicts: list[bool | None] = [None] * systems
        self._spread = np.zeros(systems)  # h^2 S^2

    def wanted(self) -> list[int]:
        """The systems that are not yet judged."""
        return [system for system, verdict in enumerate(self._verdicts) if verdict is None]

    @property
    def verdicts(self) -> tuple[bool | None, ...]:
        """By system: True where it meets the target, False where it does not, None while that is open."""
        return tuple(self._verdicts)

    @property
    def survivors(self) -> list[int]:
        """The systems not judged infeasible, in ascending order."""
        return [system for system, verdict in enumerate(self._verdicts) if verdict is not False]

    @property
    def most_rounds(self) -> int | None:
        """The round by which all will be judged whatever comes; None before the variances are known."""
        if self.rounds < self.first:
            return None
        widest = max((float(self._spread[system]) for system in self.wanted()), default=0.0)
        return max(self.rounds, math.ceil(widest / (self.tolerance * self.tolerance)))

    def _judge(self) -> None:
        if self.rounds == self.first:
            self._spread = self.h2 * self._stage.var(axis=0, ddof=1)
        for system in self.wanted():
            over = self._sign * (float(self._sums[system]) - self.rounds * self.target)
            room = max(0.0, float(self._spread[system]) / self.tolerance - self.tolerance * self.rounds) / 2.0
            if over <= -room:
                self._verdicts[system] = True
            elif over >= room:
                self._verdicts[system] = False


def screen(values: npt.ArrayLike, confidence: float = 0.95, *, highest: bool = False) -> list[int]:
    """A subset that holds the best system with chance ``confidence`` at least, from the replications there are.

    ``values[r][i]`` is what replication r (2 at least) saw of system i. System i stays unless some other one leads it by more than
    t(1 - alpha / (k - 1), n - 1) S_ij / sqrt(n): Bonferroni over paired differences, so it holds under common random numbers.
    S. Gupta, Technometrics 7 (1965); B. Nelson, J. Swann, D. Goldsman, W. Song, Oper. Res. 49 (2001).
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] < 2 or table.shape[1] < 1:
        raise ValueError(f"values: shape {table.shape}; 2 or more replications of 1 or more systems")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence: {confidence}; between 0 and 1")
    n, systems = table.shape
    if systems == 1:
        return [0]
    table = -table if highest else table
    t = t_quantile(1.0 - (1.0 - confidence) / (systems - 1), n - 1)
    stays = []
    for i in range(systems):
        behind = table[:, [i]] - table
        room = t * behind.std(axis=0, ddof=1) / math.sqrt(n)
        if (behind.mean(axis=0) <= np.maximum(room, 0.0)).all():
            stays.append(i)
    return stays


def ocba(means: Sequence[float], variances: Sequence[float], budget: int, best: int | None = None) -> list[int]:
    """How many of ``budget`` replications each system should get, so that the best one is most likely told from the others.

    ``means`` and ``variances`` of single replications, as estimated so far; ``best``: the number of the system taken as best, the
    lowest mean if None. Use: run a few of each, then again and again allocate what has been run plus a little, and run those that
    have had less than their share.

    C.-H. Chen, J. Lin, E. Yucesan, S. Chick, Discrete Event Dynamic Systems 10 (2000), theorem 1: N_i is proportional to
    (s_i / d_i)^2, d_i the difference to the best, and N_b = s_b sqrt(sum of (N_i / s_i)^2). Systems level with the best take all, in the
    limit of d_i -> 0; where nothing varies the budget is shared alike. Shares are rounded to whole numbers that add up to it. It
    maximises a bound on the chance of a correct choice, for independent normal systems, as the budget grows; it promises no confidence.
    """
    mean, variance = np.asarray(means, dtype=np.float64), np.asarray(variances, dtype=np.float64)
    if mean.ndim != 1 or mean.shape != variance.shape or not len(mean):
        raise ValueError(f"means: {mean.shape}, variances: {variance.shape}; as many of each, at least 1")
    if not (np.isfinite(mean).all() and np.isfinite(variance).all() and (variance >= 0.0).all()):
        raise ValueError("means: finite; variances: finite and not negative")
    if budget < 0:
        raise ValueError(f"budget: {budget}; not negative")
    leader = int(np.argmin(mean)) if best is None else best
    if not 0 <= leader < len(mean):
        raise ValueError(f"best: {best}; between 0 and {len(mean) - 1}")
    distance = np.abs(mean - mean[leader])
    others = np.arange(len(mean)) != leader
    level = others & (distance == 0.0)
    nearest = others & level if level.any() else others
    # in units of the least distance, which cancels, so that no square overflows
    unit = 1.0 if level.any() or not others.any() else float(distance[others].min())
    inverse = np.zeros(len(mean))
    inverse[nearest] = 1.0 if level.any() else (unit / distance[nearest]) ** 2
    shares = variance * inverse
    shares[leader] = math.sqrt(float(variance[leader] * (variance * inverse * inverse).sum()))
    if not shares.sum() > 0.0:
        shares = np.ones(len(mean))
    exact = budget * (shares / shares.sum())
    whole = np.floor(exact).astype(np.int64)
    rest = np.argsort(whole - exact, kind="stable")[: budget - int(whole.sum())]
    whole[rest] += 1
    return [int(n) for n in whole]
