"""One parameter at a time, against arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from sim.config.space import dimension
from sim.stats.intervals import wilson
from sim.study.sensitivity.parameters import Parameter
from sim.study.sensitivity.readings import Figure
from sim.study.sensitivity.tornado import tornado
from tests.study.sensitivity.functions import LATENCY, LOST, Function


def parameter(name: str, given: Any, base: Any = None) -> Parameter:
    return Parameter(name, dimension(given), base)


def test_changes_are_paired_so_that_common_noise_cancels() -> None:
    noise = np.random.default_rng(0).normal(0.0, 50.0, 6)

    def line(point: Mapping[str, Any], replication: int, draw: int | None) -> Mapping[Figure, float]:
        return {LATENCY: 10.0 + 3.0 * point.get("a", 2.0) - 2.0 * point.get("b", 1.0) + noise[replication]}

    found = tornado(Function(line), [parameter("b", "0.5..2"), parameter("a", "1..4")], [LATENCY], 6)
    # 3 (1 - 2), 3 (4 - 2), -2 (0.5 - 1), -2 (2 - 1); a swings most
    assert [(one.parameter, one.end, one.value) for one in found] == [
        ("a", "low", "1"), ("a", "high", "4"), ("b", "low", "0.5"), ("b", "high", "2")
    ]  # fmt: skip
    assert [one.change for one in found] == pytest.approx([-3.0, 6.0, 1.0, -2.0])
    assert all(one.half_width == pytest.approx(0.0, abs=1e-9) for one in found)
    assert all(one.base == pytest.approx(14.0 + noise.mean()) for one in found)


def test_intervals_of_a_figure_hold_at_once() -> None:
    """Differences 1, 2, 3: mean 2, standard error 1/√3; two tests, so Student's t at 1 - 0.05/4 with 2 degrees: 6.205 (tables)."""

    def values(point: Mapping[str, Any], replication: int, draw: int | None) -> Mapping[Figure, float]:
        return {LATENCY: 5.0 + (1.0 + replication) * point.get("x", 0.0)}

    low, high = tornado(Function(values), [parameter("x", "-1..1", base=0)], [LATENCY], 3)
    assert (low.change, high.change) == (-2.0, 2.0)
    assert high.half_width == pytest.approx(6.2053 / 3.0**0.5, rel=1e-4)
    # t = 2√3 with 2 degrees: p = 1 - t/√(t² + 2) = 0.0742; Holm: both twice, as there are two
    assert high.p == pytest.approx(2.0 * (1.0 - 3.4641016 / 14.0**0.5), rel=1e-6)


def test_intervals_hold_all_changes_as_often_as_they_say() -> None:
    slopes = {"a": 1.0, "b": -2.0, "c": 0.0}
    held = 0
    repeats = 400
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        noise: dict[tuple[Any, ...], float] = {}

        def values(
            point: Mapping[str, Any], replication: int, draw: int | None,
            noise: dict[tuple[Any, ...], float] = noise, rng: np.random.Generator = rng,
        ) -> Mapping[Figure, float]:  # fmt: skip
            key = (*point.items(), replication)
            chance = noise.setdefault(key, rng.normal(0.0, 1.0))
            return {LATENCY: sum(slopes[name] * value for name, value in point.items()) + chance}

        found = tornado(Function(values), [parameter(name, "1..2", base=0) for name in slopes], [LATENCY], 5)
        held += all(
            abs(one.change - slopes[one.parameter] * float(one.value)) <= (one.half_width or 0.0) for one in found
        )
    assert wilson(held, repeats, 0.999)[1] >= 0.95  # Bonferroni's bound: at least
    assert held / repeats < 1.0


def test_each_choice_is_a_bar_but_what_there_is_already() -> None:
    def values(point: Mapping[str, Any], replication: int, draw: int | None) -> Mapping[Figure, float]:
        return {LATENCY: {"x": 1.0, "y": 2.0, "z": 4.0}[point.get("kind", "x")]}

    function = Function(values, exact=True)
    found = tornado(function, [parameter("kind", ["x", "y", "z"], base="x")], [LATENCY], 1)
    assert [(one.value, one.end, one.change, one.half_width) for one in found] == [
        ("y", "choice", 1.0, 0.0),
        ("z", "choice", 3.0, 0.0),
    ]


def test_an_end_that_cannot_be_run_says_so_and_leaves_the_others() -> None:
    def values(point: Mapping[str, Any], replication: int, draw: int | None) -> Mapping[Figure, float]:
        if point.get("x", 0.0) > 5.0:
            raise ValueError("no room")
        return {LATENCY: float(point.get("x", 2.0)) * (1.0 + replication)}

    low, high = tornado(Function(values), [parameter("x", "1..9")], [LATENCY], 3)
    assert (high.error, high.half_width) == ("no room", None)
    assert np.isnan(high.change)
    # one test is left: differences -1, -2, -3, Student's t at 0.975 with 2 degrees: 4.3027
    assert low.half_width == pytest.approx(4.3027 / 3.0**0.5, rel=1e-4)


@pytest.mark.parametrize(("lost", "kept"), [(0.0, True), (0.01, True), (0.02, False)])
def test_an_objective_is_not_kept_by_losing_requests(lost: float, kept: bool) -> None:
    def values(point: Mapping[str, Any], replication: int, draw: int | None) -> Mapping[Figure, float]:
        return {LATENCY: 1.0, LOST: lost}

    found = tornado(Function(values), [parameter("x", "1..2")], [LATENCY], 3, targets={LATENCY: 1.5})
    assert {one.kept for one in found} == {kept}
