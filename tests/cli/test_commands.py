"""The other commands, and how bad input is answered."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer

from sim import catalog, config
from sim.catalog import TraceRow
from tests.paths import SCENARIOS

Twinfer = Callable[..., Any]

COMMANDS = ("run", "compare", "validate", "schema", "init", "catalog", "traces", "report")


@pytest.mark.parametrize(
    "command",
    [(), *((name,) for name in COMMANDS), *(("traces", name) for name in ("list", "fetch", "inspect", "fit"))],
)
def test_every_command_has_help(twinfer: Twinfer, command: tuple[str, ...]) -> None:
    ended = twinfer(*command, "--help")
    assert ended.code == 0
    assert "Usage: twinfer" in ended.out
    assert ended.err == ""


def test_help_names_every_command(twinfer: Twinfer) -> None:
    ended = twinfer("--help")
    assert all(f" {name} " in ended.out for name in COMMANDS)


def test_the_version_is_that_of_the_package(twinfer: Twinfer) -> None:
    import sim

    assert twinfer("--version").out == f"twinfer {sim.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("cmpare", "x.yaml"), "Did you mean 'compare'?"),
        (("run", "x.yaml", "--replicatons", "3"), "--replications"),
        (("run", "x.yaml", "--seed", "many"), "--seed"),
        (("run", "x.yaml", "--jobs", "0"), "--jobs"),
        (("traces", "fech"), "Did you mean 'fetch'?"),
    ],
)
def test_what_is_mistyped_is_bad_input_with_the_nearest_name(
    twinfer: Twinfer, arguments: tuple[str, ...], said: str
) -> None:
    ended = twinfer(*arguments)
    assert ended.code == 2
    assert ended.out == ""
    assert said in ended.err


@pytest.mark.parametrize("command", ["run", "compare", "validate"])
def test_every_fault_of_a_scenario_is_one_line_with_its_place(twinfer: Twinfer, scenario: Path, command: str) -> None:
    text = scenario.read_text(encoding="utf-8").replace("h100-sxm", "h100-smx").replace("rate: 10/s", "rate: fast")
    scenario.write_text(text, encoding="utf-8")
    ended = twinfer(command, scenario)
    assert ended.code == 2
    assert ended.out == ""
    lines = ended.err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"{scenario}:4: ")
    assert "did you mean 'h100-sxm'?" in lines[0]
    assert lines[1].startswith(f"{scenario}:8: ")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("deployments.chat.replicas", "PATH=VALUE"),
        ("deployments.chat.replcas=3", "replicas"),
        ("workloads.chat.arrivals.rate=-1", "rate"),
    ],
)
def test_a_bad_setting_is_one_line(twinfer: Twinfer, scenario: Path, setting: str, said: str) -> None:
    ended = twinfer("run", scenario, "--set", setting)
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1
    assert said in ended.err


def test_an_absent_scenario_is_bad_input(twinfer: Twinfer) -> None:
    ended = twinfer("run", "absent.yaml")
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1


def test_validate_json_lists_the_problems_of_every_file(twinfer: Twinfer, scenario: Path) -> None:
    bad = scenario.with_name("bad.yaml")
    bad.write_text(scenario.read_text(encoding="utf-8").replace("h100-sxm", "h100-smx"), encoding="utf-8")
    ended = twinfer("validate", scenario, bad, "--json")
    assert ended.code == 2
    good, faulty = json.loads(ended.out)
    assert (good["valid"], good["options"], good["problems"]) == (True, ["one", "two"], [])
    assert faulty["valid"] is False
    assert faulty["problems"][0]["line"] == 4


def test_the_shipped_scenarios_are_valid_or_say_which_trace_to_fetch(twinfer: Twinfer) -> None:
    ended = twinfer("validate", *sorted(SCENARIOS.glob("*.yaml")), "--quiet")
    assert all("twinfer traces fetch" in line for line in ended.err.splitlines())


def test_schema_is_that_of_the_configuration(twinfer: Twinfer) -> None:
    assert json.loads(twinfer("schema").out) == config.json_schema()
    assert twinfer("schema", "-o", "twinfer.schema.json").code == 0
    assert json.loads(Path("twinfer.schema.json").read_text(encoding="utf-8")) == config.json_schema()


def test_init_writes_a_valid_scenario_and_replaces_none(twinfer: Twinfer) -> None:
    assert twinfer("init", "first.yaml").code == 0
    assert twinfer("validate", "first.yaml").code == 0
    Path("first.yaml").write_text("mine", encoding="utf-8")
    assert twinfer("init", "first.yaml").code == 2
    assert Path("first.yaml").read_text(encoding="utf-8") == "mine"
    assert twinfer("init", "first.yaml", "--force").code == 0
    assert twinfer("validate", "first.yaml").code == 0


@pytest.mark.parametrize("kind", ["gpus", "models", "instances", "links", "traces", "profiles", "policies", "presets"])
def test_every_catalog_is_listed_whole(twinfer: Twinfer, kind: str) -> None:
    rows = json.loads(twinfer("catalog", kind, "--json").out)
    assert rows
    ended = twinfer("catalog", kind)
    assert ended.code == 0
    assert max(map(len, ended.out.splitlines())) <= 100
    for row in rows:
        assert row["name"] in ended.out
    described = twinfer("catalog", kind, rows[0]["name"])
    assert described.code == 0
    assert described.out


def test_what_is_not_in_a_catalog_is_bad_input_with_the_nearest_name(twinfer: Twinfer) -> None:
    for arguments, near in (
        (("gpu",), "gpus"),
        (("gpus", "h100-sx"), "h100-sxm"),
        (("policies", "round-robbin"), "round-robin"),
    ):
        ended = twinfer("catalog", *arguments)
        assert ended.code == 2
        assert f"did you mean {near!r}?" in ended.err
        assert len(ended.err.splitlines()) == 1


@pytest.fixture(name="published")
def _published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TraceRow]:
    """A trace on a server of our own, in the place of one of the catalog's."""
    folder = tmp_path / "served"
    folder.mkdir()
    rows = "".join(f"{second},{100 + second % 7},{10 + second % 3}\n" for second in range(900))
    content = f"arrival_s,prompt_tokens,output_tokens\n{rows}".encode()
    (folder / "trace.csv").write_bytes(content)

    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    row = TraceRow(
        name="azure-2023-conv",
        title="Nine hundred requests",
        url=f"http://127.0.0.1:{server.server_port}/trace.csv",
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        licence="CC-BY-4.0",
        citation="",
        format="csv",
        requests=900,
        source="",
    )
    monkeypatch.setattr(catalog, "trace", lambda name: row)
    yield row
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_trace_is_fetched_once_with_its_licence_said_and_can_be_inspected(
    twinfer: Twinfer, published: TraceRow
) -> None:
    ended = twinfer("traces", "fetch", published.name)
    assert ended.code == 0
    assert Path(ended.out.strip()).is_file()
    assert "licence: CC-BY-4.0" in ended.err
    assert published.url in ended.err
    listed = {row["name"]: row for row in json.loads(twinfer("traces", "list", "--json").out)}
    assert listed[published.name]["fetched"] == ended.out.strip()
    assert published.name in twinfer("traces", "list").out
    assert "900" in twinfer("traces", "inspect", ended.out.strip()).out


