"""simulate and compare: what they promise whatever the machine."""

from __future__ import annotations

import csv
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import sim
from sim.experiment import pool

Write = Callable[..., Path]


def saved(result: sim.Result | sim.Comparison, folder: Path) -> dict[str, bytes]:
    result.save(folder)
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_same_scenario_gives_the_same_bytes_with_one_worker_and_with_two(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = sim.load(write())
    alone = saved(sim.compare(scenario, jobs=1), tmp_path / "alone")
    monkeypatch.setattr(pool, "_WORTH_S", -1.0)  # hand over to worker processes at once
    together = saved(sim.compare(scenario, jobs=2), tmp_path / "together")
    assert alone == together
    assert len(alone) > 10


def test_another_seed_gives_other_requests(write: Write) -> None:
    scenario = sim.load(write())
    one, other = (sim.simulate(scenario, seed=seed, replications=1) for seed in (1, 2))
    assert one.summary["ttft_mean"].value != other.summary["ttft_mean"].value


def test_options_see_the_same_requests(write: Write) -> None:
    comparison = sim.compare(sim.load(write()), replications=2)
    two, three = (comparison.options[name].records for name in ("two", "three"))
    for left, right in zip(two, three, strict=True):
        for name in ("arrival_s", "prompt_tokens", "output_tokens"):
            assert np.array_equal(left.columns[name], right.columns[name])
    assert not np.array_equal(two[0].columns["arrival_s"], two[1].columns["arrival_s"])


def test_replications_are_added_until_the_interval_is_as_narrow_as_asked(write: Write) -> None:
    run = "{duration: 30s, replications: 2, warmup: 5s, precision: {metric: ttft_mean, half_width: 5%, max_replications: 60}}"
    result = sim.simulate(sim.load(write(run=run)))
    estimate = result.summary["ttft_mean"]
    assert 2 < result.replications <= 60
    assert estimate.half_width is not None
    assert estimate.half_width <= 0.05 / 1.05 * estimate.value or result.replications == 60


def test_two_replications_that_happen_to_agree_are_not_enough(write: Write) -> None:
    run = "{duration: 30s, replications: 2, warmup: 0, precision: {metric: usd_per_hour, max_replications: 50}}"
    result = sim.simulate(sim.load(write(run=run)))
    assert result.summary["usd_per_hour"].half_width == 0.0
    assert result.replications > 2


def test_precision_stops_at_its_most_replications(write: Write) -> None:
    run = "{duration: 5s, replications: 2, warmup: 0, precision: {metric: ttft_p99, half_width: 0.01%, max_replications: 4}}"
    assert sim.simulate(sim.load(write(run=run))).replications == 4


def test_a_replayed_trace_is_run_once_and_leaves_no_interval(write: Write, tmp_path: Path) -> None:
    trace = tmp_path / "requests.csv"
    with trace.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["arrival_s", "prompt_tokens", "output_tokens"])
        rows.writerows([[i * 0.1, 100 + i, 20] for i in range(50)])
    changes = {
        "workloads.chat.arrivals.trace": str(trace),
        "deployments.chat.router.kind": "least-outstanding",
        "workloads.chat.lengths": None,
        "run.warmup": 0,
    }
    result = sim.simulate(sim.load(write(), changes))
    assert result.replications == 1
    assert result.manifest["exact"] is True
    assert result.summary["requests"].value == 50
    assert result.requests["prompt_tokens"].tolist() == [100 + i for i in range(50)]


def test_a_random_router_leaves_something_to_chance(write: Write, tmp_path: Path) -> None:
    trace = tmp_path / "requests.csv"
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n0,10,10\n1,10,10\n")
    changes = {"workloads.chat.arrivals.trace": str(trace), "workloads.chat.lengths": None}
    assert sim.simulate(sim.load(write(), changes)).replications == 3


def test_the_reference_mode_gives_the_same_requests_table(write: Write) -> None:
    changes = {"run.duration": "5s", "run.replications": 1, "run.warmup": 0}
    fast = sim.simulate(sim.load(write(), changes))
    slow = sim.simulate(sim.load(write(), changes | {"run.mode": "reference"}))
    assert fast.requests.equals(slow.requests)
    assert fast.summary["itl_p99"] == slow.summary["itl_p99"]


