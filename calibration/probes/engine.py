"""The measured engine: a decoder of the real shape over a KV cache.

A model larger than the device is measured by a few of its layers, each different: a step goes through them over and over until it has
done as many as the model has, and what is timed of them counts for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, Final

import torch

from calibration.probes.attention import Cache, causal_bias, chunk_attention, decode_attention
from calibration.probes.decoder import Decoder, Layer, Rank, rotary
from calibration.probes.room import Limits, furnished
from calibration.probes.timing import Run

if TYPE_CHECKING:
    from calibration.device import Device
    from sim.catalog import Architecture

__all__ = ["ATTENTION", "DTYPES", "SEQUENCES", "TOKENS", "Attend", "Batch", "Engine", "Lap"]

DTYPES: Final = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
TOKENS: Final = ("embedding", "projections", "feed_forward", "experts")
"""Sections of a step whose time goes by the scheduled tokens; ``projections`` are all of attention but attention itself."""
SEQUENCES: Final = ("lm_head", "sampler")
"""Those that go by sequences."""
ATTENTION: Final = ("attention",)

Attend = Callable[[torch.Tensor], torch.Tensor]
"""Attention of a step: query ``[T, heads, head_dim]``, decodes first, to ``[T, heads × head_dim]``."""
Lap = Callable[[str], None]
"""Told the name of a section at its end."""


@dataclass(frozen=True)
class Batch:
    """One step: a chunk of one prompt after ``past`` cached tokens, and ``decodes`` sequences of ``context`` cached tokens each."""

    chunk: int = 0
    past: int = 0
    decodes: int = 0
    context: int = 0

    @property
    def tokens(self) -> int:
        """Scheduled tokens."""
        return self.chunk + self.decodes

    @property
    def sequences(self) -> int:
        """Requests in the step."""
        return self.decodes + (self.chunk > 0)

    @property
    def room(self) -> int:
        """Slots that the step's sequences take in the cache of one layer."""
        return self.decodes * (self.context + 1) + (self.past + self.chunk if self.chunk else 0)

    def __str__(self) -> str:
        chunk = f"{self.chunk}+{self.past}" if self.chunk else ""
        decodes = f"{self.decodes}x{self.context}" if self.decodes else ""
        return ",".join(part for part in (chunk, decodes) if part)


