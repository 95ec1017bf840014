# mypy: allow-subclassing-any
"""A decoder-only transformer of a catalogued shape with random weights: the model of the measured engine, one tensor-parallel rank
of it.

Everything works on a flat batch of T tokens, ``[T, hidden]``. What other ranks would add is left out: the collectives between them are
measured, or assumed, apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from sim.errors import ProfileError
from sim.perf.operations import check_split

if TYPE_CHECKING:
    from sim.catalog import Architecture

__all__ = ["Decoder", "Experts", "FeedForward", "Layer", "Rank", "check", "rotary"]


@dataclass(frozen=True)
class Rank:
    """What one GPU of ``of`` holds of the model."""

    shape: Architecture
    of: int = 1

    @property
    def heads(self) -> int:
        """Query heads."""
        return self.shape.heads // self.of

    @property
    def kv_heads(self) -> int:
        """KV heads; replicated where there are fewer than GPUs."""
        return max(self.shape.kv_heads // self.of, 1)

    @property
    def vocab(self) -> int:
        """Rows of the embedding and the LM head."""
        return -(-self.shape.vocab // self.of)

    def width(self, ffn: int) -> int:
        """Columns of a feed-forward block of width ``ffn``."""
        return -(-ffn // self.of)


def check(shape: Architecture, tp: int) -> None:
    """:raises ProfileError: a shape that this decoder cannot take, or that ``tp`` GPUs cannot share."""
    if shape.is_mla:
        raise ProfileError(f"{shape.name}: multi-head latent attention cannot be measured yet")
    if shape.sliding_layers:
        raise ProfileError(f"{shape.name}: sliding-window attention cannot be measured yet")
    check_split(shape, tp)


def _norm(shape: Architecture, width: int) -> nn.Module:
    # The ungated families (GPT-2, OPT) use LayerNorm; see Architecture._dense_part.
    return nn.RMSNorm(width, eps=1e-6) if shape.gated_ffn else nn.LayerNorm(width)


def rotary(positions: torch.Tensor, head_dim: int, dtype: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines ``[T, 1, head_dim / 2]`` of the rotary embedding at those positions (base 10,000)."""
    half = head_dim // 2
    steps = torch.arange(half, device=positions.device, dtype=torch.float32)
    angles = positions[:, None].float() * torch.pow(10_000.0, -steps / half)
    return angles.cos().to(dtype)[:, None], angles.sin().to(dtype)[:, None]


