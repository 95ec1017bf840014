"""What the commands say of intervals that include the calibration's doubt."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.experiment.doubtful import proportional, write_lone

Twinfer = Callable[..., Any]

SAID = "Intervals include the calibration's doubt."


def test_run_and_its_page_say_once_that_intervals_include_the_doubt(twinfer: Twinfer, tmp_path: Path) -> None:
    path = write_lone(tmp_path, proportional())
    ended = twinfer("run", path, "-n", 6, "--out", "here")
    assert ended.out.count(SAID) == 1
    assert "1 replication and 6 draws of the calibration, ± is the 95% interval's half-width" in ended.out
    assert twinfer("report", "here").code == 0
    assert (tmp_path / "here" / "report.html").read_text(encoding="utf-8").count(SAID) == 1


def test_compare_and_its_json_do(twinfer: Twinfer, tmp_path: Path) -> None:
    path = write_lone(tmp_path, proportional())
    path.write_text(path.read_text() + "options: {one: {}, two: {deployments.chat.replicas: 2}}\n")
    assert twinfer("compare", path, "-n", 4).out.count(SAID) == 1
    found = json.loads(twinfer("compare", path, "-n", 4, "--json").out)
    for option in found["options"].values():
        figure = option["summary"]["ttft"]["p99"]
        assert figure["half_width"] == figure["half_width_doubt"] > 0.0


def test_without_it_nothing_is_said_of_it(twinfer: Twinfer, tmp_path: Path) -> None:
    path = write_lone(tmp_path, proportional())
    ended = twinfer("run", path, "--set", "run.calibration_doubt=false", "--out", "here")
    assert SAID not in ended.out
    assert ": 1 replication: no intervals" in ended.out
    assert "half_width_doubt" not in (tmp_path / "here" / "summary.json").read_text(encoding="utf-8")


def test_a_profile_that_says_nothing_of_its_doubt_is_warned_of_in_a_line(twinfer: Twinfer, tmp_path: Path) -> None:
    ended = twinfer("run", write_lone(tmp_path, proportional().model_copy(update={"doubt": None})))
    told = " ".join(line.strip() for line in ended.out.splitlines() if line)
    assert "profile test/token/tp1 says nothing of its doubt: intervals cannot include it" in told
    assert SAID not in ended.out
