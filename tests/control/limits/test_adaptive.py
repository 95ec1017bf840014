"""Adaptive limits against the published tests of Envoy's and Netflix's, and what must hold whatever happens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sim.control.limits.gradient import GradientController
from sim.control.limits.histogram import Histogram
from sim.control.limits.limit import FixedLimit, Limit
from sim.control.limits.netflix import AIMDLimit, ExpAvgMeasurement, Gradient2Limit, VegasLimit
from sim.control.limits.partitions import PartitionedLimiter, SimpleLimiter
from sim.control.limits.windowed import WindowedLimit, tracked_rtt
from tests.paths import DATA

CASES = yaml.safe_load((DATA / "control" / "adaptive_cases.yaml").read_text())


class Envoy:
    """A gradient controller, and the clock and memory that its cases need."""

    def __init__(self, given: dict[str, Any]) -> None:
        random = given.pop("random", None)
        self.now = 0.0
        self.controller = GradientController(**given, random=None if random is None else lambda: random)
        self.last = self.controller.concurrency_limit
        self.remembered = 0

    def run(self, step: dict[str, Any]) -> None:
        controller = self.controller
        for _ in range(step.get("repeat", 0)):
            for inner in step["of"]:
                self.run(inner)
        self.now += step.get("after", 0.0)
        controller.advance(self.now)
        for _ in range(step.get("try", 0)):
            assert controller.forwarding_decision(self.now) is step["through"], step
        for kind in ("round", "sample"):
            for _ in range(step.get(kind, {}).get("times", 1) if kind in step else 0):
                if kind == "round":
                    assert controller.forwarding_decision(self.now), step
                controller.record_latency_sample(self.now, self.now - step[kind]["latency"])
        for _ in range(step.get("cancel", 0)):
            controller.cancel_latency_sample(self.now)
        self.check(step)

    def check(self, step: dict[str, Any]) -> None:
        limit = self.controller.concurrency_limit
        said = f"{step}: limit {limit}, was {self.last}"
        assert limit == step.get("limit", limit), said
        assert step.get("at_least", 0) <= limit <= step.get("at_most", 10**9), said
        assert limit > self.last or not step.get("grows"), said
        assert limit < self.last or not step.get("shrinks"), said
        assert limit == self.last or not step.get("holds"), said
        assert limit >= self.last or not step.get("at_least_last"), said
        if step.get("remember"):
            self.remembered = limit
        assert limit == self.remembered or not step.get("remembered"), said
        if "window" in step:
            assert self.controller.in_min_rtt_sampling_window is step["window"], said
        if "min_rtt_ms" in step:
            assert int(self.controller.min_rtt * 1000.0) == step["min_rtt_ms"], said
        if "next" in step:
            assert self.controller.next_min_rtt_calculation == pytest.approx(step["next"]), said
        if "blocked" in step:
            assert self.controller.rq_blocked == step["blocked"], said
        self.last = limit


def gradient(case: dict[str, Any]) -> None:
    envoy = Envoy(dict(case["gradient"]))
    for name, value in case.get("config", {}).items():
        assert getattr(envoy.controller, name) == value, name
    for step in case["steps"]:
        envoy.run(step)


def sample(limit: Limit, case: dict[str, Any]) -> None:
    if "initial" in case:
        assert limit.limit == case["initial"]
    for number, told in enumerate(case["samples"]):
        for _ in range(told.get("times", 1)):
            said = limit.on_sample(told.get("start", 0.0), told["rtt"], told["inflight"], told.get("drop", False))
        assert said == limit.limit == told["limit"], f"sample {number}: {told}"
        if "long_rtt" in told:
            assert isinstance(limit, Gradient2Limit)
            assert limit.long_rtt == pytest.approx(told["long_rtt"], rel=1e-6), f"sample {number}: {told}"
        if "seen" in told:
            assert isinstance(limit, WindowedLimit)
            assert isinstance(limit.delegate, Spy)
            assert limit.delegate.seen == [pytest.approx(seen) for seen in told["seen"]], f"sample {number}: {told}"


class Spy(AIMDLimit):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[list[float]] = []

    def on_sample(self, start: float, rtt: float, inflight: int, did_drop: bool = False) -> int:
        self.seen.append([rtt, inflight, did_drop])
        return super().on_sample(start, rtt, inflight, did_drop)


def vegas(case: dict[str, Any]) -> None:
    given = dict(case["vegas"])
    if given.get("decrease") == "half":
        given["decrease"] = lambda current: current / 2
    sample(VegasLimit(**given), case)


def gradient2(case: dict[str, Any]) -> None:
    sample(Gradient2Limit(**case["gradient2"]), case)


def aimd(case: dict[str, Any]) -> None:
    sample(AIMDLimit(**case["aimd"]), case)


def windowed(case: dict[str, Any]) -> None:
    sample(WindowedLimit(Spy(), **case["windowed"]), case)


def average(case: dict[str, Any]) -> None:
    made = ExpAvgMeasurement(**case["average"])
    for value, expected in zip(case["add"], case["expected"], strict=True):
        assert made.add(value) == pytest.approx(expected, abs=0.1 if value == 100 else 0.01)


def bypass(given: dict[str, Any]) -> Any:
    return (lambda name: name == given["bypass"]) if "bypass" in given else None


def simple(case: dict[str, Any]) -> None:
    limiter = SimpleLimiter(FixedLimit(case["simple"]["limit"]), bypass(case["simple"]))
    for step in case["steps"]:
        for _ in range(step.get("times", 1)):
            if "acquire" in step:
                assert limiter.acquire(step["acquire"]) is step["ok"], step
        if "release" in step:
            limiter.release(step["release"])
        assert limiter.inflight == step.get("inflight", limiter.inflight), step


def tracked(case: dict[str, Any]) -> None:
    for rtts, percentile, expected in case["tracked"]:
        assert tracked_rtt(rtts, percentile) == expected


def partitions(case: dict[str, Any]) -> None:
    limit = FixedLimit(case["partitions"]["limit"])
    limiter = PartitionedLimiter(limit, case["partitions"]["shares"], bypass(case["partitions"]))
    for step in case["steps"]:
        for _ in range(step.get("times", 1)):
            if "acquire" in step:
                assert limiter.acquire(step["acquire"]) is step["ok"], step
        if "release" in step:
            limiter.release(step["release"])
        if "set" in step:
            limit.limit = step["set"]
        if "limit_of" in step:
            assert limiter.partition_limit(step["limit_of"]) == step["is"], step
        if "inflight_of" in step:
            assert limiter.partition_inflight(step["inflight_of"]) == step["is"], step
        if "inflight" in step:
            assert limiter.inflight == step["inflight"], step


KINDS = (gradient, vegas, gradient2, aimd, windowed, average, partitions, simple, tracked)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_published_case(case: dict[str, Any]) -> None:
    assert case["source"]
    next(kind for kind in KINDS if kind.__name__ in case)(case)


@pytest.mark.parametrize(
    ("values", "q", "expected"),
    [
        ([13000.0] * 50, 0.5, 13500.0),  # one bin, [13000, 14000), half of it
        ([1000.0, 2000.0, 3000.0, 4000.0, 5000.0], 0.5, 3050.0),  # half of the third, [3000, 3100)
        ([1000.0, 2000.0], 0.0, 1000.0),  # the left of the first
        ([1000.0, 2000.0], 1.0, 2100.0),  # the right of the last
        ([1000.0, 2000.0], 0.5, 1100.0),  # exactly all of the first
        ([0.0, 0.0], 0.5, 0.0),  # a bin without width
        ([9.99, 9.99], 0.5, 9.95),  # [9.9, 10.0)
        ([0.11], 0.0, 0.11),  # not 0.10, whatever floats say
    ],
)
def test_quantile_of_two_digits(values: list[float], q: float, expected: float) -> None:
    """openhistogram/libcircllhist circllhist.c, by hand."""
    histogram = Histogram()
    for value in values:
        histogram.insert(value)
    assert histogram.quantile(q) == pytest.approx(expected, rel=1e-12)


@given(values=st.lists(st.floats(1e-3, 1e9), min_size=1, max_size=60), q=st.floats(0.0, 1.0))
def test_a_quantile_is_within_a_tenth_of_the_values(values: list[float], q: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.insert(value)
    low, high = min(values), max(values)
    assert low / 1.1 - 1e-12 <= histogram.quantile(q) <= high * 1.1 * (1 + 1e-9)


events = st.lists(st.tuples(st.sampled_from(["arrive", "end", "drop"]), st.floats(1e-4, 0.7)), max_size=250)


@given(events=events, jitter=st.integers(0, 100), seed=st.integers(0, 99))
def test_envoys_limit_stays_in_its_bounds(events: list[tuple[str, float]], jitter: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    controller = GradientController(
        concurrency_update_interval=0.1,
        interval=3.0,
        jitter=jitter,
        request_count=4,
        min_concurrency=2,
        max_concurrency_limit=12,
        random=lambda: int(generator.integers(1 << 40)),
    )
    now, sent = 0.0, []
    for what, wait in events:
        now += wait
        if what == "arrive":
            if controller.forwarding_decision(now):
                sent.append(now)
        elif sent and what == "end":
            controller.record_latency_sample(now, sent.pop(0))
        elif sent:
            sent.pop()
            controller.cancel_latency_sample(now)
        assert controller.outstanding == len(sent)
        assert 2 <= controller.concurrency_limit <= 12
        if controller.in_min_rtt_sampling_window:
            assert controller.concurrency_limit == 2
        else:
            assert now < controller.next_min_rtt_calculation <= now + 3.0 * (1 + jitter / 100) + 1e-9


samples = st.lists(st.tuples(st.floats(1e-5, 10.0), st.integers(1, 400), st.booleans()), max_size=80)


@given(samples=samples, seed=st.integers(0, 99))
def test_netflixs_limits_stay_in_their_bounds(samples: list[tuple[float, int, bool]], seed: int) -> None:
    limits: list[tuple[Limit, int, int]] = [
        (VegasLimit(max_concurrency=300, generator=np.random.default_rng(seed)), 1, 300),
        (Gradient2Limit(), 20, 200),
        (AIMDLimit(), 20, 200),
        (WindowedLimit(Gradient2Limit()), 20, 200),
    ]
    start = 0.0
    for rtt, inflight, dropped in samples:
        start += 0.01
        for limit, low, high in limits:
            assert low <= limit.on_sample(start, rtt, inflight, dropped) <= high


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            lambda: GradientController(concurrency_update_interval=0.0, interval=1.0),
            "concurrency_update_interval is 0 s",
        ),
        (lambda: GradientController(concurrency_update_interval=0.1), "unless there is a fixed_value"),
        (
            lambda: GradientController(concurrency_update_interval=0.1, interval=1, request_count=0),
            "request_count is 0",
        ),
        (lambda: AIMDLimit(backoff_ratio=1.0), "backoff_ratio is 1"),
        (lambda: AIMDLimit(timeout=0.0), "timeout is 0 s"),
        (lambda: Gradient2Limit(rtt_tolerance=0.9), "rtt_tolerance is 0.9"),
        (lambda: VegasLimit().on_sample(0.0, 0.0, 1), "rtt must be >0 but got 0"),
        (lambda: Gradient2Limit().on_sample(0.0, 0.0, 1), "rtt must be >0 but got 0"),
        (lambda: WindowedLimit(FixedLimit(1), window_size=9), "window_size is 9"),
        (lambda: WindowedLimit(FixedLimit(1), min_window_time=0.09), "min_window_time is 0.09 s"),
        (lambda: WindowedLimit(FixedLimit(1), percentile=1.0), "percentile is 1"),
        (lambda: PartitionedLimiter(FixedLimit(1), {}), "partitions is empty"),
        (lambda: PartitionedLimiter(FixedLimit(1), {"a": 0.7, "b": 0.4}), "add up to 1.1"),
        (lambda: PartitionedLimiter(FixedLimit(1), {"a": -0.1}), "the share of 'a' is -0.1"),
        (lambda: PartitionedLimiter(FixedLimit(1), {"a": 1.0}).release("a"), "no request of 'a'"),
    ],
)
def test_what_is_not_accepted(made: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        made()
