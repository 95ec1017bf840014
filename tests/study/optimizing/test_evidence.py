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
    n = len(x)

    def given_scale(log_scale: float) -> float:
        # the mean integrated out: x is normal around 0 with covariance scale^2 (I + 11'/c); right Haar: d(log scale)
        scale = math.exp(log_scale)
        covariance = scale**2 * (np.eye(n) + np.ones((n, n)) / c)
        return float(stats.multivariate_normal(np.zeros(n), covariance).pdf(x))

    def null(log_scale: float) -> float:
        return float(stats.norm(0.0, math.exp(log_scale)).pdf(x).prod())

    over, _ = integrate.quad(given_scale, -8.0, 8.0, limit=400)
    under, _ = integrate.quad(null, -8.0, 8.0, limit=400)
    return over / under


def test_it_is_the_likelihood_ratio_averaged_over_effects_and_deviations():
    values = [0.7, 1.9, 1.2, 0.4]
    expected = math.log((ratio(values, 0.005) + ratio(values, 1.0)) / 2.0)
    assert evidence([value + 5.0 for value in values], 5.0) == pytest.approx(expected, rel=1e-6)


def test_it_has_the_sign_of_the_side_and_no_unit():
    values = [0.7, 1.9, 1.2, 0.4]
    assert evidence([-value for value in values], 0.0) == -evidence(values, 0.0)
    assert evidence([1e3 * value for value in values], 0.0) == pytest.approx(evidence(values, 0.0))
    assert evidence([1.0], 0.0) == pytest.approx(0.0)  # one value says nothing of how they vary
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
