"""Queues with start-up times: numbers worked out by hand, limits, and a second solution by brute force."""

import math

import numpy as np
import pytest

from sim.theory import MMc
from sim.theory.setup import MM1Setup, MMInfSetup, MMkSetup


def test_one_server_waits_for_one_whole_start() -> None:
    # λ = 1/2, μ = 1, α = 1/3: 1 / (1 - 1/2) + 3
    queue = MM1Setup(0.5, 1.0, 3.0)
    assert queue.response == pytest.approx(5.0)
    assert queue.wait == pytest.approx(4.0)
    # A cycle: off for 2, starting for 3 while 1 + 1.5 jobs gather, which keep it busy for 2.5 / (1 - 1/2) = 5.
    assert queue.off == pytest.approx(2.0 / 10.0)


def test_unlimited_servers_at_one_arrival_a_start() -> None:
    # λ = α: Σ Π 1 / (1 + l) = 1 + 1/2 + 1/6 + ... = e - 1, whatever the service time
    queue = MMInfSetup(1.0, 7.0, 1.0)
    assert queue.wait == pytest.approx(1.0 / (math.e - 1.0))
    assert queue.response == pytest.approx(7.0 + 1.0 / (math.e - 1.0))
    assert queue.starting(0) == pytest.approx(1.0 / (math.e - 1.0))
    assert queue.starting(2) == pytest.approx(1.0 / 6.0 / (math.e - 1.0))


def test_unlimited_servers_sum_to_one_and_agree_with_little() -> None:
    queue = MMInfSetup(3.0, 1.0, 4.0)
    shares = [queue.starting(j) for j in range(200)]
    assert math.fsum(shares) == pytest.approx(1.0)
    assert math.fsum(j * share for j, share in enumerate(shares)) == pytest.approx(queue.number_starting)


def test_unlimited_servers_limits() -> None:
    assert MMInfSetup(1e-9, 1.0, 5.0).wait == pytest.approx(5.0)  # alone: a whole start
    much = MMInfSetup(1e6, 1.0, 2.0)
    assert much.wait == pytest.approx(math.sqrt(2.0 * 2.0 / (math.pi * 1e6)), rel=1e-3)
    for rate in (0.1, 1.0, 10.0):
        assert MMInfSetup(rate, 1.0, 5.0).wait < 5.0


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.95])
def test_one_of_k_is_the_single_server(rate: float) -> None:
    assert MMkSetup(rate, 1.0, 3.0, 1).response == pytest.approx(MM1Setup(rate, 1.0, 3.0).response)


def test_starts_in_no_time_leave_an_ordinary_queue() -> None:
    assert MMkSetup(2.5, 1.0, 1e-9, 4).response == pytest.approx(MMc(2.5, 1.0, 4).response, rel=1e-6)


def test_many_servers_are_as_good_as_unlimited() -> None:
    many, unlimited = MMkSetup(5.0, 1.0, 2.0, 60), MMInfSetup(5.0, 1.0, 2.0)
    assert many.response == pytest.approx(unlimited.response)
    assert many.number_starting == pytest.approx(unlimited.number_starting)


@pytest.mark.parametrize(("rate", "setup", "servers"), [(1.2, 2.0, 2), (2.0, 0.5, 3), (2.4, 10.0, 3)])
def test_against_the_chain_solved_by_brute_force(rate: float, setup: float, servers: int) -> None:
    most = 260
    states = [(on, jobs) for jobs in range(most + 1) for on in range(min(jobs, servers) + 1)]
    index = {state: i for i, state in enumerate(states)}
    balance = np.zeros((len(states), len(states)))

    def flow(start: tuple[int, int], end: tuple[int, int], speed: float) -> None:
        balance[index[end], index[start]] += speed
        balance[index[start], index[start]] -= speed

    for on, jobs in states:
        if jobs < most:
            flow((on, jobs), (on, jobs + 1), rate)
        if on:
            flow((on, jobs), (on if jobs > on else on - 1, jobs - 1), on / 1.0)
        starting = min(jobs - on, servers - on)
        if starting:
            flow((on, jobs), (on + 1, jobs), starting / setup)
    balance[-1] = 1.0
    right = np.zeros(len(states))
    right[-1] = 1.0
    shares = np.linalg.solve(balance, right)
    jobs_in_system = sum(share * jobs for share, (_, jobs) in zip(shares, states, strict=True))
    starting_now = sum(share * min(jobs - on, servers - on) for share, (on, jobs) in zip(shares, states, strict=True))
    queue = MMkSetup(rate, 1.0, setup, servers)
    assert queue.number == pytest.approx(jobs_in_system, rel=1e-6)
    assert queue.number_starting == pytest.approx(starting_now, rel=1e-6)


def test_no_steady_state_is_refused() -> None:
    with pytest.raises(ValueError, match="below 1 for a steady state"):
        MM1Setup(1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="erlangs on 2 servers has no steady state"):
        MMkSetup(2.0, 1.0, 1.0, 2)
    with pytest.raises(ValueError, match=r"setup: 0\.0; greater than 0"):
        MMInfSetup(1.0, 1.0, 0.0)
