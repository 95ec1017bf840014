"""A pool's machine may be what a profile was measured on, for hardware that the catalog does not know."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sim
from sim import profiles
from sim.experiment.build import build
from sim.profiles.schema import Hardware, Served

Write = Callable[..., Path]

MEMORY = 48 * 2**30
CPU = Hardware(title="A CPU of 64 cores", memory_bytes=MEMORY)


def measured(folder: Path, **parts: Any) -> Path:
    """A profile of llama-3.1-8b on hardware nobody has catalogued; nothing in it but the name of the shipped one's GPU is changed."""
    shipped = profiles.load("h100-sxm/llama-3.1-8b/tp1")
    path = folder / "mine.json"
    profiles.save(shipped.model_copy(update={"name": "mine", "gpu": "cpu-64", "hardware": CPU, **parts}), path)
    return path


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages cut long paths: these are short."""
    monkeypatch.chdir(tmp_path)


def scenario(path: Path, gpu: str = "mine.json", **changes: Any) -> sim.Scenario:
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("instance: aws/p5.4xlarge", f"gpu: {gpu}, price: 1"), encoding="utf-8")
    return sim.load(path.name, {f"deployments.chat.{key}": value for key, value in changes.items()})


def test_the_machine_has_the_memory_of_the_profile_and_serves_by_its_step_times(write: Write, tmp_path: Path) -> None:
    file = measured(tmp_path)
    placed = build(scenario(write())).deployments[0]
    memory = profiles.load(str(file)).memory
    budget, seqs = 2048, 256  # vLLM's defaults for less than 70 GiB
    peak = max(memory.activation_bytes_per_token * budget, memory.logits_bytes_per_sequence * seqs)
    free = 0.92 * MEMORY - memory.weights_bytes - memory.context_bytes - peak
    assert placed.settings.kv_blocks == int(free // (16 * memory.kv_bytes_per_token))
    assert (placed.gpu, placed.profile.name) == ("cpu-64", "mine")


def test_its_path_is_relative_to_the_scenarios_file(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(tmp_path)
    path = write()
    path.write_text(path.read_text().replace("instance: aws/p5.4xlarge", "gpu: mine.json, price: 0"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert build(sim.load(path)).deployments[0].profile.name == "mine"


def test_a_scenario_is_another_one_if_the_hardware_is(write: Write, tmp_path: Path) -> None:
    path, _ = write(), measured(tmp_path)
    before = scenario(path).digest()
    measured(tmp_path, hardware=CPU.model_copy(update={"memory_bytes": 2 * MEMORY}))
    assert scenario(path).digest() != before


def test_settings_of_the_measured_server_hold_there_too(write: Write, tmp_path: Path) -> None:
    measured(tmp_path, served=Served(block_size=128, kv_blocks=819, async_scheduling=False))
    settings = build(scenario(write())).deployments[0].settings
    assert (settings.block_size, settings.kv_blocks, settings.async_scheduling) == (128, 819, False)


def test_another_profile_of_the_deployment_goes_before_that_of_the_pool(write: Write, tmp_path: Path) -> None:
    measured(tmp_path)
    system = build(scenario(write(), profile="a100-sxm/llama-3.1-8b/tp1"))
    assert system.deployments[0].profile.name == "a100-sxm/llama-3.1-8b/tp1"
    assert any("of GPU a100-sxm, the deployment runs cpu-64" in warning for warning in system.warnings)


def test_an_alias_of_the_model_is_that_model(write: Write, tmp_path: Path) -> None:
    measured(tmp_path, model="meta-llama/Llama-3.1-8B-Instruct")
    system = build(scenario(write()))
    assert system.deployments[0].profile.name == "mine"
    assert not any("is of model" in warning for warning in system.warnings)


def test_a_model_of_a_config_json_is_compared_by_its_name(write: Write, tmp_path: Path) -> None:
    shape = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 8000, "hidden_size": 512}
    shape |= {"intermediate_size": 1536, "num_hidden_layers": 10, "num_attention_heads": 8, "num_key_value_heads": 4}
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.json").write_text(json.dumps(shape | {"max_position_embeddings": 2048}))
    path = write()
    path.write_text(path.read_text().replace("architecture: llama-3.1-8b", "architecture: tiny/config.json"))
    measured(tmp_path, model="tiny")
    system = build(scenario(path))
    assert system.deployments[0].profile.name == "mine"
    assert not any("is of model" in warning for warning in system.warnings)
    named = build(scenario(path, profile="h100-sxm/llama-3.1-8b/tp1"))
    assert any("is of model llama-3.1-8b, the deployment runs tiny" in warning for warning in named.warnings)


def test_a_model_too_large_for_it_is_one_clear_line(write: Write, tmp_path: Path) -> None:
    measured(tmp_path, hardware=CPU.model_copy(update={"memory_bytes": 2**33}))
    with pytest.raises(
        sim.ConfigError, match=r"llama-3.1-8b leaves no memory for a KV cache on cpu-64 at tensor_parallel 1"
    ) as told:
        build(scenario(write()))
    assert len(told.value.problems) == 1


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (
            {"hardware": None},
            r"small.yaml:4: cluster.pools.h100.gpu: .*mine.json: is a profile without a hardware part",
        ),
        (
            {"model": "qwen3-32b"},
            r"needs profile: none is shipped for llama-3.1-8b on cpu-64 .*; the pool's is of qwen3-32b",
        ),
        (
            {"tensor_parallel": 2},
            r"the pool's profile .*mine.json was measured with tensor_parallel 2, the deployment has 1",
        ),
    ],
)
def test_a_profile_that_does_not_serve_is_one_clear_line(
    write: Write, tmp_path: Path, parts: dict[str, Any], said: str
) -> None:
    measured(tmp_path, **parts)
    with pytest.raises(sim.ConfigError, match=said) as told:
        scenario(write())
    problems = {problem.message for problem in told.value.problems if not problem.path.startswith("options.")}
    assert len(problems) == 1


@pytest.mark.parametrize(
    ("gpu", "said"),
    [
        ("./none.json", r"small.yaml:4: cluster.pools.h100.gpu: .*none.json: no such profile file"),
        ("h100-sxn", r"did you mean"),
    ],
)
def test_what_is_neither_a_gpu_nor_a_profile_is_one_clear_line(write: Write, gpu: str, said: str) -> None:
    with pytest.raises(sim.ConfigError, match=said):
        scenario(write(), gpu)
