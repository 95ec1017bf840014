"""`python -m benchmarks.optimum`: what `twinfer optimize` finds against exhaustive search, and how often what it claims is true.

synthetic   points with known means; normal figures, half of whose variance all points share. Truth: the means.
resampled   200 configurations of benchmarks/optimum.yaml, each simulated N times; a repeat draws rows of that table with replacement,
            the same rows for all points. Truth: the means over the table, exactly.
live        simulated anew with another seed in each repeat, on 24 of the configurations. Truth: 100 other replications of each.

A repeat is right if the winner meets every objective in truth, and no point that does is cheaper, but for those it says are open.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from sim.observe.objectives import Figures
from sim.stats import wilson
from sim.study.optimizing.evaluation import Ask, Measured
from sim.study.optimizing.search import Goal, Search
from sim.study.optimizing.selecting import bisect, select

__all__ = ["Known", "Repeat", "Resampled", "Synthetic", "grid", "repeated", "simulated", "truth"]

PATH = Path(__file__).with_name("optimum.yaml")
COST, TTFT, TPOT = "usd_per_hour", "ttft_p99", "tpot_p99"


class Known:
    """Points {"x": number} whose truth is known: ``costs[x]`` and whether it ``meets[x]``. ``told``: costs are known beforehand."""

    costs: Sequence[float]
    meets: Sequence[bool]
    told = True

    def price(self, point: Mapping[str, Any]) -> float | None:
        return self.costs[point["x"]] if self.told else None

    def measure(self, asks: Sequence[Ask]) -> Iterator[Measured]:
        for ask in asks:
            yield Measured(self.figures(ask.point["x"], range(ask.first, ask.first + ask.count)), 0.0)

    def figures(self, x: int, replications: range) -> Figures:
        raise NotImplementedError


class Synthetic(Known):
    """Normal figures with means ``means[x]`` (of two objectives with target 1) and coefficient of variation ``cv``; with ``spread``
    costs vary as well, and are not known beforehand."""

    def __init__(
        self,
        means: Sequence[tuple[float, float]],
        costs: Sequence[float],
        seed: int,
        cv: float = 0.1,
        spread: float = 0.0,
    ) -> None:
        self.means, self.costs, self.seed, self.cv, self.spread = means, costs, seed, cv, spread
        self.told = spread == 0.0
        self.meets = [max(pair) <= 1.0 for pair in means]

    def figures(self, x: int, replications: range) -> Figures:
        rows = []
        for number in replications:
            shared = np.random.default_rng((self.seed, number)).standard_normal(3)
            own = np.random.default_rng((self.seed, number, x)).standard_normal(3)
            noise = (shared + own) / np.sqrt(2.0)
            one, two = self.means[x]
            rows.append(
                {
                    TTFT: one * (1.0 + self.cv * noise[0]),
                    TPOT: two * (1.0 + self.cv * noise[1]),
                    COST: self.costs[x] * (1.0 + self.spread * noise[2]),
                    "lost_share": 0.0,
                }
            )
        return Figures(rows, {"chat": rows}, {"chat": {TTFT: 1.0, TPOT: 1.0}})


class Resampled(Known):
    """Rows of a table of simulated figures, drawn with replacement: row r of a repeat is the same for all points."""

    def __init__(self, table: Sequence[Figures], seed: int) -> None:
        self.table, self.seed = table, seed
        self.costs = [figures.estimate(COST).value for figures in table]
        self.meets = [truth(figures) for figures in table]

    def figures(self, x: int, replications: range) -> Figures:
        table = self.table[x]
        drawn = [int(np.random.default_rng((self.seed, number)).integers(len(table))) for number in replications]
        (name,) = table.workloads
        rows = [table.workloads[name][row] for row in drawn]
        return Figures([table.overall[row] for row in drawn], {name: rows}, table.objectives)


def truth(figures: Figures) -> bool:
    """Whether means are within their targets, whatever their intervals."""
    return all(
        standing.estimate.value <= standing.target and "not served" not in standing.why
        for standing in figures.standings()
    )


@dataclass(frozen=True)
class Repeat:
    """What one repeat came to. ``right``: what it claims is true; ``best``: it found the cheapest there is; ``decided``: nothing is open;
    ``none``: it found none; ``cost`` of its winner."""

    right: bool
    best: bool
    decided: bool
    none: bool
    spent: int
    cost: float


def repeated(
    known: Known,
    goal: Goal,
    search_by: Callable[[Search], None] = select,
    points: Sequence[Mapping[str, Any]] | None = None,
) -> Repeat:
    """Search, and hold the answer against the truth. ``points``: as the search sees them, with more than their number."""
    search = Search(known, points or [{"x": x} for x in range(len(known.costs))], goal)
    search_by(search)
    winner = search.winner
    doing = [cost for cost, meets in zip(known.costs, known.meets, strict=True) if meets]
    open_ = {one.number for one in search.candidates if one.open}
    most = np.inf if winner is None else known.costs[winner.number]
    cheaper = [
        x
        for x, (cost, meets) in enumerate(zip(known.costs, known.meets, strict=True))
        if meets and cost < most * (1.0 - goal.tolerance) and x not in open_
    ]
    sound = winner is None or known.meets[winner.number]
    best = winner is not None and sound and most * (1.0 - goal.tolerance) <= min(doing, default=np.inf)
    return Repeat(sound and not cheaper, best, not search.open(), winner is None, search.spent, float(most))


def grid(seed: int, *, levels: int = 10, each: int = 20) -> tuple[list[tuple[float, float]], list[float]]:
    """Means and costs of ``levels`` times ``each`` points, of which the dearer ones do better on the whole."""
    draw = np.random.default_rng((seed, 0))
    means, costs = [], []
    for level, _ in product(range(1, levels + 1), range(each)):
        load = 0.5 * levels / level
        means.append((float(load**2 * draw.uniform(0.8, 1.6)), float(draw.uniform(0.5, 1.1) + 0.1 * load)))
        costs.append(float(level))
    return means, costs


def line(seed: int, points: int = 24) -> tuple[list[tuple[float, float]], list[float]]:
    """Means that fall with cost, from anywhere to anywhere."""
    draw = np.random.default_rng((seed, 1))
    where, slope = draw.uniform(0.1, 0.95) * points, draw.uniform(0.1, 0.6)
    means = [(float(np.exp(-slope * (x - where))), 0.5) for x in range(points)]
    return means, [float(x + 1) for x in range(points)]


def simulated(
    points: Sequence[Mapping[str, Any]],
    replications: int,
    first: int = 0,
    jobs: int | None = None,
    store: Path | None = None,
) -> list[Figures]:
    """Figures of points of the benchmark's scenario. ``store``: a folder that keeps them."""
    import sim
    from sim.study import Study, Task
    from sim.study.store import RunStore

    scenario = sim.load(PATH)
    kept = None if store is None else RunStore.open(store, scenario.digest(), {"asked": {"replications": replications}})
    study = Study(scenario, jobs=jobs, store=kept)
    found = []
    for outcome in study.evaluate([Task(point, first, replications) for point in points]):
        if outcome.figures is None:
            raise RuntimeError(outcome.error)
        found.append(outcome.figures)
    return found


