"""How much KV cache is left on a GPU once everything else has its place, as vLLM works it out when it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim.profiles.schema import Memory

__all__ = ["activation_bytes", "kv_blocks"]


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
    bytes on one GPU of the tensor-parallel group (vllm/v1/worker/gpu_worker.py: ``determine_available_memory``).
    """
    other = memory.weights_bytes + memory.context_bytes + activation_bytes(memory, max_num_batched_tokens, max_num_seqs)
    free = utilization * gpu_memory - other
    return max(int(free // (memory.kv_bytes_per_token * block_size)), 0)
