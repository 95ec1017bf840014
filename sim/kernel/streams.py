"""Random streams: one independent generator per purpose, the same whatever else is simulated.

Options compared in one experiment draw each purpose (arrivals of a workload, a router's choices) from the same stream, so
they see the same requests: common random numbers by construction.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

__all__ = ["generator", "stable_hash"]


def stable_hash(name: str) -> int:
    """A 64-bit hash of ``name`` that is the same in every process and on every machine."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def generator(seed: int, replication: int, name: str) -> np.random.Generator:
    """The stream of purpose ``name`` in one replication."""
    import numpy as np

    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(replication, stable_hash(name))))
