"""Every fault at once; each names file and line, field, value, what is allowed and the nearest right name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from sim import config
from sim.errors import ConfigError


def faults(text: str, overrides: dict[str, object] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.load_text(text, overrides, file="s.yaml")
    return [str(problem) for problem in caught.value.problems]


def line_of(text: str, fragment: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if fragment in line)


# what is changed in the base scenario, by what; the path and the words that the message must have
CASES = [
    ("run: {duration: 10m", "run: {duration: 10x", "run.duration", ["'10x' is not a duration", "250ms"]),
    ("duration: 10m", "duration: 0", "run.duration", ["'0' is out of range", "more than 0 s"]),
    ("replications: 3", "replications: no", "run.replications", ["'no' is not a whole number", "from 1 to 10000"]),
    ("replications: 3", "replications: 2.5", "run.replications", ["'2.5' is not a whole number"]),
    ("replications: 3", 'replications: "3"', "run.replications", ["'3' is not a whole number"]),
    ("replications: 3", "replicatons: 3", "run", ["unknown key 'replicatons' (did you mean 'replications'?)", "allowed: duration,"]),
    ("replications: 3", "drain: yes", "run.drain", ["'yes' is not true or false (did you mean true?)"]),
    ("replications: 3", "mode: slow", "run.mode", ["'slow' is not one of fast, reference"]),
    ("replications: 3", "confidence: 100%", "run.confidence", ["'100%' is out of range", "less than 1"]),
    ("replications: 3", "warmup: soon", "run.warmup", ["'soon' is neither auto nor a duration"]),
    ("replications: 3", "precision: {metric: ttft_p9}", "run.precision.metric", ["'ttft_p9' is not a metric (did you mean 'ttft_p99'?)"]),
    ("replications: 3", "precision: 5", "run.precision", ["'5' is not a mapping with the keys metric, half_width"]),
    ("question: Does it hold?", "question: 12", "question", ["'12' is not text; quote it"]),
    ("architecture: llama-3.1-8b", "architecture: lama-3.1-8b", "models.llama.architecture", ["(did you mean 'llama-3.1-8b'?)"]),
    ("architecture: llama-3.1-8b", "dtype: bf16", "models.llama.architecture", ["is missing"]),
    ("architecture: llama-3.1-8b", "architecture: llama-3.1-8b, dtype: bf17", "models.llama.dtype", ["'bf17'", "(did you mean 'bf16'?)"]),
    ("aws/p5.48xlarge", "aws/p5.48xlarg", "cluster.pools.h100.instance", ["(did you mean 'aws/p5.48xlarge'?)"]),
    ("aws/p5.48xlarge", "aws/p5.48xlarge, gpu: l4", "cluster.pools.h100", ["needs an instance of the catalog, or a gpu", "both"]),
    ("gpu: h100-sxm,", "gpu: h100-sxm5,", "cluster.pools.own.gpu", ["'h100-sxm5' is not in the catalog", "'h100-sxm'?"]),
    ("price: 5.5, ", "", "cluster.pools.own", ["needs price"]),
    ("nodes: 3", "nodes: 0", "cluster.pools.own.nodes", ["'0' is out of range"]),
    ("name: own,", "name: h100,", "cluster.pools.h100.name", ["'h100' is the name of another one, on line 7"]),
    ("name: docs", "name: chat", "workloads.chat.name", ["'chat' is the name of another one"]),
    ("name: docs", "name: a/b", "workloads.a/b.name", ["'a/b' is not a name"]),
    ("deployment: second", "deployment: secnd", "workloads.docs.deployment", ["'secnd' is not one of the deployments", "'second'?"]),
    ("    deployment: second\n", "", "workloads.docs", ["needs deployment", "chat, second"]),
    ("preset: azure-2023-conv", "preset: azure-2023-con", "workloads.chat.arrivals.preset", ["(did you mean 'azure-2023-conv'?)"]),
    ("scale: 4", "rate: 4", "workloads.chat.arrivals", ["needs exactly one of rate, mmpp", "rate and preset"]),
    ("scale: 4", "think: 4s", "workloads.chat.arrivals.think", ["has no meaning with preset"]),
    ("scale: 4", "scale: 0", "workloads.chat.arrivals.scale", ["'0' is out of range", "more than 0"]),
    ("ttft_p99: 2s", "ttft_99: 2s", "workloads.chat.objectives.ttft_99", ["'ttft_99' is not a metric", "(did you mean 'ttft_p99'?)"]),
    ("ttft_p99: 2s", "ttft_p99: 2 sec", "workloads.chat.objectives.ttft_p99", ["'2 sec' is not a duration"]),
    ("rate: 2/s, cv: 2", "rate: 2/fortnight", "workloads.docs.arrivals.rate", ["'2/fortnight' is not a rate", "300/min"]),
    ("rate: 2/s, cv: 2", "rate: 2/s, cv: 2, process: poisson", "workloads.docs.arrivals.cv", ["a poisson process has cv 1"]),
    ("rate: 2/s, cv: 2", "curve: [[0, 1], [10, 2], [5, 3]]", "workloads.docs.arrivals.curve", ["times must not go back"]),
    ("rate: 2/s, cv: 2", "curve: 5", "workloads.docs.arrivals.curve", ["'5' is not a list of [time, rate] points"]),
    ("rate: 2/s, cv: 2", "mmpp: {rates: [1, 2], dwell: [10]}", "workloads.docs.arrivals.mmpp", ["2 rates and 1 dwell times"]),
    ("rate: 2/s, cv: 2", "trace: nowhere.csv", "workloads.docs.arrivals.trace", ["nowhere.csv", "there is no such file"]),
    ("rate: 2/s, cv: 2", "trace: azure-2023-conv", "workloads.docs.arrivals.trace", ["twinfer traces fetch azure-2023-conv"]),
    ("rate: 2/s, cv: 2", "{}", "workloads.docs.arrivals", []),
    ("prompt: 512", "prompt: -1", "workloads.docs.lengths.prompt", ["'-1' is out of range", "from 1 to 10000000"]),
    ("prompt: 512", "prompt: {fixed: 3, min: 2}", "workloads.docs.lengths.prompt.min", ["has no meaning with a fixed length"]),
    ("prompt: 512", "prompt: {quantiles: {p50: 9, p10: 90}}", "workloads.docs.lengths.prompt.quantiles", ["tokens must not fall"]),
    ("prompt: 512", "prompt: {quantiles: {50: 9}}", "workloads.docs.lengths.prompt.quantiles", ["'50' is not a percentile"]),
    ("prompt: 512, ", "", "workloads.docs.lengths", ["needs prompt, a preset, or a trace"]),
    ("prompt: 512, ", "trace: nowhere.csv, ", "workloads.docs.lengths.trace", ["nowhere.csv", "there is no such file"]),
    ("median: 100, sigma: 0.5", "median: 100, cv: 1", "workloads.docs.lengths.output.lognormal", ["needs median and sigma, or"]),
    ("    lengths: {prompt", "    tenant: t\n#", "workloads.docs", ["needs lengths: only presets and traces bring their own"]),
    ("pool: h100, replicas: 2", "pool: h10, replicas: 2", "deployments.chat.pool", ["'h10' is not one of the pools", "h100, own"]),
    ("{name: chat, model: llama,", "{name: chat, model: lama,", "deployments.chat.model", ["'lama' is not one of the models", "'llama'?"]),
    ("replicas: 2}", "replicas: 9}", "deployments.chat.replicas", ["9 x 1 GPUs do not fit", "pool 'h100' has 8 (1 x 8)"]),
    ("replicas: 2}", "tensor_parallel: 16}", "deployments.chat.tensor_parallel", ["16 GPUs are not in one machine"]),
    ("replicas: 2}", "tensor_parallel: 3}", "deployments.chat.tensor_parallel", ["3 does not divide the 32 attention heads"]),
    ("replicas: 2}", "profile: h100-sxm/llama-3.1-70b/tp4}", "deployments.chat.profile", ["tensor_parallel 4, the deployment has 1"]),
    ("replicas: 2}", "profile: h100-sxm/llama-3.1-8b/tp2}", "deployments.chat.profile", ["neither shipped nor a file", "did you mean"]),
    ("replicas: 2}", "router: {kind: least-outstandng}}", "deployments.chat.router.kind", ["(did you mean 'least-outstanding'?)"]),
    ("replicas: 2}", "router: {kind: random, tries: 3}}", "deployments.chat.router", ["'tries' is not a parameter"]),
    ("max_num_seqs: 64", "max_num_seq: 64", "deployments.second.engine", ["unknown key 'max_num_seq' (did you mean 'max_num_seqs'?)"]),
    ("max_num_seqs: 64", "max_num_seqs: 64, max_num_batched_tokens: 32", "deployments.second.engine.max_num_batched_tokens", ["32 tokens"]),
    ("max_num_seqs: 64", "gpu_memory_utilization: 1.5", "deployments.second.engine.gpu_memory_utilization", ["'1.5' is out of range"]),
    ("max_num_seqs: 64", "max_model_len: 1e6", "deployments.second.engine.max_model_len", ["1000000 is more than the 131072 tokens"]),
    ("max_num_seqs: 64", "enable_chunked_prefill: false, max_num_batched_tokens: 8192", "deployments.second.engine.max_num_batched_tokens",
     ["8192 is less than max_model_len 131072"]),
    ("  more: {deployments.chat.replicas: 4}", "  more: {deployments.chat.replcas: 4}", "options.more.deployments.chat.replcas",
     ["'replcas' is not in deployments.chat (did you mean 'replicas'?)"]),
    ("  more: {deployments.chat.replicas: 4}", "  more: {deployments.cht.replicas: 4}", "options.more.deployments.cht.replicas",
     ["'cht' is not in deployments (did you mean 'chat'?)"]),
    ("  more: {deployments.chat.replicas: 4}", "  more: {deployments.chat.replicas: 40}", "options.more.deployments.chat.replicas",
     ["40 x 1 GPUs do not fit"]),
    ("  more: {deployments.chat.replicas: 4}", "  more: {deployments.chat.engine: {block_sise: 4}}", "options.more.deployments.chat.engine",
     ["unknown key 'block_sise' (did you mean 'block_size'?)"]),
    ("  more: {deployments.chat.replicas: 4}", "  more: 4", "options", ["option 'more' is '4', not a mapping"]),
    ("run: {duration: 10m,", "run: {", "run", ["needs duration or requests: workload 'chat' has no end of its own"]),
    ("rate: 2/s, cv: 2", "rate: 1e6/s", "workloads.docs.arrivals", ["6e+08 requests", "at most 1e+08"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "path", "words"), CASES, ids=[f"{case[2]}-{index}" for index, case in enumerate(CASES)]
)
def test_a_fault_is_said_at_its_line_with_path_and_what_is_right(
    base: str, old: str, new: str, path: str, words: list[str]
) -> None:
    assert old in base
    text = base.replace(old, new, 1)
    found = faults(text)
    said = [line for line in found if all(word in line for word in words) and f": {path}: " in line]
    assert said, found
    number = int(said[0].split(":")[1])
    changed = base[: base.index(old)].count("\n") + 1
    assert changed - 4 <= number <= changed  # on the line itself, or where the mapping that lacks something begins


def test_the_line_is_exactly_that_of_the_value(base: str) -> None:
    text = base.replace("    engine: {max_num_seqs: 64}", "    engine:\n      max_num_seqs: 64\n\n      kv_blocks: few")
    place = f"s.yaml:{line_of(text, 'kv_blocks')}: deployments.second.engine.kv_blocks"
    assert faults(text) == [f"{place}: 'few' is not a whole number; allowed: from 2 to 1000000000"]


def test_every_fault_is_found_at_once_in_file_order(base: str) -> None:
    text = base
    for old, new in [("10m", "10x"), ("llama-3.1-8b", "lama"), ("p5.48xlarge", "p6.48"), ("nodes: 3", "nodes: x"), ("ttft_p99", "ttft"),
                     ("prompt: 512", "prompt: x"), ("replicas: 2", "replicas: -2"), ("pool: own", "pool: onw"),
                     ("max_num_seqs: 64", "max_num_seqs: 64, max_num_seqs: 65"), ("replicas: 4", "replics: 4")]:  # fmt: skip
        assert old in text
        text = text.replace(old, new, 1)
    found = faults(text)
    lines = [int(line.split(":")[1]) for line in found]
    assert lines == sorted(lines)
    assert len(found) >= 10
    for word in ("10x", "lama", "p6.48", "nodes", "'ttft'", "prompt", "'-2'", "onw", "twice", "replics"):
        assert any(word in line for line in found), word


def test_one_fault_makes_one_problem_though_every_option_has_it(base: str) -> None:
    assert len(faults(base.replace("nodes: 3", "nodes: 0"))) == 1


def test_a_broken_part_is_not_reported_as_missing_by_those_that_refer_to_it(base: str) -> None:
    assert len(faults(base.replace("architecture: llama-3.1-8b", "architecture: nope"))) == 1
    assert len(faults(base.replace("instance: aws/p5.48xlarge", "instance: nope"))) == 1
    assert len(faults(base.replace("pool: h100, replicas: 2", "pool: h100, replicas: two"))) == 1


def test_replicas_of_different_size_are_packed_machine_by_machine(base: str) -> None:
    text = base.replace("pool: h100, replicas: 2", "pool: own, replicas: 5")
    assert config.load_text(text)  # 5 + 1 on 3 x 2
    found = faults(text.replace("replicas: 5", "replicas: 6"))
    assert "do not fit: pool 'own' has 6 (3 x 2), which" in found[0]


def test_empty_lists_are_refused(base: str) -> None:
    text = base.split("workloads:", maxsplit=1)[0] + "workloads: []\ndeployments: []\n"
    assert [line.split(": ", 1)[1] for line in faults(text)] == [
        "workloads: is empty; a scenario needs at least one",
        "deployments: is empty; a scenario needs at least one",
    ]


def test_a_key_with_nothing_after_it_counts_as_left_out(base: str) -> None:
    scenario = config.load_text(base.replace("replications: 3", "replications: null"))
    assert scenario.run.replications == 10
    assert "unknown key" in faults(base.replace("replications: 3", "replictions: null"))[0]


def test_files_that_cannot_be_read(tmp_path: Path, base: str) -> None:
    def said(path: Path | str) -> str:
        with pytest.raises(ConfigError) as caught:
            config.load(path)
        assert len(caught.value.problems) == 1
        return str(caught.value)

    (tmp_path / "chat.yaml").write_text(base, encoding="utf-8")
    (tmp_path / "list.yaml").write_text("- 1\n", encoding="utf-8")
    (tmp_path / "big.yaml").write_bytes(b"#" * (5 * 2**20))
    (tmp_path / "empty.yaml").touch()
    assert said(tmp_path / "chta.yaml") == f"{tmp_path}/chta.yaml: there is no such file (did you mean 'chat.yaml'?)"
    assert said(tmp_path) == f"{tmp_path}: is a folder, not a scenario file"
    assert "cannot be read" in said(tmp_path / "no" / "chat.yaml")
    assert said(tmp_path / "list.yaml").endswith(
        "list.yaml:1: a scenario is a mapping (run:, models:, ...), this is a list"
    )
    assert "is larger than 4 MiB" in said(tmp_path / "big.yaml")
    assert said(tmp_path / "empty.yaml").endswith("empty.yaml:1: is empty")
    assert "cannot be read" in said("a\0b.yaml")
    assert "cannot be read" in said("x" * 5000)


@pytest.mark.skipif(not Path("/dev/zero").exists() or os.name != "posix", reason="no /dev/zero here")
def test_a_file_without_end_is_refused() -> None:
    with pytest.raises(ConfigError, match="is larger than 4 MiB"):
        config.load("/dev/zero")


@pytest.mark.skipif(not Path("/dev/zero").exists() or os.name != "posix", reason="no /dev/zero here")
def test_a_model_without_end_is_refused(base: str) -> None:
    with pytest.raises(ConfigError, match="/dev/zero: is not a file"):
        config.load_text(base, {"models.llama.architecture": "/dev/zero"})


def test_a_problem_is_one_printable_line_whatever_was_written(base: str) -> None:
    for word in ("a" * 9000, '"a\\nb\\0c\\e[31m"', '"\\u2028"'):
        for line in faults(base.replace("llama-3.1-8b", word).replace("h100,", f"{word},")):
            assert line.isprintable()
            assert len(line) < 1500


def test_a_warm_up_that_leaves_nothing_is_refused(base: str) -> None:
    (line,) = faults(base.replace("duration: 10m,", "duration: 10m, warmup: 15m,"))
    assert line.endswith(":2: run.warmup: 900 s leave nothing of the run's 600 s")


@pytest.mark.parametrize("path", [123, None, 1.5, ["a.yaml"], True])
def test_what_is_no_path_is_refused(path: Any) -> None:
    with pytest.raises(ConfigError, match="is not the path of a scenario file"):
        config.load(path)


@pytest.mark.parametrize("overrides", [["run.seed=1"], "run.seed=1", 3, 0])
def test_overrides_that_are_no_mapping_are_refused(tmp_path: Path, base: str, overrides: Any) -> None:
    (tmp_path / "chat.yaml").write_text(base, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"^overrides: .* is not a mapping of values by path$"):
        config.load(tmp_path / "chat.yaml", overrides)


@pytest.mark.parametrize("name", [3, None, []])
def test_an_option_is_asked_for_by_its_name(tmp_path: Path, base: str, name: Any) -> None:
    (tmp_path / "chat.yaml").write_text(base, encoding="utf-8")
    with pytest.raises(ConfigError, match="is not an option; there are same, more"):
        config.load(tmp_path / "chat.yaml").with_option(name)
