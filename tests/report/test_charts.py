"""Heat maps, tornados and reaches of plain arrays: what is drawn is what was given."""

from __future__ import annotations

import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch

from sim.report.charts import BARS, CELLS, Bar, Reach, bounds_of, heat, reaches, tornado
from sim.report.plot import LIGHT, Plot


def drawn(plot: Plot) -> list[PathPatch]:
    axes = Figure().subplots()
    plot.paint(axes, LIGHT)
    return [patch for patch in axes.patches if isinstance(patch, PathPatch)]


def area(patch: PathPatch) -> float:
    """Of rectangles of five corners each."""
    corners = patch.get_path().vertices.reshape(-1, 5, 2)
    return float((np.ptp(corners[:, :, 0], axis=1) * np.ptp(corners[:, :, 1], axis=1)).sum())


def test_cells_of_a_class_are_as_large_as_they_were_given() -> None:
    values = np.array([[0.0, 1.0, 1.0, 5.0], [5.0, np.nan, 5.0, 1.0]])
    one, five = drawn(heat("h", "t", "d", range(5), range(3), values, bounds=[1.0, 5.0]))
    assert area(one) == 3.0
    assert area(five) == 3.0
    assert len(one.get_path().vertices) == 2 * 5  # two neighbours are one rectangle


def test_as_many_shades_as_classes_from_faint_to_full() -> None:
    patches = drawn(heat("h", "t", "d", range(8), range(2), [np.arange(1.0, 8.0)], bounds=range(1, 8)))
    assert [patch.get_facecolor() for patch in patches] == [
        pytest.approx((*(int(LIGHT[f"h{step}"][at : at + 2], 16) / 255 for at in (1, 3, 5)), 1.0))
        for step in range(1, 8)
    ]


@pytest.mark.parametrize(
    ("x", "y", "values", "bounds", "what"),
    [
        (range(3), range(3), np.ones((1, 2)), None, "rows"),
        (range(CELLS + 2), range(2), np.ones((1, CELLS + 1)), None, "cells"),
        (range(2), range(2), np.ones((1, 1)), [2.0, 1.0], "ascending"),
        (range(2), range(2), np.ones((1, 1)), list(range(9)), "1 to 7"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    x: range, y: range, values: np.ndarray, bounds: list[float] | None, what: str
) -> None:
    with pytest.raises(ValueError, match=what):
        heat("h", "t", "d", x, y, values, bounds=bounds)


@pytest.mark.parametrize("values", [[1, 2, 3], [1, 1000], [0.003, 0.9], [7.0], [5.0, 5.0], [1, 10**9], [0, np.nan]])
def test_classes_are_few_ascending_and_hold_every_value(values: list[float]) -> None:
    bounds = bounds_of(values)
    assert 1 <= len(bounds) <= 7
    assert (np.diff(bounds) > 0.0).all()
    positive = [value for value in values if value > 0]
    assert not positive or bounds[0] <= min(positive)


def test_a_tornado_has_the_largest_effect_on_top_and_both_ends() -> None:
    bars = [Bar("small", "1", "2", -1.0, 2.0, 0.1, 0.1), Bar("large", "3", "4", 7.0, -5.0)]
    axes = Figure().subplots()
    tornado("t", "t", "d", bars, axis="ms").paint(axes, LIGHT)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["large", "small"]
    widths = sorted(patch.get_width() for patch in axes.patches)
    assert widths == [-5.0, -1.0, 2.0, 7.0]
    assert {text.get_text() for text in axes.texts} == {"1", "2", "3", "4"}


def test_effects_on_one_side_do_not_hide_each_other() -> None:
    axes = Figure().subplots()
    tornado("t", "t", "d", [Bar("both", "low", "high", 1.0, 2.0)], axis="ms").paint(axes, LIGHT)
    low, high = axes.patches
    assert low.get_y() + low.get_height() <= high.get_y()


def test_no_more_bars_than_can_be_read() -> None:
    axes = Figure().subplots()
    tornado("t", "t", "d", [Bar(f"p{n:02}", "a", "b", n, -n) for n in range(40)], axis="ms").paint(axes, LIGHT)
    assert len(axes.get_yticklabels()) == BARS
    assert axes.get_yticklabels()[0].get_text() == "p39"


def test_what_holds_as_far_as_was_tried_is_told_apart() -> None:
    axes = Figure().subplots()
    rows = [Reach("far", 2.0, 2.0, 2.0, open=True), Reach("near", 1.25, 1.125, 1.5)]
    reaches("r", "t", "d", rows, axis="x", now=1.0).paint(axes, LIGHT)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["near", "far"]
    assert {text.get_text() for text in axes.texts} == {"1.25", "> 2", ""}


def test_coordinates_are_short_and_text_is_whole() -> None:
    text = heat("h", "t", "d", np.linspace(0, 1, 8), range(2), [np.arange(7.0) / 7], bounds=[0.12345], said=str).svg()
    assert "0.12345" in text
    assert not re.search(r' d="[^"]*\d\.\d{3}', text)
