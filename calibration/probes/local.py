"""``twinfer calibrate torch``: a profile of a model on a device of this machine, measured with torch."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final

import torch

from calibration import device as devices
from calibration.campaign import Campaign
from calibration.probes.batch import inputs
from calibration.probes.busy import Witness
from calibration.probes.busy import said as complaints
from calibration.probes.engine import DTYPES
from calibration.probes.load import measure_load
from calibration.probes.memory import measure_memory
from calibration.probes.models import Generating, Measured, Model, OnePass, Session, clock, freed
from calibration.probes.power import Meter, Reading, meter, power_part, throttled
from calibration.probes.room import Limits
from calibration.probes.shapes import SHAPES, recognised
from calibration.probes.timing import Patience, Run
from sim import catalog
from sim.errors import CatalogError, ProfileError, did_you_mean
from sim.profiles.schema import SCHEMA_VERSION, Load, Memory, Power, Profile, Provenance

if TYPE_CHECKING:
    from calibration.device import Device

__all__ = ["PARTS", "Request", "Target", "calibrated", "found"]

PARTS: Final = {"step": 0.6, "power": 0.1, "memory": 0.15, "load": 0.25}
"""What can be measured, in this order, and its share of the budget; what one leaves over, the others have."""
LARGEST: Final = {"cpu": (16, 512, 2048), "cuda": (256, 8192, 16384)}
"""Sequences, scheduled tokens and context that are measured by default."""
SUSTAINED: Final = 1.5  # seconds of one reading of power
REFERENCE: Final = {"cpu": 512, "cuda": 4096}  # side of the matrices that the witness multiplies


@dataclass(frozen=True)
class Request:
    """What the user asked for. ``sequences``, ``tokens`` and ``context`` replace the device's defaults."""

    model: str
    device: str
    out: Path
    dtype: str = "bf16"
    tp: int = 1
    parts: tuple[str, ...] = tuple(PARTS)
    budget: float | None = 600.0
    error: float = 0.05
    repeats: int = 5
    sequences: int | None = None
    tokens: int | None = None
    context: int | None = None
    input: str | None = None
    weights: Path | None = None
    command: str = ""


@dataclass(frozen=True)
class Target:
    """What will be measured: a model on a device, within limits."""

    request: Request
    device: Device
    model: Model
    limits: Limits

    def identity(self) -> dict[str, Any]:
        """What a journal must be of to go on with."""
        request, limits = self.request, self.limits
        return {
            "model": self.model.name,
            **self.model.identity(),
            "device": self.device.title,
            "dtype": request.dtype,
            "limits": [limits.sequences, limits.tokens, limits.context],
            "torch": str(torch.__version__),
            "threads": torch.get_num_threads() if self.device.kind == "cpu" else 0,
        }


def found(request: Request) -> Target:
    """The model and the device, checked before anything is measured or written.

    :raises TwinferError: an unknown model, part or dtype, a device that is not there or cannot do the dtype, a model that cannot be
        measured or shared so.
    """
    for part in request.parts:
        if part not in PARTS:
            raise ProfileError(f"--parts: {part!r} is not one of {', '.join(PARTS)}{did_you_mean(part, PARTS)}")
    if "step" not in request.parts:
        raise ProfileError("--parts must have step: a profile without step times says nothing")
    if request.dtype not in DTYPES:
        raise ProfileError(
            f"--dtype {request.dtype!r} is not one of {', '.join(DTYPES)}{did_you_mean(request.dtype, DTYPES)}"
        )
    if request.out.is_dir():
        raise ProfileError(f"{request.out}: is a folder, not a file to write")
    model = _model(request)
    device = devices.find(request.device)
    if request.tp > 1 and device.kind == "cpu":
        raise ProfileError(f"--tp {request.tp}: a CPU has no link between GPUs")
    _capable(device, request.dtype)
    sequences, tokens, context = LARGEST[device.kind]
    if model.shape is not None:
        context = min(context, model.shape.max_model_len)
    limits = Limits(request.sequences or sequences, request.tokens or tokens, request.context or context)
    return Target(request, device, model, limits)


