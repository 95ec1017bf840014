"""Small models for the probes of load and memory. Functions of a module, so that a process that a probe starts can call them;
torch only inside them, so that those that do without are soon there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from sim.catalog import Architecture

# GQA, tied to nothing; layers and widths such that a probe takes seconds and a KV block (16 tokens) 128 KiB.
TINY = Architecture(
    name="tiny",
    layers=8,
    hidden=512,
    heads=8,
    kv_heads=4,
    head_dim=64,
    ffn=1536,
    vocab=4096,
    max_model_len=2048,
)


def linears() -> Any:
    """A tree without weights, of two matrices of 16 Mi values: 64 MiB in bf16."""
    import torch
    from torch import nn

    with torch.device("meta"):
        return nn.Sequential(nn.Linear(4096, 4096, bias=False), nn.Linear(4096, 4096, bias=False))


@dataclass
class Plain:
    """Rows of 64 ones, scaled twice by the first row of one small matrix; its head sums rows."""

    module: Any
    depth: float = 1.0

    def step(self, tokens: int) -> Any:
        """Two rows a token are alive at once."""
        import torch

        row = self.module.weight[0]
        return torch.ones(tokens, 64, dtype=torch.bfloat16).mul(row).mul(row)

    def head(self, rows: int) -> Any:
        """One value a row."""
        import torch

        return torch.ones(rows, 64, dtype=torch.bfloat16).sum(-1)


def plain() -> Plain:
    """Made where it is called."""
    import torch
    from torch import nn

    return Plain(nn.Linear(64, 64, bias=False).to(torch.bfloat16).requires_grad_(False))


def fails() -> Plain:
    """Raises."""
    raise ValueError("no such weights")


def dies() -> Plain:
    """Ends its process as the kernel does when memory runs out."""
    os.write(2, b"last words\n")
    os.kill(os.getpid(), 9)
    raise AssertionError


def environment(name: str) -> str | None:
    """A variable as the process sees it."""
    return os.environ.get(name)


def untied(device: str) -> Any:
    """The tree of :func:`plain`."""
    from torch import nn

    return nn.Linear(64, 64, bias=False, device=device)
