"""Selection and bisection where the truth is known: what they find, what they spend, what they say."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import pytest

from benchmarks.known import Known, Repeat, Synthetic, grid, kinds, line, places, repeated
from sim.errors import ConfigError, TwinferError
from sim.observe.objectives import Figures
from sim.stats import wilson
from sim.study.optimizing.evaluation import Ask, Measured
from sim.study.optimizing.order import Order
from sim.study.optimizing.search import Goal, Search
from sim.study.optimizing.selecting import bisect, select
from sim.study.optimizing.words import answer, fate, money


def search(known: Known, budget: int = 2_000, **goal: float) -> Search:
    return Search(known, [{"replicas": x, "x": x} for x in range(len(known.costs))], Goal(budget=budget, **goal))


def sound(repeats: Sequence[Repeat], confidence: float) -> bool:
    """Whether the share of right ones may be ``confidence``."""
    return wilson(sum(one.right for one in repeats), len(repeats))[1] >= confidence


def test_the_cheapest_that_meets_both_objectives_is_found_and_dearer_ones_are_not_looked_at():
    # one objective falls with cost, the other rises: only 4 and 5 meet both
    means = [(2.0, 0.3), (1.6, 0.4), (1.4, 0.5), (1.2, 0.6), (0.8, 0.7), (0.5, 0.8), (0.4, 1.3), (0.3, 1.6)]
    found = search(Synthetic(means, [float(x + 1) for x in range(8)], seed=1))
    select(found)
    assert found.winner is not None
    assert found.winner.number == 4
    assert [one.status for one in found.candidates[:4]] == ["misses"] * 4
    assert not found.open()
    assert "replicas 4" in answer(found, method="select")
    assert fate(found.candidates[6], found.winner) in ("not looked at", "misses", "not cheaper")


def test_nothing_meets():
    found = search(Synthetic([(2.0, 0.5), (1.5, 0.5)], [1.0, 2.0], seed=1))
    select(found)
    assert found.winner is None
    assert answer(found, method="select") == "None of the 2 configurations meets every objective, with 95 % confidence."


def test_what_is_too_close_to_tell_is_said_with_what_it_would_take():
    found = search(Synthetic([(1.02, 0.5), (0.5, 0.5)], [1.0, 2.0], seed=1), budget=60)
    select(found)
    assert found.winner is not None
    assert found.winner.number == 1
    assert found.spent <= 60
    said = answer(found, method="select")
    assert "not decided" in said
    assert "Open: replicas 0, x 0" in said


def test_confidence_is_said_as_it_was_asked_for_and_counts_agree_with_their_nouns():
    found = search(Synthetic([(2.0, 0.5), (1.5, 0.5)], [1.0, 2.0], seed=1), budget=3, confidence=0.9999999)
    select(found)
    assert answer(found, method="select").endswith(" 1 was not looked at: more replications are needed.")
    assert "(99.99999 % confidence)" in answer(found, method="select")


@pytest.mark.parametrize(
    ("figure", "value", "said"),
    [
        ("usd_per_hour", 12.4, "$12.40/h"),
        ("usd_per_1m_tokens", 0.01999, "$0.01999 per 1M tokens"),
        ("tpot_p99", 0.00772, "p99 TPOT 7.720 ms"),
        ("replicas_mean", 3.25, "replicas mean 3.250"),
        ("usd_per_hour", math.nan, "$ an hour unknown"),
    ],
)
def test_what_it_costs_has_a_unit(figure: str, value: float, said: str):
    assert money(figure, value) == said


def test_points_that_lose_requests_do_not_meet():
    class Loses(Synthetic):
        def figures(self, x: int, replications: range) -> Figures:
            found = super().figures(x, replications)
            rows = [dict(row, lost_share=0.05 if x == 0 else 0.0) for row in found.overall]
            return Figures(rows, {"chat": rows}, found.objectives)

    found = search(Loses([(0.3, 0.3), (0.3, 0.3)], [1.0, 2.0], seed=1))
    select(found)
    assert found.winner is not None
    assert found.winner.number == 1
    assert found.candidates[0].status == "misses"


def test_points_that_cannot_be_are_told_and_the_rest_searched():
    class Fails(Synthetic):
        def price(self, point: dict[str, int]) -> float | None:  # type: ignore[override]
            if point["x"] == 0:
                raise TwinferError("it does not fit")
            return super().price(point)

        def measure(self, asks: Sequence[Ask]) -> Iterator[Measured]:
            for ask, measured in zip(asks, super().measure(asks), strict=True):
                yield Measured(None, None, "it broke") if ask.point["x"] == 1 else measured

    found = search(Fails([(0.5, 0.5)] * 3, [1.0, 2.0, 3.0], seed=1))
    select(found)
    assert found.winner is not None
    assert found.winner.number == 2
    assert [one.why for one in found.candidates[:2]] == ["it does not fit", "it broke"]


def test_a_search_without_objectives_is_refused():
    class Aimless(Synthetic):
        def figures(self, x: int, replications: range) -> Figures:
            return Figures(super().figures(x, replications).overall)

    with pytest.raises(ConfigError, match="no workload has objectives"):
        select(search(Aimless([(0.5, 0.5)], [1.0], seed=1)))


def test_random_costs_are_compared_within_the_tolerance():
    means, costs = [(0.5, 0.5)] * 3 + [(2.0, 0.5)], [3.0, 2.0, 2.5, 1.0]
    found = search(Synthetic(means, costs, seed=3, spread=0.05), tolerance=0.05)
    select(found)
    assert found.winner is not None
    assert found.winner.number == 1
    assert not found.open()
    assert found.candidates[0].dearer
    assert "within 5 %" in answer(found, method="select")


def test_bisection_looks_at_few_points_and_at_the_neighbours():
    means = [(2.0 - 0.12 * x, 0.5) for x in range(16)]  # 1.04 at 8, 0.92 at 9
    found = search(Synthetic(means, [float(x + 1) for x in range(16)], seed=2, cv=0.02))
    bisect(found)
    assert found.winner is not None
    assert found.winner.number == 9
    looked = [one.number for one in found.candidates if one.figures is not None]
    assert {7, 8, 9, 10} <= set(looked)
    assert len(looked) <= 8
    assert not found.open()
    assert "taking it that a higher number can only help" in answer(found, method="bisect")


def test_bisection_goes_by_what_costs_more_not_by_what_is_more():
    means = [(0.2 + 0.12 * x, 0.5) for x in range(16)]
    found = search(Synthetic(means, [float(16 - x) for x in range(16)], seed=2, cv=0.02))
    bisect(found)
    assert found.winner is not None
    assert found.winner.number == 6  # 0.92, and 1.04 for the cheaper 7


def test_bisection_notices_that_more_does_not_help_and_searches_all():
    means = [(2.0, 0.5), (0.5, 0.5), (1.8, 0.5), (1.7, 0.5), (0.6, 0.5), (1.5, 0.5), (0.5, 0.5), (0.4, 0.5)]
    found = search(Synthetic(means, [float(x + 1) for x in range(8)], seed=2, cv=0.05))
    bisect(found, "replicas")
    assert any("can only help is not so" in note for note in found.notes)
    assert found.winner is not None
    assert found.winner.number == 1


def test_bisection_shows_that_its_answer_is_the_cheapest_where_costs_are_random():
    means = [(1.5, 0.5), (0.8, 0.5), (0.7, 0.5), (0.6, 0.5), (0.5, 0.5), (0.4, 0.5)]
    found = search(Synthetic(means, [1.0, 3.0, 2.0, 4.0, 5.0, 6.0], seed=3, spread=0.05))
    bisect(found)
    assert found.winner is not None
    assert found.winner.number == 2  # dearer by number, cheaper in truth
    assert not found.open()
    assert "is the cheapest within 1 % of 6 configurations" in answer(found, method="bisect")


def test_bisection_where_more_does_not_cost_more_searches_all():
    found = search(Synthetic([(0.5, 0.5)] * 4, [1.0] * 4, seed=2))
    bisect(found, "max_num_seqs")
    assert found.notes == ["A higher max_num_seqs does not cost more: all values were searched."]
    assert found.winner is not None


def ordered(means: Sequence[tuple[float, float]], each: int, budget: int = 2_000, cv: float = 0.05) -> Search:
    """Points of ``each`` kinds, replica by replica, more of which is taken to help; a replica costs 1."""
    levels = len(means) // each
    costs = [float(x // each + 1) for x in range(len(means))]
    found = Search(Synthetic(means, costs, seed=4, cv=cv), places(levels, each), Goal(budget=budget))
    found.assume(Order.along([{"kind": x % each, "replicas": x // each + 1} for x in range(len(means))], ["replicas"]))
    return found


def test_what_misses_rules_out_what_has_less_and_the_answer_says_so():
    # kind 0 meets from 4 replicas on, kinds 1 and 2 never
    means = [(factor / (x + 1), 0.5) for x in range(6) for factor in (3.5, 9.0, 12.0)]
    found = ordered(means, 3)
    select(found)
    assert found.winner is not None
    assert found.winner.point["kind"] == 0
    assert found.winner.point["replicas"] == 4
    assert not found.open()
    assert any(one.assumed and one.figures is None for one in found.candidates)
    assert {fate(one, found.winner) for one in found.candidates if one.point["replicas"] == 1} == {"assumed"}
    assert "taking it that more replicas can only help." in answer(found, method="select")
    nothing = ordered(means, 3)
    nothing.assume(Order.none(len(means)))
    select(nothing)
    assert nothing.winner is not None
    assert nothing.winner.point == found.winner.point
    assert "taking it" not in answer(nothing, method="select")
    assert found.spent < nothing.spent


def test_a_point_with_more_that_is_sure_to_do_worse_ends_what_was_taken_for_granted():
    # 2 replicas do; 3, 4 and 5 do not; 6 do again: who believes in more would not look at 2
    means = [(2.0, 0.5), (0.5, 0.5), (1.8, 0.5), (1.7, 0.5), (1.5, 0.5), (0.5, 0.5)]
    found = ordered(means, 1)
    select(found)
    if not found.notes:  # it was not looked at: then the answer says what it rests on
        assert "can only help" in answer(found, method="select")
    looked = ordered(means, 1)
    looked.run([(looked.candidates[1], 8), (looked.candidates[3], 8)])
    assert "That more replicas can only help is not so" in looked.notes[0]
    assert "replicas 2" in looked.notes[0]
    select(looked)
    assert looked.winner is not None
    assert looked.winner.point["replicas"] == 2
    assert not any(one.assumed for one in looked.candidates)
    assert "can only help" not in answer(looked, method="select")


def test_what_is_beside_the_winner_is_looked_at_for_what_was_taken_for_granted():
    means = [(2.5, 0.5), (1.9, 0.5), (0.4, 0.5), (1.5, 0.5), (0.6, 0.5), (0.5, 0.5)]  # 3 replicas do, 4 do not, 5 do
    found = ordered(means, 1)
    select(found)
    assert len(found.notes) == 1
    assert found.winner is not None
    assert found.winner.point["replicas"] == 3
    assert not found.open()


def test_a_point_that_costs_more_than_the_budget_says_nothing_of_cheaper_ones():
    class Budget(Synthetic):
        def figures(self, x: int, replications: range) -> Figures:
            found = super().figures(x, replications)
            return Figures(found.overall, found.workloads, {"": {"usd_per_hour": 3.5}, **found.objectives})

    means = [(2.0 / (x + 1), 0.5) for x in range(8)]  # 0.67 of 3 replicas, 1 of 2
    known = Budget([(1.3, 0.5), *means[1:]], [float(x + 1) for x in range(8)], seed=5)
    found = search(known)
    found.assume(Order.along([{"replicas": x} for x in range(8)], ["replicas"]))
    select(found)
    assert found.winner is not None
    assert found.winner.number == 2
    assert not found.notes
    assert all(not one.assumed for one in found.candidates[3:])


def test_points_are_judged_by_all_that_have_more():
    points = [{"a": a, "b": b, "kind": kind} for kind in "xy" for a in (1, 2) for b in (10, 20)]
    order = Order.along(points, ["a", "b"])
    assert order.above[0] == [1, 2, 3]
    assert order.above[1] == [3]  # neither of a 1, b 20 and a 2, b 10 has more than the other
    assert order.below[3] == [0, 1, 2]
    assert order.above[4] == [5, 6, 7]
    assert order.judges == 4
    assert Order.none(8).judges == 1
    found = ordered([(1.0, 1.0)] * 10, 1)
    single = Search(found.evaluator, found.points, found.goal)
    assert found.levels.misses == pytest.approx(single.levels.misses + math.log(10.0))
    assert found.levels.meets == single.levels.meets


def test_a_tenth_of_the_exhaustive_search_is_enough_where_more_replicas_help():
    repeats = [
        repeated(Synthetic(*kinds(s), s), Goal(budget=400), points=places(), monotone=["replicas"]) for s in range(40)
    ]
    assert sound(repeats, 0.95)
    assert sum(one.best for one in repeats) >= 32


@pytest.mark.verify
def test_claims_where_more_is_taken_to_help_are_true_as_often_as_they_say():
    repeats = [
        repeated(Synthetic(*kinds(s), s), Goal(budget=4_000, confidence=0.8), points=places(), monotone=["replicas"])
        for s in range(1_000)
    ]
    assert sound(repeats, 0.8)
    assert sum(one.decided for one in repeats) >= 900


def test_the_answer_is_right_as_often_as_it_says_and_takes_a_fifth_of_the_exhaustive_search():
    repeats = [repeated(Synthetic(*grid(seed, each=10), seed), Goal(budget=2_000)) for seed in range(12)]
    assert sound(repeats, 0.95)
    assert all(one.best for one in repeats)
    assert sum(one.spent for one in repeats) / len(repeats) < 0.2 * 100 * 40  # 100 points, 40 each


@pytest.mark.verify
@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_claims_of_selection_are_true_as_often_as_they_say(confidence):
    repeats = [repeated(Synthetic(*grid(s), s), Goal(budget=4_000, confidence=confidence)) for s in range(1_000)]
    assert sound(repeats, confidence)
    assert sum(one.best for one in repeats) >= 0.97 * len(repeats)


@pytest.mark.verify
def test_claims_with_random_costs_are_true_as_often_as_they_say():
    repeats = [
        repeated(Synthetic(*grid(s, levels=8, each=5), s, spread=0.05), Goal(budget=2_000, tolerance=0.05))
        for s in range(500)
    ]
    assert sound(repeats, 0.95)


@pytest.mark.verify
def test_claims_of_bisection_are_true_as_often_as_they_say():
    repeats = [repeated(Synthetic(*line(s), s), Goal(budget=480), bisect) for s in range(1_000)]
    assert sound(repeats, 0.95)
