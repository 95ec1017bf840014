"""Tensor-parallel groups on nodes: which stands where, and how many whole nodes that takes."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

__all__ = ["nodes_needed", "place"]


def place(groups: Sequence[int], gpus_per_node: int) -> list[int]:
    """The node each group of GPUs stands on, nodes numbered from 0.

    Largest groups first, each on the first node with room for all of it: with sizes that divide one another, as tensor-parallel
    degrees do, no packing takes fewer nodes. A group larger than a node takes whole nodes of its own, its first is given.
    """
    free: list[int] = []
    where = [0] * len(groups)
    for index in sorted(range(len(groups)), key=lambda index: (-groups[index], index)):
        size = groups[index]
        node = next((node for node, room in enumerate(free) if room >= size), len(free))
        if node == len(free):
            spans = ceil(size / gpus_per_node)
            free.extend([0] * (spans - 1))
            free.append(spans * gpus_per_node - size)
        else:
            free[node] -= size
        where[index] = node
    return where


def nodes_needed(groups: Sequence[int], gpus_per_node: int) -> int:
    """Whole nodes that hold all ``groups`` of GPUs."""
    ends = (node + ceil(size / gpus_per_node) for node, size in zip(place(groups, gpus_per_node), groups, strict=True))
    return max(ends, default=0)