def points_of(over: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All combinations."""
    return [dict(zip(over, values, strict=True)) for values in product(*(each.grid() for each in over.values()))]


def no_dearer(table: Sequence[Figures], repeats: Sequence[Repeat]) -> float:
    """In which share of the repeats the winner costs no more than that of the exhaustive search: the cheapest whose intervals, from
    the whole table, are all within the targets."""
    doing = [figures for figures in table if {standing.status for standing in figures.standings()} == {"meets"}]
    cheapest = min(figures.estimate(COST).value for figures in doing)
    share = sum(one.cost <= cheapest * 1.01 for one in repeats) / len(repeats)
    print(
        f"  exhaustive search: {len(doing)} points meet, the cheapest at ${cheapest:g}/h; no dearer winner in {share:.1%}",
        flush=True,
    )
    return share


def report(name: str, repeats: Sequence[Repeat], points: int, full: int) -> dict[str, Any]:
    """Print and return what came of them; ``full``: replications a point of the exhaustive search."""
    count, right = len(repeats), sum(one.right for one in repeats)
    low, high = wilson(right, count)
    spent = np.array([one.spent for one in repeats])
    found = {
        "repeats": count,
        "right": right / count,
        "right_interval": [low, high],
        "best": sum(one.best for one in repeats) / count,
        "decided": sum(one.decided for one in repeats) / count,
        "no_winner": sum(one.none for one in repeats) / count,
        "spent_median": float(np.median(spent)),
        "spent_p90": float(np.quantile(spent, 0.9)),
        "exhaustive": points * full,
    }
    print(
        f"{name}: {right} of {count} right ({low:.1%} to {high:.1%}); the best found in {found['best']:.1%}, all decided in "
        f"{found['decided']:.1%}; replications {found['spent_median']:.0f} (median), {found['spent_p90']:.0f} (p90), "
        f"exhaustive {points * full:,} ({full} each)",
        flush=True,
    )
    return found


def main() -> None:
    """Run the parts that are asked for."""
    import sim

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["synthetic", "resampled", "live"])
    parser.add_argument("--repeats", type=int, default=None)
    parser.add_argument("--table", type=int, default=20, help="replications of each of the 200 points (resampled)")
    parser.add_argument("--jobs", type=int, default=None)
    parser.add_argument("--store", type=Path, default=None, help="a folder that keeps what was simulated")
    parser.add_argument("--out", type=Path, default=None, help="a JSON file for the figures")
    asked = parser.parse_args()
    found: dict[str, Any] = {}
    if "synthetic" in asked.parts:
        count = asked.repeats or 1_000
        ways: dict[str, Callable[[int], Repeat]] = {
            "select, 200 points, 400 replications": lambda s: repeated(Synthetic(*grid(s), s), Goal(budget=400)),
            "select, 200 points, 4,000 replications": lambda s: repeated(Synthetic(*grid(s), s), Goal(budget=4_000)),
            "select, 40 points, random cost": lambda s: repeated(
                Synthetic(*grid(s, levels=8, each=5), s, spread=0.05), Goal(budget=800, tolerance=0.05)
            ),
            "bisect, 24 points": lambda s: repeated(Synthetic(*line(s), s), Goal(budget=480), bisect),
        }
        sizes = (200, 200, 40, 24)
        for (name, way), size in zip(ways.items(), sizes, strict=True):
            found[f"synthetic: {name}"] = report(f"synthetic: {name}", [way(s) for s in range(count)], size, 20)
    scenario = sim.load(PATH)
    assert scenario.optimize is not None
    points = points_of(scenario.optimize.over)
    if "resampled" in asked.parts:
        begin = time.monotonic()
        table = simulated(points, asked.table, jobs=asked.jobs, store=asked.store)
        print(f"{len(points)} points simulated {asked.table} times in {time.monotonic() - begin:.0f} s", flush=True)
        for budget in (400, 800):
            seen = [{**point, "x": x} for x, point in enumerate(points)]
            repeats = [
                repeated(Resampled(table, s), Goal(budget=budget), points=seen) for s in range(asked.repeats or 1_000)
            ]
            name = f"resampled: {budget} replications"
            found[name] = report(name, repeats, len(points), 20)
            found[name]["no_dearer_than_exhaustive"] = no_dearer(table, repeats)
        known = Resampled(table, 0)
        cheapest = min(cost for cost, meets in zip(known.costs, known.meets, strict=True) if meets)
        best = [points[x] for x, meets in enumerate(known.meets) if meets and known.costs[x] == cheapest]
        print(f"exhaustive: {len(best)} of {len(points)} are the cheapest that do, at ${cheapest}/h, such as {best[0]}")
        begin = time.monotonic()
        optimum = sim.optimize(scenario, replications=400, jobs=asked.jobs)
        print(f"optimize: {optimum.sentence} {optimum.effort} {time.monotonic() - begin:.0f} s")
        found["optimize"] = {"same": optimum.winner in best, "spent": optimum.spent, "sentence": optimum.sentence}
    if "live" in asked.parts:
        found["live"] = live(points, asked.repeats or 100, asked.jobs, asked.store)
    if asked.out is not None:
        asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def live(points: Sequence[Mapping[str, Any]], repeats: int, jobs: int | None, store: Path | None) -> dict[str, Any]:
    """Repeats with seeds of their own."""
    import sim

    few = [
        point
        for point in points
        if point["deployments.chat.replicas"] in (2, 3, 4, 5, 6, 7)
        and point["deployments.chat.engine.max_num_seqs"] in (64, 256)
        and point["deployments.chat.engine.max_num_batched_tokens"] == 4096
    ]
    table = simulated(few, 100, first=10_000, jobs=jobs, store=store)
    meets = [truth(figures) for figures in table]
    costs = [figures.estimate(COST).value for figures in table]
    over = {path: list(dict.fromkeys(point[path] for point in few)) for path in few[0]}
    scenario = sim.load(PATH)
    done = []
    for seed in range(repeats):
        optimum = sim.optimize(scenario, over=over, method="select", seed=1_000 + seed, replications=240, jobs=jobs)
        search = optimum.search
        winner = search.winner
        most = np.inf if winner is None else costs[winner.number]
        missed = [x for x in range(len(few)) if meets[x] and costs[x] < most and not search.candidates[x].open]
        sound = winner is None or meets[winner.number]
        best = sound and most == min(cost for cost, does in zip(costs, meets, strict=True) if does)
        done.append(Repeat(sound and not missed, best, optimum.decided, winner is None, optimum.spent, float(most)))
    return report("live: 24 points", done, len(few), 20)


if __name__ == "__main__":
    main()
