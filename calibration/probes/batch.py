"""Models that do not generate: the time of one forward pass by batch size, and what it holds at its peak."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from calibration.campaign import Campaign, Record
from calibration.importers.tables import rounded
from calibration.probes.allocation import allocated
from calibration.probes.busy import Witness
from calibration.probes.design import Axis, aside, explore, interpolated
from calibration.probes.encoders import Encoder, Vit
from calibration.probes.resnet import Resnet
from calibration.probes.shapes import EncoderShape, ResnetShape, Resolved, VitShape
from calibration.probes.timing import Clock, Patience, noise, timed
from sim.errors import ProfileError
from sim.profiles.batch import Batch
from sim.profiles.parts import HeldOut

if TYPE_CHECKING:
    from calibration.device import Device

__all__ = ["Inputs", "Pass", "built", "inputs", "make_pass", "measure_batch"]

Inputs = tuple[int, ...]
"""One input: (tokens,) or (3, height, width)."""

CHECKS = 4
MOST = 16
RATIO = 4.0


def inputs(shape: Resolved, text: str | None) -> Inputs:
    """What ``text`` ('128 tokens', '3x224x224') says of one input, or what is usual.

    :raises ProfileError: not such a text, or not an input of that model; one line.
    """
    if isinstance(shape, EncoderShape):
        found = re.fullmatch(r"\s*(\d+)\s*(?:tokens?)?\s*", text or "128 tokens")
        if found is None or not 1 <= int(found[1]) <= shape.positions:
            raise ProfileError(
                f"--input {text!r} is not a number of tokens from 1 to {shape.positions}, like '128 tokens'"
            )
        return (int(found[1]),)
    side = shape.image if isinstance(shape, VitShape) else 224
    found = re.fullmatch(r"\s*3x(\d+)x(\d+)\s*", text or f"3x{side}x{side}")
    if found is None or min(int(found[1]), int(found[2])) < 32:
        raise ProfileError(f"--input {text!r} is not an image of 32 pixels a side or more, like '3x{side}x{side}'")
    size = (3, int(found[1]), int(found[2]))
    if isinstance(shape, VitShape) and size[1:] != (side, side):
        raise ProfileError(f"--input {text!r}: {shape.name} takes 3x{side}x{side}")
    return size


def built(shape: Resolved) -> nn.Module:
    """The module tree without its weights."""
    with torch.device("meta"):
        if isinstance(shape, ResnetShape):
            return Resnet(shape).eval()
        return Encoder(shape).eval() if isinstance(shape, EncoderShape) else Vit(shape).eval()


@dataclass(frozen=True)
class Pass:
    """The whole model on the device; a subject of the probes of load and memory too, by number of inputs."""

    module: Any
    size: Inputs
    vocab: int
    dtype: Any
    device: str
    depth: float = 1.0

    def step(self, tokens: int) -> Any:
        """One forward pass of that many inputs."""
        with torch.inference_mode():
            return self.module(self.batch(tokens))

    def head(self, rows: int) -> Any:
        """Nothing: there is no token to draw."""

    def batch(self, count: int) -> torch.Tensor:
        """``count`` random inputs."""
        if len(self.size) == 1:
            return torch.randint(self.vocab, (count, *self.size), device=self.device)
        images = torch.randn(count, *self.size, device=self.device).to(self.dtype)
        return images.to(memory_format=torch.channels_last)


def make_pass(shape: Resolved, size: Inputs, dtype: Any, device: str) -> Pass:
    """The model in ``dtype`` (torch's) with weights that are noise of a realistic size."""
    module = built(shape).to(dtype).to_empty(device=device).requires_grad_(False)
    for part in module.modules():
        if isinstance(part, nn.LayerNorm | nn.BatchNorm2d):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
        elif list(part.parameters(recurse=False)):
            for parameter in part.parameters(recurse=False):
                parameter.normal_(0.0, 0.02)
        if isinstance(part, nn.BatchNorm2d):
            part.reset_running_stats()
    if isinstance(shape, ResnetShape):
        module = module.to(memory_format=torch.channels_last)
    vocab = shape.vocab if isinstance(shape, EncoderShape) else 0
    return Pass(module, size, vocab, dtype, device)


def measure_batch(
    campaign: Campaign,
    witness: Witness,
    subject: Pass,
    device: Device,
    clock: Clock,
    *,
    largest: int,
    target: float,
    patience: Patience,
    left: Callable[[], float],
) -> tuple[Batch, list[str]]:
    """The batch part of a profile, up to ``largest`` inputs at once or as many as fit in memory, and notes.

    :raises ProfileError: not even one input fits, or the time is up before the coarse points are measured.
    """
    notes: list[str] = []
    most = _fitting(campaign, subject, device, largest, notes)

    def probe(count: int) -> Record:
        batch = subject.batch(count)
        return timed(lambda: subject.module(batch), clock, patience)

    def measure(point: tuple[int, ...]) -> tuple[float, float]:
        witness.glance()
        one = campaign.measure(f"batch/{point[0]}", partial(probe, point[0]))
        return one["median"], max(noise(one), witness.unsteadiness() / 2.0)

    axis = Axis(1, most)
    start = [(count,) for count in axis.coarse(RATIO)]
    checks = aside([axis], CHECKS, start)
    campaign.expect(len(start) + len(checks))
    for _ in range(
        2
    ):  # an engine starts so too: the allocator then holds what the largest batch needs, whatever comes first
        subject.step(most)
    survey = explore(
        measure, start, checks, target=target, most=MOST, in_time=lambda: left() > 0.0, worth_more=lambda: left() > 0.0
    )
    if len(survey.points) < len(start):
        raise ProfileError(
            f"the budget is too short: {len(campaign.records)} measurements are kept in {campaign.path}, and the same command "
            "goes on from there"
        )
    if not survey.complete:
        notes.append("batch: the time was up before the wanted error was reached")
    sizes = sorted(point[0] for point in survey.points)
    campaign.expect(len(sizes))
    peaks = [campaign.measure(f"peak/{count}", partial(_peak, subject, device, count))["bytes"] for count in sizes]
    return Batch(
        input=said(subject.size),
        at=tuple(sizes),
        us=tuple(rounded(survey.points[count,]) for count in sizes),
        peak_bytes=tuple(peaks),
        held_out=_held(survey.points, survey.checks),
    ), notes


def said(size: Inputs) -> str:
    """'128 tokens', '3x224x224'."""
    return f"{size[0]} tokens" if len(size) == 1 else "x".join(map(str, size))


def _peak(subject: Pass, device: Device, count: int) -> Record:
    batch = subject.batch(count)
    return {"bytes": allocated(device, lambda: subject.module(batch))[0]}


def _fitting(campaign: Campaign, subject: Pass, device: Device, largest: int, notes: list[str]) -> int:
    """The largest batch that fits in nine tenths of what is free, a peak growing with the batch."""
    one = campaign.measure("peak/1", partial(_peak, subject, device, 1))["bytes"]
    free = device.free_bytes()
    if one > 0.9 * free:
        raise ProfileError(
            f"one input of {said(subject.size)} takes {one / 2**30:.1f} GiB on {device.title}, of which {free / 2**30:.1f} GiB is free"
        )
    most = min(largest, int(0.9 * free / max(one, 1)))
    if most < largest:
        notes.append(f"batches of more than {most} do not fit in memory")
    return most


def _held(points: dict[tuple[int, ...], float], checks: dict[tuple[int, ...], float]) -> HeldOut | None:
    from calibration.probes.assembly import held_out

    return held_out([interpolated(points, at) / us - 1.0 for at, us in checks.items()])
