"""The store: what it keeps it finds, the same to the byte; what is not whole does not count."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pandas as pd
import pytest

import sim
from sim.study import Outcome, Study, Task
from sim.study.store import RunStore
from sim.study.sweep import load
from tests.study.small import RATE, REPLICAS, files, write

ABOUT = {"scenario": "small.yaml", "question": "", "twinfer": "0", "confidence": 0.95, "asked": {"over": []}}


@pytest.fixture
def scenario(tmp_path: Path) -> sim.Scenario:
    return sim.load(write(tmp_path))


@pytest.fixture
def store(tmp_path: Path, scenario: sim.Scenario) -> RunStore:
    return RunStore.open(tmp_path / "store", scenario.digest(), ABOUT)


def evaluated(scenario: sim.Scenario, store: RunStore | None, *tasks: Task) -> list[Outcome]:
    return list(Study(scenario, jobs=1, store=store).evaluate(tasks))


def one(store: RunStore) -> Path:
    (path,) = (store.folder / "runs").glob("*.parquet")
    return path


def test_what_was_kept_is_found_whole(scenario: sim.Scenario, store: RunStore) -> None:
    task = Task({REPLICAS: 2})
    (fresh,) = evaluated(scenario, store, task)
    found = store.find(task, fresh.key)
    assert found == fresh
    assert found.figures.summary() == fresh.figures.summary()  # type: ignore[union-attr]


def test_draws_from_the_doubt_of_profiles_are_kept(tmp_path: Path) -> None:
    from sim.observe.objectives import Figures
    from sim.study.task import Done

    figures = Figures(
        [{"ttft_p99": 1.0}], {"chat": [{"ttft_p99": float("nan")}]}, drawn=Figures([{"ttft_p99": 2.0}], {"chat": [{}]})
    )
    store = RunStore.open(tmp_path / "doubt", "base", ABOUT)
    outcome = Outcome(Task({}), "k" * 64, *Done(figures))
    store.keep(outcome)
    found = store.find(Task({}), "k" * 64)
    assert found is not None
    assert found.figures is not None
    assert found.figures.drawn is not None
    assert found.figures.drawn.values("ttft_p99") == [2.0]
    table = pd.read_parquet(one(store))
    assert table[["workload", "drawn", "ttft_p99"]].isna().sum().tolist() == [2, 0, 2]


def test_a_run_is_run_once_however_often_it_is_asked_for(scenario: sim.Scenario, store: RunStore) -> None:
    # an option that comes to the same as a path
    tasks = [Task({REPLICAS: 2}), Task({"option": "two"}), Task({REPLICAS: 2})]
    outcomes = evaluated(scenario, store, *tasks)
    assert [outcome.task for outcome in outcomes] == tasks
    assert len({outcome.key for outcome in outcomes}) == 1
    assert one(store).stem == outcomes[0].key


def test_which_of_two_names_a_run_gets_does_not_depend_on_who_came_first(
    scenario: sim.Scenario, tmp_path: Path
) -> None:
    kept = []
    for number, order in enumerate(([REPLICAS, "option"], ["option", REPLICAS])):
        store = RunStore.open(tmp_path / str(number), scenario.digest(), ABOUT)
        for path in order:
            evaluated(scenario, store, Task({path: 2 if path == REPLICAS else "two"}))
        kept.append(files(store.folder))
    assert kept[0] == kept[1]


def test_every_replication_has_a_row_of_all_requests_and_of_each_workload(
    scenario: sim.Scenario, store: RunStore
) -> None:
    (outcome,) = evaluated(scenario, store, Task({REPLICAS: 2, RATE: "7/s"}, first=3, count=4))
    table = pd.read_parquet(one(store))
    assert table["replication"].tolist() == [3, 4, 5, 6] * 2
    assert table["workload"].fillna("all").tolist() == ["all"] * 4 + ["chat"] * 4
    assert set(table[REPLICAS]) == {2.0}
    assert set(table[RATE]) == {"7/s"}
    assert outcome.figures is not None
    assert table["ttft_p99"].tolist()[:4] == outcome.figures.values("ttft_p99")


@pytest.mark.parametrize("spoil", ["cut", "empty", "foreign", "renamed"])
def test_a_file_that_is_torn_or_foreign_is_said_and_run_again(
    spoil: str, scenario: sim.Scenario, store: RunStore
) -> None:
    task = Task({REPLICAS: 2})
    (fresh,) = evaluated(scenario, store, task)
    path = one(store)
    content = path.read_bytes()
    if spoil == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif spoil == "empty":
        path.write_bytes(b"")
    elif spoil == "foreign":
        pd.DataFrame({"a": [1]}).to_parquet(path)
    else:
        (other,) = evaluated(scenario, store, Task({REPLICAS: 3}))
        (path.parent / f"{other.key}.parquet").replace(path)
    assert store.find(task, fresh.key) is None
    assert "is no run of twinfer, or a torn one" in store.notes[0]
    assert str(path) in store.notes[0]
    evaluated(scenario, store, task)
    assert path.read_bytes() == content


def test_a_point_that_cannot_be_is_recorded_and_not_tried_again(scenario: sim.Scenario, store: RunStore) -> None:
    tasks = [Task({REPLICAS: -1}), Task({REPLICAS: 99})]  # no scenario; a scenario that does not fit its machines
    first = evaluated(scenario, store, *tasks)
    assert all(outcome.error and not outcome.passing for outcome in first)
    kept = {path: path.stat().st_mtime_ns for path in (store.folder / "failed").iterdir()}
    assert len(kept) == 2
    assert json.loads(next(iter(kept)).read_text())["error"]
    assert store.find(tasks[1], first[1].key) == first[1]


def test_a_failure_that_may_pass_is_tried_again(
    scenario: sim.Scenario, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sim.experiment import replication

    task = Task({REPLICAS: 2})
    with monkeypatch.context() as patched:
        patched.setattr(replication, "plan", lambda *_: 1 / 0)
        (first,) = evaluated(scenario, store, task)
    assert first.error == "ZeroDivisionError: division by zero"
    assert first.passing
    assert list((store.folder / "failed").iterdir())
    (second,) = evaluated(scenario, store, task)
    assert second.error is None
    assert not list((store.folder / "failed").iterdir())


def test_what_a_killed_process_left_half_written_is_swept_up(scenario: sim.Scenario, store: RunStore) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    evaluated(scenario, store, Task({REPLICAS: 2}))
    path = one(store)
    import socket

    host = socket.gethostname().replace(".", "-")
    dead = path.with_name(f".{path.name}.{host}.{process.pid}.tmp")
    living = path.with_name(f".{path.name}.{host}.{os.getppid()}.tmp")
    for scratch in (dead, living):
        scratch.write_bytes(b"half")
    RunStore.open(store.folder, scenario.digest(), ABOUT)
    assert not dead.exists()
    assert living.exists()


def test_a_store_of_another_scenario_is_extended_and_that_is_said(scenario: sim.Scenario, store: RunStore) -> None:
    evaluated(scenario, store, Task({REPLICAS: 2}))
    other = sim.load(scenario.path, {"run.seed": 99})  # type: ignore[arg-type]
    again = RunStore.open(store.folder, other.digest(), ABOUT)
    assert "holds runs of another scenario" in again.notes[0]
    evaluated(other, again, Task({REPLICAS: 2}))
    assert len(list((store.folder / "runs").iterdir())) == 2
    assert [outcome.manifest["seed"] for outcome in again.outcomes()] == [99]


@pytest.mark.parametrize("held", ["notes.txt", "requests.parquet"])
def test_a_folder_of_something_else_is_left_alone(held: str, tmp_path: Path) -> None:
    (tmp_path / held).write_text("mine")
    with pytest.raises(sim.ResultError, match=f"holds files that are no sweep's \\('{held}'\\); name a new folder"):
        RunStore.open(tmp_path, "base", ABOUT)
    assert [path.name for path in tmp_path.iterdir()] == [held]


def test_a_folder_with_another_sweep_json_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(sim.ResultError, match="cannot be read"):
        RunStore.open(tmp_path, "base", ABOUT)
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.json"]


def test_a_store_that_is_none_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(sim.ResultError, match="there is no such directory"):
        load(tmp_path / "nowhere")
    with pytest.raises(sim.ResultError, match=r"sweep\.json: is missing"):
        load(tmp_path)
    (tmp_path / "sweep.json").write_text('{"kind": "sweep", "format": 99}')
    with pytest.raises(sim.ResultError, match="format 99; this version reads format 1"):
        load(tmp_path)


def test_duckdb_reads_all_runs_in_a_line(scenario: sim.Scenario, tmp_path: Path) -> None:
    sim.sweep(scenario, {REPLICAS: [1, 2, 99], RATE: ["5/s", "9/s"]}, jobs=1, store=tmp_path / "store")
    rows = duckdb.sql(
        f"""select "{REPLICAS}" as replicas, "{RATE}" as rate, count(*) as replications, avg(ttft_p99) as ttft_p99
        from '{tmp_path}/store/runs/*.parquet' where workload is null group by all order by replicas, rate"""
    ).df()
    assert rows[["replicas", "rate", "replications"]].to_numpy().tolist() == [
        [replicas, rate, 2] for replicas in (1.0, 2.0) for rate in ("5/s", "9/s")
    ]
    frame = load(tmp_path / "store").frame
    assert rows["ttft_p99"].tolist() == pytest.approx(frame["ttft_p99"].dropna().tolist(), rel=1e-12)


def test_stores_of_shards_copied_together_are_the_store_of_the_whole(scenario: sim.Scenario, tmp_path: Path) -> None:
    import shutil

    over = {REPLICAS: "1..5"}
    sim.sweep(scenario, over, jobs=1, store=tmp_path / "whole")
    for number in (2, 1):
        sim.sweep(scenario, over, jobs=1, store=tmp_path / f"part{number}", shard=(number, 2))
        shutil.copytree(tmp_path / f"part{number}", tmp_path / "together", dirs_exist_ok=True)
    assert files(tmp_path / "together") == files(tmp_path / "whole")


def test_all_runs_are_read_in_the_order_of_their_keys(scenario: sim.Scenario, store: RunStore) -> None:
    (outcome,) = evaluated(scenario, store, Task({REPLICAS: 2}))
    keys = [f"{number:064x}" for number in range(40)]
    one(store).unlink()
    for key in keys:
        store.keep(Outcome(outcome.task, key, outcome.figures))
    assert [found.key for found in store.outcomes()] == keys
