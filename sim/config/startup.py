"""How replicas start and end: cold starts, engines that sleep, and how long a replica may go on serving when it is to go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from sim.config import units
from sim.config.units import shown
from sim.config.values import DURATION_SCHEMA, Flag, Part, Reader, Seconds, checked, choice, fault, real, whole
from sim.errors import did_you_mean

if TYPE_CHECKING:
    from sim.control.cluster import plans
    from sim.control.cluster.distribution import Distribution
    from sim.control.cluster.phases import Known
    from sim.profiles.schema import Load

__all__ = ["SIZE_SCHEMA", "ColdStart", "Drain", "Size", "Spread", "WarmPool"]

Tier = Literal["object_store", "network_disk", "local_disk"]

SIZE_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": units.SIZE}],
    "description": "A size: bytes, or with a unit, like 20GB, 512MiB.",
}
Size = Annotated[float, real(read=units.size, high=1e16, schema=SIZE_SCHEMA, unit=" bytes")]
"""Bytes, ``20GB``, ``512MiB``."""

_PHASES = (
    "node", "image_pull", "image_extract", "process", "context", "weights", "deserialise", "build", "compile",
    "graph_capture", "warm_up", "engine",
)  # fmt: skip
_NOTHING = ("none", "typical")


def _phase(value: Any) -> str:
    if value not in _PHASES:
        near = did_you_mean(str(value), _PHASES)
        raise ValueError(f"{shown(value)} is not a phase of a start{near}; there are {', '.join(_PHASES)}")
    return str(value)


def _preset(name: str) -> object:
    from sim.profiles import coldstarts

    return name if name in _NOTHING else coldstarts.load(name)


class Spread(Part):
    """How long something takes: a plain duration (always that), ``low`` and ``high`` (anything between), ``median`` and ``sigma``
    (lognormal), ``mean`` (exponential), or measured ``values``."""

    fixed: Seconds | None = Field(default=None, description="Always so long.")
    low: Seconds | None = Field(default=None, description="Shortest; all to high are equally likely.")
    high: Seconds | None = Field(default=None, description="Longest.")
    median: Seconds | None = Field(default=None, description="Lognormal: half of them are shorter.")
    sigma: Annotated[float, real(0.0, 5.0)] | None = Field(
        default=None, description="Standard deviation of the natural logarithm."
    )
    mean: Seconds | None = Field(default=None, description="Exponential, so long on average.")
    values: tuple[Seconds, ...] | None = Field(
        default=None,
        description="As measured; three or more are drawn from, interpolated, fewer with an assumed spread.",
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [dict(DURATION_SCHEMA), handler(core)]}

    @model_validator(mode="before")
    @classmethod
    def _plain_duration(cls, given: Any) -> Any:
        return {"fixed": given} if isinstance(given, bool | int | float | str) else given

    @model_validator(mode="after")
    def _one_way(self) -> Spread:
        given = {name for name in type(self).model_fields if getattr(self, name) is not None}
        if given not in ({"fixed"}, {"low", "high"}, {"median", "sigma"}, {"mean"}, {"values"}):
            said = ", ".join(sorted(given)) or "nothing"
            raise fault(f"needs a duration, low and high, median and sigma, mean, or values; given: {said}")
        if self.low is not None and self.high is not None and self.high < self.low:
            raise fault(f"high {self.high:g} s is less than low {self.low:g} s", "high")
        if self.values is not None and not self.values:
            raise fault("is empty", "values")
        return self

    def distribution(self) -> Distribution:
        """What durations are drawn from."""
        from sim.control.cluster import distribution as of

        if self.fixed is not None:
            return of.Fixed(self.fixed)
        if self.low is not None and self.high is not None:
            return of.Uniform(self.low, self.high)
        if self.median is not None and self.sigma is not None:
            return of.LogNormal(self.median, self.sigma)
        if self.mean is not None:
            return of.Exponential(self.mean)
        return of.of_samples(self.values or ())


class ColdStart(Part):
    """What a new replica goes through until it serves. Without ``preset``: what the profile has of it; if it has nothing, the
    ``phases`` given here; if there are none, a typical vLLM's, which is assumed and said to be."""

    preset: Annotated[str, checked(_preset, "coldstarts")] | None = Field(
        default=None,
        description="A shipped cold start like vllm-0.8.5-h100-llama-3.1-8b, or a file; typical: a vLLM's, assumed; none: only phases.",
    )
    phases: Mapping[Annotated[str, Reader(_phase, {"type": "string", "enum": list(_PHASES)})], Spread] = Field(
        default_factory=dict,
        description="Durations that replace those known, by phase; weights is the time to read them from weights_from.",
    )
    image: Size | None = Field(
        default=None,
        description="Size of the container image: pulls share the node's network and the registry. Default: a pull takes its time whoever"
        " else pulls.",
    )
    weights_from: Annotated[Tier, choice("object_store", "network_disk", "local_disk")] | None = Field(
        default=None, description="Where weights are read from. Default: where they were measured."
    )
    readiness_period: Seconds = Field(default=10.0, description="Of the readiness probe; 0: ready at once.")
    endpoint_delay: Seconds = Field(default=0.0, description="From ready until the gateway sends requests there.")
    scale: Annotated[float, real(0.0, 1000.0)] = Field(
        default=1.0, description="All durations times this, the machine's provisioning left out."
    )

    def known(self, load: Load | None, weights_bytes: float, *, profile: str = "", weights_name: str = "") -> Known:
        """What is known of the start of a replica with ``weights_bytes``; ``load`` is that part of its ``profile``."""
        from sim.control.cluster import phases
        from sim.profiles import coldstarts

        given = {name: spread.distribution() for name, spread in self.phases.items()}
        options: dict[str, Any] = {
            "weights_bytes": weights_bytes,
            "weights_name": weights_name,
            "source": self.weights_from,
            "phases": given,
            "image": f"image of {self.preset or profile or weights_name or 'the engine'}",  # of one start, one image
            "image_bytes": self.image or 0.0,
            "readiness_period": self.readiness_period,
            "endpoint_delay": self.endpoint_delay,
            "factor": self.scale,
        }
        if self.preset is None and load is not None:
            return phases.known(load, name=f"of profile {profile}", **options)
        if self.preset not in (None, *_NOTHING):
            return phases.known(coldstarts.load(str(self.preset)).load, name=str(self.preset), **options)
        if self.preset == "none" or (self.preset is None and given):
            return phases.known(None, **options)
        return phases.typical(**options)


