"""Ranking and selection: constants by arithmetic, decisions against the procedures as they are written, and how often they are right."""

from __future__ import annotations

import math
from itertools import product
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.stats import Feasibility, KimNelson, ocba, screen, t_quantile, wilson

Table = npt.NDArray[np.float64]


def _fed(procedure: KimNelson | Feasibility, table: Table) -> None:
    for row in table:
        if procedure.decided:
            return
        procedure.add(dict(enumerate(row)))


def test_the_constants_of_kn_by_hand() -> None:
    """k = 5, alpha = 0.05, n0 = 10: eta = ((2 x 0.05 / 4)^(-2/9) - 1) / 2 = (40^(2/9) - 1) / 2; 40^2 = 1600 = 2.26993^9."""
    kn = KimNelson(5, 1.0, 0.95, 10)
    assert (2.0 * kn.eta + 1.0) ** 9 == pytest.approx(1600.0)
    assert kn.h2 == pytest.approx(18.0 * kn.eta)
    # two systems at alpha = beta: one threshold, as both test a mean against a line
    assert Feasibility(3, 0.0, 1.0, 0.85, 7).eta == pytest.approx(KimNelson(2, 1.0, 0.95, 7).eta)


def _kn_as_written(table: Table, delta: float, alpha: float, first: int) -> list[set[int]]:
    """Kim & Nelson (2001), the steps of figure 1 (largest is best), one set of survivors a round from round n0 on."""
    k = table.shape[1]
    eta = 0.5 * ((2 * alpha / (k - 1)) ** (-2 / (first - 1)) - 1)
    h2 = 2 * eta * (first - 1)
    s2 = {
        (i, j): sum(
            (x - y - (table[:first, i].mean() - table[:first, j].mean())) ** 2 for x, y in table[:first, [i, j]]
        )
        / (first - 1)
        for i, j in product(range(k), repeat=2)
    }
    alive, history = set(range(k)), []
    for r in range(first, len(table) + 1):
        mean = table[:r].mean(axis=0)
        alive = {
            i
            for i in alive
            if all(mean[i] >= mean[j] - max(0.0, delta / (2 * r) * (h2 * s2[i, j] / delta**2 - r)) for j in alive - {i})
        }
        history.append(set(alive))
        if len(alive) == 1:
            break
    return history


@pytest.mark.parametrize("seed", range(20))
def test_kn_decides_round_by_round_as_the_paper_says(seed: int) -> None:
    generator = np.random.default_rng(seed)
    shared = generator.normal(0.0, 2.0, (400, 1))
    table = generator.normal(0.0, 1.0, (400, 4)) * [1.0, 2.0, 0.5, 1.0] + [0.0, 0.3, 0.1, -1.0] + shared
    kn = KimNelson(4, 0.4, 0.9, 8, highest=True)
    survivors = []
    for number, row in enumerate(table, 1):
        kn.add(dict(enumerate(row)))
        if number >= 8:
            survivors.append(set(kn.survivors))
        if kn.decided:
            break
    assert survivors == _kn_as_written(table, 0.4, 0.1, 8)
    lowest = KimNelson(4, 0.4, 0.9, 8)
    _fed(lowest, -table)
    assert (lowest.survivors, lowest.gone) == (kn.survivors, kn.gone)


def _right_selections(repeats: int, shared: float, seed: int) -> int:
    """Slippage, the worst case: all others exactly delta behind the best."""
    generator = np.random.default_rng(seed)
    right = 0
    for _ in range(repeats):
        kn = KimNelson(5, 1.0, 0.9, 10)
        while not kn.decided:
            noise = generator.normal(0.0, 3.0, 5) + generator.normal(0.0, 1.0) * shared
            kn.add(dict(enumerate(noise + np.array([1.0, 1.0, 0.0, 1.0, 1.0]))))
        right += kn.survivors == [2]
    return right


def test_kn_selects_the_best_as_often_as_it_promises() -> None:
    assert wilson(_right_selections(150, 0.0, 1), 150, 0.999)[1] >= 0.9


@pytest.mark.verify
@pytest.mark.parametrize("shared", [0.0, 6.0])
def test_kn_selects_the_best_in_2_000_repeats(shared: float) -> None:
    right = _right_selections(2_000, shared, 2)
    assert wilson(right, 2_000, 0.999)[0] >= 0.9, right


def test_common_random_numbers_save_replications() -> None:
    generator = np.random.default_rng(3)
    spent = {}
    for own, shared in ((3.0, 0.0), (1.0, math.sqrt(8.0))):  # the variance of each is 9 either way
        total = 0
        for _ in range(40):
            kn = KimNelson(4, 1.0)
            while not kn.decided:
                noise = generator.normal(0.0, own, 4) + generator.normal(0.0, 1.0) * shared
                kn.add(dict(enumerate(noise + np.array([0.0, 1.0, 1.0, 1.0]))))
            total += sum(kn.seen)
        spent[shared] = total
    assert spent[math.sqrt(8.0)] < 0.4 * spent[0.0]


