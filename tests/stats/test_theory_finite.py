"""Bounded queues against published formulas they were not written from, and against their limits."""

from __future__ import annotations

from math import exp, isclose

import numpy as np
import pytest

from sim.theory import (
    MD1,
    MG1,
    MachineRepair,
    MD1Timeout,
    MG1Setup,
    MM1Breakdowns,
    MM1Setup,
    MMc,
    MMcD,
    MMcK,
    TokenBucket,
    erlang_b,
    erlang_c,
    mmck_loss,
)
from sim.theory.buckets import unnormalised_work


@pytest.mark.parametrize(("servers", "places", "load"), [(1, 1, 0.5), (1, 7, 1.0), (4, 8, 4.0), (3, 12, 9.0)])
def test_m_m_c_k_satisfies_its_balance(servers: int, places: int, load: float) -> None:
    queue = MMcK(load, 1.0, servers, places)
    p = queue.probabilities
    assert isclose(sum(p), 1.0)
    for n in range(places):
        assert isclose(load * p[n], min(n + 1, servers) * p[n + 1])
    assert isclose(queue.blocking, mmck_loss(load, 1.0, servers, places))
    busy = sum(min(n, servers) * share for n, share in enumerate(p))
    assert isclose(queue.throughput, busy)  # each busy server ends one per unit


def test_m_m_c_c_is_erlangs_and_many_places_are_m_m_c() -> None:
    assert isclose(MMcK(4.0, 1.0, 5, 5).blocking, erlang_b(5, 4.0))
    assert MMcK(4.0, 1.0, 5, 5).wait == pytest.approx(0.0, abs=1e-12)
    assert isclose(MMcK(3.0, 1.0, 4, 400).wait, MMc(3.0, 1.0, 4).wait)


@pytest.mark.parametrize("patience", [0.2, 1.0, 3.0])
def test_m_m_c_d_loses_what_boots_and_tijms_say(patience: float) -> None:
    """(1 - ρ) P(W > D) / (1 - ρ P(W > D)), W the wait in M/M/c (Boots and Tijms 1999, exact for exponential service)."""
    load, servers = 3.2, 4
    beyond = erlang_c(servers, load) * exp(-(servers - load) * patience)
    rho = load / servers
    lost = (1.0 - rho) * beyond / (1.0 - rho * beyond)
    queue = MMcD(load, 1.0, servers, patience)
    assert isclose(queue.abandoning, lost)
    # who is not lost is served: servers busy = load let through, and they all are when somebody waits
    assert 0.0 < queue.wait < patience * queue.waiting_probability


def test_m_m_c_d_has_the_limits_m_m_c_and_erlangs() -> None:
    patient, hasty = MMcD(3.2, 1.0, 4, 200.0), MMcD(4.4, 1.0, 4, 1e-9)
    assert isclose(patient.wait, MMc(3.2, 1.0, 4).wait)
    assert isclose(patient.waiting_probability, erlang_c(4, 3.2))
    assert isclose(hasty.abandoning, erlang_b(4, 4.4), rel_tol=1e-6)
    # smooth through load = servers, where two formulas meet
    assert isclose(MMcD(4.0, 1.0, 4, 0.5).wait, MMcD(4.00001, 1.0, 4, 0.5).wait, rel_tol=1e-4)


@pytest.mark.parametrize("load", [0.6, 0.9, 1.0, 1.4])
@pytest.mark.parametrize("places", [1, 2, 5, 8])
def test_a_bucket_that_lends_is_m_d_1_k(load: float, places: int) -> None:
    """Mean wait in M/D/1/N, (N - 1 - (Σ_{k<N} b_k - N) / (ρ b_{N-1})) D, and its mean number N - Σ b_k / (1 + ρ b_{N-1}) (J.-M. Garcia,
    O. Brun, D. Gauchard, Transient Analytical Solution of M/D/1/N Queues, J. Appl. Probab. 39 (2002)); b_k = H(kD)."""
    b = [unnormalised_work(load, 1.0, float(k)) for k in range(places)]
    bucket = TokenBucket(load, 1.0, 1.0, max_wait=places - 1.0)
    wait = places - 1 - (sum(b) - places) / (load * b[-1])
    number = places - sum(b) / (1.0 + load * b[-1])
    assert bucket.delay == pytest.approx(wait, rel=1e-9, abs=1e-12)
    assert load * bucket.accepted * (bucket.delay + 1.0) == pytest.approx(number, rel=1e-9)  # Little
    whole = TokenBucket(load, 1.0, float(places))
    assert isclose(whole.accepted, bucket.accepted)
    assert whole.delay == 0.0


