"""The scaler that keeps latency objectives: what the model says by hand, and how measurements correct it."""

from __future__ import annotations

from math import ceil, isfinite, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.control.scaling.capacity import Traffic, capacity, operating
from sim.control.scaling.limits import Limit, limits
from sim.control.scaling.replica_rate import LENGTHS_SCV
from sim.control.scaling.slo import SloScaler, measured
from sim.control.scaling.view import READY, Autoscaler, Decision, DeploymentView, ReplicaView
from sim.perf.compile import step_table
from sim.profiles import library
from sim.serving.settings import EngineSettings

Row = tuple[float, float, float, float]
H100 = EngineSettings(max_num_seqs=1024, max_num_batched_tokens=8192, kv_blocks=29_000)
STEPS = step_table(library.load("h100-sxm/llama-3.1-8b/tp1"), 1024, 8192)


def seen(now: float, rate: float, latencies: list[Row] | None = None, ready: int = 2, **more: Any) -> DeploymentView:
    count = round(rate * now)
    return DeploymentView(
        now,
        ready,
        [ReplicaView(i, READY, 0.0) for i in range(ready)],
        arrived=count,
        prompt_tokens=1000 * count,
        output_tokens=200 * count,
        latencies=latencies or [],
        **more,
    )


def asked(scaler: SloScaler, view: DeploymentView) -> Decision:
    scaler.observe(view)
    return scaler.decide(view)


def each(known: Any, kept: tuple[Limit, ...]) -> float:
    return capacity(known.step, known.settings, Traffic(1000.0, 200.0, LENGTHS_SCV, LENGTHS_SCV), kept).rate


@pytest.fixture
def known(knowledge: Any) -> Any:
    return knowledge(step=STEPS, settings=H100, objectives={"ttft_p99": 1.0, "tpot_p99": 0.03})


def test_a_quantile_is_a_latency_that_was_measured() -> None:
    rows = [(float(i), float(i), float(i) if i % 2 else nan, 0.0) for i in range(1, 101)]
    view = DeploymentView(100.0, 1, latencies=rows)
    assert measured(view, Limit("ttft", 0.99, 1.0), 0.0) == (99.0, 100)
    assert measured(view, Limit("ttft", 0.5, 1.0), 0.0) == (50.0, 100)
    assert measured(view, Limit("ttft", None, 1.0), 90.0) == (95.5, 10)  # of 91 to 100
    assert measured(view, Limit("tpot", 0.9, 1.0), 80.0) == (97.0, 10)  # 81, 83, ... 99: the ninth
    assert measured(view, Limit("itl", 0.9, 1.0), 0.0)[1] == 0


def test_it_sizes_by_what_the_step_times_allow(known: Any) -> None:
    scaler = SloScaler(utilisation=0.8, knowledge=known)
    decision = asked(scaler, seen(120.0, 100.0))
    assert decision.replicas == ceil(100.0 / (0.8 * each(known, scaler.limits)))
    assert decision.reason == "bound by tpot_p99"
    assert decision.numbers["rate"] == 100.0


def test_a_stricter_objective_takes_more_replicas(known: Any) -> None:
    loose = asked(SloScaler(tpot=0.05, knowledge=known), seen(120.0, 100.0)).replicas
    strict = asked(SloScaler(tpot=0.015, knowledge=known), seen(120.0, 100.0)).replicas
    assert loose is not None
    assert strict is not None
    assert strict > loose


def test_what_is_measured_corrects_the_model(known: Any) -> None:
    scaler = SloScaler(smoothing=0.3, knowledge=known)
    traffic = Traffic(1000.0, 200.0, LENGTHS_SCV, LENGTHS_SCV)
    expected = operating(STEPS, H100, traffic, 20.0 / 2)
    slow = [(100.0, expected.latency("ttft", 0.99), 2.0 * expected.latency("tpot", 0.99), 1.0)] * 50
    decision = asked(scaler, seen(120.0, 20.0, slow))
    # 1 + 0.3 (2 - 1) for TPOT, which was twice what was expected; TTFT was as expected
    assert scaler.corrections == pytest.approx({"ttft_p99": 1.0, "tpot_p99": 1.3})
    assert decision.numbers["correction_tpot_p99"] == pytest.approx(1.3)
    kept = limits({"ttft_p99": 1.0, "tpot_p99": 0.03 / 1.3})
    assert decision.numbers["per_replica"] == pytest.approx(0.9 * each(known, kept), rel=1e-6)


def test_a_correction_is_bounded(known: Any) -> None:
    scaler = SloScaler(smoothing=1.0, most_correction=2.0, knowledge=known)
    asked(scaler, seen(120.0, 20.0, [(100.0, 1e-6, 99.0, 1.0)] * 50))
    assert scaler.corrections == {"ttft_p99": 0.5, "tpot_p99": 2.0}


@pytest.mark.parametrize("why", ["few", "overloaded"])
def test_nothing_is_corrected_by_what_says_nothing(known: Any, why: str) -> None:
    scaler = SloScaler(smoothing=1.0, knowledge=known)
    rate, rows = (20.0, 19) if why == "few" else (5000.0, 50)
    asked(scaler, seen(120.0, rate, [(100.0, 9.0, 9.0, 9.0)] * rows))
    assert scaler.corrections == {"ttft_p99": 1.0, "tpot_p99": 1.0}


