"""vLLM's own defaults, which depend on the GPU: what an engine setting is when the scenario leaves it out.

Source: vllm/engine/arg_utils.py, ``EngineArgs.get_batch_defaults`` and ``_set_default_max_num_seqs_and_batched_tokens_args``
(vLLM 0.33): by device memory and by usage context, the API server or the offline ``LLM`` class.
"""

from __future__ import annotations

__all__ = ["batch_defaults", "batched_tokens_floor"]

_GIB = 2**30


def batch_defaults(gpu: str, gpu_memory: float, usage: str) -> tuple[int, int]:
    """Default ``(max_num_batched_tokens, max_num_seqs)`` on a GPU of ``gpu_memory`` bytes; ``usage`` is 'server' or 'llm'."""
    server = usage == "server"
    if gpu_memory >= 160 * _GIB:
        return 16384, 1024
    if gpu_memory >= 70 * _GIB and not gpu.startswith("a100"):
        return (8192 if server else 16384), 1024
    return (2048 if server else 8192), 256


def batched_tokens_floor(max_num_batched_tokens: int, chunked: bool, max_model_len: int) -> int:
    """Without chunked prefill a prompt must fit one step: the default budget is raised to the longest model length."""
    return max_num_batched_tokens if chunked else max(max_num_batched_tokens, max_model_len)
