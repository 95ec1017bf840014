"""``twinfer sensitivity``: what it writes, what the report shows of it, and what it says of bad input."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Outcome
from tests.paths import ROOT
from tests.small import small

Twinfer = Callable[..., Outcome]

TINY = small(requests=40, replications=2, prompt=400, output=10, objectives="ttft_p99: 60ms")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    return path


def test_it_writes_a_page_and_a_file_and_says_what_breaks(twinfer: Twinfer, tiny: Path, tmp_path: Path) -> None:
    done = twinfer("sensitivity", tiny, "--option", "one", "--over", "load=0.8..1.2", "--out", "out", "--jobs", 1)
    assert done.code == 0, done.err
    assert re.search(r"Breaks at [0-9.]+x \([0-9.]+ to [0-9.]+\) of today's load: p99 TTFT first", done.out)
    assert "1.2" in done.out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["sensitivity.html", "sensitivity.json"]
    page = (tmp_path / "out" / "sensitivity.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert not re.search(r'(src|href)="https?:', page)


def test_json_is_all_there_is_on_stdout_and_the_same_for_any_number_of_jobs(twinfer: Twinfer, tiny: Path) -> None:
    given = ("sensitivity", tiny, "--option", "one", "--over", "load=0.8..1.2", "--json", "--quiet", "--out")
    found = [twinfer(*given, f"out{jobs}", "--jobs", jobs) for jobs in (1, 2)]
    assert found[0].out == found[1].out
    assert found[0].err == ""
    saved = json.loads(found[0].out)
    assert {row["value"] for row in saved["effects"]} == {"0.8", "1.2"}
    assert [Path(f"out{jobs}/sensitivity.html").read_bytes() for jobs in (1,)] == [
        Path("out2/sensitivity.html").read_bytes()
    ]


def test_the_report_of_a_comparison_shows_what_was_found_of_an_option(twinfer: Twinfer, tiny: Path) -> None:
    assert twinfer("compare", tiny, "--out", "out", "--jobs", 1, "--quiet").code == 0
    before = Path("out/report.html").read_text(encoding="utf-8")
    given = ("sensitivity", tiny, "--option", "one", "--over", "load=0.8..1.2", "--out", "out", "--jobs", 1)
    assert twinfer(*given, "--quiet").code == 0
    assert twinfer("report", "out", "--quiet").code == 0
    after = Path("out/report.html").read_text(encoding="utf-8")
    assert "What moves p99 TTFT" not in before
    assert "What moves p99 TTFT" in after
    assert "times the scenario" in after
    # of other settings it is not shown, and that is said
    assert twinfer(*given, "--seed", 6, "--quiet").code == 0
    assert twinfer("report", "out", "--quiet").code == 0
    other = Path("out/report.html").read_text(encoding="utf-8")
    assert "What moves p99 TTFT" not in other
    assert "sensitivity.json is of another scenario" in other


def test_figures_of_two_workloads_are_told_apart(twinfer: Twinfer, tiny: Path) -> None:
    batch = "  - {name: batch, model: llama, arrivals: {rate: 5/s}, lengths: {prompt: 400, output: 10}, objectives: {ttft_p99: 60ms}}\n"
    tiny.write_text(TINY.replace("deployments:\n", f"{batch}deployments:\n"), encoding="utf-8")
    flags = ("--over", "load=0.9..1.1", "--method", "tornado", "--method", "sobol", "--points", "2")
    shown = twinfer("sensitivity", tiny, *flags).out
    for workload in ("chat", "batch"):
        assert f"\n{workload} TTFT p99: shares of the variance" in shown
        assert re.search(rf"\n{workload} TTFT p99: [0-9.]+ ±", shown)


def test_a_run_may_follow_into_the_same_directory(twinfer: Twinfer, tiny: Path) -> None:
    given = (tiny, "--option", "one", "--out", "out", "--jobs", 1, "--quiet")
    assert twinfer("sensitivity", *given, "--over", "load=0.8..1.2", "--method", "tornado").code == 0
    assert twinfer("run", *given).code == 0
    assert twinfer("report", "out", "--quiet").code == 0
    assert "What moves p99 TTFT" in Path("out/report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--over", "load"), "--over: 'load' is not of the form PATH=VALUES"),
        (("--over", "laod=0.8..1.2"), "did you mean 'load'"),
        (("--over", "load=1.2..0.8"), "'1.2' is not less than '0.8'"),
        (("--over", "load=fast"), "'fast' is not a factor"),
        (("--over", "deployments.chat.router.kind=[a"), "--over deployments.chat.router.kind: is not YAML"),
        (("--over", "deployments.chat.replica=1..2"), "did you mean 'replicas'"),
        (("--metric", "ttft_p98"), "'ttft_p98' is not a metric (did you mean 'ttft_p9"),
        (("--metric", "chta.ttft_p99"), "'chta' is not a workload (did you mean 'chat'"),
        (("--method", "tornedo"), "tornedo"),
        (("--points", "48", "--method", "sobol"), "48 is not a power of two"),
        (("--option", "on"), "'on' is not an option (did you mean 'one'"),
        (("--backend", "slurm"), "slurm"),
    ],
)
def test_bad_input_is_one_clear_line(twinfer: Twinfer, tiny: Path, flags: tuple[str, ...], said: str) -> None:
    done = twinfer("sensitivity", tiny, *flags, "--out", "out")
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err
    assert not Path("out").exists()


def test_a_directory_of_something_else_is_left_alone(twinfer: Twinfer, tiny: Path) -> None:
    Path("mine").mkdir()
    Path("mine/letter.txt").write_text("dear", encoding="utf-8")
    done = twinfer("sensitivity", tiny, "--out", "mine")
    assert done.code == 2
    assert "no result of twinfer" in done.err
    assert [path.name for path in Path("mine").iterdir()] == ["letter.txt"]


def test_the_page_of_the_docs_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "sensitivity.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "docs/sensitivity.md", "exec"), {})
    assert "today's load" in capsys.readouterr().out
