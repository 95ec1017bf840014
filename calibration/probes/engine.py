"""The measured engine: a decoder of the real shape over a KV cache, in parts that can be timed apart and as whole steps.

A model larger than the device is measured by a few of its layers, each different: a step runs through them over and over until it has
done as many as the model has, and what is timed of them counts for all. There are enough of them, and enough caches, that weights and
keys come from memory where the whole model's would, not from a cache of the processor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
import torch.nn.functional as F  # noqa: N812

from calibration.probes.attention import Cache, causal_bias, chunk_attention, decode_attention
from calibration.probes.decoder import Decoder, Layer, Rank
from calibration.probes.timing import Run
from sim.errors import ProfileError

if TYPE_CHECKING:
    from calibration.device import Device
    from sim.catalog import Architecture

__all__ = ["DTYPES", "Engine", "Limits", "Work", "cache_bytes"]

DTYPES: Final = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
Attend = Callable[[torch.Tensor], torch.Tensor]
"""Attention of a step: query ``[T, heads, head_dim]``, decodes first, to ``[T, heads × head_dim]``."""
Timed = tuple[Run, float]
"""A run, and how many of it make up a step of the whole model."""
SPARE: Final = 0.9  # of the free memory may be taken


@dataclass(frozen=True)
class Limits:
    """The largest batch that is measured: sequences, scheduled tokens, and tokens of one sequence."""

    sequences: int
    tokens: int
    context: int


@dataclass(frozen=True)
class Work:
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


def cache_bytes(device: Device) -> int:
    """Bytes of the last cache before memory; 0 where the system does not say."""
    if device.kind == "cuda":
        return int(torch.cuda.get_device_properties(torch.device(device.torch)).L2_cache_size)
    sizes = [0]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text(encoding="ascii").strip()
        sizes.append(int(text.rstrip("KMG")) * {"K": 2**10, "M": 2**20, "G": 2**30}.get(text[-1], 1))
    return max(sizes)


class Engine:
    """Weights, cache and inputs on the device. Every method that returns a run also returns how many of them make a whole model.

    :raises ProfileError: too little memory for a single layer with the embedding and the smallest cache.
    """

    def __init__(self, shape: Architecture, tp: int, dtype: str, device: Device, limits: Limits) -> None:
        self.shape, self.limits, self.device = shape, limits, device
        self.rank = Rank(shape, tp)
        self.dtype = DTYPES[dtype]
        self._enough = 2 * cache_bytes(device)
        size = self.dtype.itemsize
        dense, mixtures = self._copies(size)
        self._token_bytes = 2 * self.rank.kv_heads * shape.head_dim * size
        self.capacity, slots = self._slots()
        self.decoder = Decoder(self.rank, dense, mixtures, self.dtype, device.torch)
        self._cache = Cache.empty(slots, self.rank.kv_heads, shape.head_dim, self.dtype, device.torch)
        self._dense: Sequence[Layer] = [self.decoder.dense[i] for i in range(dense)]
        self._mixtures: Sequence[Layer] = [self.decoder.mixtures[i] for i in range(mixtures)]

    def _copies(self, size: int) -> tuple[int, int]:
        """How many layers of each kind are made: until their attention's weights alone exceed the processor's cache, or all."""
        shape = self.shape
        one = Decoder(self.rank, 1, 0), Decoder(self.rank, 0, 1 if shape.is_moe else 0)
        ends = sum(p.numel() for p in Decoder(self.rank, 0, 0).parameters()) * size
        dense_bytes, mixture_bytes = (sum(p.numel() for p in d.parameters()) * size - ends for d in one)
        narrow = shape.attention_parameters() // self.rank.of * size
        wanted = ceil(self._enough / max(narrow, 1))
        dense, mixtures = min(shape.layers - shape.moe_layers, wanted), min(shape.moe_layers, wanted)
        free = self.device.free_bytes()
        least = ends + min(dense, 1) * dense_bytes + min(mixtures, 1) * mixture_bytes
        if least > SPARE * free:
            raise ProfileError(
                f"{shape.name}: one layer with embedding and LM head takes {_gib(least)} on {self.device.title}, "
                f"of which {_gib(free)} is free"
            )
        while ends + dense * dense_bytes + mixtures * mixture_bytes > max(0.5 * free, least):
            if mixtures > 1 and mixtures * mixture_bytes >= dense * dense_bytes:
                mixtures -= 1
            elif dense > 1:
                dense -= 1
            else:
                mixtures -= 1
        self.weight_bytes = ends + dense * dense_bytes + mixtures * mixture_bytes
        whole = (shape.layers - shape.moe_layers) * dense_bytes + shape.moe_layers * mixture_bytes
        self._model_bytes = ends + whole
        return dense, mixtures

    def _slots(self) -> tuple[int, int]:
        """Tokens of decodes that are measured at most, as many as would fit beside the whole model, and slots of the cache."""
        limits, layers = self.limits, self.shape.layers
        prompt = limits.context + limits.tokens
        fitting = (0.9 * self.device.memory_bytes - self._model_bytes) / (layers * self._token_bytes)
        decodes = max(min(limits.sequences * (limits.context + 1), int(fitting)), limits.context + 1)
        wanted = min(max(decodes + prompt, ceil(self._enough / self._token_bytes)), layers * (decodes + prompt))
        free = self.device.free_bytes() - self.weight_bytes
        most = int(0.4 * free / self._token_bytes)
        least = limits.context + 1 + prompt
        if most < least:
            raise ProfileError(
                f"{self.shape.name}: the cache of one layer for {least} tokens takes {_gib(least * self._token_bytes)} on "
                f"{self.device.title}, of which {_gib(0.4 * free)} can be had; lower --max-context or --max-tokens"
            )
        slots = min(wanted, most)
        return min(decodes, slots - prompt), slots

    def fits(self, work: Work) -> bool:
        """Whether a real engine could hold those decodes, and this one can measure them."""
        return work.decodes * (work.context + 1) <= self.capacity and work.room <= self._cache.tokens

    def _layers(self) -> list[Layer]:
        """The distinct layers in the order of a step."""
        return [*self._dense, *self._mixtures]

    def _layer(self, i: int) -> Layer:
        """Layer ``i`` of the whole model."""
        first = self.shape.layers - self.shape.moe_layers
        return self._dense[i % len(self._dense)] if i < first else self._mixtures[(i - first) % len(self._mixtures)]

    def _caches(self, room: int) -> list[Cache]:
        """The caches of ``room`` slots that are used in turn."""
        wanted = ceil(self._enough / (room * self._token_bytes))
        count = max(1, min(wanted, self.shape.layers, self._cache.tokens // room))
        return [self._cache.part(i * room, room) for i in range(count)]

    def _noise(self, *size: int) -> torch.Tensor:
        return torch.randn(size, dtype=self.dtype, device=self.device.torch)

    def _numbers(self, high: int, count: int) -> torch.Tensor:
        return torch.randint(high, (count,), device=self.device.torch)

    # -- by scheduled tokens ------------------------------------------------------------------------------------------

    def embedding(self, tokens: int) -> Timed:
        """Rows of the embedding, and the angles of the positions."""
        ids, positions = self._numbers(self.rank.vocab, tokens), self._numbers(self.limits.context, tokens)
        return lambda: (self.decoder.embed(ids, positions), self._angles(positions)), 1.0

    def projections(self, tokens: int) -> Timed:
        """All of attention but attention itself: norm, QKV, rotary embedding, writing the cache, output, residual."""
        x = self._noise(tokens, self.shape.hidden)
        angles = self._angles(self._numbers(self.limits.context, tokens))
        layers = self._layers()
        slots = torch.arange(tokens, device=self.device.torch)
        caches = self._caches(tokens)

        def run() -> None:
            for i, layer in enumerate(layers):
                query, key, value = layer.before(x, angles)
                caches[i % len(caches)].write(slots, key, value)
                layer.after(x, query.flatten(1))

        return run, self.shape.layers / len(layers)

    def feed_forward(self, tokens: int) -> Timed:
        """Norm, feed-forward block, residual, of the layers that have one such block."""
        return self._fed(self._dense, tokens, self.shape.layers - self.shape.moe_layers)

    def experts(self, tokens: int) -> Timed:
        """Norm, router, experts, residual, of the layers that are a mixture of experts."""
        return self._fed(self._mixtures, tokens, self.shape.moe_layers)

    def _fed(self, layers: Sequence[Layer], tokens: int, count: int) -> Timed:
        x = self._noise(tokens, self.shape.hidden)

        def run() -> None:
            for layer in layers:
                layer.feed(x)

        return run, count / len(layers)

    @property
    def token_parts(self) -> dict[str, Callable[[int], Timed]]:
        """What a step spends by its scheduled tokens."""
        parts: dict[str, Callable[[int], Timed]] = {"embedding": self.embedding, "projections": self.projections}
        if self._dense:
            parts["feed_forward"] = self.feed_forward
        if self._mixtures:
            parts["experts"] = self.experts
        return parts

    # -- by sequences -------------------------------------------------------------------------------------------------

    def lm_head(self, sequences: int) -> Timed:
        """The rows to sample from, final norm, LM head; through copies of its weights that are as large as the model or the processor's
        cache, whichever is less, as layers evict them from it in a step."""
        weights = self._heads
        x, rows = self._noise(sequences, self.shape.hidden), torch.arange(sequences, device=self.device.torch)

        def run() -> None:
            for weight in weights:
                F.linear(self.decoder.norm(x[rows]), weight)

        return run, 1.0 / len(weights)

    @cached_property
    def _heads(self) -> list[torch.Tensor]:
        own = self.decoder.embedding.weight if self.decoder.head is None else self.decoder.head.weight
        copies = ceil(min(self._enough, self._model_bytes) / (own.numel() * own.itemsize))
        return [own, *(own.clone() for _ in range(copies - 1))]

    def sampler(self, sequences: int) -> Timed:
        """Drawing a token from each row of logits."""
        logits = self._noise(sequences, self.rank.vocab)
        return lambda: self.decoder.sampled(logits), 1.0

    @property
    def sequence_parts(self) -> dict[str, Callable[[int], Timed]]:
        """What a step spends by its sequences."""
        return {"lm_head": self.lm_head, "sampler": self.sampler}

    # -- attention ----------------------------------------------------------------------------------------------------

    def attention(self, work: Work) -> Timed:
        """Attention of a step, all layers."""
        query = self._noise(work.tokens, self.rank.heads, self.shape.head_dim)
        attends = self._attention(work)

        def run() -> None:
            for attend in attends:
                attend(query)

        return run, self.shape.layers / len(attends)

    def _attention(self, work: Work) -> list[Attend]:
        """Attention of ``work`` over each of the caches used in turn."""
        bias = causal_bias(work.chunk, work.past, self.dtype, self.device.torch) if work.chunk else None
        return [_over(cache, work, bias) for cache in self._caches(work.room)]

    def _angles(self, positions: torch.Tensor) -> Any:
        from calibration.probes.decoder import rotary

        return None if self.shape.position_embeddings else rotary(positions, self.shape.head_dim, self.dtype)

    # -- whole steps --------------------------------------------------------------------------------------------------

    def step(self, work: Work, *, graphs: bool) -> Run:
        """A whole step as an engine runs it: inputs to the device, all layers, sampling, and the tokens back on the host.

        With ``graphs`` the device's part is one CUDA graph.
        """
        target = self.device.torch
        on_host = self._inputs(work)
        inputs = [tensor.to(target) for tensor in on_host]
        ids, positions, rows, slots = inputs
        attends, caches = self._attention(work), self._caches(work.room)

        def device_part() -> torch.Tensor:
            x = self.decoder.embed(ids, positions)
            angles = self._angles(positions)
            for i in range(self.shape.layers):
                layer = self._layer(i)
                query, key, value = layer.before(x, angles)
                caches[i % len(caches)].write(slots, key, value)
                x = layer.feed(layer.after(x, attends[i % len(attends)](query)))
            sampled: torch.Tensor = self.decoder.sampled(self.decoder.logits(x[rows]))
            return sampled

        run = device_part
        if graphs:
            from calibration.probes.events import captured

            kept = torch.empty(work.sequences, dtype=torch.long, device=target)
            replay = captured(lambda: kept.copy_(device_part()), torch.device(target))

            def run() -> torch.Tensor:
                replay()
                return kept

        def step() -> list[int]:
            for tensor, source in zip(inputs, on_host, strict=True):
                tensor.copy_(source, non_blocking=True)
            return list(run().tolist())

        return step

    def _inputs(self, work: Work) -> list[torch.Tensor]:
        """Token ids, positions, rows to sample from, and slots of the cache, in host memory (pinned for a GPU)."""
        n, stride = work.decodes, work.context + 1
        ids = torch.randint(self.rank.vocab, (work.tokens,))
        prompt = torch.arange(work.past, work.past + work.chunk)
        positions = torch.cat((torch.full((n,), work.context), prompt))
        rows = torch.arange(work.sequences)
        if work.chunk:
            rows[-1] = work.tokens - 1
        slots = torch.cat((torch.arange(n) * stride + work.context, n * stride + prompt))
        found = [ids, positions, rows, slots]
        return [tensor.pin_memory() for tensor in found] if self.device.kind == "cuda" else found


def _over(cache: Cache, work: Work, bias: Any) -> Attend:
    n, split = work.decodes, work.decodes * (work.context + 1)
    decodes = cache.part(0, split).sequences(n) if n else None
    chunk = cache.part(split, work.room - split).sequences(1) if work.chunk else None

    def attend(query: torch.Tensor) -> torch.Tensor:
        parts = []
        if decodes is not None:
            parts.append(decode_attention(query[:n], *decodes))
        if chunk is not None:
            parts.append(chunk_attention(query[n:], *chunk, bias))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    return attend


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"
