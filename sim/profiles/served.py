"""What an engine was set to while it was measured."""

from __future__ import annotations

from sim.profiles.parts import Part, Positive

__all__ = ["Served"]


class Served(Part):
    """Settings of the measured server, as far as they are known: they stand in for what a deployment with this profile leaves out."""

    max_num_seqs: Positive | None = None
    max_num_batched_tokens: Positive | None = None
    max_model_len: Positive | None = None
    kv_blocks: Positive | None = None
    block_size: Positive | None = None
    async_scheduling: bool | None = None
