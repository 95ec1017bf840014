"""When and who: rates against their expectation, streams that do not disturb each other, slots that are given out once."""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import takewhile
from math import gamma, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sim.control.cluster.distribution import Exponential, Fixed
from sim.control.faults.plans import SpotReclaim
from sim.control.faults.slots import Slots, many
from sim.control.faults.spot import shocks
from sim.control.faults.times import At, Lottery, Place, Renewal, Strike, first, strikes
from sim.kernel.streams import generator

STREAMS = partial(generator, 7, 0)
HOUR = 3600.0


def until(end: float, when: Renewal, places: list[Place], name: str = "f") -> list[Strike]:
    return list(takewhile(lambda strike: strike.time <= end, strikes(name, when, places, Fixed(1.0), STREAMS)))


@pytest.mark.parametrize("shape", [0.5, 1.0, 3.0])
def test_by_any_time_there_were_time_over_mean_strikes_whatever_the_shape(shape: float) -> None:
    # an equilibrium renewal process has E N(t) = t / mean for every t (Cox, Renewal Theory, 1962, 2.2 (iii)): 5 here, and 0.5
    places = [Place("pool", slot) for slot in range(2000)]
    found = until(500.0, Renewal(100.0, shape), places)
    for end, expected in ((500.0, 5.0), (50.0, 0.5)):
        counts = Counter(strike.place.slot for strike in found if strike.time <= end)
        by_place = np.array([counts[place.slot] for place in places], dtype=float)
        error = by_place.std(ddof=1) / sqrt(len(places))
        assert abs(by_place.mean() - expected) < 4.0 * error


@pytest.mark.parametrize("shape", [0.5, 1.0, 3.0])
def test_the_first_comes_after_what_is_left_of_a_gap(shape: float) -> None:
    # E = E[X²] / 2E[X]; of a Weibull E[X] = g1, E[X²] = g2 with scale 1
    g1, g2 = gamma(1.0 + 1.0 / shape), gamma(1.0 + 2.0 / shape)
    draws = np.array([first(stream, Renewal(10.0, shape)) for stream in [STREAMS("x")] for _ in range(20_000)])
    expected = 10.0 * g2 / (2.0 * g1**2)
    assert abs(draws.mean() - expected) < 4.0 * draws.std() / sqrt(len(draws))


def test_exponential_times_make_a_poisson_process() -> None:
    places = [Place("pool", slot) for slot in range(500)]
    counts = Counter(strike.place.slot for strike in until(2000.0, Renewal(1000.0), places))
    seen = np.bincount([counts[place.slot] for place in places], minlength=6)
    expected = stats.poisson(2.0).pmf(range(6)) * len(places)
    observed = np.append(seen[:6], seen[6:].sum())
    expected = np.append(expected, len(places) - expected.sum())
    assert stats.chisquare(observed, expected).pvalue > 0.001


def test_the_training_of_llama_3_meets_about_419_interruptions() -> None:
    # 16,384 GPUs, 54 days, one in 50,677 GPU-hours: 21,233,664 / 50,677 = 419.0; Poisson, four standard deviations
    places = [Place("h100", slot, 8) for slot in range(2048)]
    found = until(54 * 24 * HOUR, Renewal(50_677 * HOUR), places)
    assert abs(len(found) - 419) < 4 * sqrt(419)
    assert {strike.part for strike in found} == set(range(8))


def test_strikes_of_a_place_do_not_depend_on_the_others() -> None:
    when = Renewal(50.0, 0.7)
    few = until(1000.0, when, [Place("pool", slot, 2) for slot in range(3)])
    many_ = until(1000.0, when, [Place("pool", slot, 2) for slot in range(9)])
    assert [strike for strike in many_ if strike.place.slot < 3] == few
    assert [strike.time for strike in many_] == sorted(strike.time for strike in many_)


def test_a_window_leaves_out_strikes_and_moves_none() -> None:
    places = [Place("pool", slot) for slot in range(20)]
    all_ = until(1000.0, Renewal(100.0), places)
    some = list(strikes("f", Renewal(100.0, after=200.0, until=600.0), places, None, STREAMS))
    assert some
    assert [strike.time for strike in some] == [strike.time for strike in all_ if 200.0 <= strike.time <= 600.0]


def test_how_long_they_last_does_not_move_when_they_come() -> None:
    places = [Place("pool", slot) for slot in range(5)]
    fixed, drawn = (
        strikes("f", Renewal(9.0, until=99.0), places, lasts, STREAMS) for lasts in (Fixed(1.0), Exponential(5.0))
    )
    assert [strike.time for strike in fixed] == [strike.time for strike in drawn]


