"""What the probes of load and memory run: a model, or a few of its layers that stand for all of them, on the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from sim.catalog import Architecture

__all__ = ["DecoderLayers", "MakeSubject", "Subject", "decoder_layers"]


class Subject(Protocol):
    """A module with weights and a way to run it. Nothing of a run is kept but what it returns."""

    @property
    def module(self) -> Any:
        """The torch module: its parameters are the weights."""

    @property
    def depth(self) -> float:
        """How many times the layers that are here the whole model has."""

    def step(self, tokens: int) -> Any:
        """The result of the layers that are here on ``tokens`` tokens (for a model that does not generate: on that many inputs)."""

    def head(self, rows: int) -> Any:
        """A token for each of ``rows`` sequences, drawn from their logits."""


MakeSubject = Callable[[], Subject]
"""Builds a subject in whichever process it is called: a function of a module, or a partial of one, so that it can be pickled."""


@dataclass(frozen=True)
class DecoderLayers:
    """A decoder with one layer of each kind: prompts of random tokens, each attending to itself."""

    module: Any
    depth: float

    def step(self, tokens: int) -> Any:
        """One prompt of that many tokens, from its embedding through the layers."""
        import torch

        from calibration.probes.attention import chunk_attention
        from calibration.probes.decoder import rotary

        model = self.module
        weight = model.embedding.weight
        with torch.inference_mode():
            positions = torch.arange(tokens, device=weight.device)
            x = model.embed(positions % weight.shape[0], positions)
            angles = rotary(positions, model.rank.shape.head_dim, weight.dtype)
            for layer in (*model.dense, *model.mixtures):
                query, key, value = layer.before(x, angles)
                keys, values = (part.transpose(0, 1).unsqueeze(0) for part in (key, value))
                x = layer.feed(layer.after(x, chunk_attention(query, keys, values, None)))
            return x

    def head(self, rows: int) -> Any:
        """Final norm, LM head, sampling in float32."""
        import torch

        weight = self.module.embedding.weight
        with torch.inference_mode():
            x = torch.zeros(rows, weight.shape[1], dtype=weight.dtype, device=weight.device)
            return self.module.sampled(self.module.logits(x))


def decoder_layers(shape: Architecture, tp: int, dtype: Any, device: str) -> DecoderLayers:
    """One rank's embedding, LM head and one layer of each kind that ``shape`` has, in ``dtype`` (torch's) on ``device``."""
    from calibration.probes.decoder import Decoder, Rank

    dense, mixtures = int(shape.layers > shape.moe_layers), int(shape.is_moe)
    module = Decoder(Rank(shape, tp), dense, mixtures, dtype, device)
    return DecoderLayers(module, shape.layers / (dense + mixtures))