def test_who_is_out_is_asked_no_more() -> None:
    kn = KimNelson(3, 1.0, first=3)
    for row in ([0.0, 0.5, 90.0], [1.0, 0.4, 91.0], [0.5, 0.6, 92.5]):
        kn.add(dict(enumerate(row)))
    assert kn.wanted() == [0, 1]
    assert kn.gone == {2: (3, 0)} or kn.gone == {2: (3, 1)}
    kn.add({0: 0.2, 1: 0.7, 2: 5.0})  # a value that ran ahead
    assert kn.seen == (4, 4, 3)
    assert kn.most_rounds is not None
    most = kn.most_rounds
    while not kn.decided:
        kn.add({0: 0.5, 1: 0.5})
    assert kn.rounds <= most


def test_equal_systems_without_chance_are_told_apart_by_their_numbers() -> None:
    kn = KimNelson(3, 0.1, first=2)
    kn.add({0: 3.0, 1: 2.0, 2: 2.0})
    assert not kn.decided
    assert kn.most_rounds is None
    kn.add({0: 3.0, 1: 2.0, 2: 2.0})
    assert (kn.decided, kn.survivors) == (True, [1])


def test_one_system_needs_no_selection() -> None:
    assert KimNelson(1, 0.1).survivors == [0]
    assert KimNelson(1, 0.1).decided


def _right_verdicts(repeats: int, seed: int) -> int:
    """Every system exactly the tolerance away from the target, and all of them share their noise in part."""
    generator = np.random.default_rng(seed)
    truth = (True, True, False, False)
    means = np.array([-1.0, -1.0, 1.0, 1.0]) + 20.0
    right = 0
    for _ in range(repeats):
        check = Feasibility(4, 20.0, 1.0, 0.9, 10)
        while not check.decided:
            check.add(dict(enumerate(means + generator.normal(0.0, 2.0, 4) + generator.normal(0.0, 2.0))))
        right += check.verdicts == truth
    return right


def test_feasibility_judges_all_rightly_as_often_as_it_promises() -> None:
    assert wilson(_right_verdicts(150, 4), 150, 0.999)[1] >= 0.9


@pytest.mark.verify
def test_feasibility_judges_all_rightly_in_2_000_repeats() -> None:
    right = _right_verdicts(2_000, 5)
    assert wilson(right, 2_000, 0.999)[0] >= 0.9, right


@given(st.integers(0, 10_000), st.integers(1, 4), st.booleans())
def test_feasibility_decides_by_the_line_of_the_paper(seed: int, systems: int, above: bool) -> None:
    generator = np.random.default_rng(seed)
    table = generator.normal(5.0, 1.0, (300, systems)) + generator.normal(0.0, 1.0, systems)
    check = Feasibility(systems, 5.0, 0.5, 0.9, 6, above=above)
    _fed(check, table)
    beta = 0.1 / systems
    h2 = ((2 * beta) ** (-2 / 5) - 1) * 5
    for i in range(systems):
        s2 = table[:6, i].var(ddof=1)
        for r in range(6, 301):
            line = max(0.0, h2 * s2 / (2 * 0.5) - 0.5 * r / 2)
            total = float(np.sum(table[:r, i] - 5.0)) * (-1.0 if above else 1.0)
            if abs(total) >= line:
                break
        assert check.verdicts[i] is (total <= 0.0)
        assert check.seen[i] == r


def test_what_is_exactly_on_target_without_chance_meets_it() -> None:
    check = Feasibility(3, 2.0, 0.1, first=2)
    for _ in range(2):
        check.add({0: 2.0, 1: 2.5, 2: 1.5})
    assert check.verdicts == (True, False, True)
    assert (check.survivors, check.decided, check.most_rounds) == ([0, 2], True, 2)
    floor = Feasibility(2, 0.99, 0.005, first=2, above=True)
    for _ in range(2):
        floor.add({0: 1.0, 1: 0.5})
    assert floor.verdicts == (True, False)


def test_screening_two_systems_is_the_one_sided_paired_test() -> None:
    """Student's sleep (Biometrika 6, 1908): t = 4.0621 with 9 degrees, one-sided p = 0.00142."""
    dextro = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    laevo = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    table = np.array([laevo, dextro]).T
    assert screen(table, 0.998) == [1]
    assert screen(table, 0.999) == [0, 1]
    assert screen(table, 0.998, highest=True) == [0]


@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(2, 12))
def test_screening_keeps_the_best_mean_and_goes_by_its_rule(seed: int, systems: int, n: int) -> None:
    table = np.random.default_rng(seed).normal(0.0, 1.0, (n, systems)) + np.arange(systems)
    t = t_quantile(1.0 - 0.05 / (systems - 1), n - 1)
    kept = screen(table)
    assert int(table.mean(axis=0).argmin()) in kept
    for i in range(systems):
        leads = [
            table[:, i].mean() - table[:, j].mean() > t * np.std(table[:, i] - table[:, j], ddof=1) / math.sqrt(n)
            for j in range(systems)
            if j != i
        ]
        assert (i in kept) == (not any(leads))