def test_every_place_has_its_streams() -> None:
    asked = []

    def streams(name: str) -> np.random.Generator:
        asked.append(name)
        return STREAMS(name)

    list(strikes("f", Renewal(9.0, until=99.0), [Place("pool", 1, 2), Place("pool", 4)], Fixed(1.0), streams))
    assert sorted(asked) == ["fault/f/pool/1", "fault/f/pool/1/lasts", "fault/f/pool/4", "fault/f/pool/4/lasts"]
    asked.clear()
    list(strikes("f", Renewal(9.0, until=99.0), [Place()], None, streams))
    assert asked == ["fault/f"]


def test_scale_compresses_the_same_times() -> None:
    places = [Place("pool", slot) for slot in range(5)]
    slow, fast = until(1000.0, Renewal(100.0), places), until(100.0, Renewal(10.0), places)
    assert [strike.time / 10.0 for strike in slow] == pytest.approx([strike.time for strike in fast])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((0.0,), "mean 0.0"), ((1.0, 20.0), "shape 20.0"), ((1.0, 1.0, 5.0, 4.0), "after 5.0, until 4.0")],
)
def test_a_renewal_that_cannot_be_is_refused(arguments: tuple[float, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Renewal(*arguments)


@pytest.mark.parametrize("times", [(), (-1.0,), (2.0, 1.0)])
def test_times_rise_from_0(times: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="in rising order"):
        At(times)


# tickets


def test_every_place_is_as_likely_to_be_first() -> None:
    lottery = Lottery("f", [Place("pool", slot, 4) for slot in range(5)], Exponential(1.0), STREAMS)
    draws = [lottery.draw() for _ in range(4000)]
    assert stats.chisquare(list(Counter(tickets[0].place.slot for tickets in draws).values())).pvalue > 0.001
    assert stats.chisquare(list(Counter(tickets[0].part for tickets in draws).values())).pvalue > 0.001


def test_tickets_of_a_place_do_not_depend_on_the_others() -> None:
    few = Lottery("f", [Place("pool", slot) for slot in range(3)], Fixed(1.0), STREAMS)
    many_ = Lottery("f", [Place("pool", slot) for slot in range(8)], Fixed(1.0), STREAMS)
    for _ in range(5):
        assert few.draw() == [ticket for ticket in many_.draw() if ticket.place.slot < 3]


# by hand: 30 % of 10 are 3, of 4 are 1.2: 2; 7 % of 100 are 7 although 0.07 × 100 is 7.000000000000001
@pytest.mark.parametrize(
    ("standing", "count", "share", "expected"),
    [(10, None, 0.3, 3), (4, None, 0.3, 2), (100, None, 0.07, 7), (3, 5, None, 3), (5, 2, None, 2), (5, None, None, 5),
     (0, 1, None, 0), (0, None, 0.5, 0)],
)  # fmt: skip
def test_how_many_are_hit(standing: int, count: int | None, share: float | None, expected: int) -> None:
    assert many(standing, count, share) == expected


# slots


def test_who_comes_next_has_the_lowest_free_slot() -> None:
    slots = Slots()
    slots.update([10, 11, 12])
    slots.update([10, 12, 13, 14])
    assert [slots.at(slot) for slot in range(5)] == [10, 13, 12, 14, None]


@given(st.lists(st.sets(st.integers(0, 9), max_size=6), max_size=8))
def test_each_has_one_slot_and_keeps_it(history: list[set[int]]) -> None:
    slots = Slots()
    before: dict[int, int] = {}
    most = 0
    for present in history:
        slots.update(sorted(present))
        now = {who: slot for slot in range(20) if (who := slots.at(slot)) is not None}
        assert set(now) == present
        assert all(now[who] == before[who] for who in present & set(before))
        most = max(most, len(present))
        assert all(slot < most for slot in now.values())
        before = now


# machines of a zone that go together


def test_machines_that_go_together_go_as_often_as_alone() -> None:
    plan = SpotReclaim(name="spot", when=Renewal(1000.0), pool="spot", notice=30.0, together=0.4)
    places = [Place("spot", slot) for slot in range(6)]
    end = 400_000.0
    found = list(takewhile(lambda shock: shock[0] <= end, shocks(plan, ["a", "b"], places, STREAMS)))
    assert abs(len(found) - 2 * 1000) < 4 * sqrt(2000)  # one in 1000 × 0.4 s a zone
    for zone in "ab":
        for place in places:
            taken = sum(1 for _, where, hit, _ in found if where == zone and place in hit)
            assert abs(taken - 400) < 4 * sqrt(400)  # one in 1000 s
    both = sum(1 for _, _, hit, _ in found if places[0] in hit and places[1] in hit)
    assert abs(both / len(found) - 0.16) < 4 * sqrt(0.16 * 0.84 / len(found))


def test_all_machines_of_a_zone_go_when_they_always_go_together() -> None:
    plan = SpotReclaim(name="spot", when=Renewal(100.0, until=1000.0), pool="spot", notice=30.0, together=1.0)
    places = [Place("spot", slot) for slot in range(4)]
    found = list(shocks(plan, ["a"], places, STREAMS))
    assert found
    assert all(taken == places for _, _, taken, _ in found)
