"""Results and comparisons: what they say, and that a directory of one says the same, byte for byte."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sim.errors import ResultError
from sim.observe import Comparison, DeploymentFacts, Result, WorkloadFacts, load
from tests.observe.making import record, rejected, request, result, scenario, served

DESIGN_COLUMNS = [
    "replication",
    "request",
    "model",
    "tenant",
    "priority",
    "arrival_s",
    "prompt_tokens",
    "output_tokens",
    "cached_tokens",
    "outcome",
    "reason",
    "attempts",
    "deployment",
    "replica",
    "queued_s",
    "scheduled_s",
    "first_token_s",
    "end_s",
    "queue_s",
    "ttft_s",
    "tpot_s",
    "e2e_s",
    "retry_s",
    "gateway_s",
    "preempted_s",
    "preemptions",
    "cost_usd",
]

TARGETS = {"ttft_p99": 2.0, "tpot_p99": 0.05}


def two_workloads() -> Result:
    rows = [
        request(0.0, 0.5, 1.0, 2.0, output=11),
        request(1.0, 1.0, 2.0, 2.0, output=1, workload=1, deployment=1, replica=2),
        rejected(3.0, prompt=9_000),
        request(4.0),
    ]
    made = record(
        rows,
        workloads=(WorkloadFacts("chat", "llama", "web", TARGETS), WorkloadFacts("batch", "qwen", "night")),
        deployments=(DeploymentFacts("a", 2, 2, 7.2, 100), DeploymentFacts("b", 1, 4, 3.6, 50)),
        reasons={2: "max_model_len"},
        end=10.0,
        timeline={
            "t_s": [0.0, 0.0, 0.0, 5.0, 5.0, 5.0],
            "replica": [0, 1, 2, 0, 1, 2],
            "running": [0, 0, 0, 1, 0, 0],
            "waiting": [0] * 6,
            "kv_used": [0, 0, 0, 7, 0, 0],
            "busy_s": [0.0, 0.0, 0.0, 2.5, 0.0, 1.0],
        },
        events=[{"t_s": 0.5, "kind": "extrapolated", "deployment": "b", "reason": "why", "steps": 12, "profile": "p"}],
    )
    return Result(scenario(), [made], {"seed": 0})


def test_the_requests_table_has_the_columns_of_the_design() -> None:
    frame = two_workloads().requests
    assert list(frame.columns) == DESIGN_COLUMNS
    assert frame["model"].tolist() == ["llama", "qwen", "llama", "llama"]
    assert frame["tenant"].tolist() == ["web", "night", "web", "web"]
    assert frame["outcome"].tolist() == ["ok", "ok", "rejected", "unfinished"]
    assert frame["reason"].tolist() == ["", "", "max_model_len", ""]
    assert frame["deployment"].tolist() == ["a", "b", "a", "a"]
    assert frame["replica"].tolist() == [0, 0, -1, 0]  # within its deployment
    assert frame["ttft_s"].tolist()[:2] == [1.0, 1.0]
    assert frame["tpot_s"][0] == pytest.approx(0.1)
    assert frame["tpot_s"].isna().tolist() == [False, True, True, True]
    assert frame["e2e_s"].isna().tolist() == [False, False, True, True]


def test_the_costs_of_requests_add_up_to_what_their_deployment_cost() -> None:
    costs = two_workloads().requests.groupby("deployment")["cost_usd"].sum()
    assert costs["a"] == pytest.approx(7.2 * 10.0 / 3600.0)
    assert costs["b"] == pytest.approx(3.6 * 10.0 / 3600.0)


def test_times_that_never_were_are_null_in_the_file(tmp_path: Path) -> None:
    two_workloads().save(tmp_path / "run")
    table = pq.read_table(tmp_path / "run" / "requests.parquet")
    assert table["first_token_s"].null_count == 2
    assert table["end_s"].to_pylist() == [2.0, 2.0, 3.0, None]


def test_the_timeline_names_replicas_within_deployments_and_the_share_of_time_they_were_busy() -> None:
    frame = two_workloads().timeline
    assert frame["deployment"].tolist() == ["a", "a", "b"] * 2
    assert frame["replica"].tolist() == [0, 1, 0] * 2
    assert frame["kv_blocks"].tolist() == [100, 100, 50] * 2
    assert frame["busy"].tolist()[3:] == [0.5, 0.0, 0.2]
    assert frame["busy"].isna().tolist() == [True] * 3 + [False] * 3


def test_events_hold_rejections_and_decisions_in_order_of_time() -> None:
    frame = two_workloads().events
    assert frame["kind"].tolist() == ["extrapolated", "reject"]
    assert frame["request"].tolist() == [-1, 2]
    assert frame["reason"].tolist() == ["why", "max_model_len"]
    assert json.loads(frame["detail"][0]) == {"steps": 12, "profile": "p"}
    assert json.loads(frame["detail"][1]) == {"prompt_tokens": 9_000, "output_tokens": 11}


def test_a_run_without_timeline_events_or_requests_served_still_has_its_tables() -> None:
    empty = Result(scenario(), [record([rejected(1.0)], end=2.0)])
    assert len(empty.timeline) == 0
    assert len(empty.requests) == 1
    assert empty.to_json()["summary"]["ttft"]["p99"] == {"value": None, "half_width": None}


def test_warnings_tell_of_extrapolated_steps_and_unfinished_requests() -> None:
    warnings = two_workloads().warnings
    assert any("25.0% of the requests were still in the system" in text for text in warnings)
    assert any("b: 12 steps were priced outside what profile p measured" in text for text in warnings)
    assert Result(scenario(), [served(0)], {"warnings": ["mind the gap"]}).warnings == ["mind the gap"]


def test_a_summary_has_the_interval_of_the_replications() -> None:
    five = result(5)
    estimate = five.summary["ttft_p99"]
    values = five.figures.values("ttft_p99")
    assert estimate.value == pytest.approx(np.mean(values))
    assert estimate.half_width == pytest.approx(2.776 * np.std(values, ddof=1) / np.sqrt(5.0), rel=1e-3)
    assert result(1).summary["ttft_p99"].half_width is None


def test_json_nests_latencies_and_says_how_objectives_fare() -> None:
    content = result(5, objectives=TARGETS).to_json(out="there")
    assert set(content["summary"]["ttft"]) == {"mean", "p50", "p90", "p95", "p99"}
    assert set(content["summary"]["throughput_rps"]) == {"value", "half_width"}
    assert content["workloads"]["chat"]["e2e"]["p90"]["half_width"] > 0.0
    assert [o["status"] for o in content["objectives"]] == ["meets", "meets"]
    assert (content["options"], content["out"], content["scenario"]) == (None, "there", "chat.yaml")
    assert content["manifest"] == {"seed": 0}
    json.dumps(content, allow_nan=False)


def test_a_run_comes_back_from_its_directory(tmp_path: Path) -> None:
    saved = two_workloads()
    saved.save(tmp_path / "run")
    back = load(tmp_path / "run")
    assert isinstance(back, Result)
    assert back.to_json() == saved.to_json()
    assert back.table("requests").equals(saved.table("requests"))
    assert back.table("timeline").equals(saved.table("timeline"))
    assert back.table("events").equals(saved.table("events"))
    assert list(back.summary) == list(saved.summary)  # the order is for people
    assert back.question == "Is it enough?"
    back.save(tmp_path / "again")
    assert _bytes(tmp_path / "again") == _bytes(tmp_path / "run")


def test_the_same_result_gives_the_same_bytes_and_leaves_nothing_else(tmp_path: Path) -> None:
    result(3).save(tmp_path / "one")
    result(3).save(tmp_path / "two")
    assert _bytes(tmp_path / "one") == _bytes(tmp_path / "two")
    assert sorted(_bytes(tmp_path / "one")) == [
        "events.parquet",
        "manifest.json",
        "requests.parquet",
        "summary.json",
        "timeline.parquet",
    ]


def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    result(2).save(tmp_path / "here")
    code = f"from tests.observe.making import result; result(2).save({str(tmp_path / 'there')!r})"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
    assert _bytes(tmp_path / "here") == _bytes(tmp_path / "there")


def test_a_second_run_into_the_same_place_replaces_the_first_and_its_report(tmp_path: Path) -> None:
    result(2).save(tmp_path)
    (tmp_path / "report.html").write_text("of the first", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("the user's own", encoding="utf-8")
    result(3).save(tmp_path)
    assert load(tmp_path).to_json() == result(3).to_json()
    assert not (tmp_path / "report.html").exists()
    assert (tmp_path / "notes.txt").exists()


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ResultError, match="cannot be written"):
        result(1).save(tmp_path / "file" / "run")


@pytest.mark.parametrize(
    "name", ["manifest.json", "summary.json", "requests.parquet", "timeline.parquet", "events.parquet"]
)
@pytest.mark.parametrize("fault", ["missing", "empty", "cut", "garbage", "folder"])
def test_a_damaged_run_directory_is_refused_and_the_file_named(tmp_path: Path, name: str, fault: str) -> None:
    result(2).save(tmp_path)
    path = tmp_path / name
    content = path.read_bytes()
    path.unlink()
    if fault == "folder":
        path.mkdir()
    elif fault != "missing":
        path.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "garbage": b"\xff\x00" * 40}[fault])
    with pytest.raises(ResultError, match=name):
        load(tmp_path)


SAVED = {"metrics": ["ttft_p99"], "overall": [[1.0]], "workloads": [], "objectives": [], "exact": False}


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "song"},
        {"format": 99},
        {"figures": None},
        {"figures": SAVED | {"overall": []}},
        {"figures": SAVED | {"overall": [["slow"]]}},
        {"figures": SAVED | {"overall": [[1.0, 2.0]]}},
        {"figures": SAVED | {"objectives": [{"workload": "chat", "metric": "ttft_p99", "target": 1.0}]}},
        {"figures": SAVED | {"workloads": [{"name": "chat", "metrics": [], "values": []}]}},
        {"warmup_s": "long"},
        {"warnings": None},
    ],
)
def test_a_summary_that_is_not_ours_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    result(1).save(tmp_path)
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8")
    with pytest.raises(ResultError, match=r"summary\.json"):
        load(tmp_path)


def test_a_table_with_other_columns_is_refused(tmp_path: Path) -> None:
    result(1).save(tmp_path)
    pq.write_table(pa.table({"a": [1]}), tmp_path / "requests.parquet")
    with pytest.raises(ResultError, match="has columns a; needed: replication"):
        load(tmp_path)


def test_what_is_no_directory_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="no such directory"):
        load(tmp_path / "nowhere")
    result(1).save(tmp_path)
    with pytest.raises(ResultError, match="holds a run, not a comparison"):
        Comparison.load(tmp_path)


def comparison() -> Comparison:
    return Comparison(
        options={
            "two": result(ttft=9.0, usd_per_hour=2.0, objectives=TARGETS),
            "four": result(ttft=1.0, usd_per_hour=4.0, objectives=TARGETS),
            "eight / wide": result(ttft=0.8, usd_per_hour=8.0, objectives=TARGETS),
        },
        manifest={"seed": 0},
    )


def test_a_comparison_names_its_winner_and_tabulates_its_options() -> None:
    made = comparison()
    assert made.verdict.winner == "four"
    table = made.table(["ttft_p99", "usd_per_hour"])
    assert table.index.tolist() == ["two", "four", "eight / wide"]
    assert table[("usd_per_hour", "value")].tolist() == [2.0, 4.0, 8.0]
    assert (table[("ttft_p99", "half_width")] > 0.0).all()
    assert "four is the cheapest" in made._repr_html_()
    assert "<table>" in result(2)._repr_html_()


def test_a_comparison_comes_back_from_its_directory(tmp_path: Path) -> None:
    made = comparison()
    made.save(tmp_path / "a")
    back = load(tmp_path / "a")
    assert isinstance(back, Comparison)
    assert back.to_json() == made.to_json()
    assert list(back.options) == ["two", "four", "eight / wide"]
    comparison().save(tmp_path / "b")
    assert _bytes(tmp_path / "a") == _bytes(tmp_path / "b")


def test_a_comparison_that_lost_an_option_is_refused(tmp_path: Path) -> None:
    comparison().save(tmp_path)
    (tmp_path / "options" / "four" / "requests.parquet").unlink()
    with pytest.raises(ResultError, match=r"four.requests\.parquet"):
        load(tmp_path)


def test_options_are_read_at_one_warm_up() -> None:
    early = Result(scenario(warmup=2.0), [served(0)], {"warnings": ["w"]}, warnings=["x"])
    late = Result(scenario(warmup=5.0), [served(0)])
    made = Comparison(options={"a": early, "b": late})
    assert made.warmup_s == 5.0
    assert made.options["a"].to_json()["summary"] == late.to_json()["summary"]
    assert made.options["a"].warnings == ["w", "x"]
    assert made.warnings == ["a: w", "a: x"]


def test_a_loaded_result_cannot_change_its_warm_up(tmp_path: Path) -> None:
    result(1).save(tmp_path)
    with pytest.raises(ResultError, match="warm-up"):
        Result.load(tmp_path).at_warmup(3.0)


def test_results_and_comparisons_can_be_pickled() -> None:
    made = comparison()
    assert pickle.loads(pickle.dumps(made)).to_json() == made.to_json()


def test_the_way_from_records_to_files_imports_neither_pandas_nor_scipy(tmp_path: Path) -> None:
    code = (
        "import sys; from tests.observe.making import result; r = result(2, objectives={'ttft_p99': 1.0});"
        f"r.to_json(); r.save({str(tmp_path / 'run')!r});"
        "sys.exit(', '.join(name for name in ('pandas', 'scipy') if name in sys.modules) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False
    )
    assert done.stderr == ""
    assert done.returncode == 0


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_budget_of_a_scenario_is_among_the_objectives(tmp_path: Path) -> None:
    """3.60 $/h to the cent in every replication: within 4, beyond 3."""
    for most, status in ((4.0, "meets"), (3.0, "misses")):
        asked = scenario()
        asked.budget = SimpleNamespace(objectives={"usd_per_hour": most})
        made = Result(asked, [served(seed) for seed in range(3)], {})
        assert [(one.workload, one.metric, one.status) for one in made.objectives] == [("", "usd_per_hour", status)]
        loaded = Result.load(made.save(tmp_path / status))
        assert loaded.to_json()["objectives"] == made.to_json()["objectives"]
