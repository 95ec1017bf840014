"""``twinfer sweep``, ``sweep show`` and ``sweep export``, as a user calls them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

Twinfer = Callable[..., Any]

GRID = ("--over", "deployments.chat.replicas=1..2", "--over", "workloads.chat.arrivals.rate=5/s,10/s", "-j", "1")


@pytest.fixture
def swept(twinfer: Twinfer, scenario: Path) -> Path:
    assert twinfer("sweep", scenario, *GRID, "--out", "store", "-q").code == 0
    return Path("store")


def test_the_word_run_may_be_left_out(twinfer: Twinfer, scenario: Path) -> None:
    short = twinfer("sweep", scenario, *GRID, "--json", "-o", "a")
    whole = twinfer("sweep", "run", scenario, *GRID, "--json", "-o", "b")
    first = twinfer("sweep", *GRID, scenario, "--json", "-o", "c")
    assert short.code == whole.code == first.code == 0
    assert json.loads(short.out)["points"] == json.loads(whole.out)["points"] == json.loads(first.out)["points"]


def test_a_sweep_prints_a_table_and_says_where_it_wrote(twinfer: Twinfer, scenario: Path) -> None:
    done = twinfer("sweep", scenario, *GRID)
    assert done.code == 0
    assert "4 points" in done.out
    assert "replicas = deployments.chat.replicas; rate = workloads.chat.arrivals.rate" in done.out
    assert "The cheapest point that meets every objective: replicas 1, rate 5/s." in done.out
    (place,) = Path("runs").iterdir()
    assert place.name.startswith("small-sweep-")
    assert f"written: {place / 'sweep.html'}" in done.err
    again = twinfer("sweep", scenario, *GRID)
    assert "4 of 4 runs were in the store" in again.err


def test_quiet_is_quiet(twinfer: Twinfer, scenario: Path) -> None:
    done = twinfer("sweep", scenario, *GRID, "-q")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_points_that_cannot_be_run_are_counted_and_listed(twinfer: Twinfer, scenario: Path) -> None:
    done = twinfer("sweep", scenario, "--over", "deployments.chat.replicas=1,9,x", "-o", "store")
    assert done.code == 0
    assert "2 of 3 points cannot be run:" in done.err
    assert "replicas 9: " in done.err
    assert "replicas x: deployments.chat.replicas: x: 'x' is not a whole number" in done.err


def test_if_none_can_be_run_that_is_bad_input(twinfer: Twinfer, scenario: Path) -> None:
    done = twinfer("sweep", scenario, "--over", "deployments.chat.replicas=8,9", "-o", "store")
    assert done.code == 2
    assert "2 of 2 points cannot be run:" in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--over", "deployments.chat.replicas"), "--over: 'deployments.chat.replicas' is not of the form PATH=VALUES"),
        (
            ("--over", "deployments.chat.replica=1..2"),
            "'replica' is not in deployments.chat (did you mean 'replicas'?)",
        ),
        (("--over", "run.seed=1", "--over", "run.seed=2"), "--over: run.seed is given twice"),
        (("--over", "run.seed=1..9", "--method", "sobol"), "points: method sobol needs to know how many"),
        (("--over", "run.seed=1..9", "--shard", "3"), "--shard: '3' is not of the form K/N, like 3/16"),
        (
            ("--over", "run.seed=1..9", "--shard", "0/4"),
            "--shard: '0/4' is not of the form K/N, like 3/16, with K from 1 to N",
        ),
        (("--over", "run.seed=1..9", "--shard", "3/0"), "--shard: '3/0' is not of the form K/N"),
        ((), "sweep.over: nothing varies"),
    ],
)
def test_bad_input_is_a_line_and_writes_nothing(
    twinfer: Twinfer, scenario: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = twinfer("sweep", scenario, *arguments)
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err
    assert not Path("runs").exists()


def test_shards_fill_one_store(twinfer: Twinfer, scenario: Path, swept: Path) -> None:
    for number in (1, 2, 3):
        assert twinfer("sweep", scenario, *GRID, "--out", "parts", "--shard", f"{number}/3", "-q").code == 0
    names = {path.name for path in (swept / "runs").iterdir()}
    assert {path.name for path in Path("parts/runs").iterdir()} == names
    assert Path("parts/sweep.html").read_text() == (swept / "sweep.html").read_text()


def test_more_shards_than_points_are_no_fault(twinfer: Twinfer, scenario: Path) -> None:
    done = twinfer("sweep", scenario, *GRID, "--out", "parts", "--shard", "5/9")
    assert done.code == 0


def test_show_takes_figures_an_order_and_a_limit(twinfer: Twinfer, swept: Path) -> None:
    done = twinfer(
        "sweep", "show", swept, "--metric", "e2e_p99", "--metric", "chat.ttft_p50", "--sort", "-usd_per_hour"
    )
    assert done.code == 0
    rows = [line.split()[:2] for line in done.out.splitlines() if "/s" in line and line.split()[0].isdigit()]
    assert [row[0] for row in rows] == ["2", "2", "1", "1"]
    assert "E2E p99" in done.out
    assert "chat: TTFT p50" in done.out
    assert "2 more points" in twinfer("sweep", "show", swept, "--limit", "2").out


def test_show_knows_no_such_figure(twinfer: Twinfer, swept: Path) -> None:
    done = twinfer("sweep", "show", swept, "--metric", "ttft_p98")
    assert done.code == 2
    assert done.err == "metric: 'ttft_p98' is not a figure of this sweep (did you mean 'ttft_p95'?)\n" or (
        "did you mean 'ttft_p9" in done.err
    )


def test_show_of_no_store_says_so(twinfer: Twinfer, tmp_path: Path) -> None:
    done = twinfer("sweep", "show", tmp_path)
    assert done.code == 2
    assert "sweep.json: is missing; the directory is no store of `twinfer sweep`" in done.err


@pytest.mark.parametrize("format", ["csv", "parquet", "json"])
def test_export_writes_the_table_in_every_format(twinfer: Twinfer, swept: Path, format: str) -> None:
    done = twinfer("sweep", "export", swept, "--format", format, "--out", f"table.{format}")
    assert (done.code, done.out) == (0, "")
    readers = {"csv": pd.read_csv, "parquet": pd.read_parquet, "json": pd.read_json}
    frame = readers[format](f"table.{format}")
    assert frame["deployments.chat.replicas"].tolist() == [1, 1, 2, 2]
    assert frame["workloads.chat.arrivals.rate"].tolist() == ["5/s", "10/s"] * 2
    assert (frame["ttft_p99"] > 0.0).all()
    assert {"key", "status", "error", "ttft_p99_half_width"} <= set(frame.columns)


def test_the_page_has_heat_maps_of_two_dimensions_and_the_table(swept: Path) -> None:
    page = (swept / "sweep.html").read_text()
    assert "TTFT p99: replicas and rate" in page
    assert "<caption>Points of the sweep, best first</caption>" in page


def test_the_page_has_a_curve_of_one_dimension(twinfer: Twinfer, scenario: Path) -> None:
    twinfer("sweep", scenario, "--over", "deployments.chat.replicas=1..2", "-o", "store", "-q")
    assert "TTFT p99 over replicas" in Path("store/sweep.html").read_text()


def test_interrupted_it_says_how_to_go_on(twinfer: Twinfer, scenario: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sim.study import sweep

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "execute", interrupted)
    done = twinfer("sweep", scenario, *GRID, "-o", "store")
    assert done.code == 130
    assert done.err == "interrupted; what was run is kept in store, and the same command goes on from there\n"
