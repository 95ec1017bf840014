"""What a user can get wrong on the command line, answered in a line, at once, and with nothing half written."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Twinfer = Callable[..., Any]


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def surroundings(tmp_path: Path) -> Path:
    """A folder with files that no result can replace: a file, somebody's folder, an empty folder, bad profiles."""
    (tmp_path / "afile").write_text("precious", encoding="utf-8")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.tex").write_text("precious", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    (tmp_path / "five.json").write_text("5", encoding="utf-8")
    (tmp_path / "summary.json").write_text('{"ttft": 1}', encoding="utf-8")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x80")
    return tmp_path


@pytest.mark.parametrize("command", ["run", "compare"])
@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("afile", "afile: cannot be written: afile is a file, not a folder"),
        ("afile/deep", "afile/deep: cannot be written: afile is a file, not a folder"),
        ("theirs", "theirs: holds files that are no result of twinfer ('thesis.tex'); name a new folder"),
    ],
)
def test_a_place_that_a_result_cannot_have_is_refused_before_anything_is_simulated(
    twinfer: Twinfer, scenario: Path, surroundings: Path, monkeypatch: pytest.MonkeyPatch, command: str, out: str, said: str
) -> None:  # fmt: skip
    from sim import experiment

    monkeypatch.delattr(experiment, "simulate")
    monkeypatch.delattr(experiment, "compare")
    before = everything(surroundings)
    ended = twinfer(command, scenario, "--out", out, "--quiet")
    assert (ended.code, ended.out, ended.err) == (2, "", f"{said}\n")
    assert everything(surroundings) == before


def test_an_empty_folder_and_that_of_an_earlier_result_are_written_to(
    twinfer: Twinfer, scenario: Path, surroundings: Path
) -> None:
    assert twinfer("run", scenario, "--out", "empty", "-q").code == 0
    assert (surroundings / "empty" / "requests.parquet").exists()
    assert twinfer("compare", scenario, "--out", "empty", "-q").code == 0
    assert not (surroundings / "empty" / "requests.parquet").exists(), "a table of the run, beside the comparison"
    assert twinfer("report", "empty").code == 0


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ("absent.json", "absent.json: no such profile file"),
        ("empty", "empty: is a folder, not a profile file"),
        ("five.json", "five.json: is not a profile: a JSON int instead of an object"),
        ("bytes.json", "bytes.json: is not a profile: not a JSON text"),
        (
            "summary.json",
            "summary.json: is not a profile: it has no version; `twinfer calibrate import` makes profiles",
        ),
    ],
)
def test_what_is_no_profile_is_named(
    twinfer: Twinfer, scenario: Path, surroundings: Path, profile: str, said: str
) -> None:
    setting = f"deployments.chat.profile={profile}"
    ended = twinfer("run", scenario, "--set", setting)
    assert (ended.code, ended.err) == (2, f"--set {setting}: {said}\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("schema", "-o", "empty"), "empty: is a folder"),
        (("schema", "-o", "afile/x.json"), "afile/x.json: cannot be written: Not a directory"),
        (("schema", "-o", "nowhere/x.json"), "nowhere/x.json: cannot be written: No such file or directory"),
        (("init", "empty", "--force"), "empty: is a folder"),
        (("init", "nowhere/x.yaml"), "nowhere/x.yaml: cannot be written: No such file or directory"),
        (
            ("traces", "fetch", "azure-2023-conv", "-q", "--timeout", "nan"),
            "timeout: nan is out of range; allowed: more than 0 s",
        ),
        (("traces", "fetch", "azure-2023-conv", "-q", "--dir", "afile"), "afile: is a file, not a folder"),
        (
            ("calibrate", "import", "layers", "nowhere", "--model", "llama-3.1-8b", "--gpu", "l4", "-o", "p"),
            "nowhere: no such folder",
        ),
    ],
)
def test_a_place_that_cannot_be_used_is_named_as_the_user_named_it(
    twinfer: Twinfer, surroundings: Path, arguments: tuple[str, ...], said: str
) -> None:
    before = everything(surroundings)
    ended = twinfer(*arguments)
    assert (ended.code, ended.out, ended.err) == (2, "", f"{said}\n")
    assert everything(surroundings) == before


def test_a_report_below_a_file_is_refused_by_the_name_that_was_given(
    twinfer: Twinfer, scenario: Path, surroundings: Path
) -> None:
    assert twinfer("run", scenario, "--out", "empty", "-q").code == 0
    ended = twinfer("report", "empty", "--out", "afile/x.html")
    assert (ended.code, ended.err) == (2, "afile/x.html: cannot be written: Not a directory\n")