def test_one_token_is_erlangs_loss_system() -> None:
    assert isclose(1.0 - TokenBucket(0.8, 1.0, 1.0).accepted, erlang_b(1, 0.8))


def test_work_is_that_of_m_d_1_below_load_1() -> None:
    queue = MD1(0.7, 1.0)
    for work in (0.3, 1.0, 2.5, 6.0):
        assert isclose(0.3 * unnormalised_work(0.7, 1.0, work), queue.wait_cdf(work))
    with pytest.raises(ValueError, match="loses its digits"):
        unnormalised_work(0.5, 1.0, 60.0)


def test_timeouts_bite_little_at_low_load_and_collapse_at_high() -> None:
    assert isclose(MD1Timeout(0.5, 1.0, 12.0).utilization, 0.5, rel_tol=1e-5)
    late = [MD1Timeout(rate, 1.0, 8.0).late for rate in (0.5, 1.0, 2.0, 3.0)]
    assert late == sorted(late)
    # from the bound the work drains for D before the next comes, or it is late: e^{-λD} of the busy time, nearly
    assert isclose(1.0 - MD1Timeout(3.0, 1.0, 8.0).late, exp(-3.0), rel_tol=0.25)
    assert isclose(MD1Timeout(3.0, 1.0, 8.0).utilization, 1.0, rel_tol=1e-6)


def test_any_start_has_the_exponential_one_as_its_case() -> None:
    assert isclose(MG1Setup(0.5, 1.0, 1.0, 3.0, 18.0).response, MM1Setup(0.5, 1.0, 3.0).response)
    # next to no start
    assert isclose(MG1Setup(0.5, 1.0, 0.3, 1e-9, 1e-18).wait, MG1(0.5, 1.0, 0.3).wait, rel_tol=1e-8)


def test_machines_are_binomial() -> None:
    repair = MachineRepair(5, 9.0, 1.0)
    assert isclose(sum(repair.probability(n) for n in range(6)), 1.0)
    assert isclose(sum(n * repair.probability(n) for n in range(6)), 4.5)
    assert isclose(repair.probability(5), 0.9**5)
    assert isclose(repair.failures, 0.5)


def test_breakdowns_satisfy_their_balance() -> None:
    """The chain of (number, up or down), cut off at 400, solved as linear equations."""
    rate, fail, back, most = 0.5, 0.125, 0.5, 400
    q = np.zeros((2 * most, 2 * most))  # 2n: n and down, 2n + 1: n and up
    for n in range(most):
        q[2 * n, 2 * n + 1] = back
        q[2 * n + 1, 2 * n] = fail
        if n + 1 < most:
            q[2 * n, 2 * n + 2] = q[2 * n + 1, 2 * n + 3] = rate
        if n:
            q[2 * n + 1, 2 * n - 1] = 1.0
    q -= np.diag(q.sum(axis=1))
    balance = np.vstack([q.T, np.ones(2 * most)])
    p = np.linalg.lstsq(balance, np.append(np.zeros(2 * most), 1.0), rcond=None)[0]
    queue = MM1Breakdowns(rate, 1.0, 8.0, 2.0)
    assert isclose(float(p @ (np.arange(2 * most) // 2)), queue.number, rel_tol=1e-6)
    assert isclose(MM1Breakdowns(0.5, 1.0, 1e9, 1.0).response, 2.0, rel_tol=1e-6)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: MMcK(1.0, 1.0, 4, 3), "places: 3"),
        (lambda: MMcD(1.0, 1.0, 1, 0.0), "patience: 0.0"),
        (lambda: TokenBucket(1.0, 1.0, 0.5), "burst: 0.5"),
        (lambda: MD1Timeout(1.0, 0.0, 1.0), "service: 0.0"),
        (lambda: MachineRepair(0, 1.0, 1.0), "machines: 0"),
        (lambda: MG1Setup(1.0, 1.0, 1.0, 1.0, 2.0), "utilization: 1.0"),
        (lambda: MM1Breakdowns(0.9, 1.0, 8.0, 2.0), "below 0.8"),
    ],
)
def test_what_is_not_a_queue_is_refused(make, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=said):
        make()
