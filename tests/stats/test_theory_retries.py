"""Retry amplification and its fixed points against numbers worked out by hand."""

import math

import pytest

from sim.theory import erlang_b
from sim.theory.retries import amplification, fixed_points, late_in_mm1, mmck_loss


@pytest.mark.parametrize(
    ("failure", "attempts", "mean"),
    [(0.0, 3, 1.0), (0.5, 3, 1.75), (1.0, 3, 3.0), (0.5, math.inf, 2.0), (0.2, 1, 1.0), (0.1, 2, 1.1)],
)
def test_mean_attempts_a_request(failure: float, attempts: float, mean: float) -> None:
    assert amplification(failure, attempts) == pytest.approx(mean)  # 1 + p + p² ...


@pytest.mark.parametrize(
    ("servers", "places", "loss"),
    [(1, 1, 1 / 2), (1, 2, 1 / 3), (2, 2, 1 / 5), (2, 3, 1 / 11)],  # at 1 erlang: 1 : 1 : 1/2 : 1/4
)
def test_loss_of_a_bounded_queue(servers: int, places: int, loss: float) -> None:
    assert mmck_loss(0.5, 2.0, servers, places) == pytest.approx(loss)


def test_without_places_to_wait_it_is_erlang_b() -> None:
    for load in (0.5, 7.0, 40.0):
        assert mmck_loss(load, 1.0, 12, 12) == pytest.approx(erlang_b(12, load))
    assert mmck_loss(1e-3, 1.0, 400, 4000) == 0.0  # too small for a float


def test_one_retry_on_one_server_without_queue_is_the_golden_ratio() -> None:
    # p = x / (1 + x); x = 1 + p, so x² = x + 1
    (point,) = fixed_points(1.0, 2, lambda x: mmck_loss(x, 1.0, 1, 1))
    assert point.rate == pytest.approx((1.0 + math.sqrt(5.0)) / 2.0)
    assert point.stable


def test_retrying_until_it_works() -> None:
    # 1 / (1 - p) = 1 + x; x = 0.5 (1 + x), so x = 1
    (point,) = fixed_points(0.5, math.inf, lambda x: mmck_loss(x, 1.0, 1, 1), limit=50.0)
    assert (point.rate, point.failure) == (pytest.approx(1.0), pytest.approx(0.5))


def test_a_timeout_makes_two_stable_states() -> None:
    # One server, mean service 1, patience 10, three attempts. At λ = 0.3 even three times the load is below 1: one state. At 0.7 all
    # attempts time out, 2.1 of load. At 0.5 there are both, and one between that holds neither.
    def late(x: float) -> float:
        return late_in_mm1(x, 1.0, 10.0)

    assert len(fixed_points(0.3, 3, late)) == 1
    (saturated,) = fixed_points(0.7, 3, late)
    assert (saturated.rate, saturated.failure, saturated.stable) == (pytest.approx(2.1), 1.0, True)
    low, middle, high = fixed_points(0.5, 3, late)
    assert [point.stable for point in (low, middle, high)] == [True, False, True]
    assert (high.rate, high.failure) == (pytest.approx(1.5), 1.0)
    for point in (low, middle):
        assert point.rate == pytest.approx(0.5 * (1.0 + point.failure + point.failure**2), rel=1e-12)
        assert point.failure == pytest.approx(math.exp(-(1.0 - point.rate) * 10.0))


def test_the_state_between_is_where_a_blip_turns_into_an_outage() -> None:
    def late(x: float) -> float:
        return late_in_mm1(x, 1.0, 10.0)

    low, middle, high = fixed_points(0.5, 3, late)
    for start, end in ((middle.rate * 0.999, low.rate), (middle.rate * 1.001, high.rate)):
        x = start
        for _ in range(500):
            x = 0.5 * amplification(late(x), 3)
        assert x == pytest.approx(end)


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="limit: needed with attempts without end"):
        fixed_points(0.5, math.inf, lambda x: 0.5)
    with pytest.raises(ValueError, match=r"failure: 1\.5; a probability"):
        amplification(1.5, 2)
    with pytest.raises(ValueError, match="places: 1; at least servers, 2"):
        mmck_loss(1.0, 1.0, 2, 1)