@pytest.mark.parametrize("flag", [("--seed", "-1"), ("--seed", str(10**20)), ("-n", "0"), ("-n", "100000")])
def test_a_flag_out_of_range_is_named_as_it_was_given(twinfer: Twinfer, scenario: Path, flag: tuple[str, str]) -> None:
    ended = twinfer("run", scenario, *flag)
    assert ended.code == 2
    assert f"Invalid value for '{'--seed' if flag[0] == '--seed' else '--replications'}" in ended.err
    assert "--set" not in ended.err


@pytest.mark.parametrize("command", ["validate", "run"])
def test_a_model_that_leaves_no_memory_for_a_cache_is_refused_at_its_line(
    twinfer: Twinfer, scenario: Path, command: str
) -> None:
    text = scenario.read_text(encoding="utf-8")
    text = text.replace("replicas: 1}", "replicas: 1, engine: {gpu_memory_utilization: 0.1}}")
    scenario.write_text(text, encoding="utf-8")
    ended = twinfer(command, scenario, "-q")
    assert ended.code == 2
    assert ended.err.startswith(
        f"{scenario}:12: deployments.chat.engine.gpu_memory_utilization: llama-3.1-8b leaves no memory for a KV cache"
    )


def test_validate_says_what_a_run_would_warn_of(twinfer: Twinfer, scenario: Path) -> None:
    setting = "deployments.chat.profile=a100-sxm/llama-3.1-8b/tp1"
    said = "deployments.chat: profile a100-sxm/llama-3.1-8b/tp1 is of GPU a100-sxm, the deployment runs h100-sxm"
    assert f"{scenario}: warning: {said}\n" in twinfer("validate", scenario, "--set", setting).err
    (found,) = json.loads(twinfer("validate", scenario, "--set", setting, "--json").out)
    assert said in found["warnings"]


def test_a_heading_of_a_trace_cannot_reach_the_terminal(twinfer: Twinfer, tmp_path: Path) -> None:
    (tmp_path / "evil.csv").write_text("when\x1b[31m,b\n1,2\n", encoding="utf-8")
    ended = twinfer("traces", "inspect", "evil.csv")
    assert ended.code == 2
    assert ended.err.strip().isprintable()


ROUTERS = """\
class Far:
    def choose(self, session, tokens, fleet):
        return 99

class Wordy:
    def choose(self, session, tokens, fleet):
        return "0"

class Broken:
    def choose(self, session, tokens, fleet):
        return {}["none"]
"""


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("far", "theirs:Far", "deployments.chat.router: chose replica 99; there are 2, from 0"),
        ("wordy", "theirs:Wordy", "deployments.chat.router: failed: TypeError: 'str' object cannot be interpreted"),
        ("broken", "theirs:Broken", "deployments.chat.router: failed: KeyError: 'none' ("),
        ("gone", "absent_module:Gone", "router 'gone': its entry point 'absent_module:Gone' cannot be loaded: "),
    ],
)
def test_a_plug_in_that_fails_is_named_and_not_traced(
    twinfer: Twinfer, scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    from importlib.metadata import EntryPoint

    from sim.control import registry

    (tmp_path / "theirs.py").write_text(ROUTERS, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    entry = EntryPoint(f"router.{name}", value, registry.GROUP)
    monkeypatch.setattr(registry, "_plug_ins", lambda family: {name: entry} if family == "router" else {})
    ended = twinfer("run", scenario, "--option", "two", "--set", f"deployments.chat.router.kind={name}", "-q")
    assert ended.code == 2
    assert len(ended.err.splitlines()) <= 2, "once, or once for the option as well"
    assert said in ended.err


@pytest.mark.parametrize("columns", [60, 80, 100])
@pytest.mark.parametrize("kind", ["gpus", "instances", "models", "profiles", "traces"])
def test_a_catalog_cuts_no_name_and_no_number_short(
    twinfer: Twinfer, monkeypatch: pytest.MonkeyPatch, kind: str, columns: int
) -> None:
    rows = json.loads(twinfer("catalog", kind, "--json").out)
    monkeypatch.setenv("COLUMNS", str(columns))
    ended = twinfer("catalog", kind)
    assert all(len(line) <= columns for line in ended.out.splitlines())
    assert all(row["name"] in ended.out.split() for row in rows)
    left = [line for line in ended.out.splitlines() if line.startswith("not shown for want of width: ")]
    assert columns > 60 or left
