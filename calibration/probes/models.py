"""The two kinds of models that are measured on this machine: those that generate, step by step, and those that answer in one pass."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Any, Protocol

import torch

from calibration.campaign import Campaign
from calibration.importers.collectives import Collectives, assumed_link
from calibration.probes.assembly import assembled, with_collectives
from calibration.probes.batch import Inputs, Pass, built, make_pass, measure_batch, said
from calibration.probes.busy import Witness
from calibration.probes.compute import Compute
from calibration.probes.decoder import Decoder, check
from calibration.probes.engine import DTYPES, Batch, Engine
from calibration.probes.room import Limits
from calibration.probes.sections import Apart, InPlace
from calibration.probes.shapes import Resolved
from calibration.probes.subject import decoder_layers
from calibration.probes.timing import Clock, Patience, Run, WallClock
from sim import catalog
from sim.errors import ProfileError
from sim.hardware.memory import footprint
from sim.perf.monotone import line
from sim.profiles.schema import Batch as BatchPart
from sim.profiles.schema import Memory, Step

if TYPE_CHECKING:
    from calibration.device import Device
    from calibration.probes.subject import MakeSubject
    from sim.catalog import Architecture

__all__ = ["Generating", "Measured", "Model", "OnePass", "Session", "clock", "freed"]


@dataclass(frozen=True)
class Session:
    """What every probe is given."""

    campaign: Campaign
    witness: Witness
    device: Device
    dtype: str
    limits: Limits
    patience: Patience
    target: float

    def left(self) -> float:
        """Seconds that the part at hand may still take."""
        return self.campaign.time_left


@dataclass
class Measured:
    """The times of a model, what to say of them, and runs that keep the device busy, by their scheduled tokens or inputs."""

    step: Step | None = None
    batch: BatchPart | None = None
    notes: list[str] = field(default_factory=list)
    loads: dict[int, Callable[[], Run]] = field(default_factory=dict)


class Model(Protocol):
    """One model, as it can be measured."""

    @property
    def name(self) -> str:
        """What it is called in the profile."""

    @property
    def shape(self) -> Architecture | None:
        """Of a decoder; None for a model that keeps no cache."""

    @property
    def tp(self) -> int:
        """GPUs that share it."""

    def identity(self) -> dict[str, Any]:
        """What tells measurements of it from those of another."""

    def build(self) -> Callable[[], Any]:
        """Makes the whole module tree without weights, in whatever process."""

    def make(self, dtype: str, device: Device) -> MakeSubject:
        """Makes what the probes of load and memory run, in whatever process."""

    def measure(self, session: Session) -> Measured:
        """Times it."""

    def unmeasured(self, dtype: str, found: Measured) -> Memory:
        """What it keeps in memory, where that was not measured."""


def clock(device: Device) -> Clock:
    """What times runs on ``device``."""
    if device.kind == "cpu":
        return WallClock()
    from calibration.probes.events import EventClock

    return EventClock(device.torch)


@dataclass(frozen=True)
class Generating:
    """A decoder, one rank of ``tp``."""

    shape: Architecture
    tp: int = 1

    def __post_init__(self) -> None:
        check(self.shape, self.tp)

    @property
    def name(self) -> str:
        """The architecture's."""
        return self.shape.name

    def identity(self) -> dict[str, Any]:
        """See :class:`Model`."""
        sizes = ("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab", "experts", "moe_ffn")
        return {"shape": [getattr(self.shape, size) for size in sizes], "tp": self.tp}

    def build(self) -> Callable[[], Any]:
        """See :class:`Model`."""
        return partial(Decoder.whole, self.shape, self.tp)

    def make(self, dtype: str, device: Device) -> MakeSubject:
        """See :class:`Model`."""
        return partial(decoder_layers, self.shape, self.tp, DTYPES[dtype], device.torch)

    def measure(self, session: Session) -> Measured:
        """See :class:`Model`."""
        campaign, device, limits = session.campaign, session.device, session.limits
        link = self._link(session) if self.tp > 1 else None
        engine = Engine(self.shape, self.tp, session.dtype, device, limits)
        timer = clock(device)
        stopwatch = (
            InPlace(engine, campaign, session.witness, session.patience)
            if device.kind == "cpu"
            else Apart(engine, timer, campaign, session.witness, session.patience)
        )
        compute = Compute(
            engine,
            stopwatch,
            campaign,
            session.witness,
            target=session.target,
            patience=session.patience,
            left=session.left,
        )
        step, notes = assembled(compute.run(), limits, graphs=compute.graphs, target=session.target)
        if link is not None:
            step = with_collectives(step, link, self.shape, DTYPES[session.dtype].itemsize)
            notes.append(link.note)
        made, layers = len(engine.layers()), self.shape.layers
        if made < layers:
            notes.append(f"{made} different layers were measured and stand for all {layers}")
        notes.append("decodes had contexts of one length in a batch: what unequal ones cost was not measured")
        alone = [batch for batch in compute.steps["whole"] if not batch.chunk]
        loads: dict[int, Callable[[], Run]] = {
            batch.tokens: partial(engine.step, batch, graphs=False)
            for batch in (max(alone, key=lambda batch: batch.decodes), Batch(chunk=limits.tokens))
        }
        return Measured(step=step, notes=[*compute.notes, *notes, *timer.notes], loads=loads)

    def unmeasured(self, dtype: str, found: Measured) -> Memory:
        """See :class:`Model`."""
        return footprint(self.shape, self.tp, dtype, dtype)

    def _link(self, session: Session) -> Collectives:
        """Between the GPUs of the group: measured where they are there, else the catalog's."""
        device = session.device
        if device.kind == "cpu":
            raise ProfileError(f"--tp {self.tp}: a CPU has no link between GPUs")
        if device.gpu is None:
            raise ProfileError(
                f"--tp {self.tp}: {device.title} is not in the catalog of GPUs, so its links are not known"
            )
        assumed = assumed_link(catalog.gpu(device.gpu), self.tp)
        if torch.cuda.device_count() < self.tp:
            return assumed
        from calibration.probes.links import all_reduce

        found = session.campaign.measure(f"links/all_reduce/{self.tp}", partial(all_reduce, self.tp))
        sizes, seconds = (torch.tensor(found[key], dtype=torch.float64).numpy() for key in ("bytes", "seconds"))
        note = f"tensor parallelism: all-reduce measured between {self.tp} GPUs, all-gather assumed"
        return Collectives(lambda size: line(size, sizes, seconds), assumed.all_gather, "measured", note)


