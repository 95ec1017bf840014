"""Bills worked out by hand. A machine costs 3.60 $/h, a tenth of a cent a second, unless a case says otherwise."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.observe.bill import ON_DEMAND, RESERVED, SPOT, Terms, bill, split

CLOUD = Terms(3.6, minimum=60.0, granularity=1.0)
HOURLY = Terms(3.6, granularity=3600.0)


@pytest.mark.parametrize(
    ("terms", "interval", "seconds"),
    [
        (CLOUD, (0.0, 20.0), 60.0),  # the minimum
        (CLOUD, (100.0, 160.0), 60.0),
        (CLOUD, (0.0, 90.2), 91.0),  # the second begun
        (CLOUD, (0.0, 91.0), 91.0),
        (CLOUD, (0.1, 91.1), 91.0),  # 91.1 - 0.1 is a little more than 91 in binary fractions
        (HOURLY, (0.0, 3700.0), 7200.0),  # the hour begun
        (HOURLY, (0.0, 3600.0), 3600.0),
        (Terms(3.6, minimum=90.0, granularity=60.0), (0.0, 10.0), 120.0),  # the minimum, in whole minutes
        (Terms(3.6), (0.0, 20.5), 20.5),
    ],
)
def test_a_machine_that_ended_is_billed_for_the_minimum_and_what_was_begun(
    terms: Terms, interval: tuple[float, float], seconds: float
) -> None:
    made = bill([interval], terms, end=9000.0)
    assert made.billed_s.tolist() == [seconds]
    assert made.usd == pytest.approx(seconds * 0.001)


def test_a_machine_that_is_still_there_at_the_end_is_billed_until_then() -> None:
    assert bill([(100.0, 1000.0)], HOURLY, end=1000.0).usd == pytest.approx(0.9)
    assert bill([(100.0, math.inf)], HOURLY, end=1000.0).usd == pytest.approx(0.9)
    assert bill([(990.0, 1000.0)], CLOUD, end=1000.0).usd == pytest.approx(0.01)


def test_machines_are_billed_one_by_one() -> None:
    """Two of 20 s make two minutes, not one."""
    assert bill([(0.0, 20.0), (20.0, 40.0)], CLOUD, end=500.0).usd == pytest.approx(0.12)


def test_reserved_machines_are_paid_used_or_not_and_the_burst_on_demand() -> None:
    """Two reserved at 1.80 $/h for 1,000 s: 1 $. A third machine for 300 s on demand: 0.30 $."""
    terms = Terms(3.6, RESERVED, reserved=2, reserved_usd_per_hour=1.8)
    burst = bill([(0.0, 1000.0), (0.0, 1000.0), (200.0, 500.0)], terms, end=1000.0)
    assert (burst.reserved_usd, burst.running_usd) == (pytest.approx(1.0), pytest.approx(0.3))
    assert (burst.reserved_s, burst.running_s) == (2000.0, 300.0)
    assert bill([(0.0, 1000.0)], terms, end=1000.0).usd == pytest.approx(1.0)
    assert bill([], terms, end=1000.0).usd == pytest.approx(1.0)


def test_a_reservation_covers_whichever_machine_runs() -> None:
    """One reserved. Two machines overlap from 400 to 600 s: 200 s on demand, whoever of them pays."""
    terms = Terms(3.6, RESERVED, reserved=1, reserved_usd_per_hour=1.8)
    made = bill([(0.0, 600.0), (400.0, 1000.0)], terms, end=1000.0)
    assert made.running_usd == pytest.approx(0.2)
    assert made.reserved_usd == pytest.approx(0.5)


def test_spot_machines_pay_the_price_of_the_moment() -> None:
    """300 s at 1.80 $/h, 300 s at 3.60: 0.15 + 0.30 $."""
    terms = Terms(9.9, SPOT, series=((0.0, 1.8), (600.0, 3.6)))
    assert bill([(300.0, 900.0)], terms, end=1000.0).usd == pytest.approx(0.45)
    late = Terms(9.9, SPOT, series=((500.0, 3.6),))
    assert bill([(0.0, 1000.0)], late, end=1000.0).usd == pytest.approx(1.0)  # before its first time, the first price


def test_ec2_asks_nothing_for_a_spot_machine_that_it_takes_back_in_the_first_hour() -> None:
    terms = Terms(3.6, SPOT, minimum=60.0, granularity=1.0, free_within=3600.0)
    had = [(0.0, 1800.0), (0.0, 1800.0), (0.0, 5400.0)]
    made = bill(had, terms, end=9000.0, reclaimed=[True, False, True])
    assert made.billed_s.tolist() == [0.0, 1800.0, 5400.0]
    assert made.usd == pytest.approx(7.2)


def test_money_is_spent_when_the_machine_is_there() -> None:
    made = bill([(0.0, 1000.0), (100.0, 300.0)], Terms(3.6), end=1000.0)
    assert made.between(0.0, 200.0) == pytest.approx(0.3)
    assert made.between(200.0, 1000.0) == pytest.approx(0.9)
    assert made.between(500.0, 500.0) == 0.0


def test_who_shares_a_pool_pays_for_what_it_used_and_its_share_of_the_rest() -> None:
    """10 $ for 1,000 GPU-seconds; 300 and 100 were used: 3 and 1 $, and the idle 6 $ as three to one."""
    own, idle = split(10.0, 1000.0, [300.0, 100.0])
    assert own.tolist() == pytest.approx([3.0, 1.0])
    assert idle.tolist() == pytest.approx([4.5, 1.5])


def test_a_pool_that_nobody_used_is_paid_by_all_alike() -> None:
    own, idle = split(10.0, 1000.0, [0.0, 0.0])
    assert own.tolist() == [0.0, 0.0]
    assert idle.tolist() == [5.0, 5.0]


@pytest.mark.parametrize(
    ("given_terms", "said"),
    [
        ({"usd_per_hour": -1.0}, "usd_per_hour -1.0: 0 or more"),
        ({"usd_per_hour": math.inf}, "usd_per_hour inf: 0 or more"),
        ({"usd_per_hour": 1.0, "kind": "rented"}, "kind 'rented' is not one of on-demand, reserved, spot"),
        ({"usd_per_hour": 1.0, "series": ((5.0, 1.0), (5.0, 2.0))}, "series: times must rise"),
        ({"usd_per_hour": 1.0, "series": ((5.0, -1.0),)}, "series: prices are 0 or more"),
    ],
)
def test_terms_that_are_no_terms_are_refused(given_terms: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Terms(**given_terms)  # type: ignore[arg-type]


def test_an_interval_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(ValueError, match="ends before it starts"):
        bill([(5.0, 4.0)], CLOUD, end=10.0)


END = 60
intervals = st.lists(
    st.tuples(st.integers(0, END), st.integers(0, END)).map(lambda pair: (min(pair), max(pair))), max_size=8
)


@given(
    intervals,
    st.integers(0, 4),
    st.sampled_from([0, 1, 7]),
    st.integers(0, 9),
    st.lists(st.tuples(st.integers(0, END), st.integers(0, 9)), max_size=4, unique_by=lambda pair: pair[0]),
)
def test_every_second_of_every_machine_is_billed_once(
    had: list[tuple[int, int]], reserved: int, granularity: int, minimum: int, series: list[tuple[int, int]]
) -> None:
    """Against a count second by second: those that are billed, less those that are reserved, at the price of that second."""
    terms = Terms(
        7200.0,
        RESERVED if reserved else ON_DEMAND,
        minimum=float(minimum),
        granularity=float(granularity),
        reserved=reserved,
        reserved_usd_per_hour=3600.0,
        series=tuple((float(moment), 3600.0 * price) for moment, price in sorted(series)),
    )
    made = bill(had, terms, float(END))
    until = []
    for start, end in had:
        seconds = end - start
        if end < END:
            seconds = max(seconds, minimum)
            seconds = -(-seconds // granularity) * granularity if granularity else seconds
        until.append(start + seconds)
    assert made.billed_s.tolist() == [stop - start for (start, _), stop in zip(had, until, strict=True)]
    running, usd = 0, 0
    for second in range(max([END, *until])):
        beyond = max(sum(start <= second < stop for (start, _), stop in zip(had, until, strict=True)) - reserved, 0)
        prices = (
            [price for moment, price in sorted(series) if moment <= second] or [p for _, p in sorted(series)[:1]] or [2]
        )
        running += beyond
        usd += beyond * prices[-1]
    assert made.running_s == running
    assert made.reserved_s == reserved * END
    assert made.running_usd == pytest.approx(usd)
    assert made.usd == pytest.approx(usd + reserved * END)
    assert made.between(0.0, 20.0) + made.between(20.0, 1e9) == pytest.approx(made.usd)
    assert made.paid_s >= sum(end - start for start, end in had)


@given(
    st.floats(0.0, 1e6),
    st.lists(st.floats(0.0, 1e5), min_size=1, max_size=5),
    st.floats(0.0, 1e6),
)
def test_what_is_spent_is_divided_without_rest(usd: float, used: list[float], idle: float) -> None:
    own, rest = split(usd, sum(used) + idle, used)
    assert float(own.sum() + rest.sum()) == pytest.approx(usd, rel=1e-9, abs=1e-9)
    assert (own >= 0.0).all()
    assert (rest >= 0.0).all()
