"""The page on sweeps: its Python runs, its YAML is taken, its batch jobs are what the batch systems take."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from sim import config
from tests.paths import ROOT
from tests.study.small import SMALL

PAGE = (ROOT / "docs" / "sweeps.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_python_runs_in_the_order_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Path("scenario.yaml").write_text(SMALL, encoding="utf-8")
    names: dict[str, Any] = {}
    for block in blocks("python"):
        exec(block, names)
    assert "worst" in capsys.readouterr().out
    assert dict(names["found"].best.point) == {"deployments.chat.replicas": 1}


def test_the_section_of_a_scenario_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "scenario.yaml"
    text = SMALL.replace("{rate: 10/s}", "{preset: azure-2023-conv}").replace(
        "    lengths: {prompt: 200, output: 20}\n", ""
    )
    path.write_text(text + blocks("yaml")[0], encoding="utf-8")
    from sim.study.sweep import plan

    assert len(plan(config.load(path)).points) == 8 * 8 * 2


def test_the_kubernetes_job_is_valid_and_covers_every_shard() -> None:
    job = yaml.safe_load(blocks("yaml")[1])
    kubernetes_validate.validate(job, "1.34", strict=True)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    line = container["args"][0]
    shards = re.search(r'--shard "\$\(\((\w+) \+ 1\)\)/(\d+)"', line)
    assert shards is not None
    assert shards[1] == "JOB_COMPLETION_INDEX"
    assert int(shards[2]) == job["spec"]["completions"]
    script = f"JOB_COMPLETION_INDEX=2; echo {shards[0].split(' ', 1)[1]}"
    assert subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout == "3/16\n"


# sbatch(1), options with a long name
SBATCH = {"job-name", "array", "cpus-per-task", "mem", "time", "requeue", "output"}


def test_the_slurm_script_is_a_script_with_known_directives() -> None:
    (script,) = blocks("bash")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    lines = script.splitlines()
    directives = [re.fullmatch(r"#SBATCH --([a-z-]+)(?:=(\S+))?", line) for line in lines if line.startswith("#SBATCH")]
    assert lines[0] == "#!/bin/bash"
    assert all(directives)
    found = {match[1]: match[2] for match in directives if match is not None}
    assert set(found) <= SBATCH
    # Slurm numbers an array as it is told: shards begin with 1
    assert found["array"].startswith("1-")
    first_command = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    assert all(not line.startswith("#SBATCH") for line in lines[first_command:])


@pytest.mark.parametrize("text", ["twinfer sweep show", "twinfer sweep export"])
def test_the_commands_of_the_page_have_their_flags(text: str) -> None:
    from typer.main import get_command

    from sim.cli.app import app

    group: Any = get_command(app).get_command(None, "sweep")  # type: ignore[attr-defined, arg-type]
    command = group.commands[text.rpartition(" ")[2]]
    known = {option for parameter in command.params for option in parameter.opts}
    (line,) = (line for line in PAGE.splitlines() if line.strip().startswith(text))
    assert set(re.findall(r"--[a-z-]+", line)) <= known