@dataclass(frozen=True)
class OnePass:
    """A model that does not generate, for inputs of one size."""

    resolved: Resolved
    size: Inputs
    tp: int = 1
    shape: None = None

    @property
    def name(self) -> str:
        """The shape's."""
        return self.resolved.name

    def identity(self) -> dict[str, Any]:
        """See :class:`Model`."""
        return {"shape": repr(self.resolved), "input": said(self.size)}

    def build(self) -> Callable[[], Any]:
        """See :class:`Model`."""
        return partial(built, self.resolved)

    def make(self, dtype: str, device: Device) -> MakeSubject:
        """See :class:`Model`."""
        return partial(make_pass, self.resolved, self.size, DTYPES[dtype], device.torch)

    def measure(self, session: Session) -> Measured:
        """See :class:`Model`."""
        subject: Pass = make_pass(self.resolved, self.size, DTYPES[session.dtype], session.device.torch)
        timer = clock(session.device)
        batch, notes = measure_batch(
            session.campaign,
            session.witness,
            subject,
            session.device,
            timer,
            largest=session.limits.sequences,
            target=session.target,
            patience=session.patience,
            left=session.left,
        )
        loads: dict[int, Callable[[], Run]] = {
            size: partial(_passing, subject, session.device, size) for size in {batch.at[0], batch.at[-1]}
        }
        return Measured(batch=batch, notes=[*notes, *timer.notes], loads=loads)

    def unmeasured(self, dtype: str, found: Measured) -> Memory:
        """See :class:`Model`."""
        values = sum(tensor.numel() for tensor in built(self.resolved).state_dict().values())
        batch = found.batch
        peaks = zip(batch.at, batch.peak_bytes, strict=True) if batch is not None else ()
        return Memory(
            weights_bytes=values * DTYPES[dtype].itemsize,
            context_bytes=0,
            activation_bytes_per_token=max((ceil(peak / size) for size, peak in peaks), default=0),
            logits_bytes_per_sequence=0,
            kv_bytes_per_token=0,
            source={"weights_bytes": "composed", "context_bytes": "assumed", "activation_bytes_per_token": "measured"},
        )


def _passing(subject: Pass, device: Device, size: int) -> Run:
    batch = subject.batch(size)

    def run() -> None:
        subject.module(batch)
        device.synchronize()

    return run


def freed(device: Device) -> None:
    """Give back what no longer has an owner."""
    gc.collect()
    if device.kind == "cuda":
        torch.cuda.empty_cache()
