"""The gateway and its clients agree with queueing theory: limits, lines, token buckets, retries.

How stations are built, and how exact they are: :mod:`tests.verification.stations`. Theory is to be in the 99.9 % interval of independent
replications of fixed seeds, figure by figure. Run as a script it prints the table of the long studies.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sim.control.clients.client import Client
from sim.control.fleet import Fleet
from sim.control.limits.policies import ConcurrencyLimit, EnvoyLocal, TokenBucket
from sim.kernel.streams import generator
from sim.theory import (
    FixedPoint,
    MD1Timeout,
    MMc,
    MMcD,
    MMcK,
    amplification,
    erlang_b,
    fixed_points,
    mmck_loss,
)
from sim.theory import TokenBucket as Bucket
from tests.verification.stations import (
    LONG,
    SHORT,
    WARM,
    Draw,
    Figure,
    Size,
    agree,
    constant,
    exponential,
    figures,
    hyperexponential,
    plan,
    poisson,
    run,
    table,
)

# admission limits, and the line at the gateway


def m_m_c_k(size: Size) -> list[Figure]:
    """Eight attempts at a time are let in to four servers."""
    theory, end = MMcK(4.0, 1.0, 4, 8), 1200.0 * size.scale

    def study(replication: int) -> tuple[float, ...]:
        random = generator(1, replication, "M/M/c/K")
        arrivals = poisson(random, 4.0, end)
        ran = run(plan(random, arrivals, exponential, 4, admission=lambda: [ConcurrencyLimit(limit=8)]), WARM, end)
        return ran.rejected.mean(), ran.ok.sum() / ran.span, ran.number, ran.wait[ran.ok].mean()

    names = ("blocking", "throughput", "number", "wait")
    return figures({f"M/M/4/8, {name}": getattr(theory, name) for name in names}, study, size.replications)


def m_m_c_k_line(size: Size) -> list[Figure]:
    """The same as four places in the line before four servers, at another load; and as a limit before one engine of four seats."""
    theory, end = MMcK(5.0, 1.0, 4, 8), 1000.0 * size.scale

    def study(replication: int) -> tuple[float, ...]:
        random = generator(2, replication, "M/M/c/K line")
        ran = run(plan(random, poisson(random, 5.0, end), exponential, 4, queue_limit=4), WARM, end)
        inside = run(
            plan(
                random, poisson(random, 5.0, end), exponential, 1, seats=4, per_replica=None,
                admission=lambda: [ConcurrencyLimit(limit=8)],
            ), WARM, end,
        )  # fmt: skip
        return ran.rejected.mean(), ran.number, inside.rejected.mean(), inside.number

    names = ("queue_limit 4, blocking", "queue_limit 4, number", "in the engine, blocking", "in the engine, number")
    return figures(
        {f"M/M/4/8, {name}": theory.number if "number" in name else theory.blocking for name in names},
        study,
        size.replications,
    )


def erlang_loss(size: Size) -> list[Figure]:
    """A limit of as many as there are servers: nobody waits, and the distribution of lengths does not matter."""
    end = 600.0 * size.scale
    kinds: dict[str, Draw] = {"M": exponential, "D": constant, "H2": hyperexponential}

    def study(replication: int) -> list[float]:
        random = generator(3, replication, "Erlang B")
        return [
            run(
                plan(random, poisson(random, 5.0, end), draw, 5, admission=lambda: [ConcurrencyLimit(limit=5)]),
                WARM,
                end,
            ).rejected.mean()
            for draw in kinds.values()
        ]

    blocked = erlang_b(5, 5.0)
    return figures({f"M/{kind}/5/5, blocking": blocked for kind in kinds}, study, size.replications)


def erlang_wait(size: Size) -> list[Figure]:
    """Nobody is turned away, everybody waits in the gateway's line."""
    theory, end = MMc(3.5, 1.0, 5), 2500.0 * size.scale

    def study(replication: int) -> tuple[float, ...]:
        random = generator(4, replication, "Erlang C")
        ran = run(plan(random, poisson(random, 3.5, end), exponential, 5), WARM, end)
        return (ran.wait > 0.0).mean(), ran.wait.mean()

    return figures(
        {"M/M/5, share that waits": theory.waiting_probability, "M/M/5, wait": theory.wait}, study, size.replications
    )


def impatience(size: Size) -> list[Figure]:
    """The line's timeout, below and above what the servers can do."""
    end = 1200.0 * size.scale
    cases = [MMcD(3.6, 1.0, 4, 0.5), MMcD(5.0, 1.0, 4, 1.0)]

    def study(replication: int) -> list[float]:
        random = generator(5, replication, "M/M/c+D")
        found: list[float] = []
        for case in cases:
            ran = run(
                plan(random, poisson(random, case.rate, end), exponential, 4, queue_timeout=case.patience), WARM, end
            )
            wait = np.where(ran.late, ran.stay, ran.wait)
            found += [ran.late.mean(), wait.mean(), (wait > 0.0).mean()]
        return found

    theory: dict[str, float] = {}
    for case in cases:
        name = f"M/M/4 + D, load {case.rate / 4:.2f}"
        theory |= {
            f"{name}, abandoning": case.abandoning,
            f"{name}, wait": case.wait,
            f"{name}, share that waits": case.waiting_probability,
        }
    return figures(theory, study, size.replications)


