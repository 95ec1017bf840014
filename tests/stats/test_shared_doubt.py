"""Intervals that include a doubt which all replications share."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sim.stats import Interval, coverage, paired, replications_to_clear, t_interval


def test_chance_is_averaged_away_and_doubt_is_not() -> None:
    """By hand: values 1, 2, 3 have standard error 1/sqrt(3); shifts 1, -2, 2 a mean square of 3; t(2) at 97.5 % is 4.30265."""
    interval = t_interval([1.0, 2.0, 3.0], shifts=[1.0, -2.0, 2.0])
    assert interval.mean == 2.0
    assert interval.half_width == pytest.approx(4.30265 * math.sqrt(1 / 3 + 3), rel=1e-5)
    assert interval.half_width_doubt == pytest.approx(4.30265 * math.sqrt(3), rel=1e-5)


def test_shifts_to_one_side_are_doubt_as_well() -> None:
    assert t_interval([5.0, 5.0, 5.0], shifts=[1.0, 1.0, 1.0]).half_width == pytest.approx(4.30265, rel=1e-5)


def test_without_shifts_an_interval_is_students() -> None:
    values = np.random.default_rng(2).normal(size=7)
    assert t_interval(values, shifts=()) == t_interval(values)
    assert t_interval(values).half_width_doubt == 0.0


def test_what_moves_both_systems_alike_cancels_in_their_difference() -> None:
    values, baseline = [3.0, 4.2, 5.1], [1.0, 2.0, 3.0]
    plain = paired(values, baseline)
    assert paired(values, baseline, shifts=[0.0, 0.0, 0.0]) == plain
    moved = paired(values, baseline, shifts=[0.5, -0.5, 0.5])
    t = 4.30265
    assert moved.half_width == pytest.approx(math.hypot(plain.half_width, t * 0.5), rel=1e-5)
    assert moved.p > plain.p


def test_the_p_value_and_the_interval_of_a_doubted_difference_agree() -> None:
    random = np.random.default_rng(8)
    for _ in range(50):
        values, baseline, shifts = random.normal(size=(3, 6))
        test = paired(values + 1.0, baseline, shifts=shifts)
        assert (abs(test.difference) > test.half_width) == (test.p < 0.05)


def test_no_number_of_replications_clears_a_target_that_the_doubt_alone_holds() -> None:
    values = [0.9, 1.0, 1.1]
    assert replications_to_clear(values, 1.05) is not None
    assert replications_to_clear(values, 1.05, doubt=0.1) is None
    more = replications_to_clear(values, 1.05, doubt=0.02)
    plain = replications_to_clear(values, 1.05)
    assert more is not None
    assert plain is not None
    assert more > plain


def _studies(random: np.random.Generator, studies: int, replications: int, chance: float, doubt: float) -> float:
    """How often an interval holds the truth, which is as far from the estimate as the doubt says."""
    intervals = []
    for _ in range(studies):
        truth = doubt * random.normal()
        values = chance * random.normal(size=replications)
        interval = t_interval(values, shifts=doubt * random.normal(size=replications))
        intervals.append(Interval(interval.mean - truth, interval.half_width, interval.n))
    return coverage(intervals, 0.0)[0]


@pytest.mark.parametrize(("chance", "doubt"), [(0.0, 1.0), (1.0, 0.0), (1.0, 0.3), (1.0, 1.0)])
def test_they_hold_the_truth_nearly_as_often_as_they_say(chance: float, doubt: float) -> None:
    """With either error alone the interval is Student's (with one degree to spare for the doubt); with both a little wide or narrow."""
    share = _studies(np.random.default_rng(5), 3_000, 10, chance, doubt)
    assert 0.935 <= share <= 0.975
