"""Heat maps of a sweep: what is 0 is drawn and said, like any other value."""

from __future__ import annotations

from pathlib import Path

import sim
from sim.config.loading import load_text
from sim.report.optimum import fronts
from sim.report.sweep import columns, page
from tests.study.small import SMALL


def test_a_share_of_0_has_a_class_of_its_own(tmp_path: Path) -> None:
    # a token takes several ms on an H100, whose memory is read once for 16 GB of weights at 3.35 TB/s: 60 take more than 0.1 s, 2 less
    scenario = load_text(SMALL.replace("ttft_p99: 2s", "e2e_p99: 100ms"))
    over = {"deployments.chat.replicas": "1..2", "workloads.chat.lengths.output": [2, 60]}
    found = sim.sweep(scenario, over, store=tmp_path, jobs=1)
    assert {0.0, 1.0} == set(found.frame["slo_attainment"])
    html = page(found)
    assert "from 0.0% to 100%" in html
    assert "0.0%–20.0%" in html


def test_an_objective_that_varies_has_no_target_and_each_point_its_own_mark(tmp_path: Path) -> None:
    # the first token takes at least a millisecond, and less than a second on an idle GPU
    found = sim.sweep(load_text(SMALL), {"workloads.chat.objectives.ttft_p99": ["1us", "60s"]}, store=tmp_path, jobs=1)
    (column,) = [column for column in columns(found) if column.metric == "ttft_p99"]
    assert column.target is None
    assert [column.status(outcome) for outcome in found.outcomes] == ["misses", "meets"]


def test_a_steep_figure_is_on_a_logarithmic_axis_with_its_numbers_written_out(tmp_path: Path) -> None:
    # one slot for a rate that it cannot serve: the longer the answers, the longer the line
    scenario = load_text(SMALL, {"deployments.chat.engine": {"max_num_seqs": 1}})
    path = "workloads.chat.lengths.output"
    found = sim.sweep(scenario, {path: [1, 4, 400]}, store=tmp_path, jobs=1)
    waits = found.frame["ttft_p99"]
    assert waits.max() > 30 * waits.min()
    assert "mathdefault" not in page(found)
    chosen = sim.optimize(
        scenario,
        over={path: [1, 4, 400]},
        pareto=["output_tokens_per_s", "ttft_p99", "slo_attainment"],
        replications=20,
    )
    plots = {plot.name: str(plot.svg()) for plot in fronts(chosen)}
    assert all("mathdefault" not in svg and ">−20<" not in svg and ">120<" not in svg for svg in plots.values())
