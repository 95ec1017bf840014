"""SGLang's approximate radix tree: one tree of texts, each node with the tenants (workers) that were sent it, and when.

Source: sgl-project/sglang sgl-router/src/tree.rs. Time is a parameter; the real one's is milliseconds of the wall clock. Where the
real one takes "the first tenant" of a hash map, this takes the tenant that has the node longest.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

__all__ = ["RadixTree"]

EMPTY = "empty"
"""What the tree answers when it knows no tenant."""


@dataclass(eq=False, slots=True)
class _Node:
    text: str
    parent: _Node | None
    children: dict[str, _Node] = field(default_factory=dict)
    tenants: dict[str, float] = field(default_factory=dict)  # last access

    def leaf_tenants(self) -> list[str]:
        """Tenants that have this node and none of its children."""
        return [t for t in self.tenants if not any(t in child.tenants for child in self.children.values())]


def _shared(a: str, b: str) -> int:
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))


class RadixTree:
    """Texts by tenant. ``tenant_char_count``: characters in the nodes of each tenant, shared nodes counted for each."""

    __slots__ = ("_root", "tenant_char_count")

    def __init__(self) -> None:
        self._root = _Node("", None)
        self.tenant_char_count: dict[str, int] = {}

    def insert(self, text: str, tenant: str, now: float = 0.0) -> None:
        """``text`` was sent to ``tenant``; an empty one makes the tenant known."""
        self._root.tenants[tenant] = now
        self.tenant_char_count.setdefault(tenant, 0)
        node, at = self._root, 0
        while at < len(text):
            child = node.children.get(text[at])
            if child is None:
                child = node.children[text[at]] = _Node(text[at:], node)
            else:
                shared = _shared(child.text, text[at:])
                if shared < len(child.text):
                    upper = _Node(child.text[:shared], node, {child.text[shared]: child}, dict(child.tenants))
                    node.children[text[at]] = upper
                    child.text, child.parent = child.text[shared:], upper
                    child = upper
            if tenant not in child.tenants:
                self.tenant_char_count[tenant] += len(child.text)
            child.tenants[tenant] = now
            at += len(child.text)
            node = child

    def _descend(self, text: str, tenant: str | None) -> tuple[_Node, int]:
        node, at = self._root, 0
        while at < len(text):
            child = node.children.get(text[at])
            if child is None or (tenant is not None and tenant not in child.tenants):
                break
            shared = _shared(child.text, text[at:])
            at += shared
            node = child
            if shared < len(child.text):
                break
        return node, at

    @staticmethod
    def _touch(node: _Node | None, tenant: str, now: float) -> None:
        while node is not None:
            node.tenants[tenant] = now
            node = node.parent

    def prefix_match(self, text: str, now: float = 0.0) -> tuple[str, str]:
        """The longest prefix of ``text`` that anyone was sent, and a tenant that was (``empty``: nobody is known)."""
        node, at = self._descend(text, None)
        tenant = next(iter(node.tenants), EMPTY)
        if tenant != EMPTY:
            self._touch(node, tenant, now)
        return text[:at], tenant

    def prefix_match_tenant(self, text: str, tenant: str, now: float = 0.0) -> str:
        """The longest prefix of ``text`` that ``tenant`` was sent."""
        node, at = self._descend(text, tenant)
        if tenant in node.tenants:
            self._touch(node, tenant, now)
        return text[:at]

    def smallest_tenant(self) -> str:
        """The tenant with the fewest characters, the first known of equals; ``empty`` without tenants."""
        return min(self.tenant_char_count, key=lambda t: self.tenant_char_count[t], default=EMPTY)

    def _nodes(self) -> list[_Node]:
        found, stack = [], [self._root]
        while stack:
            node = stack.pop()
            found.append(node)
            stack.extend(node.children.values())
        return found

    @staticmethod
    def _drop(node: _Node, tenant: str) -> _Node | None:
        """Take ``tenant`` from ``node``; its parent, if the tenant's branch ends there now."""
        node.tenants.pop(tenant, None)
        parent = node.parent
        if parent is None:
            return None
        if not node.children and not node.tenants:
            parent.children.pop(node.text[0], None)
        return parent if tenant in parent.leaf_tenants() else None

    def evict_tenant_by_size(self, max_size: int) -> None:
        """Takes leaves from each tenant with more than ``max_size`` characters, least recently used first, until it has not."""
        order = 0
        heap: list[tuple[float, int, str, _Node]] = []
        for node in self._nodes():
            for tenant in node.leaf_tenants():
                heapq.heappush(heap, (node.tenants[tenant], order, tenant, node))
                order += 1
        while heap:
            _, _, tenant, node = heapq.heappop(heap)
            if self.tenant_char_count.get(tenant, 0) <= max_size:
                continue
            self.tenant_char_count[tenant] = max(self.tenant_char_count[tenant] - len(node.text), 0)
            parent = self._drop(node, tenant)
            if parent is not None:
                heapq.heappush(heap, (parent.tenants[tenant], order, tenant, parent))
                order += 1

    def remove_tenant(self, tenant: str) -> None:
        """Forget a tenant and all it was sent."""
        queue = [node for node in self._nodes() if tenant in node.leaf_tenants()]
        for node in queue:
            parent = self._drop(node, tenant)
            if parent is not None:
                queue.append(parent)
        self.tenant_char_count.pop(tenant, None)

    def used_size_per_tenant(self) -> dict[str, int]:
        """Characters of each tenant, counted anew over the whole tree."""
        sizes: dict[str, int] = {}
        for node in self._nodes():
            for tenant in node.tenants:
                sizes[tenant] = sizes.get(tenant, 0) + len(node.text)
        return sizes
