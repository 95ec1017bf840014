"""Whatever is done to a scenario file, loading it gives a scenario or a ConfigError that says where."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from sim import config
from sim.errors import ConfigError, Problem
from tests.config.mutations import mutations
from tests.paths import SCENARIOS


def problems_of(file: Path) -> tuple[Problem, ...] | None:
    """What loading the file says is wrong; None if nothing is."""
    try:
        config.load(file)
    except ConfigError as error:
        return error.problems
    return None


def hold(seed: int, count: int, folder: Path) -> None:
    (folder / "chat_capacity.yaml").write_bytes((SCENARIOS / "chat_capacity.yaml").read_bytes())
    file = folder / "self.yaml"
    refused = 0
    for name, content in mutations(seed, count):
        file.write_bytes(content)
        problems = problems_of(file)
        if problems is None:
            continue
        refused += 1
        assert problems, name
        for problem in problems:
            assert problem.file is not None, (name, problem)
            assert problem.line is not None, (name, problem)
            line = str(problem)
            assert line.isprintable(), (name, line)
            assert len(line) < 1500, (name, line)
            assert re.search(r"\.yaml:\d+: .", line), (name, line)
    assert count / 2 < refused < count


def test_broken_scenarios_give_config_errors_with_a_line(tmp_path: Path) -> None:
    hold(int(os.environ.get("TWINFER_MUTATION_SEED", "1")), int(os.environ.get("TWINFER_MUTATIONS", "300")), tmp_path)


@pytest.mark.verify
def test_two_thousand_broken_scenarios(tmp_path: Path) -> None:
    hold(2026, 2_000, tmp_path)
