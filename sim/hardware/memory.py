"""What a model keeps on each GPU, and how much KV cache is left once all of it has its place, as vLLM works it out when it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sim.catalog.dtypes import DTYPE_BYTES
from sim.profiles.schema import Memory

if TYPE_CHECKING:
    from sim.catalog import Architecture

__all__ = ["activation_bytes", "footprint", "kv_blocks"]

MIB: Final = 2**20
# CUDA context, cuBLAS and attention workspaces on one GPU; with tensor parallelism NCCL adds its channels' buffers.
# vLLM 0.28 on two RTX PRO 6000 (casys-kaist/LLMServingSim, bench/examples/RTXPRO6000/Qwen3-32B/vllm/meta.json) leaves 28,884
# blocks: 0.45 GiB a GPU for all that is neither weights nor cache, of which the formulas below give the activations 0.27 GiB.
CONTEXT: Final = 192 * MIB


def footprint(shape: Architecture, tensor_parallel: int, dtype: str, kv_dtype: str) -> Memory:
    """Bytes on each GPU of a tensor-parallel group.

    Activations at the peak of the engine's profiling run: a token's residual, normed hidden state, and the larger of its fused
    gate-up output with the activated half or its QKV with the attention output; in two bytes whatever the weights are. Logits of
    one sequence are held in float32 and once more sorted.
    """
    heads = shape.heads / tensor_parallel
    kv_heads = max(shape.kv_heads / tensor_parallel, 1.0)
    width = shape.experts_per_token * shape.moe_ffn + shape.shared_ffn if shape.is_moe else shape.ffn
    mlp = 3.0 * width / tensor_parallel
    attention = (2.0 * heads + 2.0 * kv_heads) * shape.head_dim
    whole_kv = shape.kv_bytes_per_token(kv_dtype)
    shards = 1 if shape.is_mla else min(tensor_parallel, shape.kv_heads)
    return Memory(
        weights_bytes=round(shape.weight_bytes(dtype) / tensor_parallel),
        context_bytes=CONTEXT,
        activation_bytes_per_token=round(DTYPE_BYTES["bf16"] * (3.0 * shape.hidden + max(mlp, attention))),
        logits_bytes_per_sequence=round(2 * DTYPE_BYTES["fp32"] * shape.vocab),
        kv_bytes_per_token=round(whole_kv / shards),
        source={
            "weights_bytes": "composed",
            "context_bytes": "assumed",
            "activation_bytes_per_token": "estimated",
            "logits_bytes_per_sequence": "estimated",
            "kv_bytes_per_token": "composed",
        },
    )


def activation_bytes(memory: Memory, max_num_batched_tokens: int, max_num_seqs: int) -> int:
    """Bytes of activations at the peak of the engine's profiling run: a full token budget, then the logits of a full batch."""
    return max(
        memory.activation_bytes_per_token * max_num_batched_tokens,
        memory.logits_bytes_per_sequence * min(max_num_seqs, max_num_batched_tokens),
    )


def kv_blocks(
    gpu_memory: float,
    utilization: float,
    memory: Memory,
    max_num_batched_tokens: int,
    block_size: int = 16,
    max_num_seqs: int = 256,
) -> int:
    """Blocks of ``block_size`` tokens that fit, as vLLM counts them (block 0, which it reserves, included); 0 if none do.

    floor((utilization × gpu_memory − weights − activations − context) / (KV bytes a token × block_size)), all of ``memory`` being
    bytes on one GPU of the tensor-parallel group (vllm/v1/worker/gpu_worker.py: ``determine_available_memory``). What the allocator
    holds beyond (``allocator_bytes``) vLLM does not count: it lies in the share that ``utilization`` leaves.
    """
    other = memory.weights_bytes + memory.context_bytes + activation_bytes(memory, max_num_batched_tokens, max_num_seqs)
    free = utilization * gpu_memory - other
    return max(int(free // (memory.kv_bytes_per_token * block_size)), 0)
