"""MSER-5 against its definition, on series whose start-up is known, and on series that have no steady state."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.stats import mser5


def _by_definition(series: list[float]) -> int | None:
    """White's statistic, computed as it is written; None where its minimum is at the edge of the first half."""
    means = [float(np.mean(series[i : i + 5])) for i in range(0, len(series) - 4, 5)]
    half = len(means) // 2
    statistic = [
        float(np.sum((np.array(means[d:]) - np.mean(means[d:])) ** 2)) / (len(means) - d) ** 2 for d in range(half + 1)
    ]
    best = int(np.argmin(statistic))
    return None if best == half else 5 * best


@given(st.integers(0, 2**32 - 1), st.integers(50, 400), st.floats(0.0, 20.0), st.floats(1.0, 60.0))
def test_the_truncation_is_that_of_the_definition(seed: int, length: int, start: float, decay: float) -> None:
    noise = np.random.default_rng(seed).normal(0.0, 1.0, length)
    series = noise + start * np.exp(-np.arange(length) / decay)
    expected = _by_definition(series.tolist())
    found = mser5(series)
    assert found.index == (expected or 0)
    assert found.found == (expected is not None)


def test_a_start_up_of_known_length_is_cut_off_and_little_more() -> None:
    noise = np.random.default_rng(3).normal(10.0, 1.0, 2_000)
    noise[:200] += 15.0
    found = mser5(noise)
    assert found.found
    assert 200 <= found.index <= 260


def test_a_series_in_steady_state_from_the_start_loses_little() -> None:
    truncations = [mser5(np.random.default_rng(seed).normal(0.0, 1.0, 2_000)) for seed in range(40)]
    assert np.median([found.index for found in truncations]) <= 200


def test_a_series_that_keeps_growing_has_no_steady_state() -> None:
    found = mser5(np.arange(1_000.0))
    assert not found.found
    assert found.index == 0
    assert "no steady state" in found.why


@pytest.mark.parametrize("length", [0, 1, 49])
def test_a_short_series_is_left_whole_and_it_is_said(length: int) -> None:
    found = mser5(np.zeros(length))
    assert (found.index, found.found) == (0, False)
    assert "too short" in found.why


def test_a_constant_series_needs_no_truncation() -> None:
    assert mser5(np.full(100, 0.1)).index == 0
    assert mser5(np.full(100, 0.1)).found
