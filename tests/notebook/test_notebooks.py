"""Notebooks run from top to bottom, and each is the pair of its source."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "notebooks"


def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("notebooks_run", FOLDER / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RUN = runner()
NAMES = RUN.names()


def command(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, str(FOLDER / "run.py"), *arguments]
    return subprocess.run(program, capture_output=True, text=True, timeout=600, cwd=cwd, check=False)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_from_top_to_bottom_without_an_error_or_a_warning(name: str) -> None:
    done = command(name)

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(rf"{name} +[0-9.]+ s  ok\n", done.stdout)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_the_pair_of_its_source(name: str) -> None:
    paired = FOLDER / f"{name}.ipynb"

    assert paired.is_file(), f"{paired.name} is missing: python notebooks/run.py --pair {name}"
    same = paired.read_text(encoding="utf-8") == RUN.paired(name)
    assert same, f"{paired.name} differs from {name}.py: python notebooks/run.py --pair {name}"


@pytest.mark.parametrize("name", NAMES)
def test_a_pair_gives_its_source_back(name: str) -> None:
    import jupytext

    notebook = jupytext.read(FOLDER / f"{name}.ipynb")
    notebook.metadata["jupytext"] = {"notebook_metadata_filter": "-all"}  # as notebooks/jupytext.toml has it

    assert jupytext.writes(notebook, fmt="py:percent").strip() == (FOLDER / f"{name}.py").read_text("utf-8").strip()


def test_no_pair_is_left_without_its_source() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == NAMES


def test_a_name_that_is_not_a_notebook_is_refused_before_anything_runs() -> None:
    done = command("getting_started", "nowhere")

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("there is no notebook nowhere; there are ")


def broken(tmp_path: Path, source: str) -> subprocess.CompletedProcess[str]:
    """A checkout with one notebook in it, run."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "scenarios").mkdir()
    script = tmp_path / "notebooks" / "run.py"
    script.write_text((FOLDER / "run.py").read_text("utf-8"), "utf-8")
    (tmp_path / "notebooks" / "mine.py").write_text(source, "utf-8")
    program = [sys.executable, str(script)]
    return subprocess.run(program, capture_output=True, text=True, timeout=120, check=False)


def test_an_error_is_named_with_its_cell_and_fails_the_run(tmp_path: Path) -> None:
    done = broken(tmp_path, "# %% [markdown]\n# Two.\n\n# %%\n1 + 1\n\n# %%\n{}['here']\n")

    assert done.returncode == 1
    assert re.fullmatch(r"mine +[0-9.]+ s  cell 3: KeyError: 'here'\n", done.stdout)


def test_a_warning_fails_the_run(tmp_path: Path) -> None:
    done = broken(tmp_path, "# %%\nimport warnings\n\nwarnings.warn('old', stacklevel=1)\n")

    assert done.returncode == 1
    assert "cell 1 wrote to stderr" in done.stdout
