"""Sobol indices against functions of which they are known, and against SALib."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from sim.stats.intervals import wilson
from sim.study.sensitivity.saltelli import design, indices

Floats = npt.NDArray[np.float64]

A, B = 7.0, 0.1


def ishigami(points: Floats) -> Floats:
    """sin x1 + a sin² x2 + b x3⁴ sin x1, each x uniform on [-π, π] (Ishigami and Homma, ISUMA 1990)."""
    x = (2.0 * points - 1.0) * math.pi
    found: Floats = np.sin(x[..., 0]) + A * np.sin(x[..., 1]) ** 2 + B * x[..., 2] ** 4 * np.sin(x[..., 0])
    return found


# Its variance by parts, integrated by hand: V1 = (1 + bπ⁴/5)²/2, V2 = a²/8, V13 = b²π⁸(1/18 - 1/50), and no others
V1, V2, V13 = 0.5 * (1.0 + B * math.pi**4 / 5.0) ** 2, A * A / 8.0, B * B * math.pi**8 * (1.0 / 18.0 - 1.0 / 50.0)
V = V1 + V2 + V13
ISHIGAMI = (np.array([V1, V2, 0.0]) / V, np.array([V1 + V13, V2, V13]) / V)

G = np.array([0.0, 1.0, 4.5, 9.0])


def g_function(points: Floats) -> Floats:
    """Π (|4 x - 2| + a) / (1 + a), each x uniform on [0, 1] (Sobol')."""
    found: Floats = np.prod((np.abs(4.0 * points - 2.0) + G) / (1.0 + G), axis=-1)
    return found


# each factor has mean 1 and variance v = 1 / 3(1 + a)², so the product has variance Π(1 + v) - 1
PARTS = 1.0 / (3.0 * (1.0 + G) ** 2)
WHOLE = float(np.prod(1.0 + PARTS)) - 1.0
G_FUNCTION = (PARTS / WHOLE, PARTS * np.prod(1.0 + PARTS) / (1.0 + PARTS) / WHOLE)

Case = tuple[Callable[[Floats], Floats], int, tuple[Floats, Floats], float]
CASES: list[Case] = [(ishigami, 3, ISHIGAMI, V), (g_function, 4, G_FUNCTION, WHOLE)]


@pytest.mark.parametrize(("function", "inputs", "truth", "variance"), CASES)
def test_indices_are_those_of_the_closed_form(
    function: Callable[[Floats], Floats], inputs: int, truth: tuple[Floats, Floats], variance: float
) -> None:
    found = indices(function(design(32768, inputs, seed=1)), resamples=2)
    assert found.first == pytest.approx(truth[0], abs=0.01)
    assert found.total == pytest.approx(truth[1], abs=0.01)
    assert found.variance == pytest.approx(variance, rel=0.01)


@pytest.mark.parametrize(("function", "inputs", "truth", "variance"), CASES)
def test_indices_are_those_of_salib(
    function: Callable[[Floats], Floats], inputs: int, truth: tuple[Floats, Floats], variance: float
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from SALib.analyze import sobol

        values = function(design(256, inputs, seed=3))
        problem = {"num_vars": inputs, "names": [f"x{i}" for i in range(inputs)], "bounds": [[0, 1]] * inputs}
        theirs = sobol.analyze(problem, values.ravel(), calc_second_order=False, num_resamples=400, seed=5)
    ours = indices(values, resamples=400)
    assert ours.first == pytest.approx(theirs["S1"], rel=1e-9)
    assert ours.total == pytest.approx(theirs["ST"], rel=1e-9)
    # half-widths are of other bootstrap samples: their own standard error is 1 / √(2 · 400) = 3.5 %
    assert ours.first_half == pytest.approx(theirs["S1_conf"], rel=0.2)
    assert ours.total_half == pytest.approx(theirs["ST_conf"], rel=0.2)


def test_intervals_hold_the_truth_at_least_as_often_as_they_say() -> None:
    held = np.zeros((2, 3))
    repeats = 150
    for seed in range(repeats):
        found = indices(ishigami(design(256, 3, seed=100 + seed)), resamples=120, seed=seed)
        held[0] += np.abs(found.first - ISHIGAMI[0]) <= found.first_half
        held[1] += np.abs(found.total - ISHIGAMI[1]) <= found.total_half
    # Sobol' points are more even than the independent ones that the bootstrap takes them for
    assert all(wilson(int(count), repeats, 0.999)[1] >= 0.95 for count in held.ravel())
    assert held.min() / repeats > 0.85


def test_each_sample_crosses_one_input_of_b_into_a() -> None:
    points = design(16, 3, seed=0)
    a, b = points[:, 0], points[:, -1]
    for i in range(3):
        others = [j for j in range(3) if j != i]
        assert (points[:, i + 1, i] == b[:, i]).all()
        assert (points[:, i + 1, others] == a[:, others]).all()
    # a balanced sequence: in each 16th of an axis one point
    assert all(sorted((column * 16).astype(int)) == list(range(16)) for column in (*a.T, *b.T))


def test_what_does_not_vary_has_no_shares() -> None:
    found = indices(np.full((8, 4), 0.1))
    assert found.variance == 0.0
    assert np.isnan(found.first).all()
    assert np.isnan(found.total).all()


def test_rows_of_failed_points_are_left_out() -> None:
    values = ishigami(design(64, 3, seed=2))
    broken = values.copy()
    broken[7, 2] = np.nan
    kept = np.delete(values, 7, axis=0)
    assert indices(broken).total == pytest.approx(indices(kept).total, rel=1e-12)


@pytest.mark.parametrize("points", [0, 1, 3, 100])
def test_points_are_a_power_of_two(points: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        design(points, 2, 0)
