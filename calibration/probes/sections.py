"""The time of each section of a step, all layers of the model together.

On a CPU a section takes longer in a step than over and over by itself, when its weights, its buffers and the branches it takes are at
hand (a tenth to a third for a model of 40 million parameters): it is timed in its place. On a GPU sections are launched ahead of
their time, so a clock on the host sees nothing of them, and each is timed apart, as a CUDA graph.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import cached_property
from math import ceil
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812

from calibration.campaign import Campaign, Record
from calibration.probes.busy import Witness
from calibration.probes.engine import Batch, Engine
from calibration.probes.timing import Clock, Patience, Run, record, repeated, scaled, timed

__all__ = ["Apart", "InPlace", "Stopwatch"]

Timed = tuple[Run, float]
"""A run, and how many of it make up that section of a step of the whole model."""


class Stopwatch(Protocol):
    """What times sections on one kind of device."""

    def measured(self, batch: Batch, sections: Iterable[str]) -> dict[str, Record]:
        """The records of those sections of that step, from the campaign's journal or measured now."""


class InPlace:
    """Every section of a step while the step runs; one measurement gives all of them. For devices that do what they are told at once."""

    def __init__(self, engine: Engine, campaign: Campaign, witness: Witness, patience: Patience) -> None:
        self._engine, self._campaign, self._witness, self._patience = engine, campaign, witness, patience

    def measured(self, batch: Batch, sections: Iterable[str]) -> dict[str, Record]:
        """See :class:`Stopwatch`."""
        self._witness.glance()
        found = self._campaign.measure(f"sections/{batch}", lambda: self._probe(batch))
        return {name: found[name] for name in sections}

    def _probe(self, batch: Batch) -> dict[str, Record]:
        engine = self._engine
        seconds: dict[str, float] = {}
        last = 0.0

        def lap(section: str) -> None:
            nonlocal last
            now = time.perf_counter()
            seconds[section] = seconds.get(section, 0.0) + now - last
            last = now

        run = engine.forward(batch, engine.inputs(batch), lap)

        def sample() -> dict[str, float]:
            nonlocal last
            seconds.clear()
            last = time.perf_counter()
            run()
            return dict(seconds)

        samples, disturbed = repeated(sample, self._patience)
        return {name: scaled(record(us, disturbed), engine.factor(name)) for name, us in samples.items()}


class Apart:
    """Each section by itself, of the distinct layers one after another."""

    def __init__(self, engine: Engine, clock: Clock, campaign: Campaign, witness: Witness, patience: Patience) -> None:
        self._engine, self._clock, self._campaign = engine, clock, campaign
        self._witness, self._patience = witness, patience
        self._make: dict[str, Callable[[Batch], Timed]] = {
            "embedding": self._embedding,
            "projections": self._projections,
            "attention": self._attention,
            "feed_forward": lambda batch: self._fed("feed_forward", batch),
            "experts": lambda batch: self._fed("experts", batch),
            "lm_head": self._lm_head,
            "sampler": self._sampler,
        }

    def measured(self, batch: Batch, sections: Iterable[str]) -> dict[str, Record]:
        """See :class:`Stopwatch`."""
        found = {}
        for name in sections:
            self._witness.glance()
            found[name] = self._campaign.measure(f"{name}/{batch}", lambda name=name: self._probe(name, batch))  # type: ignore[misc]
        return found

    def _probe(self, section: str, batch: Batch) -> Record:
        run, factor = self._make[section](batch)
        return scaled(timed(run, self._clock, self._patience), factor)

    def _noise(self, *size: int) -> torch.Tensor:
        return torch.randn(size, dtype=self._engine.dtype, device=self._engine.device.torch)

    def _inputs(self, batch: Batch) -> list[torch.Tensor]:
        return [tensor.to(self._engine.device.torch) for tensor in self._engine.inputs(batch)]

    def _embedding(self, batch: Batch) -> Timed:
        ids, positions, *_ = self._inputs(batch)
        return lambda: (self._engine.decoder.embed(ids, positions), self._engine.angles(positions)), 1.0

    def _projections(self, batch: Batch) -> Timed:
        _, positions, _, slots = self._inputs(batch)
        angles, caches = self._engine.angles(positions), self._engine.caches(batch.room)
        layers, x = self._engine.layers(), self._noise(batch.tokens, self._engine.shape.hidden)

        def run() -> None:
            for i, layer in enumerate(layers):
                query, key, value = layer.before(x, angles)
                caches[i % len(caches)].write(slots, key, value)
                layer.after(x, query.flatten(1))

        return run, self._engine.factor("projections")

    def _attention(self, batch: Batch) -> Timed:
        query = self._noise(batch.tokens, self._engine.rank.heads, self._engine.shape.head_dim)
        attends = self._engine.attends(batch)

        def run() -> None:
            for attend in attends:
                attend(query)

        return run, self._engine.shape.layers / len(attends)

    def _fed(self, section: str, batch: Batch) -> Timed:
        layers, x = self._engine.layers(section), self._noise(batch.tokens, self._engine.shape.hidden)

        def run() -> None:
            for layer in layers:
                layer.feed(x)

        return run, self._engine.factor(section)

    def _lm_head(self, batch: Batch) -> Timed:
        norm, weights = self._engine.decoder.norm, self._heads
        x, rows = self._noise(batch.tokens, self._engine.shape.hidden), self._inputs(batch)[2]

        def run() -> None:
            for weight in weights:
                F.linear(norm(x[rows]), weight)

        return run, 1.0 / len(weights)

    @cached_property
    def _heads(self) -> list[torch.Tensor]:
        """The LM head and copies of it, as large together as the processor's cache or the model: layers evict it in a step."""
        own = self._engine.decoder.head_weight
        room = self._engine.room
        copies = ceil(min(room.enough, room.model_bytes) / (own.numel() * own.itemsize))
        return [own, *(own.clone() for _ in range(copies - 1))]

    def _sampler(self, batch: Batch) -> Timed:
        logits = self._noise(batch.sequences, self._engine.rank.vocab)
        return lambda: self._engine.decoder.sampled(logits), 1.0
