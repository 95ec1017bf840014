"""``extends``: a scenario that changes another, each problem at the file that has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim import config
from sim.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path, base: str) -> Path:
    (tmp_path / "base.yaml").write_text(base, encoding="utf-8")
    (tmp_path / "sub").mkdir()
    return tmp_path


def child(folder: Path, text: str, name: str = "sub/child.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_mappings_are_merged_by_key_and_named_lists_by_name(folder: Path) -> None:
    path = child(
        folder,
        "extends: ../base.yaml\nquestion: Else?\nrun: {replications: 5}\ndeployments:\n  - {name: second, replicas: 2}\n"
        "  - {name: third, model: llama, pool: h100}\nworkloads:\n  - {name: docs, lengths: {prompt: 99}}\n"
        "options:\n  more: {deployments.third.replicas: 2}\n",
    )
    scenario = config.load(path)
    assert (scenario.question, scenario.run.replications, scenario.run.duration) == ("Else?", 5, 600.0)
    assert [(d.name, d.replicas) for d in scenario.deployments] == [("chat", 2), ("second", 2), ("third", 1)]
    assert scenario.deployments[1].engine.max_num_seqs == 64
    lengths = scenario.workloads[1].lengths
    assert lengths is not None
    assert lengths.prompt is not None
    assert lengths.output is not None
    assert (lengths.prompt.fixed, lengths.output.max) == (99, 500)
    assert scenario.option_names() == ["same", "more"]
    more = scenario.with_option("more")
    assert [d.replicas for d in more.deployments] == [4, 2, 2]


def test_another_kind_of_arrivals_replaces_the_extended_ones(folder: Path) -> None:
    path = child(folder, "extends: ../base.yaml\nworkloads:\n  - {name: docs, arrivals: {closed_loop: 4, think: 1s}}\n")
    arrivals = config.load(path).workloads[1].arrivals
    assert (arrivals.kind, arrivals.rate, arrivals.cv) == ("closed_loop", None, None)


def test_null_takes_a_value_away(folder: Path) -> None:
    path = child(folder, "extends: ../base.yaml\ndeployments:\n  - {name: second, engine: null}\n")
    assert config.load(path).deployments[1].engine.max_num_seqs is None


def test_problems_name_the_file_and_line_that_has_them(folder: Path) -> None:
    text = (folder / "base.yaml").read_text(encoding="utf-8").replace("nodes: 3", "nodes: x")
    (folder / "base.yaml").write_text(text, encoding="utf-8")
    path = child(folder, "extends: ../base.yaml\n\ndeployments:\n  - name: second\n    replicas: y\n")
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    places = {(Path(p.file or "").name, p.line, p.path) for p in caught.value.problems}
    assert places == {("base.yaml", 8, "cluster.pools.own.nodes"), ("child.yaml", 5, "deployments.second.replicas")}


def test_relative_paths_are_those_of_the_file_that_has_them(folder: Path) -> None:
    rows = "arrival_s,prompt_tokens,output_tokens\n0,10,10\n"
    (folder / "a.csv").write_text(rows, encoding="utf-8")
    text = (
        (folder / "base.yaml")
        .read_text(encoding="utf-8")
        .replace("{preset: azure-2023-conv, scale: 4}", "{trace: a.csv}\n    lengths: {trace: a.csv}")
    )
    (folder / "base.yaml").write_text(text, encoding="utf-8")
    workload = config.load(child(folder, "extends: ../base.yaml\n")).workloads[0]
    assert workload.arrivals.trace == str(folder / "a.csv")
    assert workload.lengths is not None
    assert workload.lengths.trace == str(folder / "a.csv")


def test_a_chain_is_followed_and_a_circle_refused(folder: Path) -> None:
    child(folder, "extends: ../base.yaml\nrun: {seed: 5}\n", "sub/one.yaml")
    assert config.load(child(folder, "extends: one.yaml\n", "sub/two.yaml")).run.seed == 5
    child(folder, "extends: two.yaml\n", "sub/one.yaml")
    with pytest.raises(ConfigError, match=r"one\.yaml:1: extends: 'two\.yaml': extends itself, in a circle"):
        config.load(folder / "sub/two.yaml")
    with pytest.raises(ConfigError, match="in a circle"):
        config.load(child(folder, "extends: self.yaml\n", "sub/self.yaml"))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("../bse.yaml", "'../bse.yaml': there is no such file (did you mean 'base.yaml'?)"),
        ("..", "'..': is a folder, not a scenario file"),
        ("[a.yaml]", "a list is not the path of a scenario file"),
        ("3", "'3' is not the path of a scenario file"),
    ],
)
def test_what_cannot_be_extended_is_refused_with_the_line(folder: Path, value: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(child(folder, f"question: x\nextends: {value}\n"))
    problem = caught.value.problems[-1] if caught.value.problems[0].path != "extends" else caught.value.problems[0]
    assert (problem.line, problem.path, problem.message) == (2, "extends", said)