class WarmPool(Part):
    """Engines that go to sleep, as vLLM's sleep mode has it, rather than away when fewer replicas are wanted."""

    sleep: Annotated[int, whole(1, 2)] = Field(
        default=1, description="1: weights stay in the node's memory. 2: they are dropped, and read again to wake."
    )
    size: Annotated[int, whole(1, 100_000)] = Field(description="At most so many sleep.")
    wake: Spread | None = Field(
        default=None,
        description="Time to wake, at level 2 beside reading the weights. Default: the weights over 25 GB/s a GPU, and 0.1 s.",
    )
    keeps_gpus: Flag = Field(
        default=False, description="Nobody else may use its GPUs meanwhile; else it can wake only where they are free."
    )
    asleep: Annotated[int, whole(0, 100_000)] = Field(default=0, description="So many sleep at the start.")

    @model_validator(mode="after")
    def _as_many(self) -> WarmPool:
        if self.asleep > self.size:
            raise fault(f"{self.asleep} are more than size, {self.size}", "asleep")
        return self

    def plan(self, weights_bytes: float, gpus: int) -> plans.WarmPool:
        """For replicas of ``weights_bytes`` over so many ``gpus``."""
        from sim.control.cluster import phases, plans

        wake = phases.wake(self.sleep, weights_bytes, gpus) if self.wake is None else self.wake.distribution()
        held = weights_bytes if self.sleep == 1 else 0.0
        return plans.WarmPool(self.size, self.sleep, held, wake, self.keeps_gpus, self.asleep)


class Drain(Part):
    """What happens to a replica that is to go."""

    grace: Seconds = Field(
        default=30.0,
        description="It serves what it has for so long, then the rest fails (terminationGracePeriodSeconds).",
    )
