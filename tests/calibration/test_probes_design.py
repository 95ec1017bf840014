"""Where to measure next: known functions are explored, and the points go where the function bends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise, product

import numpy as np
import pytest

from calibration.probes.design import (
    Axis,
    Point,
    Survey,
    aside,
    explore,
    geometric,
    interpolated,
    plain,
    refined,
    widest,
)
from sim.perf.attention import decode_table
from sim.perf.monotone import line
from sim.profiles.schema import ContextGrid


def always() -> bool:
    return True


def explored(function: Callable[[Point], float], axes: list[Axis], target: float, **more: object) -> Survey:
    start = list(product(*(axis.coarse(4.0) for axis in axes)))
    settings = {"most": 60, "in_time": always, "worth_more": always} | more
    return explore(lambda p: (function(p), 0.0), start, aside(axes, 6, start), target=target, **settings)  # type: ignore[arg-type]


def roofline(point: Point) -> float:
    """100 while memory is the limit, then linear in the work: the bend is at 200."""
    return max(100.0, 0.5 * point[0])


@pytest.mark.parametrize(("low", "high"), [(1, 8192), (1, 3), (16, 2048), (7, 7)])
def test_a_coarse_grid_has_both_ends_and_no_gap_above_the_ratio(low: int, high: int) -> None:
    grid = geometric(low, high, 4.0)
    assert (grid[0], grid[-1]) == (low, high)
    assert all(b / a <= 4.6 for a, b in pairwise(grid))
    assert len(grid) >= min(3, high - low + 1)


def test_what_is_linear_needs_no_more_points() -> None:
    survey = explored(lambda p: 3.0 + 0.25 * p[0], [Axis(1, 8192)], 0.01)
    assert sorted(survey.points) == [(x,) for x in Axis(1, 8192).coarse(4.0)]
    assert survey.complete


def test_points_are_added_about_the_bend_until_those_kept_aside_are_predicted() -> None:
    survey = explored(roofline, [Axis(1, 8192)], 0.01)
    added = [x for (x,) in survey.points if x not in Axis(1, 8192).coarse(4.0)]
    assert survey.error(plain) <= 0.01
    assert added
    assert all(200 / 4.6 < x < 200 * 4.6 for x in added)


def test_points_kept_aside_are_never_fitted() -> None:
    survey = explored(roofline, [Axis(1, 8192)], 0.0)
    assert not set(survey.points) & set(survey.checks)
    assert len(survey.checks) == 6


def test_a_row_is_added_where_rows_are_bad_neighbours() -> None:
    """Linear in the second number, quadratic in the first."""
    axes = [Axis(1, 256), Axis(16, 2048)]
    survey = explored(lambda p: (100.0 + p[0] ** 2 / 20.0) * (1.0 + p[1] / 1000.0), axes, 0.02, most=200)
    assert survey.error(plain) <= 0.02
    assert {p[0] for p in survey.points} > set(axes[0].coarse(4.0))
    assert {p[1] for p in survey.points} == set(axes[1].coarse(4.0))


def test_a_point_is_added_in_one_row_alone_where_that_row_bends() -> None:
    def bent_at_256_for_sixteen(point: Point) -> float:
        return 100.0 + (max(0, point[1] - 256) if point[0] == 16 else 0.5 * point[1])

    start = {p: bent_at_256_for_sixteen(p) for p in product((1, 4, 16), (16, 64, 256, 512, 2048))}
    (new,) = refined(start, 0.05)
    assert new[0] == 16
    assert 64 < new[1] < 2048


def test_prompts_are_linear_in_their_attention_work_and_need_no_more_points() -> None:
    """q tokens after p cost q (2 p + q): exactly what a chunk of attention computes."""

    def work(point: Point, axis: int) -> float:
        return float(point[1]) if axis else float(point[0] * (2 * point[1] + point[0]))

    axes = [Axis(16, 512), Axis(128, 2048, zero=True)]
    survey = explored(lambda p: 5.0 + 1e-3 * work(p, 0), axes, 1e-6, work=work)
    assert len(survey.points) == len(axes[0].coarse(4.0)) * len(axes[1].coarse(4.0))
    assert survey.error(work) < 1e-9


def test_where_inner_points_are_predicted_by_luck_the_widest_gap_is_filled() -> None:
    """Three points on a line, and a dip between two of them."""
    survey = explored(lambda p: 10.0 * p[0] - (40.0 if 4 < p[0] < 16 else 0.0), [Axis(1, 16)], 0.05)
    assert {x for (x,) in survey.points} > {1, 4, 16}
    assert widest({(1,): 1.0, (2,): 2.0, (64,): 64.0}) == [(11,)]


def test_noise_is_not_chased() -> None:
    random = np.random.default_rng(1)
    points: Mapping[Point, float] = {(x,): 100.0 * float(random.normal(1.0, 0.05)) for x in geometric(1, 4096, 2.0)}
    assert refined(points, 0.01)
    assert not refined(points, 0.01, noise=dict.fromkeys(points, 0.05))


def test_a_middle_that_is_kept_aside_is_not_fitted_but_its_neighbour_is() -> None:
    points = {(1,): 1.0, (2,): 100.0, (32,): 101.0}
    assert refined(points, 0.05) == [(8,)]
    assert refined(points, 0.05, avoid=[(8,)]) in ([(7,)], [(9,)])


def test_noise_that_nobody_knows_of_is_not_chased_for_ever() -> None:
    random = np.random.default_rng(2)
    survey = explored(lambda p: 100.0 * float(random.normal(1.0, 0.2)), [Axis(1, 2**20)], 0.01, most=10_000)
    assert len(survey.points) <= len(Axis(1, 2**20).coarse(4.0)) + 20


def test_no_point_is_put_between_close_neighbours() -> None:
    assert not refined({(x,): float(x**2) for x in (10, 11, 12, 13)}, 1e-9)


def test_a_point_that_must_be_snapped_stays_on_the_grain() -> None:
    survey = explored(
        roofline, [Axis(16, 8192)], 0.0, most=20, snap=lambda point: (max(16, round(point[0] / 16) * 16),)
    )
    added = {x for (x,) in survey.points} - set(Axis(16, 8192).coarse(4.0))
    assert added
    assert all(x % 16 == 0 for x in added)


def test_points_kept_aside_are_inside_and_differ_from_those_taken() -> None:
    axes = [Axis(1, 16), Axis(16, 2048)]
    taken = list(product((1, 4, 16), (16, 2048)))
    found = aside(axes, 8, taken)
    assert len(set(found)) == 8
    assert not set(found) & set(taken)
    assert all(1 <= n <= 16 and 16 <= context <= 2048 for n, context in found)
    assert found == aside(axes, 8, taken)


def test_time_that_is_up_leaves_what_was_measured_and_says_so() -> None:
    left = iter([True] * 5 + [False] * 99)
    survey = explored(roofline, [Axis(1, 8192)], 0.01, in_time=lambda: next(left))
    assert len(survey.points) + len(survey.checks) == 5
    assert not survey.complete


def test_refinement_ends_with_its_share_of_the_time() -> None:
    survey = explored(roofline, [Axis(1, 8192)], 0.001, worth_more=lambda: False)
    assert len(survey.points) == len(Axis(1, 8192).coarse(4.0))
    assert not survey.complete


def test_it_interpolates_as_the_step_table_does() -> None:
    """Two ways to the same number: the one here, and the compiled decode table's."""
    sequences, contexts = (1, 4, 16), (16, 128, 1024)
    points = {(n, c): 10.0 + n * c * 0.02 + (n > 2) * 7.0 for n, c in product(sequences, contexts)}
    grid = ContextGrid(
        sequences=sequences,
        contexts=contexts,
        us=tuple(tuple(points[n, c] for c in contexts) for n in sequences),
    )
    for n, context in ((2, 40), (9, 600), (16, 1000), (3, 16)):
        at, table = decode_table(grid, np.asarray([float(n)]))
        expected = float(line(np.asarray([float(context)]), at, table[0])[0]) * 1e6
        assert interpolated(points, (n, context)) == pytest.approx(expected, rel=1e-12)
