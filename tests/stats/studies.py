"""How often each procedure is right, on systems whose truth is known. `python -m tests.stats.studies` prints docs/statistics.md's table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from sim.stats import (
    Feasibility,
    KimNelson,
    Stopping,
    against_control,
    antithetic,
    batch_means,
    benjamini_hochberg,
    bootstrap,
    controlled,
    equivalent,
    overlapping_batch_means,
    paired,
    pooled_quantile,
    quantile_interval,
    ratio,
    screen,
    share_lower_bound,
    t_interval,
    upper_bound,
    welch,
    wilson,
)
from sim.theory import MM1

Floats = npt.NDArray[np.float64]
Generator = np.random.Generator
Hits = Iterator[bool]  # without end: whether the procedure was right, study by study

CHUNK = 50  # studies whose runs are drawn at once, as columns


@dataclass(frozen=True)
class Study:
    """``procedure`` on ``system``: right in ``promised`` of all studies, and found to be so in ``least`` at least."""

    procedure: str
    system: str
    promised: float
    hits: Callable[[Generator], Hits]
    repeats: int
    least: float

    def run(self, repeats: int) -> tuple[float, float, float]:
        """The share of ``repeats`` studies in which it was right, and the 99.9 % bounds of that share."""
        hits = self.hits(np.random.default_rng(list(f"{self.procedure}/{self.system}".encode())))
        right = sum(next(hits) for _ in range(repeats))
        return right / repeats, *wilson(right, repeats, 0.999)


def ar1(generator: Generator, phi: float, shape: tuple[int, ...]) -> Floats:
    """Stationary AR(1) along the last axis, mean 0, innovations of variance 1."""
    series = generator.standard_normal(shape)
    series[..., 0] /= np.sqrt(1.0 - phi * phi)
    for i in range(1, shape[-1]):
        series[..., i] += phi * series[..., i - 1]
    return series


def waits(gaps: Floats, services: Floats, first: Floats) -> Floats:
    """Lindley's recursion along the last axis: what each customer waits, the first one ``first``."""
    series = np.empty(gaps.shape)
    series[..., 0] = first
    for i in range(1, gaps.shape[-1]):
        series[..., i] = np.maximum(series[..., i - 1] + services[..., i - 1] - gaps[..., i], 0.0)
    return series


def mm1(generator: Generator, load: float, shape: tuple[int, ...]) -> tuple[Floats, Floats, Floats]:
    """Waits, gaps and services of M/M/1 in steady state from the first customer on; service 1 on average."""
    queue = MM1(load, 1.0)
    gaps, services = generator.exponential(1.0 / load, shape), generator.exponential(1.0, shape)
    late = generator.random(shape[:-1]) < load
    first = np.where(late, generator.exponential(queue.response, shape[:-1]), 0.0)
    return waits(gaps, services, first), gaps, services