class FeedForward(nn.Module):
    """A gated (SwiGLU) or plain (GELU) feed-forward block of one rank."""

    def __init__(self, shape: Architecture, width: int) -> None:
        super().__init__()
        self.gated = shape.gated_ffn
        self.up = nn.Linear(shape.hidden, (2 if self.gated else 1) * width, bias=shape.output_bias)
        self.down = nn.Linear(width, shape.hidden, bias=shape.output_bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[T, hidden]`` to the same."""
        both = self.up(x)
        if not self.gated:
            return self.down(F.gelu(both))
        gate, up = both.chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class Experts(nn.Module):
    """A mixture of experts of one rank: each expert is sharded. A router sends each token to the best ``experts_per_token``.

    Random weights route about evenly, as a balanced checkpoint does.
    """

    def __init__(self, shape: Architecture, of: int) -> None:
        super().__init__()
        width = -(-shape.moe_ffn // of)
        columns = (2 if shape.gated_ffn else 1) * width
        self.gated, self.chosen = shape.gated_ffn, shape.experts_per_token
        self.router = nn.Linear(shape.hidden, shape.experts, bias=shape.output_bias)
        self.up = nn.Parameter(torch.empty(shape.experts, shape.hidden, columns))
        self.down = nn.Parameter(torch.empty(shape.experts, width, shape.hidden))
        if shape.output_bias:
            self.up_bias = nn.Parameter(torch.empty(shape.experts, columns))
            self.down_bias = nn.Parameter(torch.empty(shape.experts, shape.hidden))
        self.biased = shape.output_bias
        self.shared = FeedForward(shape, -(-shape.shared_ffn // of)) if shape.shared_ffn else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[T, hidden]`` to the same: tokens sorted by expert, one grouped product for all experts."""
        scores, experts = F.softmax(self.router(x), dim=-1, dtype=torch.float32).topk(self.chosen, dim=-1)
        weights = (scores / scores.sum(dim=-1, keepdim=True)).to(x.dtype)
        order = experts.flatten().argsort()
        ordered = experts.flatten()[order]
        ends = torch.searchsorted(ordered, torch.arange(self.router.out_features, device=x.device), right=True)
        ends = ends.to(torch.int32)
        rows = x[order // self.chosen]
        both = F.grouped_mm(rows, self.up, offs=ends)
        if self.biased:
            both = both + self.up_bias[ordered]
        if self.gated:
            gate, up = both.chunk(2, dim=-1)
            inner = F.silu(gate) * up
        else:
            inner = F.gelu(both)
        done = F.grouped_mm(inner, self.down, offs=ends)
        if self.biased:
            done = done + self.down_bias[ordered]
        out = torch.zeros_like(x).index_add_(0, order // self.chosen, done * weights.flatten()[order, None])
        return out if self.shared is None else out + self.shared(x)


class Layer(nn.Module):
    """One layer: :meth:`before` and :meth:`after` attention, then :meth:`feed`."""

    def __init__(self, rank: Rank, *, experts: bool) -> None:
        super().__init__()
        shape = rank.shape
        self.heads, self.kv_heads, self.width = rank.heads, rank.kv_heads, shape.head_dim
        self.rotary = not shape.position_embeddings
        self.mixture = experts
        self.norms = nn.ModuleList(_norm(shape, shape.hidden) for _ in range(shape.norms_per_layer))
        self.qkv = nn.Linear(shape.hidden, (self.heads + 2 * self.kv_heads) * self.width, bias=shape.qkv_bias)
        self.out = nn.Linear(self.heads * self.width, shape.hidden, bias=shape.output_bias)
        self.query_norm = _norm(shape, self.width) if shape.qk_norm else None
        self.key_norm = _norm(shape, self.width) if shape.qk_norm else None
        self.ffn = Experts(shape, rank.of) if experts else FeedForward(shape, rank.width(shape.ffn))

    def before(self, x: torch.Tensor, angles: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Query ``[T, heads, head_dim]``, key and value ``[T, kv_heads, head_dim]`` of ``x``."""
        qkv = self.qkv(self.norms[0](x)).unflatten(-1, (-1, self.width))
        both, value = qkv.split((self.heads + self.kv_heads, self.kv_heads), dim=1)
        if self.query_norm is not None and self.key_norm is not None:
            query, key = both.split((self.heads, self.kv_heads), dim=1)
            both = torch.cat((self.query_norm(query), self.key_norm(key)), dim=1)
        if self.rotary:
            cos, sin = angles
            first, second = both.chunk(2, dim=-1)
            both = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
        query, key = both.split((self.heads, self.kv_heads), dim=1)
        return query, key, value

    def after(self, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """The residual with what attention gave, ``[T, heads × head_dim]``."""
        out = self.out(attended)
        return x + (self.norms[2](out) if len(self.norms) > 2 else out)

    def feed(self, x: torch.Tensor) -> torch.Tensor:
        """The residual with what the feed-forward block gave."""
        out = self.ffn(self.norms[1](x))
        return x + (self.norms[3](out) if len(self.norms) > 3 else out)


class Decoder(nn.Module):
    """One rank of the model with ``layers`` of its layers, all distinct: the first ones of those with one feed-forward block, then of
    those with experts. Built on ``device`` ('meta' for none) in ``dtype``; weights are noise of a realistic size."""

    def __init__(self, rank: Rank, dense: int, mixtures: int, dtype: Any = torch.float32, device: str = "meta") -> None:
        super().__init__()
        shape = rank.shape
        self.rank = rank
        with torch.device("meta"):
            self.embedding = nn.Embedding(rank.vocab, shape.hidden)
            self.places = nn.Embedding(shape.position_embeddings, shape.hidden) if shape.position_embeddings else None
            self.dense = nn.ModuleList(Layer(rank, experts=False) for _ in range(dense))
            self.mixtures = nn.ModuleList(Layer(rank, experts=True) for _ in range(mixtures))
            self.norm = _norm(shape, shape.hidden)
            self.head = None if shape.tie_embeddings else nn.Linear(shape.hidden, rank.vocab, bias=False)
        if device != "meta":
            self.to(dtype).to_empty(device=device)
            self.requires_grad_(False)
            for parameter in self.parameters():
                parameter.normal_(0.0, 0.02)
            for module in self.modules():
                if isinstance(module, nn.RMSNorm | nn.LayerNorm):
                    module.weight.fill_(1.0)

    @classmethod
    def whole(cls, shape: Architecture, tp: int = 1) -> Decoder:
        """All layers of the model, without memory: to count."""
        return cls(Rank(shape, tp), shape.layers - shape.moe_layers, shape.moe_layers)

    def embed(self, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Rows ``[T, hidden]`` of the tokens."""
        x = self.embedding(tokens)
        return x if self.places is None else x + self.places(positions.clamp(max=self.places.num_embeddings - 1))

    @property
    def head_weight(self) -> torch.Tensor:
        """``[vocab, hidden]`` of the LM head: the embedding's where the two are tied."""
        return self.embedding.weight if self.head is None else self.head.weight

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """``[S, vocab]`` of the rows that are sampled from."""
        return F.linear(self.norm(x), self.head_weight)

    @staticmethod
    def sampled(logits: torch.Tensor) -> torch.Tensor:
        """A token of each row at temperature 1: the largest of probability over exponential noise, as vLLM draws it."""
        chances = logits.float().softmax(dim=-1)
        return chances.div_(torch.empty_like(chances).exponential_()).argmax(dim=-1)
