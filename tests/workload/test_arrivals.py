"""Arrival processes against what theory says of them. Tolerances are five standard errors, from the same theory."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sim.kernel.streams import generator
from sim.workload.arrivals import Clock, Constant, Curve, Switching, Wandering, arrive
from sim.workload.figures import dispersion
from sim.workload.gaps import Deterministic, Exponential, Gamma, Gaps, Hyperexponential, gaps_of

BURSTY = Hyperexponential((0.6, 0.3, 0.1), (0.1, 0.8, 7.0))


def draw(clock: Clock, gaps: Gaps, horizon: float = math.inf, limit: int | None = None, seed: int = 0) -> np.ndarray:
    return arrive(clock, gaps, (generator(seed, 0, "gaps"), generator(seed, 0, "rate")), horizon, limit)


def test_poisson_counts_have_the_rate_and_the_dispersion_of_poisson_counts():
    times = draw(Constant(20.0), Exponential(), 10_000.0)
    assert abs(len(times) - 200_000) < 5 * math.sqrt(200_000)
    windows = 10_000 // 60
    assert dispersion(times, 10_000.0, 60.0) == pytest.approx(1.0, abs=5 * math.sqrt(2 / windows))


@pytest.mark.parametrize("cv", [0.3, 1.0, 2.0, 5.0])
def test_gamma_gaps_have_their_coefficient_of_variation(cv: float):
    count = 200_000
    gaps = np.diff(draw(Constant(3.0), gaps_of("gamma", cv), limit=count))
    # delta method with the skewness 2 cv and the kurtosis 3 + 6 cv^2 of a gamma
    error = cv * math.sqrt((1 + cv * cv) / (2 * count))
    assert gaps.std() / gaps.mean() == pytest.approx(cv, abs=5 * error + 1e-9)
    assert gaps.mean() == pytest.approx(1 / 3, abs=5 * cv / 3 / math.sqrt(count))


@pytest.mark.parametrize("gaps", [Gamma(4.0), BURSTY], ids=["gamma", "hyperexponential"])
def test_a_renewal_process_has_its_rate_from_time_0(gaps: Gaps):
    """In equilibrium the expected count is rate x time however short the time; without it, bursts come first."""
    counts = np.array([len(draw(Constant(2.0), gaps, 3.0, seed=seed)) for seed in range(3_000)])
    assert counts.mean() == pytest.approx(6.0, abs=5 * counts.std() / math.sqrt(len(counts)))


def test_a_mixture_of_exponentials_has_the_cv_it_says():
    gaps = BURSTY.draw(generator(1, 0, "gaps"), 400_000)
    assert gaps.mean() == pytest.approx(1.0, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(BURSTY.cv, rel=0.03)
    assert pytest.approx(math.sqrt(2 * (0.6 * 0.01 + 0.3 * 0.64 + 0.1 * 49.0) - 1.0)) == BURSTY.cv


def test_deterministic_arrivals_are_evenly_spaced():
    assert draw(Constant(4.0), Deterministic(), limit=4).tolist() == [0.25, 0.5, 0.75, 1.0]
    assert len(draw(Constant(4.0), Deterministic(), 2.0)) == 7, "an arrival at the horizon is past it"


def test_switching_rates_have_the_dispersion_of_heffes_and_lucantoni():
    fast, slow, leave_fast, leave_slow, window = 30.0, 2.0, 1 / 5.0, 1 / 20.0, 60.0
    mean = (fast * leave_slow + slow * leave_fast) / (leave_fast + leave_slow)
    both = leave_fast + leave_slow
    excess = 2 * (fast - slow) ** 2 * leave_fast * leave_slow / (both**2 * (fast * leave_slow + slow * leave_fast))
    theory = 1 + excess * (1 - (1 - math.exp(-both * window)) / (both * window))
    seen, rates = [], []
    for seed in range(40):
        times = draw(Switching((fast, slow), (5.0, 20.0)), Exponential(), 6_000.0, seed=seed)
        seen.append(dispersion(times, 6_000.0, window))
        rates.append(len(times) / 6_000.0)
    assert np.mean(rates) == pytest.approx(mean, abs=5 * np.std(rates) / math.sqrt(40))
    assert np.mean(seen) == pytest.approx(theory, abs=5 * np.std(seen) / math.sqrt(40))


def test_nothing_arrives_while_a_switching_rate_is_zero():
    times = draw(Switching((50.0, 0.0), (1.0, 100.0)), Exponential(), 20_000.0)
    assert np.diff(times).max() > 50.0
    assert len(draw(Switching((0.0, 0.0), (1.0, 1.0)), Exponential(), 100.0)) == 0


def test_a_wandering_rate_has_the_dispersion_of_its_covariance():
    """Var N(w) = m w + integral of the covariance, exp(s^2 exp(-u/T)) - 1 for the exponential of an Ornstein-Uhlenbeck."""
    mean, cv, time, window = 10.0, 0.5, 50.0, 60.0
    variance = math.log1p(cv**2)
    lag = np.linspace(0.0, window, 20_001)
    covariance = np.expm1(variance * np.exp(-lag / time))
    theory = 1 + 2 * mean / window * float(np.sum((window - lag) * covariance) * (lag[1] - lag[0]))
    seen = [
        dispersion(draw(Wandering(mean, cv, time), Exponential(), 12_000.0, seed=s), 12_000.0, window)
        for s in range(40)
    ]
    # an estimate over 200 windows of 60 s lacks the variance of its own mean: 2 cv^2 T / duration of the excess at most
    bias = theory * 2 * time / 12_000.0
    assert np.mean(seen) == pytest.approx(theory, abs=5 * np.std(seen) / math.sqrt(40) + bias)


def test_a_rate_curve_is_linear_between_its_points():
    times = draw(Curve((0.0, 1_000.0), (0.0, 100.0)), Exponential(), 1_000.0)
    expected = 50_000.0
    assert abs(len(times) - expected) < 5 * math.sqrt(expected)
    first_half = np.count_nonzero(times < 500.0)
    assert abs(first_half - expected / 4) < 5 * math.sqrt(expected / 4)


def test_a_rate_curve_may_jump_and_be_zero():
    curve = Curve((0.0, 100.0, 100.0, 200.0, 200.0), (5.0, 5.0, 0.0, 0.0, 10.0))
    times = draw(curve, Deterministic(), 300.0)
    assert np.count_nonzero(times <= 100.0) == 500
    assert not np.any((times > 100.0 + 1e-9) & (times < 200.0))
    assert np.count_nonzero(times > 200.0) == 999, "the last rate holds; one arrival falls on the horizon"


def test_a_rate_curve_holds_its_first_rate_before_its_first_point():
    assert draw(Curve((10.0, 20.0), (2.0, 2.0)), Deterministic(), 10.0)[:2].tolist() == [0.5, 1.0]


def test_a_looped_curve_starts_again():
    curve = Curve((0.0, 10.0, 10.0, 20.0), (1.0, 1.0, 0.0, 0.0), periods=3)
    times = draw(curve, Deterministic(), 1_000.0)
    assert np.floor(times / 20.0).max() <= 2
    assert len(times) == pytest.approx(30, abs=1)
    assert np.all(times % 20.0 <= 10.0 + 1e-9)
    assert len(draw(Curve((0.0, 10.0), (1.0, 1.0), periods=math.inf), Deterministic(), 500.5)) == 500


def test_a_curve_that_ends_at_zero_ends_the_arrivals():
    times = draw(Curve((0.0, 10.0), (100.0, 0.0)), Exponential(), limit=1_000_000)
    assert len(times) == pytest.approx(500, abs=5 * math.sqrt(500))
    assert times[-1] <= 10.0


@pytest.mark.parametrize(
    ("clock", "gaps"),
    [
        (Constant(50.0), Gamma(2.0)),
        (Constant(50.0), BURSTY),
        (Switching((80.0, 5.0), (3.0, 9.0)), Exponential()),
        (Wandering(50.0, 0.4, 20.0), Gamma(1.3)),
        (Curve((0.0, 300.0), (20.0, 90.0), math.inf), Exponential()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_longer_horizon_continues_the_same_arrivals(clock: Clock, gaps: Gaps):
    long = draw(clock, gaps, 2_000.0)
    short = draw(clock, gaps, 300.0)
    assert len(long) > 30_000, "more than one block"
    np.testing.assert_array_equal(short, long[: len(short)])
    assert long[len(short)] >= 300.0
    np.testing.assert_array_equal(draw(clock, gaps, limit=1_234), long[:1_234])
    assert np.all(np.diff(long) >= 0.0)
    assert long[0] >= 0.0


def test_arrivals_without_an_end_are_refused():
    with pytest.raises(ValueError, match="horizon or a limit"):
        draw(Constant(1.0), Exponential())
