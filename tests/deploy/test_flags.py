"""The command line says what was simulated, in options that vLLM has."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

import sim
import sim.deploy
from sim.errors import TwinferError
from sim.experiment.build import build
from tests.deploy.manifests import documents
from tests.paths import DATA, SCENARIOS

KNOWN: dict[str, dict[str, Any]] = json.loads((DATA / "k8s" / "vllm_flags.json").read_text(encoding="utf-8"))["flags"]
"""The options of `vllm serve` of vLLM 0.32.0, as its own parser lists them."""

ALWAYS = {
    "--served-model-name", "--tensor-parallel-size", "--max-model-len", "--max-num-seqs", "--max-num-batched-tokens",
    "--gpu-memory-utilization",
}  # fmt: skip


def parsed(words: list[str]) -> tuple[str, dict[str, str]]:
    """The checkpoint and the options, read as vLLM's parser reads them; an option that it lacks fails."""
    checkpoint, *rest = words
    found: dict[str, str] = {}
    while rest:
        name = rest.pop(0)
        assert name in KNOWN, f"vLLM has no option {name}"
        assert name not in found, f"{name} is there twice"
        value = rest.pop(0) if KNOWN[name]["takes"] == "value" else ""
        assert not value.startswith("--"), f"{name} has no value"
        assert value in KNOWN[name].get("choices", [value])
        found[name] = value
    return checkpoint, found


def words(script: str) -> list[str]:
    """What a script gives to ``vllm serve``."""
    said = shlex.split(script[script.index("exec ") :].replace("\\\n", " "))
    assert said[:3] == ["exec", "vllm", "serve"]
    return said[3:]


def options(**changes: Any) -> dict[str, str]:
    """Those of chat_capacity's deployment, with changes to it."""
    given = {f"deployments.chat.{path.replace('__', '.')}": value for path, value in changes.items()}
    texts = sim.deploy.files(sim.load(SCENARIOS / "chat_capacity.yaml", given))
    (found,) = (one for one in documents(texts["chat.yaml"]) if one["kind"] == "Deployment")
    container = found["spec"]["template"]["spec"]["containers"][0]
    assert container["command"] == ["vllm", "serve"]
    assert words(texts["chat.sh"]) == container["args"]  # the script and the manifest say the same
    checkpoint, read = parsed(container["args"])
    assert checkpoint == "meta-llama/Llama-3.1-8B"
    return read


def test_the_list_of_options_can_fail_a_test() -> None:
    assert len(KNOWN) > 300
    for words in (["m", "--max-num-sequences", "3"], ["m", "--max-num-seqs"], ["m", "--scheduling-policy", "lifo"]):
        with pytest.raises((AssertionError, IndexError)):
            parsed(words)


def test_what_is_simulated_is_what_is_started() -> None:
    for path in sorted(SCENARIOS.glob("*.yaml")):
        if path.stem == "azure_replay":
            continue
        scenario = sim.load(path)
        texts = sim.deploy.files(scenario)
        for placed in build(scenario).deployments:
            _, read = parsed(words(texts[f"{placed.name}.sh"]))
            settings = placed.settings
            assert int(read["--max-num-seqs"]) == settings.max_num_seqs
            assert int(read["--max-num-batched-tokens"]) == settings.max_num_batched_tokens
            assert int(read["--max-model-len"]) == settings.max_model_len
            assert int(read.get("--block-size", "16")) == settings.block_size
            assert int(read.get("--long-prefill-token-threshold", "0")) == settings.long_prefill_token_threshold
            assert read.get("--scheduling-policy", "fcfs") == settings.policy
            assert ("--no-enable-chunked-prefill" in read) is not settings.enable_chunked_prefill


def test_only_what_differs_or_depends_is_written() -> None:
    assert set(options()) == ALWAYS | {"--dtype", "--shutdown-timeout"}


def test_the_defaults_of_an_80_gb_h100_are_written_down() -> None:
    found = options()
    # vllm/engine/arg_utils.py, get_batch_defaults: H100 of 80 GB, API server
    assert (found["--max-num-batched-tokens"], found["--max-num-seqs"]) == ("8192", "1024")
    assert (found["--gpu-memory-utilization"], found["--dtype"]) == ("0.92", "bfloat16")
    assert found["--max-model-len"] == "131072"  # max_position_embeddings of Llama-3.1-8B
    assert found["--shutdown-timeout"] == "30"  # terminationGracePeriodSeconds of Kubernetes


@pytest.mark.parametrize(
    ("setting", "value", "option", "written"),
    [
        ("max_num_seqs", 64, "--max-num-seqs", "64"),
        ("max_num_batched_tokens", 2048, "--max-num-batched-tokens", "2048"),
        ("max_model_len", 8192, "--max-model-len", "8192"),
        ("block_size", 32, "--block-size", "32"),
        ("kv_blocks", 5000, "--num-gpu-blocks-override", "5000"),
        ("gpu_memory_utilization", "85%", "--gpu-memory-utilization", "0.85"),
        ("enable_chunked_prefill", "false", "--no-enable-chunked-prefill", ""),
        ("long_prefill_token_threshold", 512, "--long-prefill-token-threshold", "512"),
        ("scheduling_policy", "priority", "--scheduling-policy", "priority"),
        ("scheduler_reserve_full_isl", "false", "--no-scheduler-reserve-full-isl", ""),
        ("watermark", 0.01, "--watermark", "0.01"),
        ("async_scheduling", "false", "--no-async-scheduling", ""),
    ],
)
def test_every_engine_setting_has_its_option(setting: str, value: object, option: str, written: str) -> None:
    assert options(**{f"engine__{setting}": value})[option] == written


def test_every_engine_setting_is_covered_or_is_none_of_vllm() -> None:
    from sim.config.fleet import Engine

    none = {
        "kind",
        "defaults_for",
        "host_overhead",
        "request_overhead",
    }  # which engine, whose defaults, and measurements
    mark = next(one for one in test_every_engine_setting_has_its_option.pytestmark if one.name == "parametrize")
    assert {row[0] for row in mark.args[1]} == set(Engine.model_fields) - none


def test_formats_of_weights_and_cache() -> None:
    def of(**changes: str) -> dict[str, str]:
        given = {f"models.llama.{name}": value for name, value in changes.items()}
        (found, *_) = documents(sim.deploy.files(sim.load(SCENARIOS / "chat_capacity.yaml", given))["chat.yaml"])
        return parsed(found["spec"]["template"]["spec"]["containers"][0]["args"])[1]

    assert of(dtype="fp8")["--quantization"] == "fp8"
    assert "--dtype" not in of(dtype="fp8")
    assert of(dtype="fp16")["--dtype"] == "float16"
    assert of(kv_dtype="fp8")["--kv-cache-dtype"] == "fp8"
    with pytest.raises(TwinferError, match="vLLM has no KV cache in int4"):
        of(kv_dtype="int4")


def test_sleeping_engines_are_refused_and_no_grace_is_none() -> None:
    with pytest.raises(
        TwinferError, match=r"deployments\.chat\.warm_pool.*nothing in Kubernetes puts engines to sleep"
    ):
        options(warm_pool="{size: 1}")
    assert "--shutdown-timeout" not in options(drain__grace="0s")