def test_what_waits_is_to_be_served_beside_what_comes(known: Any) -> None:
    view = seen(120.0, 100.0, queued=1200)
    view.replicas[0].waiting = 600
    decision = asked(SloScaler(catch_up=60.0, knowledge=known), view)
    # 1800 within 60 s are 30 a second more
    assert decision.replicas == ceil(130.0 / decision.numbers["per_replica"])


def test_an_objective_that_no_number_keeps_is_said_and_left_out(known: Any) -> None:
    scaler = SloScaler(ttft=0.001, knowledge=known)
    decision = asked(scaler, seen(120.0, 100.0))
    assert decision.reason == "ttft_p99 cannot be kept at any load"
    assert decision.numbers["per_replica"] == pytest.approx(0.9 * each(known, limits({"tpot_p99": 0.03})), rel=1e-6)


def test_own_limits_replace_objectives_of_that_metric(knowledge: Any) -> None:
    known = knowledge(objectives={"ttft_p95": 3.0, "e2e_mean": 9.0, "usd_per_1m_tokens": 1.0})
    assert SloScaler(ttft=0.5, knowledge=known).limits == (Limit("ttft", 0.99, 0.5), Limit("e2e", None, 9.0))


def test_more_is_held_against_less(known: Any) -> None:
    scaler = SloScaler(window=30.0, hold=60.0, knowledge=known)
    high = asked(scaler, seen(30.0, 200.0)).replicas
    low = asked(scaler, seen(60.0, 100.0))  # as many had come at 30 s: nothing since
    assert low.replicas == high
    assert low.reason.endswith(", held")


def test_when_it_decides_nothing(known: Any) -> None:
    scaler = SloScaler(min=0, knowledge=known)
    assert isinstance(scaler, Autoscaler)
    assert scaler.decide(DeploymentView(30.0, 1)).replicas is None
    assert asked(scaler, DeploymentView(30.0, 1)).reason == "no request yet to learn the lengths from"
    assert asked(scaler, DeploymentView(60.0, 1, metrics=False)).reason == "metrics are out"
    assert scaler.decide(DeploymentView(61.0, 0, queued=1)).replicas == 1


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"utilisation": 1.5}, "utilisation is 1.5"),
        ({"smoothing": -0.1}, "smoothing is -0.1; it must lie between 0 and 1"),
        ({"most_correction": 0.5}, "most_correction is 0.5; it must be at least 1"),
        ({"ttft": 0.0}, "ttft is 0.0; it must be a number above 0"),
        ({"window": 0.0}, "window is 0.0"),
    ],
)
def test_parameters_that_cannot_be(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SloScaler(**given)


def test_without_an_objective_there_is_nothing_to_keep(knowledge: Any) -> None:
    with pytest.raises(ValueError, match="there is no latency objective to keep"):
        SloScaler(knowledge=knowledge(objectives={"goodput_rps": 5.0}))
    with pytest.raises(ValueError, match="it needs the step times of a replica"):
        SloScaler().decide(DeploymentView(30.0, 1))


@given(
    looks=st.lists(
        st.tuples(
            st.integers(0, 4000),
            st.integers(1, 4000),
            st.integers(1, 1000),
            st.integers(0, 6),
            st.one_of(st.just(nan), st.floats(1e-4, 100.0)),
            st.integers(0, 500),
        ),
        min_size=1,
        max_size=8,
    ),
    least=st.integers(0, 3),
    more=st.integers(1, 20),
)
def test_decisions_stay_within_bounds_and_are_always_the_same(
    looks: list[tuple[int, int, int, int, float, int]], least: int, more: int
) -> None:
    import numpy as np

    from sim.control.scaling.view import Knowledge

    known = Knowledge(
        STEPS, H100, 60.0, {"ttft_p99": 1.0, "tpot_p95": 0.05}, np.empty(0), np.empty(0, int), np.empty(0, int), 0.0
    )

    def run() -> list[Decision]:
        scaler = SloScaler(min=least, max=least + more, knowledge=known)
        decisions, arrived, prompt, output = [], 0, 0, 0
        for i, (count, p, o, ready, latency, queued) in enumerate(looks, 1):
            arrived, prompt, output = arrived + count, prompt + count * p, output + count * o
            replicas = [ReplicaView(n, READY, 0.0) for n in range(ready)]
            rows = [(30.0 * i - 1.0, latency, latency / 10.0, latency)] * 30
            view = DeploymentView(
                30.0 * i,
                ready,
                replicas,
                queued,
                0.0,
                arrived,
                0,
                0,
                prompt,
                output,
                rows if latency == latency else [],
            )
            decisions.append(asked(scaler, view))
        return decisions

    decided = run()
    assert decided == run()
    for decision in decided:
        assert decision.replicas is None or least <= decision.replicas <= least + more
        assert all(isfinite(value) for value in decision.numbers.values())
