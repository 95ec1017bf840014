"""From a scenario to engine settings, machines and money."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import sim
from sim.experiment.build import build
from sim.serving.defaults import batch_defaults

Write = Callable[..., Path]

GIB = 2**30


# vllm/engine/arg_utils.py (0.33): by memory and usage; an A100 keeps the older, smaller budget whatever its memory
@pytest.mark.parametrize(
    ("gpu", "gib", "usage", "tokens", "seqs"),
    [
        ("b200-sxm", 180, "server", 16384, 1024),
        ("mi300x", 192, "llm", 16384, 1024),
        ("h100-sxm", 80, "server", 8192, 1024),
        ("h200-sxm", 141, "llm", 16384, 1024),
        ("a100-sxm", 80, "server", 2048, 256),
        ("a100-sxm", 80, "llm", 8192, 256),
        ("l4", 24, "server", 2048, 256),
    ],
)
def test_batch_defaults_are_those_of_vllm(gpu: str, gib: int, usage: str, tokens: int, seqs: int) -> None:
    assert batch_defaults(gpu, gib * GIB, usage) == (tokens, seqs)


def test_what_the_scenario_leaves_out_takes_the_engines_default(write: Write) -> None:
    settings = build(sim.load(write())).deployments[0].settings
    assert (settings.max_num_batched_tokens, settings.max_num_seqs) == (8192, 1024)
    assert settings.block_size == 16
    assert settings.max_model_len == 131_072
    # 0.92 of the driver's 81,559 MiB less 16.06 GB of weights is 29,800 blocks of 2 MiB; activations and context take some
    assert 27_000 < settings.kv_blocks < 29_800


def test_without_chunked_prefill_the_default_budget_takes_the_longest_prompt(write: Write) -> None:
    engine = {"enable_chunked_prefill": False, "max_model_len": 20_000}
    settings = build(sim.load(write(), {"deployments.chat.engine": engine})).deployments[0].settings
    assert settings.max_num_batched_tokens == 20_000


def test_a_small_budget_lowers_the_default_of_sequences_as_vllm_does(write: Write) -> None:
    settings = build(sim.load(write(), {"deployments.chat.engine.max_num_batched_tokens": 512})).deployments[0].settings
    assert (settings.max_num_batched_tokens, settings.max_num_seqs) == (512, 512)


def test_a_model_that_leaves_no_memory_for_its_cache_is_bad_input(write: Write) -> None:
    scenario = sim.load(write(), {"deployments.chat.engine.gpu_memory_utilization": 0.1})
    with pytest.raises(
        sim.ConfigError,
        match=r"engine.gpu_memory_utilization=0.1: llama-3.1-8b leaves no memory for a KV cache on h100-sxm",
    ):
        build(scenario)


def test_a_request_longer_than_the_cache_is_rejected_and_the_user_is_warned(write: Write) -> None:
    changes = {"deployments.chat.engine.kv_blocks": 30, "run.duration": "5s", "run.warmup": 0}
    result = sim.simulate(sim.load(write(), changes), replications=1)
    assert any("the KV cache holds 464 tokens" in warning for warning in result.warnings)
    rejected = result.requests.query("outcome == 'rejected'")
    assert set(rejected["reason"]) == {"kv_capacity"}
    assert (rejected["prompt_tokens"] + rejected["output_tokens"] - 1 > 464).all()


def test_whole_machines_are_paid_for(write: Write) -> None:
    changes = {"cluster.pools.h100.instance": "aws/p5.48xlarge", "cluster.pools.h100.nodes": 2}
    eight = build(sim.load(write(), changes | {"deployments.chat.replicas": 3})).deployments[0]
    nine = build(sim.load(write(), changes | {"deployments.chat.replicas": 9})).deployments[0]
    assert (eight.nodes, nine.nodes) == (1, 2)
    assert nine.usd_per_hour == pytest.approx(2 * eight.usd_per_hour)


def test_a_profile_of_another_gpu_is_warned_of(write: Write) -> None:
    other = build(sim.load(write(), {"deployments.chat.profile": "a100-sxm/llama-3.1-8b/tp1"}))
    assert any("of GPU a100-sxm, the deployment runs h100-sxm" in warning for warning in other.warnings)


def test_scenarios_of_one_content_read_their_own_files(write: Write, tmp_path: Path) -> None:
    path = write()
    for place in ("a.csv", "b.csv"):  # the second is built from what is kept of the first, whose file is gone
        trace = tmp_path / place
        trace.write_text("arrival_s,prompt_tokens,output_tokens\n0,100,5\n1,200,5\n", encoding="utf-8")
        workload = {"arrivals.trace": str(trace), "lengths": None}
        changes = {f"workloads.chat.{name}": value for name, value in workload.items()}
        result = sim.simulate(sim.load(path, changes), replications=1)
        assert result.requests["prompt_tokens"].tolist() == [100, 200]
        trace.unlink()


def test_what_the_scenario_leaves_out_is_as_the_profile_was_served(write: Write, tmp_path: Path) -> None:
    from sim import profiles
    from sim.profiles.schema import Served

    shipped = profiles.load("h100-sxm/llama-3.1-8b/tp1")
    served = Served(max_num_seqs=16, max_num_batched_tokens=512, kv_blocks=819, block_size=128, async_scheduling=False)
    mine = tmp_path / "mine.json"
    profiles.save(shipped.model_copy(update={"served": served}), mine)
    changes = {"deployments.chat.profile": str(mine), "deployments.chat.engine.kv_blocks": 400}
    settings = build(sim.load(write(), changes)).deployments[0].settings
    assert (settings.max_num_seqs, settings.max_num_batched_tokens, settings.block_size) == (16, 512, 128)
    assert settings.async_scheduling is False
    assert settings.kv_blocks == 400  # the scenario says so