def _kept(repeats: int, seed: int) -> int:
    generator = np.random.default_rng(seed)
    tables = generator.normal(0.0, 1.0, (repeats, 6, 5)) + generator.normal(0.0, 1.0, (repeats, 6, 1))
    return sum(
        3 in screen(table, 0.9) for table in tables
    )  # equal means are the worst case: any may be called the best


def test_screening_keeps_the_best_as_often_as_it_promises() -> None:
    assert wilson(_kept(800, 6), 800, 0.999)[1] >= 0.9


@pytest.mark.verify
def test_screening_keeps_the_best_in_20_000_repeats() -> None:
    assert wilson(_kept(20_000, 7), 20_000, 0.999)[0] >= 0.9


def test_ocba_by_hand() -> None:
    """d = 1, 2, 3 and equal variances: N ~ 1, 1/4, 1/9, and N_b ~ sqrt(1 + 1/16 + 1/81) = sqrt(1393)/36 = 1.036754; sum 2.397866."""
    shares = np.array([1.0367540, 1.0, 0.25, 1.0 / 9.0]) / 2.3978651
    assert np.abs(np.array(ocba([1, 2, 3, 4], [4] * 4, 10_000)) - 10_000 * shares).max() < 1.01
    assert ocba([1, 2, 3, 4], [4] * 4, 10_000) == ocba([11, 12, 13, 14], [0.1] * 4, 10_000)
    assert ocba([-1, -2, -3, -4], [4] * 4, 10_000, best=0) == ocba([1, 2, 3, 4], [4] * 4, 10_000)


def test_ocba_where_means_are_level_or_nothing_varies() -> None:
    # to tell two equal ones apart the best and the level one need sigma-proportional effort: sqrt(1 x 4) : 4
    assert ocba([1.0, 1.0, 3.0], [1.0, 4.0, 1.0], 90) == [30, 60, 0]
    assert ocba([1.0, 2.0], [0.0, 0.0], 7) == [4, 3]
    assert ocba([5.0], [2.0], 9) == [9]
    assert ocba([0.0, 1e-200, 1.0], [1.0, 1.0, 1.0], 10) == [5, 5, 0]  # no square under- or overflows


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(0.0, 1e3)), min_size=1, max_size=8), st.integers(0, 1_000))
def test_ocba_spends_its_budget_and_no_more(systems: list[tuple[float, float]], budget: int) -> None:
    share = ocba([mean for mean, _ in systems], [variance for _, variance in systems], budget)
    assert sum(share) == budget
    assert min(share) >= 0


def test_ocba_is_nearly_the_best_of_all_allocations() -> None:
    """The bound that Chen et al. maximise, 1 - sum of P(mean i below mean b), over every allocation in steps of 2 % of 400."""
    means, variances = [0.0, 1.0, 2.0, 1.5], [4.0, 9.0, 9.0, 1.0]

    def missed(share: tuple[int, ...]) -> float:
        return sum(
            NormalDist().cdf(-(means[i] - means[0]) / math.sqrt(variances[0] / share[0] + variances[i] / share[i]))
            for i in (1, 2, 3)
        )

    steps = range(8, 400, 8)
    least = min(missed((a, b, c, 400 - a - b - c)) for a, b, c in product(steps, repeat=3) if 400 - a - b - c >= 8)
    assert missed(tuple(ocba(means, variances, 400))) <= 1.25 * least
    assert missed((100, 100, 100, 100)) > 2.0 * least


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: KimNelson(0, 1.0), "systems: 0; at least 1"),
        (lambda: KimNelson(3, 0.0), r"delta: 0\.0; greater than 0"),
        (lambda: KimNelson(3, 1.0, 1.0), r"confidence: 1\.0; between 0 and 1"),
        (lambda: KimNelson(4, 1.0, 0.25), r"confidence: 0\.25; above 1/4"),
        (lambda: KimNelson(3, 1.0, 0.9, 1), "first: 1; at least 2"),
        (lambda: Feasibility(3, math.nan, 1.0), "target: nan"),
        (lambda: Feasibility(3, 1.0, -1.0), r"tolerance: -1\.0; greater than 0"),
        (lambda: Feasibility(1, 1.0, 1.0, 0.5), r"confidence: 0\.5; above 0\.5"),
        (lambda: screen([[1.0, 2.0]]), r"shape \(1, 2\)"),
        (lambda: ocba([1.0], [1.0, 2.0], 5), "as many of each"),
        (lambda: ocba([1.0], [-1.0], 5), "not negative"),
        (lambda: ocba([1.0], [1.0], 5, best=1), "best: 1; between 0 and 0"),
    ],
)
def test_what_makes_no_sense_is_refused(make, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=said):
        make()


def test_a_round_must_be_whole_and_finite() -> None:
    kn = KimNelson(2, 1.0)
    with pytest.raises(ValueError, match="round 1: no value of system 1, which is wanted"):
        kn.add({0: 1.0})
    with pytest.raises(ValueError, match="round 1: system 1: nan; a finite number"):
        kn.add({0: 1.0, 1: math.nan})
    assert kn.seen == (0, 0)
    assert all(math.isnan(mean) for mean in kn.means)
