"""The engine settings that decide how a batch is formed, in vLLM's own names."""

from __future__ import annotations

from dataclasses import dataclass

from sim.errors import ConfigError, Problem

__all__ = ["EngineSettings"]


@dataclass(frozen=True)
class EngineSettings:
    """What the scheduler of one replica needs to know. Tokens and blocks are whole numbers.

    ``kv_blocks`` counts as ``--num-gpu-blocks-override`` does: block 0 is reserved, ``kv_blocks - 1`` can be used.
    ``reserve_full_isl``: a request is admitted only if its whole prompt fits in free blocks. ``watermark`` is the share of blocks
    that admission (never growth) leaves free while something runs. ``policy`` is 'fcfs' or 'priority'. With ``async_scheduling``
    each step is formed while the one before it runs: see :class:`sim.serving.scheduler.Scheduler`.

    Raises ConfigError, naming every field that cannot be right.
    """

    max_num_seqs: int
    max_num_batched_tokens: int
    kv_blocks: int
    max_model_len: int = 2**31
    block_size: int = 16
    enable_chunked_prefill: bool = True
    long_prefill_token_threshold: int = 0
    policy: str = "fcfs"
    reserve_full_isl: bool = True
    watermark: float = 0.0
    async_scheduling: bool = False

    def __post_init__(self) -> None:
        least = {
            "max_num_seqs": 1,
            "max_num_batched_tokens": 1,
            "kv_blocks": 2,
            "max_model_len": 1,
            "block_size": 1,
            "long_prefill_token_threshold": 0,
        }
        problems = [
            Problem(f"{getattr(self, name)} is less than {bound}", path=name)
            for name, bound in least.items()
            if getattr(self, name) < bound
        ]
        if self.policy not in ("fcfs", "priority"):
            problems.append(Problem(f"{self.policy!r} is neither 'fcfs' nor 'priority'", path="policy"))
        if not 0.0 <= self.watermark < 1.0:
            problems.append(Problem(f"{self.watermark} is not in [0, 1)", path="watermark"))
        if problems:
            raise ConfigError(problems)
