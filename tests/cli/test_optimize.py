"""`twinfer optimize`: what it prints and writes, and how it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import sim
from sim.report.optimum import fronts

REPLICAS = "deployments.chat.replicas"


@pytest.fixture
def busy(scenario: Path) -> Path:
    """More than one GPU can serve, and machines that cost what is used."""
    text = (
        scenario.read_text()
        .replace("rate: 10/s", "rate: 150/s")
        .replace("prompt: 200, output: 20", "prompt: 500, output: 40")
    )
    scenario.write_text(
        text.replace("ttft_p99: 2s", "ttft_p99: 500ms").replace("nodes: 2", "gpus_per_node: 1, nodes: 6")
    )
    return scenario


def test_the_answer_and_its_files(twinfer: Callable[..., object], busy: Path, tmp_path: Path):
    done = twinfer("optimize", busy, "--over", f"{REPLICAS}=1..6", "--out", "found", "--deploy", "deployment", "-j", 1)
    assert done.code == 0, done.err
    assert "is the cheapest of 6 configurations that meets every objective" in " ".join(done.out.split())
    assert "95 % confidence" in " ".join(done.out.split())
    found = tmp_path / "found"
    written = {place.name for place in found.iterdir()}
    assert written == {"deploy", "optimize.html", "optimum.json", "points.parquet", "store", "winner.yaml"}
    winner = json.loads((found / "optimum.json").read_text())["winner"][REPLICAS]
    assert sim.load(found / "winner.yaml").deployments[0].replicas == winner
    assert f"replicas: {winner}" in (found / "deploy" / "chat.yaml").read_text()
    page = (found / "optimize.html").read_text()
    assert "What trades for what" in page
    assert "<svg" in page


def test_the_same_command_again_runs_nothing_anew_and_writes_the_same(
    twinfer: Callable[..., object], busy: Path, tmp_path: Path
):
    arguments = ("optimize", busy, "--over", f"{REPLICAS}=1..4", "--out", "found", "-j", 1, "--json")
    first = twinfer(*arguments)
    kept = {place: place.stat().st_mtime_ns for place in (tmp_path / "found" / "store" / "runs").iterdir()}
    second = twinfer(*arguments)
    assert first.code == second.code == 0, first.err
    assert json.loads(first.out) == json.loads(second.out)
    assert kept == {place: place.stat().st_mtime_ns for place in (tmp_path / "found" / "store" / "runs").iterdir()}


def test_check_fails_where_nothing_meets(twinfer: Callable[..., object], busy: Path):
    arguments = (
        "optimize",
        busy,
        "--over",
        f"{REPLICAS}=[1, 2]",
        "--set",
        "workloads.chat.objectives.ttft_p99=1ms",
        "-q",
    )
    assert twinfer(*arguments, "--check", "--out", "a").code == 1
    done = twinfer(*arguments, "--out", "b", "--deploy", "deployment")
    assert done.code == 0
    assert not Path("b/deploy").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give paths with their values"),
        (("--over", REPLICAS), "is not of the form"),
        (("--over", f"{REPLICAS}=8..1"), "is not less than"),
        (("--over", "deployments.chat.replicsa=1..3"), "did you mean 'replicas'"),
        (("--over", f"{REPLICAS}=1..3", "--minimize", "price"), "is not a figure"),
        (("--over", f"{REPLICAS}=1..3", "--confidence", "1.0"), "confidence"),
    ],
)
def test_bad_input_is_a_line_and_exit_code_2(
    twinfer: Callable[..., object], busy: Path, arguments: tuple[str, ...], said: str
):
    done = twinfer("optimize", busy, *arguments, "--out", "found")
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err
    assert not Path("found/optimum.json").exists()


def test_a_folder_of_something_else_is_left_alone(twinfer: Callable[..., object], busy: Path, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    done = twinfer("optimize", busy, "--over", f"{REPLICAS}=1..3", "--out", "mine")
    assert done.code == 2
    assert "name a new folder" in done.err


def test_the_front_is_drawn_for_each_further_figure(busy: Path):
    found = sim.optimize(sim.load(busy), over={REPLICAS: "1..4"}, jobs=1)
    plots = fronts(found)
    assert [plot.name for plot in plots] == ["front-ttft-p99", "front-slo-attainment"]
    assert plots[0].file("png").startswith(b"\x89PNG")
    assert "On the front: replicas" in plots[0].description
