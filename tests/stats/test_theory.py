"""Closed-form queues against worked examples, against published tables, and against each other."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.theory import MD1, MG1, MM1, MMc, erlang_b, erlang_c, little


@pytest.mark.parametrize(
    ("servers", "load", "blocked"),
    [(10, 4.461, 0.01), (20, 12.03, 0.01), (10, 5.084, 0.02), (5, 2.881, 0.10), (100, 84.06, 0.01)],
)
def test_erlang_b_is_that_of_the_traffic_tables(servers: int, load: float, blocked: float) -> None:
    """ITU-T Teletraffic Engineering handbook, table of the Erlang B formula."""
    assert erlang_b(servers, load) == pytest.approx(blocked, rel=2e-3)


def test_an_mmc_queue_is_that_of_the_eye_clinic() -> None:
    """Gross & Harris, Fundamentals of Queueing Theory, example 2.3: 3 doctors, 6 patients an hour, 20 minutes each."""
    clinic = MMc(rate=6.0, service=20.0 / 60.0, servers=3)
    assert clinic.number_waiting == pytest.approx(8.0 / 9.0)
    assert clinic.number == pytest.approx(26.0 / 9.0)
    assert clinic.wait * 60.0 == pytest.approx(80.0 / 9.0)
    assert clinic.response * 60.0 == pytest.approx(260.0 / 9.0)
    assert clinic.waiting_probability == pytest.approx(4.0 / 9.0)


@given(st.integers(1, 30), st.floats(0.05, 0.95))
def test_erlang_c_agrees_with_its_sum(servers: int, utilization: float) -> None:
    load = servers * utilization
    last = load**servers / math.factorial(servers) / (1.0 - utilization)
    expected = last / (sum(load**k / math.factorial(k) for k in range(servers)) + last)
    assert erlang_c(servers, load) == pytest.approx(expected, rel=1e-9)


@given(st.floats(0.05, 0.95), st.floats(0.1, 10.0))
def test_one_server_is_an_mm1_queue(utilization: float, service: float) -> None:
    one, many = MM1(utilization / service, service), MMc(utilization / service, service, 1)
    assert many.wait == pytest.approx(one.wait)
    assert many.waiting_probability == pytest.approx(utilization)
    for probability in (0.1, 0.5, 0.99):
        assert many.wait_quantile(probability) == pytest.approx(one.wait_quantile(probability), abs=1e-9)


def test_mm1_at_half_load() -> None:
    """Kleinrock I, 3.2: N = ρ / (1 - ρ), T = (1/μ) / (1 - ρ)."""
    queue = MM1(rate=0.5, service=1.0)
    assert (queue.number, queue.response, queue.wait) == (1.0, 2.0, 1.0)
    assert queue.response_quantile(0.5) == pytest.approx(2.0 * math.log(2.0))
    assert sum(queue.number_probability(n) * n for n in range(200)) == pytest.approx(queue.number)
    assert queue.wait_quantile(0.4) == 0.0


def test_the_mean_wait_is_the_integral_of_its_quantiles() -> None:
    queue = MMc(rate=3.4, service=1.0, servers=4)
    steps = 200_000
    mean = sum(queue.wait_quantile((i + 0.5) / steps) for i in range(steps)) / steps
    assert mean == pytest.approx(queue.wait, rel=1e-4)


@given(st.floats(0.05, 0.95))
def test_a_constant_service_time_halves_the_wait(utilization: float) -> None:
    """Pollaczek-Khinchine (Kleinrock I, 5.6)."""
    assert MD1(utilization, 1.0).wait == pytest.approx(MM1(utilization, 1.0).wait / 2.0)
    assert MG1(utilization, 1.0, 3.0).wait == pytest.approx(2.0 * MM1(utilization, 1.0).wait)


def test_the_distribution_of_the_md1_wait_has_the_mean_of_the_formula() -> None:
    queue = MD1(rate=0.5, service=1.0)
    step = 1e-3
    beyond = sum(1.0 - queue.wait_cdf((i + 0.5) * step) for i in range(15_000)) * step
    assert beyond == pytest.approx(queue.wait, rel=1e-4)
    assert queue.wait_cdf(0.0) == pytest.approx(0.5)  # the server is idle half the time
    assert queue.wait_cdf(-1.0) == 0.0
    with pytest.raises(ValueError, match="20 service times"):
        queue.wait_cdf(30.0)


def test_littles_law() -> None:
    assert little(rate=4.0, time=0.5) == 2.0


@pytest.mark.parametrize(("rate", "servers"), [(1.0, 1), (4.0, 4), (9.0, 4), (0.0, 1)])
def test_a_queue_without_a_steady_state_is_refused(rate: float, servers: int) -> None:
    with pytest.raises(ValueError, match="steady state"):
        MMc(rate, 1.0, servers)
    if servers == 1:
        with pytest.raises(ValueError, match="steady state"):
            MM1(rate, 1.0)
