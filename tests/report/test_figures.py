"""Plots: what they keep of the data, and that they follow the page's colours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from sim.report.charts import CELLS
from sim.report.curves import POINTS, distribution, front, latency_grids, over_time, ratio_over_time
from sim.report.figures import DARK, LIGHT, draw
from sim.report.view import View


def test_a_thinned_distribution_keeps_its_quantiles() -> None:
    values = np.random.default_rng(1).exponential(size=50_000)
    curve = distribution(values)
    assert curve is not None
    assert len(curve.x) <= POINTS
    for share in (0.5, 0.9, 0.99):
        assert np.interp(share, curve.y, curve.x) == pytest.approx(-np.log(1.0 - share), rel=0.03)
    assert curve.y[-1] == 1.0
    assert curve.x[-1] == values.max()
    assert (np.diff(curve.x) >= 0.0).all()
    assert (np.diff(curve.y) > 0.0).all()


def test_requests_that_were_not_served_are_not_in_the_distribution() -> None:
    curve = distribution([2.0, float("nan"), 1.0])
    assert curve is not None
    assert curve.x.tolist() == [1.0, 2.0]
    assert curve.y.tolist() == [0.5, 1.0]
    assert distribution([float("nan")]) is None


def test_the_fleet_over_time_is_the_sum_of_replicas_and_the_mean_of_replications() -> None:
    timeline = pd.DataFrame(
        {
            "replication": [0, 0, 0, 0, 1, 1, 1, 1],
            "replica": [0, 1] * 4,
            "t_s": [0.0, 0.0, 5.0, 5.0] * 2,
            "waiting": [1, 2, 3, 4, 5, 6, 7, 8],
        }
    )
    curve = over_time(timeline, "waiting")
    assert curve is not None
    assert curve.x.tolist() == [0.0, 5.0]
    assert curve.y.tolist() == [(3 + 11) / 2, (7 + 15) / 2]


def test_a_replication_that_has_ended_has_nothing_waiting() -> None:
    timeline = pd.DataFrame({"replication": [0, 0, 0, 1], "t_s": [0.0, 5.0, 10.0, 0.0], "waiting": [4, 4, 4, 8]})
    curve = over_time(timeline, "waiting")
    assert curve is not None
    assert curve.y.tolist() == [6.0, 2.0, 2.0]


def test_long_timelines_are_thinned_to_means() -> None:
    times = np.linspace(0.0, 1000.0, 5_001)
    curve = over_time(pd.DataFrame({"replication": 0, "t_s": times, "waiting": times}), "waiting")
    assert curve is not None
    assert len(curve.x) <= POINTS
    assert np.abs(curve.x - curve.y).max() < 1000.0 / POINTS


def test_pictures_in_the_page_take_every_colour_from_it(comparison: View) -> None:
    for plot in draw(comparison):
        svg = plot.svg()
        assert "var(--" in svg
        assert "0b0c" not in svg
        assert not [colour for colour in (*LIGHT.values(), *DARK.values()) if colour in svg]


def test_pictures_as_files_stand_alone(comparison: View) -> None:
    for plot in draw(comparison):
        assert plot.file("png").startswith(b"\x89PNG")
        svg = plot.file("svg").decode()
        assert "var(--" not in svg
        assert "0b0c" not in svg
        assert svg.startswith("<?xml")


def test_a_run_has_no_plot_of_cost_against_attainment(run: View, comparison: View) -> None:
    assert "cost" not in {plot.name for plot in draw(run)}
    heat = {"heat-kv", "heat-latency-0", "heat-latency-1", "heat-latency-2"}
    assert {"cdf-ttft", "cdf-tpot", "cdf-e2e", "waiting", "running", "cost"} | heat == {
        plot.name for plot in draw(comparison)
    }


@pytest.mark.parametrize("count", [2, 6, 40])
def test_names_of_options_that_cost_and_serve_alike_are_not_written_over_each_other(
    comparison: View, count: int
) -> None:
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

    first = comparison.options[0]
    options = tuple(replace(first, name=f"option-{number}") for number in range(count))
    (cost,) = [plot for plot in draw(replace(comparison, options=options)) if plot.name == "cost"]
    axes = Figure().subplots()
    cost.paint(axes, LIGHT)
    heights = sorted(text.xyann[1] for text in axes.texts if isinstance(text, Annotation))
    assert len(heights) == count
    if count < 15:  # more have no room beside one point
        assert min(np.diff(heights)) >= 11


def test_no_option_on_the_front_is_beaten_and_every_other_is() -> None:
    points = [(1.0, 0.5), (2.0, 0.9), (2.0, 0.8), (3.0, 0.9), (4.0, 1.0), (0.5, 0.1)]
    assert front(points) == [5, 0, 1, 4]


def test_a_grid_counts_every_request_that_was_served_once() -> None:
    generator = np.random.default_rng(5)
    at, took = generator.uniform(0.0, 100.0, 5_000), generator.lognormal(0.0, 1.0, 5_000)
    took[:100] = np.nan
    grids = latency_grids([(at, took), (at[:50], took[:50])])
    assert grids is not None
    assert [grid.values.sum() for grid in grids] == [4_900, 0]
    assert grids[0].values.size <= CELLS
    late = (at >= at[100:].max() / 2.0) & np.isfinite(took)
    assert grids[0].values[:, 30:].sum() == late.sum()  # 60 stretches of the last arrival
    assert latency_grids([(at, np.full(5_000, np.nan))]) is None


def test_a_ratio_over_time_is_of_sums() -> None:
    timeline = pd.DataFrame({"t_s": [0.0, 0.0, 5.0], "kv_used": [10, 30, 8], "kv_blocks": [100, 100, 10]})
    ratio = ratio_over_time(timeline, "kv_used", "kv_blocks", np.array([0.0, 4.0, 6.0, 8.0]))
    assert ratio[:2].tolist() == [0.2, 0.8]
    assert np.isnan(ratio[2])