def test_closed_loop_users_keep_their_number_of_requests_in_flight(write: Write) -> None:
    changes = {
        "workloads.chat.arrivals.closed_loop": 8,
        "workloads.chat.lengths": {"prompt": 200, "output": 50},
        "run.duration": "20s",
        "run.replications": 1,
        "deployments.chat.replicas": 1,
    }
    record = sim.simulate(sim.load(write(), changes)).records[0]
    arrival, end = record.columns["arrival_s"], record.columns["end_s"]
    for now in (5.0, 10.0, 15.0):
        assert ((arrival <= now) & (end > now)).sum() == 8


def test_what_the_api_returns_can_be_pickled(write: Write) -> None:
    scenario = pickle.loads(pickle.dumps(sim.load(write())))
    comparison = pickle.loads(pickle.dumps(sim.compare(scenario, replications=2)))
    assert comparison.options["two"].summary["ttft_p99"].value > 0


def test_progress_is_told_of_every_replication(write: Write) -> None:
    seen: list[tuple[int, int, str]] = []
    sim.compare(sim.load(write()), replications=2, progress=lambda *args: seen.append(args))
    assert [done for done, _, _ in seen] == [1, 2, 3, 4]
    assert {name for _, _, name in seen} == {"two", "three"}


@pytest.mark.parametrize(("argument", "value"), [("seed", -1), ("replications", 0)])
def test_arguments_out_of_range_are_bad_input(write: Write, argument: str, value: int) -> None:
    with pytest.raises(sim.ConfigError, match=f"^{argument}: {value} is less than"):
        sim.simulate(sim.load(write()), **{argument: value})


def test_a_comparison_without_options_says_so(write: Write) -> None:
    path = write()
    path.write_text(path.read_text().split("options:")[0])
    with pytest.raises(sim.ConfigError, match=r"small.yaml: options: a comparison needs options"):
        sim.compare(sim.load(path))


@pytest.mark.parametrize("arrivals", ["{closed_loop: 4}", "{rate: 20/s}"])
def test_rates_are_over_the_time_in_which_requests_came_not_over_a_longer_duration(write: Write, arrivals: str) -> None:
    # "duration seconds or requests of each workload, whichever ends first": what comes after the last one is no load
    lasting, limited = (
        sim.simulate(sim.load(write(run=f"{{{run}, warmup: 0, replications: 1}}", **{"    arrivals": arrivals})))
        for run in ("duration: 1h, requests: 80", "requests: 80")
    )
    for figure in ("throughput_rps", "gpu_utilization", "usd_per_1m_tokens"):
        assert lasting.summary[figure].value == pytest.approx(limited.summary[figure].value, rel=0.05), figure


@pytest.mark.parametrize("call", [sim.simulate, sim.compare])
@pytest.mark.parametrize("what", ["small.yaml", None, 3, {}])
def test_what_is_no_scenario_is_bad_input(call: Callable[..., object], what: object) -> None:
    with pytest.raises(sim.ConfigError, match=r"^scenario: .* is not a scenario: sim.load\(path\) gives one$"):
        call(what)


@pytest.mark.parametrize("wrong", [{"jobs": "2"}, {"replications": 1.5}, {"seed": "x"}, {"seed": True}, {"jobs": 0}])
def test_arguments_of_another_type_are_bad_input(write: Write, wrong: dict[str, object]) -> None:
    with pytest.raises(sim.ConfigError, match=f"^{next(iter(wrong))}: "):
        sim.simulate(sim.load(write()), **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [3, None, []])
def test_a_result_is_saved_and_loaded_by_a_path_and_nothing_else(wrong: object) -> None:
    for load in (sim.Result.load, sim.Comparison.load):
        with pytest.raises(sim.ResultError, match="is not the path of a directory"):
            load(wrong)  # type: ignore[arg-type]


def test_lengths_given_beside_a_trace_are_said_to_replace_those_of_the_trace(write: Write, tmp_path: Path) -> None:
    (tmp_path / "few.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,10,3\n1,20,4\n")
    changes = {"workloads.chat.arrivals.trace": str(tmp_path / "few.csv"), "run.warmup": 0}
    given = sim.simulate(sim.load(write(), changes), replications=1)
    assert any("not those of the trace" in warning for warning in given.warnings)
    own = sim.simulate(sim.load(write(), {**changes, "workloads.chat.lengths": None}), replications=1)
    assert own.requests["prompt_tokens"].tolist() == [10, 20]
    assert not any("of the trace" in warning for warning in own.warnings)
