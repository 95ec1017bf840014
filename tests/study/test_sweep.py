"""``sim.sweep``: from a scenario and a space to a table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import sim
from tests.study.small import RATE, REPLICAS, SMALL, write

OVER = {REPLICAS: [2, 1, 99], RATE: ["5/s", "40/s"]}


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> sim.Scenario:
    return sim.load(write(tmp_path_factory.mktemp("scenario")))


@pytest.fixture(scope="module")
def found(scenario: sim.Scenario) -> sim.SweepResult:
    return sim.sweep(scenario, OVER, jobs=1)


def test_the_frame_has_a_row_a_point_in_the_order_of_the_grid(found: sim.SweepResult) -> None:
    frame = found.frame
    assert frame[REPLICAS].tolist() == [2, 2, 1, 1, 99, 99]
    assert frame[RATE].tolist() == ["5/s", "40/s"] * 3
    assert frame["status"].tolist()[4:] == ["failed", "failed"]
    assert frame["error"].notna().tolist() == [False] * 4 + [True] * 2
    assert frame["ttft_p99"].notna().tolist() == [True] * 4 + [False] * 2


def test_a_point_is_what_simulate_finds_there(scenario: sim.Scenario, found: sim.SweepResult) -> None:
    alone = sim.simulate(scenario.with_changes({REPLICAS: 2, RATE: "40/s"}), jobs=1)
    assert found.outcomes[1].figures is not None
    assert found.outcomes[1].figures.summary() == alone.summary
    row = found.frame.iloc[1]
    for name, estimate in alone.summary.items():
        assert row[name] == pytest.approx(estimate.value, nan_ok=True)


def test_the_best_is_the_cheapest_that_meets_every_objective(scenario: sim.Scenario) -> None:
    # a GPU costs 2.50 $/h; TTFT of one request alone is some tens of milliseconds: 2 s are met, 1 us is not
    over = {REPLICAS: "1..4", "workloads.chat.objectives.ttft_p99": ["2s", "1us"]}
    found = sim.sweep(scenario, over, jobs=1)
    assert found.best is not None
    assert dict(found.best.point) == {REPLICAS: 1, "workloads.chat.objectives.ttft_p99": "2s"}
    assert [outcome.status for outcome in found.ranked] == ["meets"] * 4 + ["misses"] * 4
    assert sim.sweep(scenario, {**over, "workloads.chat.objectives.ttft_p99": ["1us"]}, jobs=1).best is None


def test_all_points_see_the_same_requests(found: sim.SweepResult) -> None:
    # common random numbers: the wait of a first request does not depend on how many replicas there are for it
    first, other = (found.outcomes[number].figures for number in (0, 2))
    assert first is not None
    assert other is not None
    assert first.values("requests") == other.values("requests")
    assert first.values("output_tokens_per_s") == pytest.approx(other.values("output_tokens_per_s"), rel=0.1)


def test_the_scenario_says_what_varies(tmp_path: Path) -> None:
    text = (
        SMALL
        + f"sweep: {{over: {{{REPLICAS}: 1..8, {RATE}: {{from: 1, to: 9}}}}, method: sobol, points: 4, seed: 2}}\n"
    )
    scenario = sim.load(write(tmp_path, text))
    found = sim.sweep(scenario, jobs=1)
    assert len(found) == 4
    assert found.paths == [REPLICAS, RATE]
    assert sim.sweep(scenario, seed=3, jobs=1).outcomes[0].point != found.outcomes[0].point
    assert len(sim.sweep(scenario, points=2, jobs=1)) == 2
    assert len(sim.sweep(scenario, {"option": ["one", "two"]}, method="grid", jobs=1)) == 2


def test_nothing_to_vary_is_said(scenario: sim.Scenario) -> None:
    with pytest.raises(sim.ConfigError, match=r"small.yaml: sweep.over: nothing varies: give paths with their values"):
        sim.sweep(scenario)


def test_a_store_is_found_again_and_what_is_in_it_is_the_same(scenario: sim.Scenario, tmp_path: Path) -> None:
    from sim.study.sweep import load

    first = sim.sweep(scenario, OVER, jobs=1, store=tmp_path / "store")
    again = sim.sweep(scenario, OVER, jobs=1, store=tmp_path / "store")
    assert (first.found, again.found) == (0, 4)  # two are no scenarios
    assert again.frame.equals(first.frame)
    loaded = load(tmp_path / "store")
    assert {o.key: o.figures for o in loaded.outcomes} == {o.key: o.figures for o in first.outcomes}
    assert loaded.paths == first.paths


def test_intervals_are_as_sure_as_is_asked_now(tmp_path: Path) -> None:
    path = write(tmp_path)
    wide = sim.sweep(sim.load(path, {"run.confidence": 0.99}), {REPLICAS: [1]}, jobs=1, store=tmp_path / "store")
    narrow = sim.sweep(sim.load(path, {"run.confidence": 0.8}), {REPLICAS: [1]}, jobs=1, store=tmp_path / "store")
    assert narrow.found == 1
    name = "ttft_mean_half_width"
    # two replications: Student's t with one degree of freedom, 63.657 and 3.078
    assert wide.frame[name][0] / narrow.frame[name][0] == pytest.approx(63.657 / 3.078, rel=1e-3)


def test_progress_is_told_of_every_point(scenario: sim.Scenario) -> None:
    seen: list[tuple[int, int]] = []
    sim.sweep(scenario, OVER, jobs=1, progress=lambda done, total, _: seen.append((done, total)))
    assert seen == [(number, 6) for number in range(1, 7)]


def test_a_notebook_shows_the_points_best_first(found: sim.SweepResult) -> None:
    page = found._repr_html_()
    assert page.index("<td>1</td>") < page.index("<td>2</td>") < page.index("<td>99</td>")
    assert "failed: " in page
    assert re.search(r"<th>deployments.chat.replicas</th>", page)
    assert repr(found).startswith("<SweepResult small.yaml: 6 points (")


def test_figures_of_a_workload_have_a_table_of_their_own(found: sim.SweepResult) -> None:
    assert "usd_per_hour" not in found.table("chat")
    assert found.table("chat")["ttft_p99"].dropna().tolist() == found.frame["ttft_p99"].dropna().tolist()
    with pytest.raises(sim.ResultError, match=r"workload: 'chats' is not one of chat \(did you mean 'chat'\?\)"):
        found.table("chats")
