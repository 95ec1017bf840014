"""Attention over a KV cache by torch's scaled_dot_product_attention, as the measured engine runs it.

The cache of one layer is two tensors ``[tokens, kv_heads, head_dim]``; a sequence's tokens lie together. Queries of a group of heads
share a KV head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

__all__ = ["Cache", "causal_bias", "chunk_attention", "decode_attention"]


@dataclass(frozen=True)
class Cache:
    """Keys and values ``[tokens, kv_heads, head_dim]`` of one layer, or of several behind one another."""

    keys: torch.Tensor
    values: torch.Tensor

    @classmethod
    def empty(cls, tokens: int, kv_heads: int, head_dim: int, dtype: Any, device: str) -> Cache:
        """Room for ``tokens``; filled with noise, since zeros would make all of attention alike and denormals slow."""
        shape = (tokens, kv_heads, head_dim)
        return cls(*(torch.empty(shape, dtype=dtype, device=device).normal_() for _ in range(2)))

    @property
    def tokens(self) -> int:
        """How many tokens there is room for."""
        return int(self.keys.shape[0])

    def part(self, start: int, tokens: int) -> Cache:
        """The ``tokens`` slots from ``start`` on, not a copy of them."""
        return Cache(self.keys[start : start + tokens], self.values[start : start + tokens])

    def write(self, slots: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Put the keys and values ``[T, kv_heads, head_dim]`` of T tokens into their slots."""
        self.keys.index_copy_(0, slots, keys)
        self.values.index_copy_(0, slots, values)

    def sequences(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """All of it as keys and values ``[count, kv_heads, tokens / count, head_dim]`` of sequences behind one another."""
        keys, values = (tensor.unflatten(0, (count, -1)).transpose(1, 2) for tensor in (self.keys, self.values))
        return keys, values


def decode_attention(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """One new token of each of n sequences: query ``[n, heads, head_dim]`` over keys ``[n, kv_heads, S, head_dim]`` gives
    ``[n, heads × head_dim]``.

    The heads of a group become rows of one query: the cache is then read once a group, not once a head.
    """
    n, heads, width = query.shape
    groups = keys.shape[1]
    rows = query.view(n, groups, heads // groups, width)
    return F.scaled_dot_product_attention(rows, keys, values).reshape(n, heads * width)


def causal_bias(chunk: int, past: int, dtype: Any, device: str) -> Any:
    """What ``chunk`` tokens after ``past`` may see, for :func:`chunk_attention`: None for a whole prompt, which needs no mask.

    On a GPU torch's lower-right causal bias, which flash attention knows without a mask in memory; on a CPU the mask itself.
    """
    if past == 0:
        return None
    if device != "cpu":
        from torch.nn.attention.bias import causal_lower_right

        return causal_lower_right(chunk, past + chunk)
    seen = torch.ones(chunk, past + chunk, dtype=torch.bool).tril(past)
    return torch.zeros(chunk, past + chunk, dtype=dtype).masked_fill_(~seen, float("-inf"))


def chunk_attention(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, bias: Any) -> torch.Tensor:
    """A chunk of one prompt: query ``[c, heads, head_dim]`` over keys ``[1, kv_heads, past + c, head_dim]``, each token seeing those
    before it and itself, gives ``[c, heads × head_dim]``."""
    rows = query.transpose(0, 1).unsqueeze(0)
    grouped = rows.shape[1] != keys.shape[1]
    if bias is None:
        out = F.scaled_dot_product_attention(rows, keys, values, is_causal=True, enable_gqa=grouped)
    else:
        out = F.scaled_dot_product_attention(rows, keys, values, attn_mask=bias, enable_gqa=grouped)
    return out.squeeze(0).transpose(0, 1).reshape(query.shape[0], -1)
