"""``twinfer run``, ``compare`` and ``report``: what they print, write, and end with."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.paths import ROOT

Twinfer = Callable[..., Any]

STATISTICS = {"mean", "p50", "p90", "p95", "p99"}


def test_run_prints_a_table_and_writes_a_run_directory(twinfer: Twinfer, scenario: Path) -> None:
    ended = twinfer("run", scenario)
    assert ended.code == 0
    (place,) = Path("runs").iterdir()
    assert place.name.startswith("small-")
    assert {path.name for path in place.iterdir()} == {
        "manifest.json", "summary.json", "requests.parquet", "timeline.parquet", "events.parquet",
    }  # fmt: skip
    assert "Does one GPU do?" in ended.out
    for word in ("TTFT", "TPOT", "E2E", "p99", "±", "Goodput", "GPU busy", "$/h"):
        assert word in ended.out
    assert "\x1b" not in ended.out
    assert max(map(len, ended.out.splitlines())) <= 100


def test_run_json_is_all_of_stdout_and_has_every_figure_with_its_half_width(twinfer: Twinfer, scenario: Path) -> None:
    ended = twinfer("run", scenario, "--json", "--out", "here")
    found = json.loads(ended.out)
    assert found["options"] is None
    assert found["replications"] == 3
    assert found["question"] == "Does one GPU do?"
    assert found["out"] == "here"
    for key in ("ttft", "tpot", "itl", "e2e", "queue"):
        assert set(found["summary"][key]) == STATISTICS
        for figure in found["summary"][key].values():
            assert set(figure) == {"value", "half_width"}
            assert math.isfinite(figure["value"])
            assert figure["half_width"] >= 0.0
    assert set(found["summary"]["throughput_rps"]) == {"value", "half_width"}
    assert list(found["workloads"]) == ["chat"]
    assert found["objectives"][0]["metric"] == "ttft_p99"
    assert {"seed", "scenario", "twinfer"} <= set(found["manifest"])
    assert "warnings" in found
    assert len(pq.read_table("here/requests.parquet")) == 180


def test_settings_seed_and_replications_replace_those_of_the_scenario(twinfer: Twinfer, scenario: Path) -> None:
    given = ("--set", "run.requests=40", "--set", "deployments.chat.engine.kv_blocks=900", "--seed", 9, "-n", 2)
    found = json.loads(twinfer("run", scenario, *given, "--json").out)
    assert found["replications"] == 2
    assert found["manifest"]["seed"] == 9
    assert found["manifest"]["deployments"]["chat"]["engine"]["kv_blocks"] == 900
    assert found["summary"]["requests"]["value"] == 40


def test_the_default_place_tells_different_runs_apart(twinfer: Twinfer, scenario: Path) -> None:
    places = {
        json.loads(twinfer("run", scenario, *more, "--json").out)["out"]
        for more in ((), ("--seed", 6), ("--option", "two"))
    }
    assert len(places) == 3
    again = json.loads(twinfer("run", scenario, "--json").out)["out"]
    assert again in places


def test_one_replication_is_said_to_have_no_interval(twinfer: Twinfer, scenario: Path) -> None:
    ended = twinfer("run", scenario, "-n", 1)
    assert "±" not in ended.out.split("\n", 2)[2]
    assert "one replication has no interval" in ended.out


def test_a_scenario_with_options_is_run_without_them_and_that_is_said(twinfer: Twinfer, scenario: Path) -> None:
    assert "one, two" in twinfer("run", scenario).err
    assert "one, two" not in twinfer("run", scenario, "--option", "two").err
    ended = twinfer("run", scenario, "--option", "tow")
    assert ended.code == 2
    assert "did you mean 'two'?" in ended.err


def test_compare_shows_every_option_the_verdict_and_writes_a_report(twinfer: Twinfer, scenario: Path) -> None:
    ended = twinfer("compare", scenario, "-o", "both")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert max(map(len, lines)) <= 100
    for word in ("option", "objective", "one", "two", "TTFT", "TPOT", "E2E", "Goodput", "SLO", "GPU", "tokens"):
        assert word in ended.out
    assert "one is the cheapest option that meets every objective" in ended.out
    assert Path("both/report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert Path("both/options/two/requests.parquet").is_file()
    assert not list(Path("both").rglob("*.tmp"))


def test_compare_at_80_columns_keeps_every_column(
    twinfer: Twinfer, scenario: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ended = twinfer("compare", scenario)
    assert max(map(len, ended.out.splitlines())) <= 80
    for word in ("TTFT", "TPOT", "E2E", "Goodput", "SLO", "GPU", "tokens"):
        assert word in ended.out
    assert "…" not in ended.out


def test_an_objective_stands_under_its_column_in_the_unit_of_the_column(twinfer: Twinfer, scenario: Path) -> None:
    # the latencies of this scenario are milliseconds, so the target of 2 s is written in them
    assert "≤2,000" in twinfer("compare", scenario).out
    assert "≤0.5" in twinfer("compare", scenario, "--set", "workloads.chat.objectives.ttft_p99=500us").out


def test_compare_json_has_options_verdict_and_pairs(twinfer: Twinfer, scenario: Path) -> None:
    found = json.loads(twinfer("compare", scenario, "--json").out)
    assert found["order"] == ["one", "two"]
    assert set(found["options"]) == {"one", "two"}
    assert found["verdict"]["winner"] == "one"
    assert {pair["option"] for pair in found["pairs"]} == {"two"}
    assert set(found["options"]["one"]["summary"]["ttft"]) == STATISTICS


def test_check_ends_with_1_only_if_no_option_meets_its_objectives(twinfer: Twinfer, scenario: Path) -> None:
    strict = ("--set", "workloads.chat.objectives.ttft_p99=1us")
    assert twinfer("compare", scenario, "--check").code == 0
    assert twinfer("compare", scenario, *strict).code == 0
    ended = twinfer("compare", scenario, *strict, "--check")
    assert ended.code == 1
    assert "No option meets every objective" in ended.out
    assert "✗" in ended.out
    assert twinfer("run", scenario, "--check").code == 0
    assert twinfer("run", scenario, *strict, "--check", "--json").code == 1


def test_quiet_prints_nothing(twinfer: Twinfer, scenario: Path) -> None:
    ended = twinfer("compare", scenario, "--quiet")
    assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_a_report_can_be_built_again_and_its_plots_written_as_pictures(twinfer: Twinfer, scenario: Path) -> None:
    twinfer("compare", scenario, "-o", "both")
    first = Path("both/report.html").read_bytes()
    Path("both/report.html").unlink()
    assert twinfer("report", "both").code == 0
    assert Path("both/report.html").read_bytes() == first
    assert twinfer("report", "both", "--format", "png", "-o", "pictures").code == 0
    assert Path("pictures/cdf-ttft.png").read_bytes().startswith(b"\x89PNG")
    twinfer("run", scenario, "-o", "alone")
    assert twinfer("report", "alone", "-o", "alone.html").code == 0
    assert "Does one GPU do?" in Path("alone.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("arguments", [("absent",), (".",)])
def test_a_report_of_what_is_no_result_is_bad_input(twinfer: Twinfer, arguments: tuple[str, ...]) -> None:
    ended = twinfer("report", *arguments)
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1


def test_a_place_that_cannot_be_written_is_bad_input(twinfer: Twinfer, scenario: Path) -> None:
    Path("file").write_text("", encoding="utf-8")
    ended = twinfer("run", scenario, "--out", "file/below")
    assert ended.code == 2
    assert len([line for line in ended.err.splitlines() if line.startswith("file/below")]) == 1
    assert ended.out == ""


def test_run_loads_neither_pandas_nor_matplotlib(scenario: Path) -> None:
    code = (
        "import sys; from sim.cli import main; sys.argv = ['twinfer', 'run', sys.argv[1], '-q', '-o', sys.argv[2], '-n', '1']\n"
        "try: main()\nexcept SystemExit as end: assert not end.code\n"
        "loaded = {'pandas', 'matplotlib', 'scipy', 'joblib'} & set(sys.modules); assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code, scenario, scenario.parent / "out"], check=True, cwd=ROOT)


def test_an_interrupt_ends_with_130_and_leaves_nothing_half_written(scenario: Path, tmp_path: Path) -> None:
    code = "import sys; from sim.cli import main; sys.argv[0] = 'twinfer'; main()"
    arguments = ["compare", scenario, "-n", "5000", "--set", "run.requests=2000", "-j", "1", "-o", tmp_path / "out"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    time.sleep(5.0)  # long enough to be past its imports, on a busy machine too
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == b""
    assert err.decode() == "interrupted\n"
    assert not (tmp_path / "out").exists()
