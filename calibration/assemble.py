"""A profile from fitted step times and what is known of the engine they were observed on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from calibration import fitted
from sim.hardware.memory import footprint
from sim.profiles.schema import SCHEMA_VERSION, Hardware, Load, Profile, Provenance, Served

if TYPE_CHECKING:
    from calibration.fit import StepFit
    from calibration.importers.outside import Between
    from sim.catalog import Architecture

__all__ = ["Subject", "assemble"]


@dataclass(frozen=True)
class Subject:
    """What was observed: a model of that shape, on that GPU, in that engine; ``name`` is the profile's.

    ``gpu`` is a catalog name, or whatever the hardware is called that ``hardware`` describes.
    """

    name: str
    shape: Architecture
    gpu: str
    engine: str
    tensor_parallel: int = 1
    dtype: str = "bf16"
    kv_dtype: str = "bf16"
    cuda_graphs: bool = False
    hardware: Hardware | None = None
    served: Served | None = None
    load: Load | None = None
    versions: dict[str, str] = field(default_factory=dict)
    host: str | None = None
    measured_at: str | None = None


def assemble(
    fit: StepFit,
    subject: Subject,
    *,
    source: str,
    licence: str,
    command: str,
    points: int,
    notes: tuple[str, ...] = (),
    between: Between | None = None,
    common: float = 0.0,
) -> Profile:
    """The profile of ``subject``. ``points`` counts what was observed; ``between`` is what lies outside of iterations, if it was
    measured apart; ``common`` is the relative spread from one server process to the next, if it is known, and goes into the
    profile's doubt."""
    said = [*notes, *(f"not identified: {what}" for what in fit.unidentified(between is not None))]
    if fit.left_out:
        said.append(
            f"{fit.left_out} observations were far from others alike, or from what all others say, and were left out"
        )
    return Profile(
        version=SCHEMA_VERSION,
        name=subject.name,
        model=subject.shape.name,
        gpu=subject.gpu,
        engine=subject.engine,
        tensor_parallel=subject.tensor_parallel,
        dtype=subject.dtype,
        kv_dtype=subject.kv_dtype,
        provenance=Provenance(
            source=source,
            licence=licence,
            command=command,
            measured_at=subject.measured_at,
            host=subject.host,
            versions=subject.versions,
            points=points,
            notes=tuple(said),
        ),
        step=fitted.step(fit, cuda_graphs=subject.cuda_graphs, between=between),
        memory=footprint(subject.shape, subject.tensor_parallel, subject.dtype, subject.kv_dtype),
        served=subject.served,
        load=subject.load,
        hardware=subject.hardware,
        doubt=fitted.doubt(fit, common=common),
    )
