"""The approximate prefix index of the Gateway API inference extension: which server was sent which blocks of prompt.

Source: kubernetes-sigs/gateway-api-inference-extension pkg/epp/.../prefix and dataproducer/approximateprefix. It knows nothing of the
servers' real caches: a block is remembered for the server it was sent to, least recently used blocks go first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from sim.control.routing.hashing import xxhash64

__all__ = ["PrefixIndex", "hash_prompt"]


def hash_prompt(
    prompt: str | bytes,
    model: str = "",
    block_size: int = 64,
    max_prefix_blocks: int = 256,
    *,
    model_block: bool = False,
) -> list[int]:
    """The chained hashes of the whole blocks of ``prompt``, ``block_size`` bytes each; none if it is shorter than one.

    Block i's hash is of its text and the hash before it; the first one's of the model. ``block_size`` in characters is
    ``blockSizeTokens`` (16) times 4 in newer versions. ``model_block``: releases before 1.1 counted the model's hash as a block.
    """
    if block_size <= 0:
        raise ValueError(f"block_size must be positive, not {block_size}")
    text = prompt.encode() if isinstance(prompt, str) else prompt
    if len(text) < block_size:
        return []
    blocks = min(len(text) // block_size, max_prefix_blocks)
    previous = xxhash64(model.encode())
    hashes = [previous] if model_block else []
    for i in range(blocks):
        block = text[i * block_size : (i + 1) * block_size]
        previous = xxhash64(block + previous.to_bytes(8, "little"))
        hashes.append(previous)
    return hashes


class PrefixIndex:
    """Blocks by server, at most ``lru_capacity_per_server`` each (31250; not positive: that).

    A server may have its own capacity (with ``autoTune`` the KV blocks it exports): ``add(..., capacity)`` when it is first seen.
    """

    __slots__ = ("_capacity", "_servers", "lru_capacity_per_server")

    def __init__(self, lru_capacity_per_server: int = 31250) -> None:
        self.lru_capacity_per_server = lru_capacity_per_server if lru_capacity_per_server > 0 else 31250
        self._servers: dict[str, OrderedDict[int, None]] = {}
        self._capacity: dict[str, int] = {}

    @property
    def servers(self) -> list[str]:
        """Servers that something is remembered of."""
        return list(self._servers)

    def size(self, server: str) -> int:
        """How many blocks are remembered of ``server``."""
        return len(self._servers.get(server, ()))

    def get(self, block: int) -> set[str]:
        """The servers that ``block`` was sent to."""
        return {name for name, blocks in self._servers.items() if block in blocks}

    def add(self, hashes: Sequence[int], server: str, capacity: int = 0) -> None:
        """The blocks of a prompt went to ``server``; nothing is kept of a server without a name."""
        if not server:
            return
        blocks = self._servers.setdefault(server, OrderedDict())
        limit = self._capacity.setdefault(server, capacity if capacity > 0 else self.lru_capacity_per_server)
        for block in hashes:
            blocks[block] = None
            blocks.move_to_end(block)
            if len(blocks) > limit:
                blocks.popitem(last=False)

    def remove(self, server: str) -> None:
        """Forget a server that is gone."""
        self._servers.pop(server, None)
        self._capacity.pop(server, None)

    def match(self, hashes: Sequence[int]) -> dict[str, int]:
        """How many blocks of the prompt each server has, counted until a block that no server has."""
        found: dict[str, int] = {}
        for block in hashes:
            holders = self.get(block)
            if not holders:
                break
            for server in holders:
                found[server] = found.get(server, 0) + 1
        return found
