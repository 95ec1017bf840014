"""The tutorial's commands, one after the other, as a reader would type them; on shorter runs."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from tests.paths import ROOT

SHORT = ["--set", "run.duration=30s", "--set", "run.warmup=0"]
SHORTENED = ("compare", "optimize", "sweep", "sensitivity", "run", "deploy")
FEW = {
    "compare": ["-n", "2"],
    "sweep": ["-n", "1"],
    "sensitivity": ["-n", "2"],
    "run": ["-n", "2"],
    "optimize": ["-n", "40"],
}


def commands() -> list[list[str]]:
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8").replace("\\\n", " ")
    return [shlex.split(line)[1:] for line in text.splitlines() if line.startswith("    twinfer ")]


def test_the_tutorial_runs_from_its_first_command_to_its_last(tmp_path: Path) -> None:
    found = commands()
    assert {command[0] for command in found} >= {*SHORTENED, "init", "validate", "report"}
    for command in found:
        shortened = [*command, *(SHORT if command[0] in SHORTENED else []), *FEW.get(command[0], [])]
        done = subprocess.run(
            [sys.executable, "-c", "from sim.cli import main; main()", *shortened],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"twinfer {shlex.join(shortened)}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
    assert (tmp_path / "runs" / "map" / "sweep.html").is_file()
    assert (tmp_path / "runs" / "best" / "winner.yaml").is_file()
    assert (tmp_path / "runs" / "inside" / "timeline.pftrace").is_file()
    assert (tmp_path / "runs" / "deploy" / "chat.yaml").is_file()
