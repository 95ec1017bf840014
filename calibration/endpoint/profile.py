"""The profile of a server from what was seen of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from calibration.assemble import Subject, assemble
from calibration.campaign import Record
from calibration.endpoint.refine import refined
from calibration.fit import fit_steps
from calibration.importers.naming import profile_name
from calibration.samples import Observed, Prompted, StepSample
from sim.errors import ProfileError
from sim.profiles.parts import Samples
from sim.profiles.schema import Hardware, Load, Profile, Served

if TYPE_CHECKING:
    from calibration.endpoint import observe
    from calibration.endpoint.observations import Observations
    from sim.catalog import Architecture

__all__ = ["About", "observed", "profile"]

_COMPARED: Final = ("ttft", "tpot", "e2e")


@dataclass(frozen=True)
class About:
    """What a server does not say of itself: the model's shape, the GPU by its catalog name or whatever ``hardware`` describes, and how
    the model is laid out on it. ``command`` is the provenance."""

    shape: Architecture
    gpu: str
    command: str
    tensor_parallel: int = 1
    dtype: str = "bf16"
    kv_dtype: str = "bf16"
    hardware: Hardware | None = None
    host: str | None = None
    measured_at: str | None = None


def observed(seen: Observations) -> list[Observed]:
    """Everything a fit may use: steps, and first tokens of prompts that met an idle server. The Poisson load is not among it."""
    return [*seen.samples, *(_waited(one) for one in seen.prompted if one.chunks and not one.beside)]


def profile(seen: Observations, about: About, records: Mapping[str, Record]) -> Profile:
    """Fit the steps and put the profile together; move it towards the measured loads, simulated, if that helps; then predict the
    Poisson load, which nothing of this has seen, and note how far off that is. ``records`` are those of the campaign.

    :raises ProfileError: too little was seen to fit anything to.
    """
    facts = seen.facts
    on_cpu = about.hardware is not None and about.gpu.startswith("cpu")
    served = Served(
        max_num_seqs=facts.max_num_seqs,
        max_num_batched_tokens=facts.token_budget,
        max_model_len=facts.max_model_len,
        kv_blocks=facts.kv_tokens // facts.block_tokens if facts.kv_tokens and facts.block_tokens else None,
        block_size=facts.block_tokens,
        async_scheduling=False if on_cpu else None,  # vllm/platforms/cpu.py switches it off
    )
    version = (facts.version or "").lower().removeprefix(facts.engine or "").strip()
    engine = f"{facts.engine or 'unknown engine'} {version}".strip()
    made = assemble(
        fit_steps(observed(seen)),
        Subject(
            name=profile_name(about.gpu, about.shape.name, about.shape, about.tensor_parallel, about.dtype),
            shape=about.shape,
            gpu=about.gpu,
            engine=engine,
            tensor_parallel=about.tensor_parallel,
            dtype=about.dtype,
            kv_dtype=about.kv_dtype,
            cuda_graphs=facts.engine == "vllm" and not on_cpu,
            hardware=about.hardware,
            served=served,
            load=_load(seen, about),
            versions={facts.engine: version} if facts.engine and version else {},
            host=about.host,
            measured_at=about.measured_at,
        ),
        source="measured on a live endpoint",
        licence="the measurer's own",
        command=about.command,
        points=len(seen.samples) + sum(one.repeats for one in seen.prompted),
        notes=(*seen.notes, *(f"not identified: {what}" for what in seen.unidentified)),
    )
    made, moved = refined(made, _rounds(records))
    aside = _kept_aside(made, seen)
    notes = (*made.provenance.notes, moved, *([aside] if aside else []))
    return made.model_copy(update={"provenance": made.provenance.model_copy(update={"notes": notes})})


def _rounds(records: Mapping[str, Record]) -> dict[int, list[Record]]:
    """The cells by repetition."""
    found: dict[int, list[Record]] = defaultdict(list)
    for key, record in records.items():
        if key.startswith("cell/"):
            found[int(key.split("/")[1])].append(record)
    return found


def _waited(one: observe.Prompted) -> Prompted:
    steps = tuple(StepSample(q, q * (2 * past + q), 1, 0, 0, 0.0) for q, past in one.chunks)
    return Prompted(steps, one.ttft, weight=float(one.repeats))


def _load(seen: Observations, about: About) -> Load | None:
    if not seen.starts:
        return None
    port = Samples(values=tuple(sorted(start.port for start in seen.starts)), note="until the port answers")
    ready = Samples(values=tuple(sorted(start.token for start in seen.starts)), note="until the first token")
    return Load(
        bytes=round(about.shape.weight_bytes(about.dtype) / about.tensor_parallel),
        phases={"process": port, "ready": ready},
    )


def _kept_aside(made: Profile, seen: Observations) -> str | None:
    """How far the profile is off on the load that was kept aside, in words; None if there was none."""
    from calibration.validate import validate

    if seen.mix is None:
        return None
    try:
        found = validate(made, [seen.mix], engine={}).whole
    except ProfileError as error:
        return f"the Poisson load kept aside could not be compared: {error}"
    said = ", ".join(f"mean {name.upper()} {found.errors[name]['mean'].value:+.1%}" for name in _COMPARED)
    return f"a Poisson load of {found.requests} requests that the fit has not seen is predicted with {said}"
