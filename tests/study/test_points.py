"""The points of a sweep: what the methods promise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import qmc

import sim
from sim.config.space import dimension
from sim.study.points import METHODS, points, share, space
from tests.study.small import RATE, REPLICAS, write

UNIT = {"x": dimension("0.0..1.0"), "y": dimension("0.0..1.0")}


def test_a_grid_is_all_combinations_in_the_order_of_the_file() -> None:
    over = {"a": dimension([3, 1]), "b": dimension("1..3"), "c": dimension(["x"])}
    assert points(over) == [{"a": a, "b": b, "c": "x"} for a in (3, 1) for b in (1, 2, 3)]


def test_a_point_that_is_written_twice_is_there_once() -> None:
    assert points({"a": dimension([1, 1, 2])}) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("method", METHODS[1:])
def test_the_same_seed_gives_the_same_points_and_another_gives_others(method: str) -> None:
    assert points(UNIT, method, 16, 1) == points(UNIT, method, 16, 1)
    assert points(UNIT, method, 16, 1) != points(UNIT, method, 16, 2)
    assert len(points(UNIT, method, 16, 1)) == 16


def test_a_latin_hypercube_meets_every_stretch_of_every_dimension_once() -> None:
    found = points(UNIT, "latin-hypercube", 50, 4)
    for path in UNIT:
        assert sorted(int(point[path] * 50) for point in found) == list(range(50))


def test_a_power_of_two_of_sobol_points_is_balanced_and_evener_than_chance() -> None:
    # a (0, m, 2)-net in base 2: every box of 1/8 by 1/8 holds one of 64 points (Sobol 1967; scrambling keeps it, Owen 1995)
    found = points(UNIT, "sobol", 64, 4)
    boxes = {(int(point["x"] * 8), int(point["y"] * 8)) for point in found}
    assert len(boxes) == 64
    even, chance = (
        qmc.discrepancy(np.array([[p["x"], p["y"]] for p in points(UNIT, m, 64, 4)])) for m in ("sobol", "random")
    )
    assert even < chance / 3


def test_of_a_finite_space_there_may_be_fewer_points_than_asked() -> None:
    found = points({"a": dimension([1, 2]), "b": dimension("1..2")}, "random", 200, 0)
    assert sorted((p["a"], p["b"]) for p in found) == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_shards_are_a_partition() -> None:
    every = points({"a": dimension("1..101")})
    parts = [share(every, (number, 16)) for number in range(1, 17)]
    assert sorted(point["a"] for part in parts for point in part) == list(range(1, 102))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert share(every, (3, 16))[1] == {"a": 19}


@pytest.mark.parametrize(
    ("method", "count", "said"),
    [
        ("grid", 5, "points: a grid has as many as its values make"),
        ("sobol", None, "points: method sobol needs to know how many"),
        ("random", 0, "points: 0 is not a whole number from 1 to 1,000,000"),
        ("latin", 5, r"method: 'latin' is not one of .* \(did you mean 'latin-hypercube'\?\)"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(method: str, count: int | None, said: str) -> None:
    with pytest.raises(sim.ConfigError, match=f"^{said}"):
        points(UNIT if method != "grid" else {"a": dimension([1])}, method, count)


def test_a_grid_over_a_stretch_needs_its_steps() -> None:
    with pytest.raises(sim.ConfigError, match=r"^over.x: a grid needs the number of values"):
        points(UNIT)


def test_a_grid_beyond_all_measure_is_refused_before_it_is_made() -> None:
    with pytest.raises(sim.ConfigError, match=r"^over: a grid of 100,000,000 points; allowed: at most 1,000,000"):
        points({"a": dimension("1..10000"), "b": dimension("1..10000")})


@pytest.mark.parametrize("shard", [(0, 4), (5, 4), (1, 0)])
def test_a_shard_that_is_none_is_refused(shard: tuple[int, int]) -> None:
    with pytest.raises(sim.ConfigError, match="shards are numbered from 1 to"):
        share([{}], shard)


def test_every_path_and_value_that_is_wrong_is_named(tmp_path: Path) -> None:
    over = {"deployments.chatt.replicas": [1], "option": ["one", "tow"], RATE: "5 to 6", REPLICAS: "1..3"}
    with pytest.raises(sim.ConfigError) as found:
        space(sim.load(write(tmp_path)), over)
    lines = str(found.value).splitlines()
    assert lines[0].startswith("over.deployments.chatt.replicas: 'chatt' is not in deployments (did you mean 'chat'?)")
    assert lines[1].startswith("over.option: 'tow' is not an option (did you mean 'two'?)")
    assert lines[2].startswith(f"over.{RATE}: '5 to 6' is not a list of values")
    assert len(lines) == 3