# token buckets


def buckets(size: Size) -> list[Figure]:
    """One token a unit, behind Poisson arrivals; requests that take next to no time, so that only the bucket acts."""
    end = 3000.0 * size.scale
    light, heavy, lent = Bucket(0.9, 1.0, 5.0), Bucket(1.3, 1.0, 3.0), Bucket(1.1, 1.0, 2.0, max_wait=1.7)

    def instant(_: np.random.Generator, count: int) -> np.ndarray:
        return np.zeros(count)  # one tick

    def study(replication: int) -> list[float]:
        random = generator(6, replication, "bucket")

        def through(rate: float, policy: Callable[[], TokenBucket | EnvoyLocal]) -> tuple[float, float]:
            given = plan(
                random, poisson(random, rate, end), instant, 1, seats=64, per_replica=None, admission=lambda: [policy()]
            )
            ran = run(given, WARM, end)
            return ran.ok.mean(), ran.wait[ran.ok].mean()

        return [
            through(0.9, lambda: TokenBucket(rate=1.0, burst=5))[0],
            through(1.3, lambda: TokenBucket(rate=1.0, burst=3))[0],
            through(1.3, lambda: EnvoyLocal(max_tokens=3, fill_interval=1.0))[0],
            *through(1.1, lambda: TokenBucket(rate=1.0, burst=2, mode="reserve", max_wait=1.7)),
        ]

    return figures(
        {
            "bucket of 5, load 0.9, accepted": light.accepted,
            "bucket of 3, load 1.3, accepted": heavy.accepted,
            "Envoy's bucket of 3, load 1.3, accepted": heavy.accepted,
            "bucket of 2 with reservations up to 1.7, load 1.1, accepted": lent.accepted,
            "bucket of 2 with reservations up to 1.7, load 1.1, wait": lent.delay,
        },
        study,
        size.replications,
    )


# retries


def retrying(attempts: int, longest: float) -> Callable[[], Client]:
    """A client that tries again whatever happened, after a wait uniform up to ``longest``."""
    backoff = {"kind": "full-jitter", "base": longest / 2.0, "cap": longest} if longest else {"kind": "constant"}
    return lambda: Client(max_attempts=attempts, backoff=backoff)


def retried_loss(size: Size) -> list[Figure]:
    """Refused requests come back so late that they are a Poisson stream of their own; then at once."""
    begin, end = 500.0, 500.0 + 800.0 * size.scale
    one = fixed_points(0.8, 3, lambda rate: mmck_loss(rate, 1.0, 1, 1))[0]
    many = fixed_points(5.0, 3, lambda rate: mmck_loss(rate, 1.0, 4, 6))[0]
    blocked = erlang_b(1, 0.8)

    def study(replication: int) -> list[float]:
        random = generator(7, replication, "retries")
        return [
            *attempts(random, 0.8, 1, 1, retrying(3, 200.0), begin, end),
            *attempts(random, 5.0, 4, 6, retrying(3, 100.0), begin, end),
            *attempts(random, 0.8, 1, 1, retrying(3, 0.0), begin, end),
        ]

    return figures(
        {
            "M/M/1/1, 3 attempts, attempts a request": amplification(one.failure, 3),
            "M/M/1/1, 3 attempts, attempts that fail": one.failure,
            "M/M/4/6, 3 attempts, attempts a request": amplification(many.failure, 3),
            "M/M/4/6, 3 attempts, attempts that fail": many.failure,
            # who comes back at once finds what was there: a refused request makes all its attempts
            "M/M/1/1, 3 attempts at once, attempts a request": 1.0 + 2.0 * blocked,
            "M/M/1/1, 3 attempts at once, attempts that fail": 3.0 * blocked / (1.0 + 2.0 * blocked),
        },
        study,
        size.replications,
    )


def attempts(
    random: np.random.Generator,
    rate: float,
    servers: int,
    places: int,
    client: Callable[[], Client],
    begin: float,
    end: float,
) -> tuple[float, float]:
    """Attempts a request, and the share of attempts that fail, at a station of ``places``; of the requests that come from ``begin`` to
    ``end``. Others come for another 400 services, so that the retries of the last meet what all do."""
    given = plan(
        random, poisson(random, rate, end + 400.0), exponential, servers, client=client,
        admission=lambda: [ConcurrencyLimit(limit=places)],
    )  # fmt: skip
    ran = run(given, begin, end + 400.0)
    inside = ran.arrival < end
    tries = ran.tries[inside]
    return tries.mean(), 1.0 - ran.ok[inside].sum() / tries.sum()


def storm() -> tuple[FixedPoint, ...]:
    """Requests at 0.7 of what the server can do, five attempts of five services each: two states that stay, and one between."""
    return tuple(fixed_points(0.7, 5, lambda rate: MD1Timeout(rate, 1.0, 5.0).late, steps=500))


