"""Who sends requests: when they arrive, how long they are, and what their senders expect."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from sim.config import units
from sim.config.gateway import Cascade, Client
from sim.config.metrics import LATENCIES
from sim.config.policies import PoolChoice
from sim.config.units import number, shown
from sim.config.values import (
    RATE_SCHEMA,
    Name,
    Part,
    Period,
    Rate,
    Reader,
    Seconds,
    checked,
    choice,
    fault,
    real,
    whole,
)
from sim.errors import did_you_mean

__all__ = ["ARRIVALS", "Arrivals", "Length", "Lengths", "Lognormal", "Mmpp", "Workload"]

MAX_TOKENS = 10_000_000

_APPLIES: dict[str, tuple[str, ...]] = {
    "rate": ("cv", "process", "scale", "jitter"),
    "mmpp": ("cv", "process", "scale", "jitter"),
    "curve": ("cv", "process", "scale", "jitter", "loop"),
    "closed_loop": ("think",),
    "preset": ("scale", "jitter"),
    "trace": ("format", "slice", "loop", "scale", "jitter"),
}
ARRIVALS = tuple(_APPLIES)
"""The ways to give arrivals, of which each workload uses one."""


def _preset(name: str) -> object:
    from sim.workload.presets import preset

    return preset(name)


def _trace(name: str) -> object:
    from sim.workload.fetch import locate

    return locate(name)


def _points(value: Any) -> Any:
    """A curve's points as pairs; each is read by the pair's own types."""
    if (
        not isinstance(value, list | tuple)
        or not value
        or any(not isinstance(p, list | tuple) or len(p) != 2 for p in value)
    ):
        raise ValueError(f"{shown(value)} is not a list of [time, rate] points, like [[0, 2/s], [1h, 8/s]]")
    return value


_CURVE = Reader(_points, {"type": "array", "minItems": 1, "items": {"type": "array", "minItems": 2, "maxItems": 2}})


def _window(value: Any) -> Any:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError(f"{shown(value)} is not a window [from, to], like [10m, 40m]; to may be null")
    return value


_WINDOW = Reader(
    _window, {"type": "array", "minItems": 2, "maxItems": 2, "description": "[from, to], in the trace's time."}
)


def _laps(value: Any) -> bool | int:
    if isinstance(value, bool):
        return value
    found = number(value)
    if found is None or found != math.floor(found) or not 1 <= found <= 10**6:
        raise ValueError(f"{shown(value)} is neither true, false nor a number of times from 1 to 1000000")
    return int(found)


_LOOP = Reader(_laps, {"anyOf": [{"type": "boolean"}, {"type": "integer", "minimum": 1}]})


class Mmpp(Part):
    """Rates that hold one after another, each for an exponential time of mean ``dwell``."""

    rates: tuple[Rate, ...] = Field(description="The rate in each state.")
    dwell: tuple[Period, ...] = Field(description="Mean time in each state.")

    @model_validator(mode="after")
    def _match(self) -> Mmpp:
        if len(self.rates) != len(self.dwell) or not self.rates:
            raise fault(f"has {len(self.rates)} rates and {len(self.dwell)} dwell times; each state needs both")
        if max(self.rates) <= 0.0:
            raise fault("every rate is 0: nothing would ever arrive", "rates")
        return self


class Arrivals(Part):
    """When requests arrive. Exactly one of ``rate``, ``mmpp``, ``curve``, ``closed_loop``, ``preset``, ``trace``."""

    rate: Annotated[float, real(0.0, 1e6, above=True, read=units.rate, schema=RATE_SCHEMA, unit="/s")] | None = Field(
        default=None, description="Requests per second, on average."
    )
    mmpp: Mmpp | None = Field(default=None, description="A rate that switches between states.")
    curve: Annotated[tuple[tuple[Seconds, Rate], ...], _CURVE] | None = Field(
        default=None, description="[time, rate] points; the rate is linear between them."
    )
    closed_loop: Annotated[int, whole(1, 10**6)] | None = Field(
        default=None, description="So many users, each sending its next request when its last is answered."
    )
    preset: Annotated[str, checked(_preset, "presets")] | None = Field(
        default=None, description="A shipped workload, or a file of `twinfer traces fit`."
    )
    trace: Annotated[str, checked(_trace, "traces")] | None = Field(
        default=None, description="A trace file, or a fetched trace of the catalog."
    )
    process: (
        Annotated[Literal["poisson", "gamma", "deterministic"], choice("poisson", "gamma", "deterministic")] | None
    ) = Field(
        default=None,
        description="How regular arrivals are at a given rate. Default: gamma if cv is given, else poisson.",
    )
    cv: Annotated[float, real(0.0, 50.0)] | None = Field(
        default=None, description="Coefficient of variation of the gaps: 0 even, 1 Poisson, more is burstier."
    )
    think: Seconds = Field(
        default=0.0, description="Pause of a closed-loop user between an answer and the next request."
    )
    format: Annotated[
        Literal["auto", "azure", "mooncake", "csv", "jsonl", "parquet"],
        choice("auto", "azure", "mooncake", "csv", "jsonl", "parquet"),
    ] = Field(default="auto", description="Of the trace file; auto tells by the content.")
    scale: Annotated[float, real(0.0, 1e6, above=True)] = Field(
        default=1.0, description="Multiplies the rate; a trace's or preset's time is compressed."
    )
    slice: Annotated[tuple[Seconds, Seconds | None], _WINDOW] | None = Field(
        default=None, description="Only this window of the trace, [from, to]."
    )
    loop: Annotated[bool | int, _LOOP] = Field(
        default=False, description="Repeat the trace or curve: true, or how often."
    )
    jitter: Seconds = Field(default=0.0, description="Move every arrival by up to this, either way.")

    @property
    def kind(self) -> str:
        """Which of :data:`ARRIVALS` is used."""
        return next(kind for kind in ARRIVALS if getattr(self, kind) is not None)

    @model_validator(mode="after")
    def _one_way(self) -> Arrivals:
        given = [kind for kind in ARRIVALS if getattr(self, kind) is not None]
        if len(given) != 1:
            found = f"both {' and '.join(given)} are given" if given else "none is given"
            raise fault(f"needs exactly one of {', '.join(ARRIVALS)}; {found}")
        kind = given[0]
        for name in type(self).model_fields:
            if name != kind and name in self.model_fields_set and name not in _APPLIES[kind]:
                raise fault(f"has no meaning with {kind}, which takes {', '.join(_APPLIES[kind])}", name)
        if self.process == "poisson" and self.cv not in (None, 1.0):
            raise fault("a poisson process has cv 1; process: gamma takes any", "cv")
        if self.process == "deterministic" and self.cv not in (None, 0.0):
            raise fault("a deterministic process has cv 0; process: gamma takes any", "cv")
        if self.curve is not None:
            times = [time for time, _ in self.curve]
            if any(b < a for a, b in itertools.pairwise(times)):
                raise fault("times must not go back", "curve")
            if max(rate for _, rate in self.curve) <= 0.0:
                raise fault("every rate is 0: nothing would ever arrive", "curve")
            if self.loop is not False and times[-1] <= 0.0:
                raise fault("a curve of no duration cannot be repeated", "loop")
        if self.slice is not None and self.slice[1] is not None and self.slice[1] <= self.slice[0]:
            raise fault("the window ends before it begins", "slice")
        return self


class Lognormal(Part):
    """By ``median`` and ``sigma`` (of the natural logarithm), or by ``mean`` and ``cv``; before any cut to min and max."""

    median: Annotated[float, real(1.0, MAX_TOKENS)] | None = Field(default=None, description="Tokens.")
    sigma: Annotated[float, real(0.0, 10.0)] | None = Field(default=None, description="Of the natural logarithm.")
    mean: Annotated[float, real(1.0, MAX_TOKENS)] | None = Field(default=None, description="Tokens.")
    cv: Annotated[float, real(0.0, 100.0)] | None = Field(default=None, description="Standard deviation over mean.")

    @model_validator(mode="after")
    def _pair(self) -> Lognormal:
        given = {name for name in ("median", "sigma", "mean", "cv") if getattr(self, name) is not None}
        if given not in ({"median", "sigma"}, {"mean", "cv"}):
            raise fault(f"needs median and sigma, or mean and cv; given: {', '.join(sorted(given)) or 'nothing'}")
        return self


def _quantiles(value: Any) -> tuple[tuple[float, float], ...]:
    """(probability, tokens) pairs from ``{p50: 100, ...}`` or ``[[0.5, 100], ...]``."""
    pairs: list[tuple[float, float]] = []
    if isinstance(value, Mapping):
        for name, tokens in value.items():
            chance = _percentile(str(name))
            pairs.append((chance, _tokens(tokens, f"{name}: ")))
    elif isinstance(value, list | tuple) and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in value):
        for at, tokens in value:
            found = number(at)
            if found is None or not 0.0 <= found <= 1.0:
                raise ValueError(f"{shown(at)} is not a probability from 0 to 1")
            pairs.append((found, _tokens(tokens, f"{shown(at)}: ")))
    else:
        raise ValueError(
            f"{shown(value)} is neither a mapping like {{p5: 20, p50: 300}} nor a list of [probability, tokens]"
        )
    pairs.sort()
    if not pairs:
        raise ValueError("has no quantiles")
    if any(b[0] == a[0] for a, b in itertools.pairwise(pairs)):
        raise ValueError("gives one quantile twice")
    if any(b[1] < a[1] for a, b in itertools.pairwise(pairs)):
        raise ValueError("tokens must not fall from one quantile to a higher one")
    return tuple(pairs)


def _percentile(name: str) -> float:
    try:
        found = float(name.removeprefix("p")) / 100.0
    except ValueError:
        found = -1.0
    if not name.startswith("p") or not 0.0 <= found <= 1.0:
        raise ValueError(f"{shown(name)} is not a percentile from p0 to p100")
    return found


def _tokens(value: Any, place: str = "") -> float:
    found = number(value)
    if found is None or not 1.0 <= found <= MAX_TOKENS:
        raise ValueError(f"{place}{shown(value)} is not a number of tokens from 1 to {MAX_TOKENS}")
    return found


_QUANTILES = Reader(
    _quantiles,
    {"anyOf": [{"type": "object", "patternProperties": {"^p[0-9.]+$": {"type": "number"}}}, {"type": "array"}]},
)

_TOKENS = whole(1, MAX_TOKENS)


class Length(Part):
    """A number of tokens: a plain number, or one of ``fixed``, ``lognormal``, ``quantiles``, cut to [``min``, ``max``]."""

    fixed: Annotated[int, _TOKENS] | None = Field(default=None, description="Always so many.")
    lognormal: Lognormal | None = Field(default=None, description="Lognormal.")
    quantiles: Annotated[tuple[tuple[float, float], ...], _QUANTILES] | None = Field(
        default=None, description="Met exactly at every quantile given: {p50: 300, p99: 4000} or [[0.5, 300], ...]."
    )
    min: Annotated[int, _TOKENS] | None = Field(default=None, description="Never less.")
    max: Annotated[int, _TOKENS] | None = Field(default=None, description="Never more.")

    @model_validator(mode="before")
    @classmethod
    def _plain_number(cls, given: Any) -> Any:
        return {"fixed": given} if isinstance(given, bool | int | float | str) else given

    @model_validator(mode="after")
    def _one_way(self) -> Length:
        given = [name for name in ("fixed", "lognormal", "quantiles") if getattr(self, name) is not None]
        if len(given) != 1:
            raise fault(f"needs exactly one of fixed, lognormal, quantiles; given: {', '.join(given) or 'none'}")
        if self.min is not None and self.max is not None and self.max < self.min:
            raise fault(f"max {self.max} is less than min {self.min}", "max")
        if given == ["fixed"]:
            extra = "min" if self.min is not None else "max" if self.max is not None else None
            if extra:
                raise fault("has no meaning with a fixed length", extra)
        return self


class Lengths(Part):
    """Prompt and output lengths: both of them, a ``preset``, or those of a ``trace`` one after another."""

    prompt: Length | None = Field(default=None, description="Prompt tokens.")
    output: Length | None = Field(default=None, description="Output tokens.")
    correlation: Annotated[float, real(-1.0, 1.0)] = Field(default=0.0, description="Rank correlation of the two.")
    preset: Annotated[str, checked(_preset, "presets")] | None = Field(
        default=None, description="Lengths of a shipped workload, or of a file of `twinfer traces fit`."
    )
    trace: Annotated[str, checked(_trace, "traces")] | None = Field(
        default=None, description="Lengths of the requests of a trace, in its order; after the last, the first again."
    )

    @model_validator(mode="after")
    def _complete(self) -> Lengths:
        whole = next((name for name in ("preset", "trace") if getattr(self, name) is not None), None)
        if whole is not None:
            others = (name for name in type(self).model_fields if name != whole)
            extra = next((name for name in others if name in self.model_fields_set), None)
            if extra:
                raise fault(f"has no meaning with {whole}, which brings its own", extra)
        elif self.prompt is None or self.output is None:
            raise fault(f"needs {'prompt' if self.prompt is None else 'output'}, a preset, or a trace")
        return self


def _objectives(value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError(f"{shown(value)} is not a mapping of metrics to limits, like {{ttft_p99: 2s}}")
    return value


def _metric(value: Any) -> str:
    if value not in LATENCIES:
        near = did_you_mean(str(value).lower(), LATENCIES)
        raise ValueError(
            f"{shown(value)} is not a metric: ttft, tpot, itl, e2e or queue, then _mean, _p50, _p90, _p95 or _p99{near}"
        )
    return str(value)


_METRIC = Reader(_metric, {"type": "string", "enum": list(LATENCIES)})
_OBJECTIVES = Reader(
    _objectives,
    {"type": "object", "propertyNames": {"enum": list(LATENCIES)}, "additionalProperties": {"$ref": "#/$defs/Seconds"}},
)


class Workload(Part):
    """One stream of requests to one model."""

    name: Name = Field(description="What reports and paths call it.")
    model: Name = Field(description="One of the scenario's models.")
    deployment: Name | None = Field(default=None, description="Who serves it; needed where several serve the model.")
    deployments: tuple[Name, ...] = Field(
        default=(), description="Several who can serve it, in place of one: the gateway chooses for each request."
    )
    choice: PoolChoice | None = Field(
        default=None, description="How the gateway chooses among deployments. Default: cheapest-first."
    )
    cascade: Cascade | None = Field(
        default=None, description="Where requests go on to whose answer is not good enough. Default: nowhere."
    )
    client: Client | None = Field(
        default=None, description="What its clients do when an answer is late or an error. Default: they wait."
    )
    tenant: Name = Field(default="default", description="Whose requests these are.")
    priority: Annotated[int, whole(-(2**31), 2**31)] = Field(
        default=0, description="Lower is more important; counts where the engine's scheduling_policy is priority."
    )
    arrivals: Arrivals = Field(description="When requests arrive.")
    lengths: Lengths | None = Field(default=None, description="Tokens; presets and traces bring their own.")
    objectives: Annotated[dict[Annotated[str, _METRIC], Period], _OBJECTIVES] = Field(
        default_factory=dict, description="Limits on latencies, like {ttft_p99: 2s, tpot_p99: 50ms}."
    )
