# mypy: allow-subclassing-any
"""Transformers that do not generate, with random weights: BERT-like encoders (embedding, reranking) and ViT.

Built as the papers and their published checkpoints are, so that parameter counts agree: BERT (arXiv 1810.04805), RoBERTa (1907.11692),
ViT (2010.11929).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from calibration.probes.shapes import EncoderShape, VitShape

__all__ = ["Encoder", "Vit"]


class Block(nn.Module):
    """Attention over all positions and a GELU feed-forward block; norms after each (BERT) or before (ViT)."""

    def __init__(self, hidden: int, heads: int, ffn: int, *, before: bool) -> None:
        super().__init__()
        self.heads, self.before = heads, before
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.out = nn.Linear(hidden, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.up, self.down = nn.Linear(hidden, ffn), nn.Linear(ffn, hidden)
        self.last = nn.LayerNorm(hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[batch, positions, hidden]`` to the same."""
        if self.before:
            x = x + self._attended(self.norm(x))
            return x + self.down(F.gelu(self.up(self.last(x))))
        x = self.norm(x + self._attended(x))
        return self.last(x + self.down(F.gelu(self.up(x))))

    def _attended(self, x: torch.Tensor) -> torch.Tensor:
        parts = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2))


class Encoder(nn.Module):
    """Token ids ``[batch, tokens]`` to a pooled vector, or to scores ``[batch, labels]``."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        width = shape.hidden
        self.words = nn.Embedding(shape.vocab, width)
        self.places = nn.Embedding(shape.positions, width)
        self.types = nn.Embedding(shape.types, width)
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, shape.heads, shape.ffn, before=False) for _ in range(shape.layers))
        self.pooler = nn.Linear(width, width)
        self.scores = nn.Linear(width, shape.labels) if shape.labels else None

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """See the class."""
        positions = torch.arange(ids.shape[1], device=ids.device)
        x = self.norm(self.words(ids) + self.places(positions) + self.types.weight[0])
        for block in self.blocks:
            x = block(x)
        pooled = torch.tanh(self.pooler(x[:, 0]))
        return pooled if self.scores is None else self.scores(pooled)


class Vit(nn.Module):
    """Images ``[batch, 3, height, width]`` to scores ``[batch, classes]``."""

    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        width = shape.hidden
        self.patches = nn.Conv2d(3, width, shape.patch, stride=shape.patch)
        self.first = nn.Parameter(torch.empty(1, 1, width))
        self.places = nn.Parameter(torch.empty(1, (shape.image // shape.patch) ** 2 + 1, width))
        self.blocks = nn.ModuleList(Block(width, shape.heads, shape.ffn, before=True) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(width)
        self.scores = nn.Linear(width, shape.classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """See the class."""
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat((self.first.expand(len(x), -1, -1), x), dim=1) + self.places
        for block in self.blocks:
            x = block(x)
        return self.scores(self.norm(x[:, 0]))