def metastable(size: Size) -> list[Figure]:
    """The same requests, behind nothing and behind a burst of 150 services: who is in a state stays in it."""
    low, between, high = storm()
    assert (low.stable, between.stable, high.stable) == (True, False, True)
    begin, last = 700.0, 500.0  # its last requests meet fewer retries
    end = begin + last + 800.0 * size.scale

    backoff = {"kind": "full-jitter", "base": 50.0, "cap": 100.0}

    def study(replication: int) -> list[float]:
        random = generator(8, replication, "storm")
        found: list[float] = []
        for burst in (False, True):
            arrivals = poisson(random, 0.7, end)
            if burst:
                arrivals = np.sort(np.concatenate([arrivals, poisson(random, 2.3, 150.0)]))
            given = plan(
                random, arrivals, constant, 1,
                client=lambda: Client(timeout=5.0, max_attempts=5, backoff=backoff),
            )  # fmt: skip
            ran = run(given, begin, end)
            inside = ran.arrival < end - last
            tries = ran.tries[inside].sum()
            found += [tries / inside.sum(), 1.0 - ran.ok[inside].sum() / tries]
        return [found[0], *found[2:]]

    return figures(
        {
            "timeouts, 5 attempts, begun empty, attempts a request": amplification(low.failure, 5),
            "timeouts, 5 attempts, begun with a burst, attempts a request": amplification(high.failure, 5),
            "timeouts, 5 attempts, begun with a burst, attempts that fail": high.failure,
        },
        study,
        size.replications,
    )


STUDIES: dict[str, Callable[[Size], list[Figure]]] = {
    study.__name__: study
    for study in (
        m_m_c_k,
        m_m_c_k_line,
        erlang_loss,
        erlang_wait,
        impatience,
        buckets,
        retried_loss,
        metastable,
    )
}


@pytest.mark.parametrize("name", STUDIES)
def test_theory_is_in_the_intervals(name: str) -> None:
    agree(STUDIES[name](SHORT), SHORT.within)


def test_how_retries_depart_from_the_fixed_point_when_they_come_soon() -> None:
    """They meet what they met before. Between at once, where none of them helps, and late, where all meet a server as any other
    does, the share of attempts that fail falls with the wait."""
    late = fixed_points(0.8, 3, lambda rate: mmck_loss(rate, 1.0, 1, 1))[0].failure
    failing = []
    for longest in (0.0, 0.5, 2.0, 10.0):
        random = generator(17, 0, f"soon {longest}")
        failing.append(attempts(random, 0.8, 1, 1, retrying(3, longest), 500.0, 8000.0)[1])
    assert failing == sorted(failing, reverse=True)
    assert failing[1] > late + 0.02
    assert abs(failing[3] - late) < 0.02


def fairness(fair: bool) -> tuple[float, float]:
    """The widest gap between what two tenants were served while both waited, and the longest request, in tokens.

    The second's requests are four times as long. All are there at the start.
    """
    random = generator(18, 0, "tenants")
    count, servers = 400, 3

    def lengths(random: np.random.Generator, count: int) -> np.ndarray:
        return random.uniform(0.01, 0.1, count) * np.where(np.arange(count) % 2, 4.0, 1.0)

    given = plan(random, np.zeros(count), lengths, servers, tenants=["short", "long"], fair=fair)
    plane = Fleet(given)
    while plane.advance(float("inf")) and plane.notices:
        plane.notices.clear()
    ledger = plane.finish()
    begun, over = np.array(ledger.scheduled[:count]), np.array(ledger.end[:count])
    tokens = np.array(given.table.output_tokens)
    whose = np.arange(count) % 2
    both = min(begun[whose == tenant].max() for tenant in (0, 1))  # until one has nobody waiting
    gaps = [0.0]
    for now in np.linspace(0.0, both, 2000):
        served = np.clip((now - begun) / (over - begun), 0.0, 1.0) * tokens * 2.0 + (begun <= now)
        gaps.append(served[whose == 0].sum() - served[whose == 1].sum())
    return max(gaps) - min(gaps), float(tokens.max())


def test_the_fair_line_keeps_the_bound_of_the_virtual_token_counter() -> None:
    """|W_f(t1, t2) - W_g(t1, t2)| <= 2 max(w_p L_input, w_q M) for two tenants that both wait from t1 to t2 (Sheng et al. 2024),
    M the tokens that all seats hold. In order of arrival the tenant with long requests gets four times as much."""
    gap, longest = fairness(fair=True)
    bound = 2.0 * 2.0 * 3 * (1.0 + longest)
    assert gap <= bound
    assert fairness(fair=False)[0] > 2.0 * bound


@pytest.mark.verify
@pytest.mark.parametrize("name", STUDIES)
def test_theory_is_in_narrow_intervals(name: str) -> None:
    agree(STUDIES[name](LONG), LONG.within)


if __name__ == "__main__":
    print("| | theory | simulated |\n|---|---|---|")
    for every in STUDIES.values():
        print(table(every(LONG)), flush=True)
