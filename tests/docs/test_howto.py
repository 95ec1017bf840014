"""What the how-to says a scenario may hold is taken: each YAML fragment, laid over a small scenario."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sim import config
from sim.experiment.build import build
from tests.paths import ROOT

BASE = """\
run: {duration: 10m}
models: {llama: {architecture: llama-3.1-8b}}
cluster: {pools: [{name: h100, instance: aws/p5.4xlarge, nodes: 6}]}
workloads:
  - {name: chat, model: llama, arrivals: {rate: 5/s}, lengths: {prompt: 500, output: 100}, objectives: {ttft_p99: 2s}}
deployments:
  - {name: chat, model: llama, pool: h100, replicas: 2}
"""

FRAGMENTS = re.findall(
    r"^## (.+?)$|^```yaml\n(.*?)^```", (ROOT / "docs" / "howto.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
)


def _fragments() -> dict[str, str]:
    found, heading = {}, ""
    for title, fragment in FRAGMENTS:
        heading = title or heading
        if fragment:
            found[heading] = fragment
    return found


@pytest.mark.parametrize("heading", list(_fragments()))
def test_a_fragment_of_the_how_to_is_a_scenario(heading: str, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(BASE, encoding="utf-8")
    (tmp_path / "mine.yaml").write_text("extends: base.yaml\n" + _fragments()[heading], encoding="utf-8")
    scenario = config.load(tmp_path / "mine.yaml")
    for option in scenario.option_names():
        build(scenario.with_option(option))
    build(scenario)


def test_the_how_to_has_fragments() -> None:
    assert len(_fragments()) >= 6
