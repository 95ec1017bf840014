"""The engine settings that decide how a batch is formed, in vLLM's own names."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["EngineSettings"]


@dataclass(frozen=True)
class EngineSettings:
    """What the scheduler of one replica needs to know. Tokens and blocks are whole numbers.

    ``kv_blocks`` counts as ``--num-gpu-blocks-override`` does: block 0 is reserved, ``kv_blocks - 1`` can be used.
    ``watermark`` is the share of blocks that admission (never growth) leaves free.
    """

    max_num_seqs: int
    max_num_batched_tokens: int
    kv_blocks: int
    max_model_len: int
    block_size: int = 16
    enable_chunked_prefill: bool = True
    long_prefill_token_threshold: int = 0
    policy: str = "fcfs"
    reserve_full_isl: bool = True
    watermark: float = 0.0