def test_inspecting_a_preset_shows_its_fit_error(twinfer: Twinfer) -> None:
    ended = twinfer("traces", "inspect", "summarisation")
    assert "error" in ended.out
    assert "%" in ended.out
    found = json.loads(twinfer("traces", "inspect", "summarisation", "--json").out)
    assert found["errors"]


def test_a_trace_is_fitted_to_a_preset_that_can_be_used(twinfer: Twinfer, scenario: Path) -> None:
    rows = "".join(f"{1.1 * second},{100 + second % 7},{10 + second % 3}\n" for second in range(600))
    Path("mine.csv").write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}", encoding="utf-8")
    assert twinfer("traces", "fit", "mine.csv", "-o", "mine.json", "--quiet").code == 0
    preset = ("--set", "workloads.chat.arrivals={preset: mine.json}")
    assert twinfer("validate", scenario, *preset).code == 0


def test_a_trace_that_is_not_there_is_bad_input(twinfer: Twinfer) -> None:
    for command in ("inspect", "fit"):
        ended = twinfer("traces", command, "absent.csv")
        assert ended.code == 2
        assert len(ended.err.splitlines()) == 1


def test_a_plug_in_is_listed_without_being_imported_and_called_by_its_name(
    twinfer: Twinfer, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    app = typer.Typer()

    @app.command()
    def greet(name: str) -> None:
        called.append(name)

    @app.command()
    def part() -> None:
        called.append("parted")

    entry = importlib.metadata.EntryPoint("hello", "a_package_that_is_not_there:app", "twinfer.commands")
    monkeypatch.setattr("sim.cli.app._plug_ins", lambda: {"hello": entry})
    assert "hello" in twinfer("--help").out
    broken = twinfer("hello", "greet", "you")
    assert broken.code == 2
    assert "cannot be loaded" in broken.err
    assert len(broken.err.splitlines()) == 1
    monkeypatch.setattr(importlib.metadata.EntryPoint, "load", lambda self: app)
    assert twinfer("hello", "greet", "you").code == 0
    assert called == ["you"]
    assert "greet" in twinfer("hello", "--help").out
    assert "Did you mean 'hello'?" in twinfer("hallo").err
