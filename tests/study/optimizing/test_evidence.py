"""Evidence against a mean: its formula, and that looking at it after every value errs no more often than it says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, stats

from sim.stats import wilson
from sim.study.optimizing.evidence import evidence, further, logs


def ratio(values: list[float], c: float) -> float:
    """The likelihood ratio by numerical integration over effect and deviation: an independent way to the closed form."""
    x = np.asarray(values)
    effects, logarithms = (
        np.linspace(0.0, 12.0 * c**-0.5, 4_001),
        np.linspace(-9.0, 9.0, 801),
    )  # right Haar: d(log scale)
    scales = np.exp(logarithms)
    prior = 2.0 * stats.norm(0.0, c**-0.5).pdf(effects)

    def given(scale: float) -> float:
        densities = stats.norm.pdf(x[:, None], effects * scale, scale).prod(axis=0)
        return float(integrate.simpson(densities * prior, x=effects))

    over = integrate.simpson([given(float(scale)) for scale in scales], x=logarithms)
    under = integrate.simpson([stats.norm.pdf(x, 0.0, scale).prod() for scale in scales], x=logarithms)
    return float(over / under)


@pytest.mark.parametrize("values", [[0.7, 1.9, 1.2, 0.4], [0.9, 0.2], [0.3, 0.31, 0.28]])
def test_it_is_the_likelihood_ratio_averaged_over_effects_above_0_and_deviations(values):
    expected = math.log((ratio(values, 0.02) + ratio(values, 0.5)) / 2.0)
    assert expected > 0.0
    assert evidence([value + 5.0 for value in values], 5.0) == pytest.approx(expected, rel=1e-4)


def test_it_has_the_sign_of_the_side_and_no_unit():
    values = [0.7, 1.9, 1.2, 0.4]
    assert evidence([-value for value in values], 0.0) == -evidence(values, 0.0)
    assert evidence([1e3 * value for value in values], 0.0) == pytest.approx(evidence(values, 0.0))
    assert 0.0 < evidence([1.0], 0.0) < math.log(2.0)  # of one value the sign says something, and nothing else does
    assert evidence([], 1.0) == 0.0


def wrong(runs: int, level: float, draw: np.random.Generator) -> int:
    """How many of ``runs`` sequences with mean 0 are ever, in 60 looks, taken to be above 0."""
    count = 0
    for _ in range(runs):
        values = draw.standard_normal(60).tolist()
        count += any(evidence(values[:n], 0.0) >= math.log(1.0 / level) for n in range(2, 61))
    return count


def test_looking_after_every_value_errs_no_more_often_than_it_says():
    low, _ = wilson(wrong(400, 0.1, np.random.default_rng(1)), 400)
    assert low <= 0.1


def test_a_t_test_looked_at_as_often_errs_far_more_often():
    draw = np.random.default_rng(1)
    count = 0
    for _ in range(200):
        values = draw.standard_normal(60)
        count += any(stats.ttest_1samp(values[:n], 0.0, alternative="greater").pvalue <= 0.1 for n in range(2, 61, 3))
    assert wilson(count, 200)[0] > 0.15


@pytest.mark.verify
def test_its_error_over_many_sequences():
    low, _ = wilson(wrong(10_000, 0.05, np.random.default_rng(2)), 10_000)
    assert low <= 0.05


def test_logarithms_are_above_the_targets_only_if_the_mean_is():
    # a lognormal whose mean is exactly the target: its logarithms lie below the target's
    draw = np.random.default_rng(3)
    values = np.exp(draw.normal(-0.5, 1.0, 4_000)).tolist()  # mean exp(-0.5 + 0.5) = 1
    moved, target = logs(values, 1.0)
    assert evidence(moved, target) < 0.0
    assert logs([0.0], 2.0) == ([math.log(0.002)], math.log(2.002))


def test_how_many_more_it_takes_is_what_it_then_takes():
    # values that alternate keep their mean and spread whatever their number
    values = [0.6, 1.0] * 4
    weight = math.log(1e4)
    more = further(values, 1.0, weight)
    assert more is not None
    assert more > 0
    assert -evidence([0.6, 1.0] * ((8 + more + 3) // 2), 1.0) >= weight
    assert -evidence([0.6, 1.0] * ((8 + more - 4) // 2), 1.0) < weight
    assert further([1.0, 1.0], 1.0, weight) is None
    assert further([0.5], 1.0, weight) is None