def mm1_mirrored(generator: Generator, load: float, shape: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Waits by inversion of u, and by that of 1 - u: gaps and services are mirrored, and who finds whom at the start."""
    gaps, services, first = (generator.random(size) for size in (shape, shape, shape[:-1]))

    def by(gap: Floats, service: Floats, start: Floats) -> Floats:
        # P(W > w) = load exp(-(1 - load) w)
        begin = np.maximum(-np.log(np.maximum(start, 1e-300) / load) / (1.0 - load), 0.0)
        return waits(-np.log1p(-gap) / load, -np.log1p(-service), begin)

    return by(gaps, services, first), by(1.0 - gaps, 1.0 - services, 1.0 - first)


def _of_rows(
    holds: Callable[[Floats], bool],
    draw: Callable[[Generator, tuple[int, ...]], Floats],
    shape: tuple[int, ...],
    g: Generator,
) -> Hits:
    while True:
        for row in draw(g, (CHUNK, *shape)):
            yield holds(row)


def _waits(load: float) -> Callable[[Generator, tuple[int, ...]], Floats]:
    return lambda g, shape: mm1(g, load, shape)[0]


def _normal(g: Generator, shape: tuple[int, ...]) -> Floats:
    return g.normal(5.0, 2.0, shape)


def _exponential(g: Generator, shape: tuple[int, ...]) -> Floats:
    return g.exponential(1.0, shape)


_WAIT = MM1(0.7, 1.0).wait
_LATE = MM1(0.7, 1.0).wait_quantile(0.99)
_IN_TIME = 1.0 - 0.7 * float(np.exp(-0.3 * 5.0))  # P(W > w) = load exp(-(1 - load) w), Kleinrock 5.7


def _controlled(g: Generator) -> Hits:
    while True:
        wait, gap, service = mm1(g, 0.7, (CHUNK, 20, 1_000))
        for w, a, s in zip(wait, gap, service, strict=True):
            controls = np.stack([a.mean(axis=1), s.mean(axis=1)], axis=1)
            yield controlled(w.mean(axis=1), controls, [1.0 / 0.7, 1.0]).interval.holds(_WAIT)


def _antithetic(g: Generator) -> Hits:
    while True:
        one, other = mm1_mirrored(g, 0.7, (CHUNK, 10, 1_000))
        for left, right in zip(one.mean(axis=2), other.mean(axis=2), strict=True):
            yield antithetic(left, right).interval.holds(_WAIT)


def _welch(few: int, many: int, g: Generator) -> Hits:
    while True:
        difference = welch(g.normal(3.0, 4.0, few), g.normal(2.0, 1.0, many))
        yield abs(difference.difference - 1.0) <= difference.half_width


def _paired(g: Generator) -> Hits:
    while True:
        shared = g.normal(0.0, 3.0, 10)
        difference = paired(shared + g.normal(1.0, 1.0, 10), shared + g.normal(0.0, 1.0, 10))
        yield abs(difference.difference - 1.0) <= difference.half_width


def _not_equivalent(g: Generator) -> Hits:
    while True:  # as far apart as must not pass
        shared = g.normal(0.0, 3.0, 20)
        yield not equivalent(shared + 1.0 + g.normal(0.0, 1.0, 20), shared, 1.0).equivalent


def _together(g: Generator) -> Hits:
    while True:
        shared = g.normal(0.0, 3.0, 10)
        options = {name: shared + g.normal(0.0, 1.0, 10) for name in "abcdef"}
        yield all(abs(pair.difference) <= pair.half_width for pair in against_control(options, "a").values())


def _discoveries(g: Generator) -> Hits:
    """A draw from the rejected ones is rightly rejected with at least the promised chance; where there are none, nothing is wrong."""
    while True:
        base = g.normal(0.0, 1.0, 12)
        effects = [0.0] * 15 + [1.5] * 5
        p_values = [paired(base + g.normal(effect, 1.0, 12), base).p for effect in effects]
        found = [i for i, p in enumerate(benjamini_hochberg(p_values)) if p <= 0.2]
        yield not found or found[int(g.integers(len(found)))] >= 15


def _stopped(least: int, g: Generator) -> Hits:
    while True:
        rule = Stopping(relative=0.15, least=least)
        while not rule.done:
            rule.add(g.gamma(20.0, 0.05))
        yield rule.interval.holds(1.0)


def _share(g: Generator) -> Hits:
    while True:
        yield share_lower_bound(int(g.binomial(200, 0.97)), 200) <= 0.97


def _pooled(n: int, method: str, g: Generator) -> Hits:
    while True:
        for study in _waits(0.7)(g, (CHUNK, n, 1_000)):
            found = bootstrap(list(study), pooled_quantile(0.99), g, resamples=400, method=method)  # type: ignore[arg-type]
            yield found.holds(_LATE)


def _attained(n: int, method: str, g: Generator) -> Hits:
    while True:
        for study in _waits(0.7)(g, (CHUNK, n, 1_000)):
            pairs = [(float((run <= 5.0).sum()), 1_000.0) for run in study]
            yield bootstrap(pairs, ratio, g, resamples=400, method=method).holds(_IN_TIME)  # type: ignore[arg-type]


def _selected(shared: float, g: Generator) -> Hits:
    means = np.array([1.0, 1.0, 0.0, 1.0, 1.0])
    while True:
        kn = KimNelson(5, 1.0, 0.95, 10)
        while not kn.decided:
            kn.add(dict(enumerate(means + g.normal(0.0, 3.0, 5) + g.normal() * shared)))
        yield kn.survivors == [2]


def _judged(g: Generator) -> Hits:
    means = np.array([19.0, 19.0, 21.0, 21.0])
    while True:
        check = Feasibility(4, 20.0, 1.0, 0.95, 10)
        while not check.decided:
            check.add(dict(enumerate(means + g.normal(0.0, 2.0, 4) + g.normal(0.0, 2.0))))
        yield check.verdicts == (True, True, False, False)


def _screened(g: Generator) -> Hits:
    while True:  # level means are the worst case: any of them may be called the best
        yield 3 in screen(g.normal(0.0, 1.0, (10, 5)) + g.normal(0.0, 1.0, (10, 1)))


def _rows(draw, shape, holds):  # type: ignore[no-untyped-def]
    return partial(_of_rows, holds, draw, shape)


def _ar1(phi: float) -> Callable[[Generator, tuple[int, ...]], Floats]:
    return lambda g, shape: ar1(g, phi, shape)


STUDIES = [
    Study("t_interval", "5 normals", 0.95, _rows(_normal, (5,), lambda x: t_interval(x).holds(5.0)), 20_000, 0.94),
    Study(
        "t_interval",
        "10 exponentials",
        0.95,
        _rows(_exponential, (10,), lambda x: t_interval(x).holds(1.0)),
        20_000,
        0.88,
    ),
    Study(
        "t_interval",
        "M/M/1 at 0.7, 10 runs of 1,000 waits",
        0.95,
        _rows(_waits(0.7), (10, 1_000), lambda x: t_interval(x.mean(axis=1)).holds(_WAIT)),
        2_000,
        0.90,
    ),
    Study(
        "quantile_interval",
        "M/M/1 at 0.7, p99 of waits, 10 runs of 1,000",
        0.95,
        _rows(_waits(0.7), (10, 1_000), lambda x: quantile_interval(list(x), 0.99).holds(_LATE)),
        2_000,
        0.70,
    ),
    Study(
        "quantile_interval",
        "M/M/1 at 0.7, p99 of waits, 10 runs of 10,000",
        0.95,
        _rows(_waits(0.7), (10, 10_000), lambda x: quantile_interval(list(x), 0.99).holds(_LATE)),
        400,
        0.87,
    ),
    Study("upper_bound", "10 normals", 0.95, _rows(_normal, (10,), lambda x: upper_bound(x) >= 5.0), 20_000, 0.94),
    Study(
        "upper_bound",
        "10 exponentials",
        0.95,
        _rows(_exponential, (10,), lambda x: upper_bound(x) >= 1.0),
        20_000,
        0.83,
    ),
    Study("share_lower_bound", "200 trials at 0.97", 0.95, _share, 20_000, 0.92),
    Study(
        "bootstrap percentile",
        "M/M/1 at 0.7, pooled p99, 10 runs of 1,000",
        0.95,
        partial(_pooled, 10, "percentile"),
        500,
        0.75,
    ),
    Study("bootstrap bca", "M/M/1 at 0.7, pooled p99, 10 runs of 1,000", 0.95, partial(_pooled, 10, "bca"), 500, 0.75),
    Study("bootstrap bca", "M/M/1 at 0.7, pooled p99, 40 runs of 1,000", 0.95, partial(_pooled, 40, "bca"), 300, 0.85),
    Study(
        "bootstrap percentile",
        "M/M/1 at 0.7, share of waits below 5, 10 runs of 1,000",
        0.95,
        partial(_attained, 10, "percentile"),
        2_000,
        0.83,
    ),
    Study(
        "bootstrap bca",
        "M/M/1 at 0.7, share of waits below 5, 10 runs of 1,000",
        0.95,
        partial(_attained, 10, "bca"),
        2_000,
        0.83,
    ),
    Study(
        "bootstrap bca",
        "M/M/1 at 0.7, share of waits below 5, 40 runs of 1,000",
        0.95,
        partial(_attained, 40, "bca"),
        1_000,
        0.90,
    ),
    Study(
        "t_interval",
        "M/M/1 at 0.7, share of waits below 5, 10 runs of 1,000",
        0.95,
        _rows(_waits(0.7), (10, 1_000), lambda x: t_interval((x <= 5.0).mean(axis=1)).holds(_IN_TIME)),
        2_000,
        0.88,
    ),
    Study(
        "batch_means",
        "AR(1) at 0.9, 10,000 values",
        0.95,
        _rows(_ar1(0.9), (10_000,), lambda x: batch_means(x).interval.holds(0.0)),
        2_000,
        0.92,
    ),
    Study(
        "batch_means",
        "M/M/1 at 0.7, 20,000 waits",
        0.95,
        _rows(_waits(0.7), (20_000,), lambda x: batch_means(x).interval.holds(_WAIT)),
        1_000,
        0.88,
    ),
    Study(
        "overlapping_batch_means",
        "AR(1) at 0.9, 10,000 values",
        0.95,
        _rows(_ar1(0.9), (10_000,), lambda x: overlapping_batch_means(x).interval.holds(0.0)),
        2_000,
        0.91,
    ),
    Study(
        "overlapping_batch_means",
        "M/M/1 at 0.7, 20,000 waits",
        0.95,
        _rows(_waits(0.7), (20_000,), lambda x: overlapping_batch_means(x).interval.holds(_WAIT)),
        1_000,
        0.87,
    ),
    Study("controlled", "M/M/1 at 0.7, 20 runs of 1,000, mean gap and service known", 0.95, _controlled, 1_000, 0.90),
    Study("antithetic", "M/M/1 at 0.7, 10 mirrored pairs of 1,000", 0.95, _antithetic, 1_000, 0.90),
    Study("paired", "10 pairs of normals", 0.95, _paired, 10_000, 0.94),
    Study("welch", "5 normals of deviation 4, 20 of 1", 0.95, partial(_welch, 5, 20), 10_000, 0.93),
    Study("equivalent", "as far apart as delta: not called so", 0.95, _not_equivalent, 10_000, 0.94),
    Study("against_control", "5 options against one: all hold", 0.95, _together, 5_000, 0.94),
    Study("benjamini_hochberg", "20 options, 5 differ: a finding is true", 0.80, _discoveries, 3_000, 0.80),
    Study("Stopping", "±15 % of a mean, at least 3", 0.95, partial(_stopped, 3), 10_000, 0.86),
    Study("Stopping", "±15 % of a mean, at least 10", 0.95, partial(_stopped, 10), 10_000, 0.92),
    Study("KimNelson", "5 systems, others delta behind", 0.95, partial(_selected, 0.0), 2_000, 0.95),
    Study(
        "KimNelson",
        "5 systems, others delta behind, on common random numbers",
        0.95,
        partial(_selected, 6.0),
        2_000,
        0.95,
    ),
    Study("Feasibility", "4 systems, all the tolerance off", 0.95, _judged, 2_000, 0.95),
    Study("screen", "5 level systems: the best is kept", 0.95, _screened, 10_000, 0.95),
]


def row(study: Study, share: float) -> str:
    """The line of the table in docs/statistics.md."""
    return f"| {study.procedure} | {study.system} | {study.promised:.0%} | {share:.1%} | {study.repeats:,} |"


if __name__ == "__main__":
    print("| | on | promised | found | studies |\n|---|---|---|---|---|")
    for each in STUDIES:
        print(row(each, each.run(each.repeats)[0]), flush=True)
