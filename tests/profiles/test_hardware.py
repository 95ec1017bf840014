"""KV blocks from memory, and groups of GPUs on nodes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim import catalog
from sim.hardware.memory import activation_bytes, footprint, kv_blocks
from sim.hardware.node import nodes_needed, place
from tests.profiles.shapes import profile

GIB = 2**30


def test_blocks_are_what_weights_activations_and_context_leave() -> None:
    kept = profile().memory
    # 0.9 × 80 GB − 16 GB − 0.5 GB − 8192 × 100 kB = 54.68 GB; a block of 16 tokens takes 2,097,152 bytes
    assert kv_blocks(80e9, 0.9, kept, 8192) == 54_680_800_000 // 2_097_152
    assert activation_bytes(kept, 2048, 1024) == 1024 * 1_000_000  # the logits of a full batch are larger
    assert kv_blocks(10e9, 0.9, kept, 8192) == 0


def test_qwen3_32b_on_two_rtx_pro_6000_has_the_blocks_vllm_reports() -> None:
    # casys-kaist/LLMServingSim, bench/examples/RTXPRO6000/Qwen3-32B/vllm/meta.json: vLLM 0.28, 101,976,440,832 bytes a GPU,
    # utilization 0.92, 2048 tokens, 128 sequences: num_gpu_blocks 28884.
    kept = footprint(catalog.model("qwen3-32b"), 2, "bf16", "bf16")
    assert kv_blocks(101_976_440_832, 0.92, kept, 2048, 16, 128) == pytest.approx(28_884, rel=0.005)


def test_llama_8b_on_an_80_gb_card_has_room_for_some_430_thousand_tokens() -> None:
    # 0.9 × 79.1 GiB − 15.0 GiB of weights is 56.2 GiB, or 460,000 tokens of 128 KiB, before activations and context.
    kept = footprint(catalog.model("llama-3.1-8b"), 1, "bf16", "bf16")
    tokens = 16 * kv_blocks(79.1 * GIB, 0.9, kept, 8192)
    assert 425_000 < tokens < 460_000


def test_latent_attention_is_not_sharded_and_few_kv_heads_are_copied() -> None:
    latent = catalog.model("deepseek-v3")
    assert footprint(latent, 8, "fp8", "bf16").kv_bytes_per_token == latent.kv_bytes_per_token("bf16")
    grouped = catalog.model("llama-3.1-70b")
    assert footprint(grouped, 4, "bf16", "bf16").kv_bytes_per_token * 4 == grouped.kv_bytes_per_token("bf16")
    assert footprint(grouped, 16, "bf16", "bf16").kv_bytes_per_token * 8 == grouped.kv_bytes_per_token("bf16")


def test_groups_are_packed_on_nodes() -> None:
    assert place([4, 4, 4], 8) == [0, 0, 1]
    assert nodes_needed([4, 4, 4], 8) == 2
    assert place([1, 8, 1], 8) == [1, 0, 1]
    assert nodes_needed([3, 3, 3], 8) == 2
    assert nodes_needed([16], 8) == 2
    assert nodes_needed([], 8) == 0


@given(st.lists(st.sampled_from([1, 2, 4, 8, 16]), max_size=30))
def test_power_of_two_groups_take_no_more_nodes_than_their_gpus_fill(groups: list[int]) -> None:
    assert nodes_needed(groups, 8) == -(-sum(groups) // 8)


@given(st.lists(st.integers(1, 8), max_size=30))
def test_no_node_holds_more_than_its_gpus(groups: list[int]) -> None:
    used: dict[int, int] = {}
    for node, size in zip(place(groups, 8), groups, strict=True):
        used[node] = used.get(node, 0) + size
    assert all(count <= 8 for count in used.values())
    assert nodes_needed(groups, 8) == len(used)
