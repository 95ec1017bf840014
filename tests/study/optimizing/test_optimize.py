"""sim.optimize on simulated scenarios: one answer whatever the workers, kept runs, samplers, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import sim
from sim.config.loading import load_text
from sim.errors import ConfigError, TwinferError
from sim.study.optimizing.monotone import monotone
from sim.study.optimizing.words import named, names
from sim.study.points import space

SMALL = """\
question: How many GPUs?
run: {requests: 80, warmup: 0, replications: 5, seed: 3}
models: {llama: {architecture: llama-3.1-8b}}
cluster: {pools: [{name: h100, gpu: h100-sxm, gpus_per_node: 1, price: 2.5, nodes: 6}]}
workloads:
  - name: chat
    model: llama
    arrivals: {rate: 150/s}
    lengths: {prompt: 500, output: 40}
    objectives: {ttft_p99: 500ms}
deployments:
  - {name: chat, model: llama, pool: h100, profile: h100-sxm/llama-3.1-8b/tp1, replicas: 1, router: {kind: least-outstanding}}
options:
  plain: {}
  turns: {deployments.chat.router.kind: round-robin}
"""
REPLICAS = "deployments.chat.replicas"


@pytest.fixture(scope="module")
def scenario() -> sim.Scenario:
    return load_text(SMALL)


@pytest.fixture(scope="module")
def found(scenario: sim.Scenario) -> sim.Optimum:
    return sim.optimize(scenario, over={REPLICAS: "1..6"}, jobs=1)


def test_the_least_number_of_replicas_that_a_long_run_confirms(scenario: sim.Scenario, found: sim.Optimum):
    assert found.method == "bisect"
    assert found.winner is not None
    best = found.winner[REPLICAS]
    long = {
        n: sim.simulate(scenario.with_changes({REPLICAS: n}), replications=30, jobs=1) for n in (best - 1, best) if n
    }
    assert {standing.status for standing in long[best].objectives} == {"meets"}
    if best > 1:
        assert "misses" in {standing.status for standing in long[best - 1].objectives}
    assert found.figures is not None
    assert found.figures.estimate("usd_per_hour").value == pytest.approx(2.5 * best)  # one GPU a machine, 2.5 each


def test_the_price_known_beforehand_is_that_of_the_run(scenario: sim.Scenario, found: sim.Optimum):
    looked = [one for one in found.search.candidates if one.figures is not None]
    assert looked
    for one in looked:
        assert one.price == pytest.approx(one.figures.estimate("usd_per_hour").value, rel=1e-9)


def test_the_winner_is_a_scenario_file(found: sim.Optimum, tmp_path: Path):
    found.save(tmp_path)
    assert {place.name for place in tmp_path.iterdir()} == {"optimum.json", "points.parquet", "winner.yaml"}
    assert found.winner_scenario is not None
    assert sim.load(tmp_path / "winner.yaml").digest() == found.winner_scenario.digest()
    before = {place.name: place.read_bytes() for place in tmp_path.iterdir()}
    found.save(tmp_path)
    assert before == {place.name: place.read_bytes() for place in tmp_path.iterdir()}


def test_files_the_scenario_names_are_found_from_where_the_winner_is(tmp_path: Path):
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n" + "".join(f"{n * 0.2},200,10\n" for n in range(40)))
    text = SMALL.replace("arrivals: {rate: 150/s}", "arrivals: {trace: trace.csv}").replace(
        "    lengths: {prompt: 500, output: 40}\n", ""
    )
    (tmp_path / "replay.yaml").write_text(text.replace("requests: 80, ", ""))
    found = sim.optimize(sim.load(tmp_path / "replay.yaml"), over={REPLICAS: [1, 2]}, jobs=1)
    assert found.winner == {REPLICAS: 1}
    assert found.spent <= 2  # nothing is left to chance: a replication says all
    found.save(tmp_path / "out" / "deep")
    assert "../../trace.csv" in (tmp_path / "out" / "deep" / "winner.yaml").read_text()
    sim.simulate(sim.load(tmp_path / "out" / "deep" / "winner.yaml"), jobs=1)


def test_the_same_answer_with_two_workers_and_from_what_was_kept(
    scenario: sim.Scenario, found: sim.Optimum, tmp_path: Path
):
    first = sim.optimize(scenario, over={REPLICAS: "1..6"}, jobs=2, store=tmp_path)
    assert first.to_json() == found.to_json()
    kept = sorted(place.name for place in (tmp_path / "runs").iterdir())
    again = sim.optimize(scenario, over={REPLICAS: "1..6"}, jobs=1, store=tmp_path)
    assert again.to_json() == found.to_json()
    assert kept == sorted(place.name for place in (tmp_path / "runs").iterdir())


def test_what_was_run_before_it_was_interrupted_is_not_run_again(
    scenario: sim.Scenario, found: sim.Optimum, tmp_path: Path
):
    def stop(done: int, most: int, what: str) -> None:
        if done > 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sim.optimize(scenario, over={REPLICAS: "1..6"}, jobs=1, store=tmp_path, progress=stop)
    kept = {place.name: place.stat().st_mtime_ns for place in (tmp_path / "runs").iterdir()}
    assert kept
    again = sim.optimize(scenario, over={REPLICAS: "1..6"}, jobs=1, store=tmp_path)
    assert again.to_json() == found.to_json()
    assert kept.items() <= {place.name: place.stat().st_mtime_ns for place in (tmp_path / "runs").iterdir()}.items()


def test_selection_over_options_and_numbers(scenario: sim.Scenario, found: sim.Optimum):
    both = sim.optimize(scenario, over={"option": ["plain", "turns"], REPLICAS: [1, 2, 3, 4]}, jobs=1)
    assert both.method == "select"
    assert both.winner is not None
    assert found.winner is not None
    assert both.winner[REPLICAS] <= found.winner[REPLICAS]
    assert both.exhaustive == 8 * 5
    assert set(both.table["status"]) <= {"winner", "meets", "misses", "undecided", "not cheaper", "not looked at"}
    assert "table" in both._repr_html_()


def test_replicas_that_nobody_scales_are_taken_to_help(scenario: sim.Scenario):
    def of(scenario: sim.Scenario, *paths: str, given: list[str] | None = None) -> tuple[str, ...]:
        over = {path: ["plain", "turns"] if path == "option" else [1, 2] for path in paths}
        return monotone(scenario, space(scenario, over), given)

    seqs = "deployments.chat.engine.max_num_seqs"
    assert of(scenario, REPLICAS, seqs, "option") == (REPLICAS,)
    assert of(scenario, "deployments.0.replicas") == ("deployments.0.replicas",)
    assert of(scenario, REPLICAS, seqs, given=[seqs]) == (seqs,)
    assert of(scenario, REPLICAS, given=[]) == of(scenario, REPLICAS, given=["none"]) == ()
    assert of(scenario, REPLICAS, "workloads.chat.arrivals.rate") == ()  # more replicas need not help with more load
    scales = "autoscaler: {kind: hpa, max: 4, metric: running, target: 4}"
    scaled = load_text(
        SMALL.replace("router: {kind: least-outstanding}}", f"router: {{kind: least-outstanding}}, {scales}}}")
    )
    assert of(scaled, REPLICAS) == ()
    by_option = load_text(SMALL.replace("turns: {", "turns: {deployments.chat." + scales + ", "))
    assert of(by_option, REPLICAS) == (REPLICAS,)
    assert of(by_option, REPLICAS, "option") == ()


def test_the_answer_says_what_was_taken_for_granted_and_not_if_it_may_not_be(scenario: sim.Scenario):
    over = {"deployments.chat.engine.max_num_seqs": [8, 64], REPLICAS: [1, 2, 3, 4, 5, 6]}
    hard = scenario.with_changes({"workloads.chat.objectives.ttft_p99": "150ms"})
    assumed = sim.optimize(hard, over=over, jobs=1)
    free = sim.optimize(hard, over=over, monotone=[], jobs=1)
    assert assumed.winner == free.winner
    assert any(row == "assumed" for row in assumed.table["status"])
    assert "taking it that more replicas can only help" in assumed.sentence
    assert "taking it" not in free.sentence
    assert "assumed" not in set(free.table["status"])


def test_the_pareto_front_is_that_of_brute_force(found: sim.Optimum):
    rows = [row for row in found.table.to_dict("records") if row["replications"] >= 3]
    signs = {"usd_per_hour": 1, "ttft_p99": 1, "slo_attainment": -1}
    expected = {
        row[REPLICAS]
        for row in rows
        if not any(
            all(sign * other[aim] <= sign * row[aim] for aim, sign in signs.items())
            and any(sign * other[aim] < sign * row[aim] for aim, sign in signs.items())
            for other in rows
        )
    }
    assert set(found.pareto[REPLICAS]) == expected


@pytest.mark.parametrize("method", ["tpe", *(pytest.param(name, marks=pytest.mark.verify) for name in ("nsga2", "gp"))])
def test_samplers_find_what_selection_finds(scenario: sim.Scenario, found: sim.Optimum, method: str):
    pytest.importorskip("optuna")
    if method == "gp":
        pytest.importorskip("torch")
    space: dict[str, Any] = {REPLICAS: "1..6", "deployments.chat.engine.gpu_memory_utilization": "0.7..0.9"}
    one = sim.optimize(scenario, over=space, method=method, replications=400, jobs=1)
    assert one.winner is not None
    assert found.winner is not None
    assert one.winner[REPLICAS] == found.winner[REPLICAS]
    assert one.spent <= 400
    assert one.explored
    # finalists are judged by replications that exploring has not seen
    assert one.search.offset > max(candidate.replications for candidate in one.explored)


def test_a_sampler_is_repeatable(scenario: sim.Scenario):
    pytest.importorskip("optuna")
    space: dict[str, Any] = {REPLICAS: "1..6", "deployments.chat.engine.gpu_memory_utilization": "0.7..0.9"}
    twice = [sim.optimize(scenario, over=space, method="tpe", replications=40, jobs=1).to_json() for _ in range(2)]
    assert twice[0] == twice[1]


@pytest.mark.parametrize("budget", [6, 20])
def test_a_sampler_takes_no_more_than_it_may_and_confirms_with_what_it_kept(scenario: sim.Scenario, budget: int):
    pytest.importorskip("optuna")
    found = sim.optimize(scenario, over={REPLICAS: "1..6"}, method="tpe", replications=budget, jobs=1)
    assert sum(one.replications for one in found.explored) <= 0.6 * budget
    assert sum(one.replications for one in found.search.candidates) >= 3
    assert found.spent <= budget


def test_the_table_has_what_was_minimized_with_its_interval(scenario: sim.Scenario):
    found = sim.optimize(scenario, over={REPLICAS: [2, 3]}, minimize="tpot_p99", replications=8, jobs=1)
    assert {"tpot_p99", "tpot_p99_half_width"} <= set(found.table.columns)


@pytest.mark.parametrize("method", ["select", "tpe"])
def test_a_value_may_be_a_whole_section(scenario: sim.Scenario, method: str, tmp_path: Path):
    if method == "tpe":
        pytest.importorskip("optuna")
    routers = [{"kind": "round-robin"}, {"kind": "power-of-two"}]
    space: dict[str, Any] = {"deployments.chat.router": routers, REPLICAS: [2, 3]}
    found = sim.optimize(scenario, over=space, method=method, replications=24, jobs=1)
    assert found.winner is not None
    assert found.winner[REPLICAS] == 2
    assert found.winner["deployments.chat.router"] in routers
    found.save(tmp_path)
    assert sim.load(tmp_path / "winner.yaml").deployments[0].replicas == 2
    looked = {repr(one.point) for one in (*found.search.candidates, *found.explored) if one.figures is not None}
    assert f"of {len(looked)} points" in found.effort


def test_a_space_that_cannot_be_listed_is_sampled_by_itself(scenario: sim.Scenario):
    pytest.importorskip("optuna")
    space = {"deployments.chat.engine.gpu_memory_utilization": "0.7..0.9"}
    assert sim.optimize(scenario, over=space, replications=60, jobs=1).method == "tpe"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "give paths with their values"),
        ({"over": {"deployments.chat.replica": "1..3"}}, "did you mean 'replicas'"),
        ({"over": {REPLICAS: "3..1"}}, "is not less than"),
        ({"over": {REPLICAS: "1..3"}, "method": "biscet"}, "did you mean 'bisect'"),
        ({"over": {REPLICAS: "1..3"}, "minimize": "usd_per_hours"}, "did you mean 'usd_per_hour'"),
        ({"over": {REPLICAS: "1..3"}, "pareto": ["ttft"]}, "is not a figure"),
        ({"over": {REPLICAS: "1..3"}, "confidence": 1.5}, "confidence: 1.5 is not a number between 0 and 1"),
        ({"over": {REPLICAS: "1..3"}, "replications": 1}, "replications: 1 is not a whole number of 2 or more"),
        (
            {"over": {REPLICAS: "1..3"}, "replications": 5, "method": "tpe"},
            "replications: 5 are too few for method tpe",
        ),
        ({"over": {REPLICAS: "1..99999"}, "method": "bisect"}, "cannot be listed"),
        ({"over": {REPLICAS: "1..3", "option": ["plain"]}, "monotone": ["deployments.chat.replica"]}, "did you mean"),
        (
            {"over": {REPLICAS: "1..3", "option": ["plain"]}, "monotone": "option"},
            "the values of option are not numbers",
        ),
        ({"over": {REPLICAS: "1..9"}, "method": "bisect", "monotone": []}, "monotone none needs method select"),
        ({"over": {REPLICAS: "1..3", "option": ["plain"]}, "method": "bisect"}, "bisect needs one number"),
        ({"over": {"run.duration": "1.5s..2.5s"}, "method": "select"}, "needs values that can be listed"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(scenario: sim.Scenario, arguments: dict[str, Any], said: str):
    with pytest.raises(TwinferError, match=said):
        sim.optimize(scenario, jobs=1, **arguments)


def test_a_scenario_without_objectives_is_refused(scenario: sim.Scenario):
    aimless = load_text(SMALL.replace("    objectives: {ttft_p99: 500ms}\n", ""))
    with pytest.raises(ConfigError, match="no workload has objectives"):
        sim.optimize(aimless, over={REPLICAS: "1..2"}, jobs=1)


def test_names_are_short_and_tell_paths_apart():
    assert named({REPLICAS: 3, "deployments.chat.router.kind": "random"}) == "replicas 3, router.kind random"
    paths = [REPLICAS, "deployments.batch.replicas"]
    assert names(paths) == {path: path for path in paths}
    assert named({"option": "hpa"}) == "hpa"
