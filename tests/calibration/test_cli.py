"""``twinfer calibrate import``: what it writes, and how it fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from calibration import shipped
from calibration.cli import app
from sim import profiles
from tests.calibration.tables import kernels, layers
from tests.paths import shared

runner = CliRunner()


def test_it_writes_a_profile_that_loads_and_says_how_good_it_is(tmp_path: Path) -> None:
    out = tmp_path / "p.json"
    folder = str(kernels(tmp_path / "tables"))
    arguments = ["import", "kernels", folder, "--model", "qwen3-32b", "--gpu", "h100-sxm", "--tp", "2", "-o", str(out)]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "h100-sxm/qwen3-32b/tp2" in result.stdout
    assert "held-out error" in result.stdout
    profile = profiles.load(out)
    assert profile.tensor_parallel == 2
    assert folder not in profile.provenance.command
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.json", "tables"]


@pytest.mark.parametrize(
    ("kind", "model", "gpu", "message"),
    [
        ("kernels", "llama-3.1-8b", "h100-sxm", "gemm_perf.parquet: no such file"),
        ("layers", "llama-3.1-8b", "rtx-pro-6000", "dense.csv: no such file"),
        ("layers", "llama-3.1-8c", "rtx-pro-6000", "did you mean 'llama-3.1-8b'"),
        ("layers", "llama-3.1-8b", "rtx-pro-60000", "did you mean 'rtx-pro-6000'"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(tmp_path: Path, kind: str, model: str, gpu: str, message: str) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    out = tmp_path / "p.json"
    result = runner.invoke(app, ["import", kind, str(empty), "--model", model, "--gpu", gpu, "-o", str(out)])
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not out.exists()


def test_a_place_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = layers(tmp_path / "tables", skew=False)
    out = tmp_path / "nowhere" / "p.json"
    arguments = ["import", "layers", str(folder), "--model", "llama-3.1-8b", "--gpu", "rtx-pro-6000", "-o", str(out)]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    assert "No such file or directory" in result.stderr


@pytest.mark.parametrize("recipe", [shipped.RECIPES[0], shipped.RECIPES[2], shipped.RECIPES[-1]], ids=lambda r: r.name)
def test_shipped_profiles_are_what_their_commands_make(recipe: shipped.Recipe, tmp_path: Path) -> None:
    data = shared("profiles")
    result = runner.invoke(app, recipe.arguments(data, tmp_path / "p.json"))
    assert result.exit_code == 0, result.output
    assert profiles.load(tmp_path / "p.json") == profiles.load(recipe.name)


def test_every_shipped_profile_has_its_command() -> None:
    assert sorted([*(recipe.name for recipe in shipped.RECIPES), *shipped.MEASURED]) == profiles.names()
