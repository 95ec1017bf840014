"""Loads that share links: arithmetic by hand, and what max-min fairness promises."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simpy import Environment

from sim.control.cluster.transfer import Flow, Link, Traffic, shares

INF = float("inf")


def ends(loads: list[tuple[float, float, float]], bandwidth: float) -> list[float]:
    """When loads of (start, bytes, seconds alone) end that share one link."""
    env = Environment()
    traffic, link = Traffic(env), Link("disk", bandwidth)
    done: dict[int, float] = {}

    def load(number: int, start: float, size: float, alone: float):  # type: ignore[no-untyped-def]
        yield env.timeout(start)
        yield traffic.send(size, alone, [link]).done
        done[number] = env.now

    for number, each in enumerate(loads):
        env.process(load(number, *each))
    env.run()
    return [done[number] for number in range(len(loads))]


def test_one_load_takes_its_time() -> None:
    assert ends([(0.0, 100.0, 10.0)], 10.0) == [10.0]


def test_two_at_once_take_twice_as_long() -> None:
    assert ends([(0.0, 100.0, 10.0), (0.0, 100.0, 10.0)], 10.0) == [20.0, 20.0]


def test_a_late_joiner_slows_the_first_from_then_on() -> None:
    # the first has 40 bytes left at 6 s, and 5 bytes/s: done at 14 s; the second has then 60 left at 10 bytes/s: 20 s
    assert ends([(0.0, 100.0, 10.0), (6.0, 100.0, 10.0)], 10.0) == pytest.approx([14.0, 20.0], abs=1e-9)


def test_what_a_slow_load_cannot_use_the_others_get() -> None:
    # alone: 2 and 10 bytes/s, on a link of 10: the slow one keeps its 2, the other gets 8
    assert ends([(0.0, 100.0, 50.0), (0.0, 80.0, 8.0)], 10.0) == pytest.approx([50.0, 10.0], abs=1e-9)


def test_a_link_with_room_for_both_slows_neither() -> None:
    assert ends([(0.0, 100.0, 10.0), (3.0, 100.0, 10.0)], 25.0) == [10.0, 13.0]


def test_the_narrower_of_two_links_decides() -> None:
    env = Environment()
    traffic = Traffic(env)
    store, wires = Link("store", 12.0), [Link("wire", 2.0), Link("wire", 100.0)]
    flows = [traffic.send(40.0, 1.0, [wire, store]) for wire in wires]
    # the first has 2 of its wire, the second the other 10 of the store: 4 s; the first then goes on with 2: 20 s
    seen: dict[int, float] = {}
    for number, flow in enumerate(flows):
        flow.done.callbacks.append(lambda _, number=number: seen.setdefault(number, env.now))
    env.run()
    assert seen == pytest.approx({1: 4.0, 0: 20.0}, abs=1e-9)


def test_a_load_that_is_given_up_frees_its_share() -> None:
    env = Environment()
    traffic, link = Traffic(env), Link("disk", 10.0)
    kept, given_up = traffic.send(100.0, 10.0, [link]), traffic.send(100.0, 10.0, [link])
    env.timeout(4.0).callbacks.append(lambda _: traffic.stop(given_up))
    env.run(until=kept.done)
    assert env.now == pytest.approx(12.0, abs=1e-9)  # 20 bytes by 4 s, then 80 at 10 bytes/s
    env.run()
    assert not given_up.done.triggered


def test_without_bytes_or_a_link_that_limits_a_load_takes_just_its_time() -> None:
    env = Environment()
    traffic = Traffic(env)
    flows = [traffic.send(0.0, 7.0, [Link("disk", 1.0)]), traffic.send(1e12, 7.0, [Link("wire", INF)])]
    env.run(until=flows[0].done & flows[1].done)
    assert env.now == 7.0


@st.composite
def networks(draw: st.DrawFn) -> tuple[list[Link], list[Flow]]:
    links = [Link(str(number), draw(st.floats(0.5, 100.0))) for number in range(draw(st.integers(1, 4)))]
    env = Environment()
    flows = []
    for _ in range(draw(st.integers(1, 8))):
        chosen = draw(st.lists(st.sampled_from(links), min_size=1, unique=True))
        flow = Flow(1.0, draw(st.floats(0.1, 50.0)), tuple(chosen), env.event(), 0.0)
        for link in chosen:
            link.flows[flow] = None
        flows.append(flow)
    return links, flows


@settings(max_examples=150, deadline=None)
@given(networks())
def test_shares_are_max_min_fair(network: tuple[list[Link], list[Flow]]) -> None:
    """No link carries more than it can, and who is below its own pace is on a full link where nobody has more."""
    links, flows = network
    rates = shares(flows)
    assert set(rates) == set(flows)

    def load(link: Link) -> float:
        return sum(rates[flow] for flow in link.flows)

    for link in links:
        assert load(link) <= link.bandwidth * (1 + 1e-9)
    for flow in flows:
        assert 0.0 < rates[flow] <= flow.pace
        if rates[flow] < flow.pace * (1 - 1e-9):
            assert any(
                load(link) >= link.bandwidth * (1 - 1e-9)
                and all(rates[other] <= rates[flow] * (1 + 1e-9) for other in link.flows)
                for link in flow.links
            )