def calibrated(target: Target, campaign: Campaign) -> Profile:
    """Measure what was asked for and put the profile together.

    :raises ProfileError: too little memory or disk, or a budget too short for the least that a profile needs.
    """
    return _Calibration(target, campaign).run()


class _Calibration:
    def __init__(self, target: Target, campaign: Campaign) -> None:
        self.target, self.campaign = target, campaign
        self.device, self.model, self.request = target.device, target.model, target.request
        self.notes: list[str] = []

    def run(self) -> Profile:
        request = self.request
        if self.device.kind == "cuda":
            torch.cuda.set_device(self.device.torch)  # graphs are replayed on the current device's stream
        power_meter = meter(self.device)
        idle = self._idle(power_meter)
        with torch.inference_mode():
            with self._share("step"), power_meter.watch() as seen:
                measured = self.model.measure(self._session())
            power = self._power(power_meter, idle, measured, seen)
        measured.loads.clear()
        freed(self.device)  # what follows runs in processes of its own, which need the room
        memory = self._memory(measured)
        load = self._load()
        hardware = None
        if self.device.gpu is None:
            hardware = self.device.hardware(self.campaign.measure("rates", self.device.rates))
        gpu = "cpu" if self.device.kind == "cpu" else self.device.gpu or _slug(self.device.title)
        notes = [*measured.notes, *self.notes, *complaints(list(self.campaign.records.values()))]
        return Profile(
            version=SCHEMA_VERSION,
            name=f"{gpu}/{self.model.name}/tp{self.model.tp}"
            + ("" if request.dtype == "bf16" else f"-{request.dtype}"),
            model=self.model.name,
            gpu=gpu,
            engine=f"torch {str(torch.__version__).partition('+')[0]}",
            tensor_parallel=self.model.tp,
            dtype=request.dtype,
            kv_dtype=request.dtype,
            provenance=Provenance(
                source="measured on this machine with torch: random weights of the real shape",
                licence="the measurer's own",
                command=request.command,
                measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
                host=self.device.host(),
                versions=self.device.versions(),
                points=len(self.campaign.records),
                notes=tuple(dict.fromkeys(notes)),
            ),
            step=measured.step,
            batch=measured.batch,
            memory=memory,
            load=load,
            power=power,
            hardware=hardware,
        )

    def _share(self, part: str) -> AbstractContextManager[None]:
        """The time of a part: its share of what is left among those that are still to come."""
        rest = list(PARTS)[list(PARTS).index(part) :]
        whole = sum(PARTS[name] for name in rest if name in self.request.parts)
        return self.campaign.within(self.campaign.time_left * PARTS[part] / whole)

    def _session(self) -> Session:
        device, request = self.device, self.request
        side = REFERENCE[device.kind]
        matrix = torch.randn(side, side, device=device.torch).to(DTYPES[request.dtype])
        witness = Witness(self.campaign, lambda: matrix @ matrix, clock(device))
        patience = Patience(least=request.repeats, most=12 * request.repeats)
        return Session(self.campaign, witness, device, request.dtype, self.target.limits, patience, request.error)

    def _idle(self, power_meter: Meter) -> float | None:
        if "power" not in self.request.parts:
            return None
        if power_meter.counter is None:
            self.notes.append("power: nothing on this machine says what the device draws")
            return None

        def probe() -> dict[str, Any]:
            with power_meter.watch() as seen:
                sleep(SUSTAINED)
            return seen.record()

        watts = self.campaign.measure("power/idle", probe)["watts"]
        return None if watts is None else float(watts)

    def _power(self, power_meter: Meter, idle: float | None, measured: Measured, seen: Reading) -> Power | None:
        if (note := throttled(seen.throttled)) is not None:
            self.notes.append(note)
        if idle is None:
            return None
        points, reasons, clocks = [], list(seen.throttled), []
        with self._share("power"):
            for tokens, make in sorted(measured.loads.items()):
                record = self.campaign.measure(f"power/{tokens}", lambda make=make: _sustained(power_meter, make()))  # type: ignore[misc]
                points.append((tokens, record["watts"]))
                reasons += record["throttled"]
                clocks += [record["clock_mhz"]] if record["clock_mhz"] is not None else []
        return power_part(
            idle,
            points,
            counter=power_meter.counter,
            limit_watts=power_meter.limit_watts,
            clock_mhz=median(clocks) if clocks else None,
            throttled=reasons,
        )

    def _memory(self, measured: Measured) -> Memory:
        if "memory" not in self.request.parts:
            self.notes.append("memory was not measured")
            return self.model.unmeasured(self.request.dtype, measured)
        limits = self.target.limits
        decoder = self.model.shape is not None
        largest = limits.tokens if decoder else measured.batch.at[-1] if measured.batch else 1
        with self._share("memory"):
            memory, notes = measure_memory(
                self.campaign,
                device=self.device,
                build=self.model.build(),
                make=self.model.make(self.request.dtype, self.device),
                itemsize=DTYPES[self.request.dtype].itemsize,
                shape=self.model.shape,
                tp=self.model.tp,
                budgets=sorted({max(1, largest // part) for part in (1, 2, 4, 8)}),
                rows=sorted({max(1, limits.sequences // part) for part in (1, 4, 16)}) if decoder else (1,),
            )
        self.notes += notes
        return memory

    def _load(self) -> Load | None:
        if "load" not in self.request.parts:
            return None
        with self._share("load"):
            return measure_load(
                self.campaign,
                device=self.device,
                build=self.model.build(),
                make=self.model.make(self.request.dtype, self.device),
                itemsize=DTYPES[self.request.dtype].itemsize,
                folder=self.request.out.resolve().parent,
                given=self.request.weights,
                tokens=min(256, self.target.limits.tokens) if self.model.shape is not None else 1,
            )


def _sustained(power_meter: Meter, run: Run) -> dict[str, Any]:
    run()
    end = monotonic() + SUSTAINED
    with power_meter.watch() as seen:
        while monotonic() < end:
            run()
    return seen.record()


def _model(request: Request) -> Model:
    resolved = recognised(request.model)
    if resolved is not None:
        if request.tp > 1:
            raise ProfileError(f"--tp {request.tp}: {resolved.name} is measured on one device")
        return OnePass(resolved, inputs(resolved, request.input))
    if request.input is not None:
        raise ProfileError(f"--input {request.input!r}: {request.model} generates, its inputs are measured by length")
    try:
        return Generating(catalog.model(request.model), request.tp)
    except CatalogError as error:
        near = did_you_mean(request.model, [*catalog.names("models"), *SHAPES])
        if "not in the catalog" not in str(error):
            raise
        raise ProfileError(
            f"--model {request.model!r} is no model of the catalog, no file, and none of {', '.join(SHAPES)}{near}"
        ) from None


def _capable(device: Device, dtype: str) -> None:
    """:raises ProfileError: the device cannot multiply or attend in that dtype."""
    if device.kind == "cuda" and dtype == "bf16" and torch.cuda.get_device_capability(device.torch) < (8, 0):
        raise ProfileError(f"--dtype bf16: {device.title} has none (Ampere and later do); fp16 or fp32 can be measured")
    try:
        tensor = torch.ones(1, 2, 16, 64, dtype=DTYPES[dtype], device=device.torch)
        torch.nn.functional.scaled_dot_product_attention(tensor, tensor @ tensor.mT @ tensor, tensor)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise ProfileError(
            f"--dtype {dtype}: {device.title} cannot do it with torch {torch.__version__}: {reason}"
        ) from None


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
