"""``--set`` and options: one path syntax, values read as YAML, nothing set that no scenario has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim import config
from sim.errors import ConfigError


def problem(base: str, path: str, value: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        config.load_text(base, {path: value}, file="s.yaml")
    assert len(caught.value.problems) == 1
    return str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "where", "found"),
    [
        ("deployments.chat.replicas", "3", "deployments.0.replicas", 3),
        ("deployments.0.replicas", 3, "deployments.0.replicas", 3),
        ("deployments[0].replicas", "3", "deployments.0.replicas", 3),
        ("deployments.chat.replicas", np.int64(3), "deployments.0.replicas", 3),
        ("run.duration", "1h30m", "run.duration", 5400.0),
        ("run.seed", "1e3", "run.seed", 1000),
        ("question", "What: now? # yes", "question", "What: now? # yes"),
        ("question", '"12"', "question", "12"),
        # optional fields that the file leaves out, in mappings that it leaves out
        ("deployments.chat.engine.kv_blocks", "512", "deployments.0.engine.kv_blocks", 512),
        ("deployments.second.engine.kv_blocks", "512", "deployments.1.engine.max_num_seqs", 64),
        ("deployments.chat.profile", "h100-sxm/llama-3.1-8b/tp1", "deployments.0.profile", "h100-sxm/llama-3.1-8b/tp1"),
        ("run.precision.metric", "ttft_p99", "run.precision.metric", "ttft_p99"),
        ("workloads.docs.objectives.e2e_p95", "30s", "workloads.1.objectives.e2e_p95", 30.0),
        ("workloads.chat.objectives", "{tpot_p99: 50ms}", "workloads.0.objectives", {"tpot_p99": 0.05}),
        ("deployments.second.engine", "{}", "deployments.1.engine.max_num_seqs", None),
        ("deployments.second.engine", "null", "deployments.1.engine.max_num_seqs", None),
        ("deployments.chat.router.kind", "random", "deployments.0.router.kind", "random"),
        ("workloads.docs.arrivals.rate", "300/min", "workloads.1.arrivals.rate", 5.0),
        ("workloads.docs.arrivals.rate", "300/min", "workloads.1.arrivals.cv", 2.0),
        ("workloads.docs.lengths.output.max", "400", "workloads.1.lengths.output.lognormal.median", 100.0),
        ("workloads.docs.lengths.prompt.fixed", "9", "workloads.1.lengths.prompt.fixed", 9),
    ],
)
def test_a_value_is_set_at_a_path(base: str, path: str, value: Any, where: str, found: Any) -> None:
    got: Any = config.load_text(base, {path: value})
    for step in where.split("."):
        got = got[int(step)] if step.isdecimal() else got[step] if isinstance(got, dict) else getattr(got, step)
    assert got == found


def test_names_that_hold_dots_are_recognised(base: str) -> None:
    text = (
        base.replace("  llama: {", "  llama-3.1: {")
        .replace("model: llama", "model: llama-3.1")
        .replace("name: second", "name: v2.second")
    )
    text = text.replace("deployment: second", "deployment: v2.second")
    scenario = config.load_text(text, {"models.llama-3.1.dtype": "bf16", "deployments.v2.second.replicas": "2"})
    assert scenario.deployments[1].replicas == 2


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("deployments.chat.replicas", "x", "--set deployments.chat.replicas=x: 'x' is not a whole number; allowed: from 0 to 100000"),
        ("deployments.chat.replicas", "99", "--set deployments.chat.replicas=99: 99 x 1 GPUs do not fit: pool 'h100' has 8 (1 x 8)"),
        ("deployments.chat.replcas", "3", "--set deployments.chat.replcas=3: 'replcas' is not in deployments.chat (did you mean"),
        ("deployments.caht.replicas", "3", "--set deployments.caht.replicas=3: 'caht' is not in deployments (did you mean 'chat'?)"),
        ("deploymets.chat.replicas", "3", "--set deploymets.chat.replicas=3: 'deploymets' is not in a scenario (did you mean"),
        ("deployments.2.replicas", "3", "--set deployments.2.replicas=3: there is no item 2 in deployments, which has 2"),
        ("models.lama.dtype", "fp8", "--set models.lama.dtype=fp8: 'lama' is not in models (did you mean 'llama'?)"),
        ("run.seed.x", "3", "--set run.seed.x=3: run.seed is a single value: there is no 'x' in it"),
        ("run..seed", "3", "--set run..seed=3: is not a path"),
        ("", "3", "--set =3: is not a path"),
        ("run", "[1, 2", "--set run=[1, 2: is not YAML:"),
        ("run", "{seed: 1, seed: 2}", "--set run={seed: 1, seed: 2}: key 'seed' is given twice"),
        ("run", "{sed: 1}", "--set run={sed: 1}: unknown key 'sed' (did you mean 'seed'?)"),
        ("run", "{seed: x, duration: 3}", "--set run={seed: x, duration: 3}: seed: 'x' is not a whole number"),
        ("options.more.deployments.chat.replicas", "x", "--set options.more.deployments.chat.replicas=x: 'x' is not a whole number"),
        ("workloads.chat.arrivals.trace", "nowhere.csv", "--set workloads.chat.arrivals.trace=nowhere.csv: nowhere.csv: there is"),
    ],
)  # fmt: skip
def test_a_problem_of_an_override_names_it(base: str, path: str, value: Any, said: str) -> None:
    assert problem(base, path, value).startswith(said)


def test_problems_of_the_file_and_of_every_override_come_together(base: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load_text(base.replace("10m", "10x"), {"run.seed": "x", "runn.seed": 1, "question": "3"})
    assert len(caught.value.problems) == 4


def test_an_override_may_mend_the_file(base: str) -> None:
    assert config.load_text(base.replace("10m", "10x"), {"run.duration": "5m"}).run.duration == 300.0


def test_another_kind_of_arrivals_replaces_them_as_a_whole(base: str, tmp_path: Path) -> None:
    trace = tmp_path / "reqs.csv"
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n0,10,10\n", encoding="utf-8")
    arrivals = config.load_text(base, {"workloads.chat.arrivals.trace": str(trace)}).workloads[0].arrivals
    assert (arrivals.kind, arrivals.trace, arrivals.preset, arrivals.scale) == ("trace", str(trace), None, 1.0)


@pytest.mark.parametrize("order", [1, -1])
def test_what_is_set_together_stays_together_in_any_order(base: str, order: int) -> None:
    changes = [("workloads.chat.arrivals.scale", "3"), ("workloads.chat.arrivals.rate", "2/s"), ("workloads.chat.arrivals.cv", "2"),
               ("workloads.chat.lengths.prompt", "100"), ("workloads.chat.lengths.output", "{fixed: 10}")]  # fmt: skip
    arrivals = config.load_text(base, dict(changes[::order])).workloads[0].arrivals
    assert (arrivals.kind, arrivals.rate, arrivals.scale, arrivals.cv) == ("rate", 2.0, 3.0, 2.0)


def test_another_way_to_give_a_pool_or_a_length_replaces_the_first(base: str) -> None:
    scenario = config.load_text(
        base,
        {
            "cluster.pools.own.instance": "aws/p5.48xlarge",
            "workloads.docs.lengths.output.quantiles": "{p50: 10, p99: 90}",
            "workloads.docs.lengths.prompt.lognormal.mean": "100",
            "workloads.docs.lengths.prompt.lognormal.cv": "1",
        },
    )
    pool, lengths = scenario.cluster.pools[1], scenario.workloads[1].lengths
    assert (pool.instance, pool.gpu, pool.nodes) == ("aws/p5.48xlarge", None, 3)
    assert lengths is not None
    assert lengths.output is not None
    assert lengths.prompt is not None
    assert lengths.output.quantiles == ((0.5, 10.0), (0.99, 90.0))
    assert lengths.output.max is None
    assert lengths.prompt.fixed is None


def test_paths_of_files_are_relative_to_the_file_or_to_where_the_command_runs(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "arrival_s,prompt_tokens,output_tokens\n0,10,10\n"
    (tmp_path / "sub" / "data").mkdir(parents=True)
    (tmp_path / "sub" / "data" / "a.csv").write_text(rows, encoding="utf-8")
    (tmp_path / "b.csv").write_text(rows, encoding="utf-8")
    text = base.replace("{preset: azure-2023-conv, scale: 4}", "{trace: data/a.csv}")
    (tmp_path / "sub" / "s.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert config.load("sub/s.yaml").workloads[0].arrivals.trace == "sub/data/a.csv"
    assert config.load(tmp_path / "sub/s.yaml").workloads[0].arrivals.trace == str(tmp_path / "sub/data/a.csv")
    override = {"workloads.chat.arrivals.trace": "b.csv"}
    assert config.load("sub/s.yaml", override).workloads[0].arrivals.trace == "b.csv"
    option = text.replace("  same: {}", "  same: {workloads.chat.arrivals.trace: ../b.csv}")
    (tmp_path / "sub" / "t.yaml").write_text(option, encoding="utf-8")
    assert config.load("sub/t.yaml").with_option("same").workloads[0].arrivals.trace == "./b.csv"


def test_a_fetched_trace_is_named_as_in_the_catalog(base: str, trace_cache: Path) -> None:
    trace_cache.mkdir(parents=True)
    (trace_cache / "azure-2023-conv.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n", encoding="utf-8")
    scenario = config.load_text(base.replace("preset: azure", "trace: azure"), file="sub/s.yaml")
    assert scenario.workloads[0].arrivals.trace == "azure-2023-conv"


def test_options_change_the_base_and_nothing_else(base: str) -> None:
    text = base + "  both:\n    deployments.chat.replicas: 6\n    workloads.docs.arrivals.rate: 9/s\n"
    scenario = config.load_text(text)
    assert scenario.option_names() == ["same", "more", "both"]
    both = scenario.with_option("both")
    assert (both.option, both.deployments[0].replicas, both.workloads[1].arrivals.rate) == ("both", 6, 9.0)
    assert both.option_names() == scenario.option_names()
    assert both.with_option("more").workloads[1].arrivals.rate == 2.0
    assert both.base() == scenario
    assert scenario.base() is scenario
    assert scenario.deployments[0].replicas == 2


def test_options_come_after_overrides(base: str) -> None:
    scenario = config.load_text(base, {"deployments.chat.replicas": 5, "run.seed": 9})
    assert scenario.with_option("same").deployments[0].replicas == 5
    more = scenario.with_option("more")
    assert (more.deployments[0].replicas, more.run.seed) == (4, 9)


def test_a_problem_that_an_option_brings_about_elsewhere_is_said_of_the_option(base: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load_text(base + "  odd: {workloads.chat.arrivals.closed_loop: 3}\n", file="s.yaml")
    said = "options.odd: workloads.chat: needs lengths: only presets and traces bring their own"
    assert str(caught.value) == f"s.yaml:{base.count(chr(10)) + 1}: {said}"


def test_an_option_that_is_not_there_is_refused_with_the_nearest(base: str) -> None:
    with pytest.raises(
        ConfigError, match=r"options: 'mor' is not an option \(did you mean 'more'\?\); there are same, more"
    ):
        config.load_text(base).with_option("mor")
    with pytest.raises(ConfigError, match="an option cannot change the options"):
        config.load_text(base + "  odd: {options.more: {}}\n")
