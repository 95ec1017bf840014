"""Where things fail, against functions of which it is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from sim.stats.intervals import wilson
from sim.study.sensitivity.breaks import FINEST, Criterion, crossings
from sim.study.sensitivity.criteria import LIMITS, limits, objectives
from sim.study.sensitivity.readings import Figure
from tests.study.sensitivity.functions import LATENCY, LOST, Function

TPOT = Figure("chat", "tpot_p99")
RANGE = {"tried": 8.0, "least": 0.125}


def proportional(*slopes: float) -> Function:
    """The figure is load x slope in each replication, so it meets 1 at load 1 / slope."""

    def values(point: Mapping[str, Any], replication: int, draw: int | None) -> Mapping[Figure, float]:
        return {LATENCY: point.get("load", 1.0) * slopes[replication], LOST: 0.0}

    return Function(values)


def test_each_replication_fails_at_its_own_load() -> None:
    [found] = crossings(proportional(0.5, 0.4, 2.0), "load", objectives({LATENCY: 1.0}), 3, **RANGE)
    # a power law is a line in logarithms: interpolated exactly
    assert found.each == pytest.approx((2.0, 2.5, 0.5), rel=1e-9)
    assert found.at == pytest.approx(5.0 / 3.0)
    # sd of 2, 2.5, 0.5 is 1.0408; Student's t at 0.975 with 2 degrees: 4.3027
    assert found.half_width == pytest.approx(4.3027 * 1.040833 / 3.0**0.5, rel=1e-4)


def test_the_limit_of_an_mm1_queue_is_found() -> None:
    """p99 of the response of M/M/1 is ln 100 s / (1 - ρ) (Kleinrock 5.7): at target T it fails at ρ = 1 - ln 100 s / T."""
    service, busy, target = 1.0, 0.4, 12.0

    def values(point: Mapping[str, Any], replication: int, draw: int | None) -> Mapping[Figure, float]:
        rho = busy * point.get("load", 1.0)
        return {LATENCY: math.log(100.0) * service / (1.0 - rho) if rho < 1.0 else math.inf, LOST: 0.0}

    [found] = crossings(Function(values), "load", objectives({LATENCY: target}), 1, exact=True, **RANGE)
    truth = (1.0 - math.log(100.0) * service / target) / busy
    assert found.at == pytest.approx(truth, rel=1e-3)
    assert found.half_width == 0.0


def test_few_runs_are_needed_and_none_is_made_twice() -> None:
    function = proportional(0.5, 0.45, 0.55)
    crossings(function, "load", [*objectives({LATENCY: 1.0}), *limits()], 3, **RANGE)
    keys = [run.key for run in function.asked]
    assert len(set(keys)) == len(keys)
    # to 2.2x in steps of a fifth, then 3 halvings, for each replication
    assert len(keys) <= 3 * (1 + 5 + 3)
    assert max(run.point.get("load", 1.0) for run in function.asked) < 1.2 / 0.45


def test_what_fails_first_comes_first_and_is_counted() -> None:
    def values(point: Mapping[str, Any], replication: int, draw: int | None) -> Mapping[Figure, float]:
        load = point.get("load", 1.0)
        return {LATENCY: load * (0.4, 0.5, 0.5, 0.5)[replication], TPOT: load * 0.45, LOST: 0.0}

    first, second = crossings(Function(values), "load", objectives({LATENCY: 1.0, TPOT: 1.0}), 4, **RANGE)
    assert (first.metric, first.first) == ("ttft_p99", 3)
    assert (second.metric, second.first) == ("tpot_p99", 1)


def test_what_never_fails_holds_as_far_as_was_tried() -> None:
    [found] = crossings(proportional(0.01, 0.2), "load", objectives({LATENCY: 1.0}), 2, **RANGE)
    assert (found.at, found.half_width, found.beyond, found.tried) == (None, None, 1, 8.0)
    assert found.each == (math.inf, pytest.approx(5.0))


def test_what_fails_at_any_load_is_below_the_least() -> None:
    [found] = crossings(proportional(50.0), "load", objectives({LATENCY: 1.0}), 1, **RANGE)
    assert (found.at, found.below, found.least) == (None, 1, 0.125)


def test_requests_lost_count_as_late() -> None:
    def values(point: Mapping[str, Any], replication: int, draw: int | None) -> Mapping[Figure, float]:
        load = point.get("load", 1.0)
        return {LATENCY: 0.1, LOST: 0.0 if load < 1.6 else 0.02}

    [found] = crossings(Function(values), "load", objectives({LATENCY: 1.0}), 1, **RANGE)
    assert found.at == pytest.approx(1.6, rel=2.0 ** (1.0 / FINEST) - 1.0)


def test_limits_are_looked_for_no_further_than_objectives() -> None:
    kv, most = LIMITS["KV cache full"]

    def values(point: Mapping[str, Any], replication: int, draw: int | None) -> Mapping[Figure, float]:
        load = point.get("load", 1.0)
        return {LATENCY: load / 2.0, LOST: 0.0, kv: most * load / 1.5, Figure("", "queue_p50"): load / 6.0}

    found = crossings(Function(values), "load", [*objectives({LATENCY: 1.0}), *limits()], 1, **RANGE)
    assert [(one.name, one.at and round(one.at, 6)) for one in found] == [
        ("KV cache full", 1.5), ("chat.ttft_p99", 2.0), ("requests lost", None), ("standing queue", None)
    ]  # fmt: skip
    assert all(one.tried < 2.5 for one in found if one.at is None)


def test_a_load_that_cannot_be_run_is_one_that_fails() -> None:
    def values(point: Mapping[str, Any], replication: int, draw: int | None) -> Mapping[Figure, float]:
        if point.get("load", 1.0) > 3.0:
            raise ValueError("too much")
        return {LATENCY: 0.1, LOST: 0.0}

    [found] = crossings(Function(values), "load", objectives({LATENCY: 1.0}), 1, **RANGE)
    assert found.at == pytest.approx(3.0, rel=0.022)


def test_intervals_hold_the_expected_break_as_often_as_they_say() -> None:
    """Slopes are exp(N(-0.7, 0.1)), so a replication breaks at exp(N(0.7, 0.1)), of mean exp(0.7 + 0.005)."""
    truth, repeats, held = math.exp(0.7 + 0.1**2 / 2.0), 600, 0
    criteria: list[Criterion] = objectives({LATENCY: 1.0})
    for seed in range(repeats):
        slopes = np.exp(np.random.default_rng(seed).normal(-0.7, 0.1, 6))
        [found] = crossings(proportional(*slopes), "load", criteria, 6, **RANGE)
        assert found.at is not None
        held += abs(found.at - truth) <= (found.half_width or 0.0)
    low, high = wilson(held, repeats, 0.999)
    assert low <= 0.95 <= high