class Engine:
    """Weights and cache of one tensor-parallel rank on the device. Everything is to be called without autograd.

    :raises ProfileError: too little memory, see :func:`calibration.probes.room.furnished`.
    """

    def __init__(self, shape: Architecture, tp: int, dtype: str, device: Device, limits: Limits) -> None:
        self.shape, self.limits, self.device = shape, limits, device
        self.rank = Rank(shape, tp)
        self.dtype = DTYPES[dtype]
        self.room = furnished(self.rank, self.dtype.itemsize, device, limits)
        self.decoder = Decoder(self.rank, self.room.dense, self.room.mixtures, self.dtype, device.torch)
        self._cache = Cache.empty(self.room.slots, self.rank.kv_heads, shape.head_dim, self.dtype, device.torch)
        self._dense: Sequence[Layer] = list(self.decoder.dense)
        self._mixtures: Sequence[Layer] = list(self.decoder.mixtures)

    @property
    def token_sections(self) -> tuple[str, ...]:
        """Those of ``TOKENS`` that this model has."""
        absent = {"feed_forward": not self._dense, "experts": not self._mixtures}
        return tuple(name for name in TOKENS if not absent.get(name))

    def fits(self, batch: Batch) -> bool:
        """Whether a real engine could hold those decodes, and this one can measure them."""
        return batch.decodes * (batch.context + 1) <= self.room.decodes and batch.room <= self.room.slots

    def layers(self, section: str | None = None) -> list[Layer]:
        """The distinct layers in the order of a step; those that have that section."""
        dense = self._dense if section != "experts" else ()
        return [*dense, *(self._mixtures if section != "feed_forward" else ())]

    def factor(self, section: str) -> float:
        """How many times the distinct layers' share of a section the whole model's is."""
        if section in (*SEQUENCES, "embedding"):
            return 1.0
        whole = {"feed_forward": self.shape.layers - self.shape.moe_layers, "experts": self.shape.moe_layers}
        return whole.get(section, self.shape.layers) / len(self.layers(section))

    def caches(self, room: int) -> list[Cache]:
        """The caches of ``room`` slots that are used in turn."""
        wanted = ceil(self.room.enough / (room * self.room.token_bytes))
        count = max(1, min(wanted, self.shape.layers, self.room.slots // room))
        return [self._cache.part(i * room, room) for i in range(count)]

    def attends(self, batch: Batch) -> list[Attend]:
        """Attention of ``batch`` over each of the caches used in turn."""
        bias = causal_bias(batch.chunk, batch.past, self.dtype, self.device.torch) if batch.chunk else None
        return [_over(cache, batch, bias) for cache in self.caches(batch.room)]

    def angles(self, positions: torch.Tensor) -> Any:
        """Of the rotary embedding; None for a model with learned positions."""
        return None if self.shape.position_embeddings else rotary(positions, self.shape.head_dim, self.dtype)

    def inputs(self, batch: Batch) -> list[torch.Tensor]:
        """Token ids, positions, rows to sample from, and slots of the cache, in host memory (pinned for a GPU)."""
        n, stride = batch.decodes, batch.context + 1
        ids = torch.randint(self.rank.vocab, (batch.tokens,))
        prompt = torch.arange(batch.past, batch.past + batch.chunk)
        positions = torch.cat((torch.full((n,), batch.context), prompt))
        rows = torch.arange(batch.sequences)
        if batch.chunk:
            rows[-1] = batch.tokens - 1
        slots = torch.cat((torch.arange(n) * stride + batch.context, n * stride + prompt))
        found = [ids, positions, rows, slots]
        return [tensor.pin_memory() for tensor in found] if self.device.kind == "cuda" else found

    def forward(self, batch: Batch, inputs: Sequence[torch.Tensor], lap: Lap | None = None) -> Run:
        """The device's part of a step: from token ids to sampled tokens, through all layers of the model; with ``lap``, through the
        distinct ones alone, and ``lap`` is told at the end of each section."""
        ids, positions, rows, slots = inputs
        attends, caches = self.attends(batch), self.caches(batch.room)
        layers = self._whole() if lap is None else self.layers()
        tell = lap or _untold

        def run() -> torch.Tensor:
            x = self.decoder.embed(ids, positions)
            angles = self.angles(positions)
            tell("embedding")
            for i, layer in enumerate(layers):
                query, key, value = layer.before(x, angles)
                caches[i % len(caches)].write(slots, key, value)
                tell("projections")
                attended = attends[i % len(attends)](query)
                tell("attention")
                x = layer.after(x, attended)
                tell("projections")
                x = layer.feed(x)
                tell("experts" if layer.mixture else "feed_forward")
            logits = self.decoder.logits(x[rows])
            tell("lm_head")
            sampled: torch.Tensor = self.decoder.sampled(logits)
            tell("sampler")
            return sampled

        return run

    def step(self, batch: Batch, *, graphs: bool) -> Run:
        """A whole step as an engine runs it: inputs to the device, all layers, sampling, and the tokens back on the host.

        With ``graphs`` the device's part is one CUDA graph.
        """
        target = torch.device(self.device.torch)
        on_host = self.inputs(batch)
        inputs = [tensor.to(target) for tensor in on_host]
        run = self.forward(batch, inputs)
        if graphs:
            from calibration.probes.events import captured

            kept, eager = torch.empty(batch.sequences, dtype=torch.long, device=target), run
            replay = captured(lambda: kept.copy_(eager()), target)

            def run() -> torch.Tensor:
                replay()
                return kept

        def step() -> list[int]:
            for tensor, source in zip(inputs, on_host, strict=True):
                tensor.copy_(source, non_blocking=True)
            return list(run().tolist())

        return step

    def _whole(self) -> list[Layer]:
        """As many layers as the model has, the distinct ones in turn."""
        plain, mixed = self.shape.layers - self.shape.moe_layers, self.shape.moe_layers
        dense = [self._dense[i % len(self._dense)] for i in range(plain)]
        return dense + [self._mixtures[i % len(self._mixtures)] for i in range(mixed)]


def _untold(section: str) -> None:
    pass


def _over(cache: Cache, batch: Batch, bias: Any) -> Attend:
    n, split = batch.decodes, batch.decodes * (batch.context + 1)
    decodes = cache.part(0, split).sequences(n) if n else None
    chunk = cache.part(split, batch.room - split).sequences(1) if batch.chunk else None

    def attend(query: torch.Tensor) -> torch.Tensor:
        parts = []
        if decodes is not None:
            parts.append(decode_attention(query[:n], *decodes))
        if chunk is not None:
            parts.append(chunk_attention(query[n:], *chunk, bias))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    return attend
