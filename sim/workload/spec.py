"""From what a scenario says of a workload to the processes that draw it.

The scenario's models are read by attribute (a mapping will do as well), so that this package needs none of sim.config.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sim.errors import ConfigError, Problem
from sim.workload.arrivals import Clock, Constant, Curve, Switching
from sim.workload.gaps import Gaps, gaps_of
from sim.workload.lengths import (
    MAX_TOKENS,
    Fixed,
    JointLengths,
    Lognormal,
    Marginal,
    Quantiles,
    Recorded,
)
from sim.workload.presets import preset

__all__ = ["OpenLoop", "arrivals_kind", "field", "joint_lengths", "open_loop"]

_KINDS = ("closed_loop", "mmpp", "curve", "preset", "trace", "rate")

_SHORTEST_DWELL = 0.001
"""Of the states of an MMPP: shorter ones take for ever to draw, and nobody could tell them from a constant rate."""


def field(source: Any, name: str, default: Any = None) -> Any:
    """Attribute or item ``name`` of ``source``; ``default`` where there is none or it is None."""
    value = source.get(name) if isinstance(source, Mapping) else getattr(source, name, None)
    return default if value is None else value


def arrivals_kind(arrivals: Any) -> str:
    """Which of the ways to give arrivals is used: ``rate``, ``mmpp``, ``curve``, ``closed_loop``, ``preset`` or ``trace``."""
    for kind in _KINDS:
        if field(arrivals, kind) is not None:
            return kind
    raise ConfigError([Problem(f"needs one of {', '.join(sorted(_KINDS))}", path="arrivals")])


@dataclass(frozen=True)
class OpenLoop:
    """A process to draw arrivals from. ``compression`` > 1 runs it that much faster than real time."""

    clock: Clock
    gaps: Gaps
    compression: float = 1.0


def open_loop(arrivals: Any) -> OpenLoop:
    """The process behind ``rate``, ``mmpp``, ``curve`` or ``preset`` arrivals.

    ``scale`` multiplies the rates of the first three, whose times are the scenario's own, and compresses the time of a
    preset, as it does that of a trace: four times the load of the same users is not what scaling a trace gives.
    """
    kind, factor = arrivals_kind(arrivals), float(field(arrivals, "scale", 1.0))
    cv = float(field(arrivals, "cv", 1.0))
    if kind == "preset":
        found = preset(str(field(arrivals, "preset")))
        clock, gaps = found.process()
        return OpenLoop(clock, gaps, factor)
    process = str(field(arrivals, "process", "gamma"))
    gaps = gaps_of(process, cv)
    if kind == "rate":
        return OpenLoop(Constant(float(field(arrivals, "rate")) * factor), gaps)
    if kind == "mmpp":
        mmpp = field(arrivals, "mmpp")
        rates = tuple(float(rate) * factor for rate in field(mmpp, "rates"))
        dwell = tuple(float(seconds) for seconds in field(mmpp, "dwell"))
        if sum(dwell) < _SHORTEST_DWELL * len(dwell):
            problem = (
                f"a state lasts {sum(dwell) / len(dwell):.3g} s on average; at least {_SHORTEST_DWELL} s is needed"
            )
            raise ConfigError([Problem(problem, path="arrivals.mmpp.dwell")])
        return OpenLoop(Switching(rates, dwell), gaps)
    times, rates = zip(*((float(at), float(rate) * factor) for at, rate in field(arrivals, "curve")), strict=True)
    loop = field(arrivals, "loop", False)
    periods = None if loop is False else math.inf if loop is True else float(loop)
    return OpenLoop(Curve(times, rates, periods), gaps)


def joint_lengths(workload: Any) -> JointLengths | Recorded | None:
    """Lengths as the workload gives them, or its arrival preset does; None if the trace of its arrivals has to bring them."""
    given = field(workload, "lengths")
    if given is not None:
        path = field(given, "trace")
        if path is not None:
            from sim.workload.readers import read_cached

            recorded = read_cached(str(path), arrivals=False)
            return Recorded(recorded.prompt_tokens, recorded.output_tokens)
        name = field(given, "preset")
        if name is not None:
            return preset(str(name)).lengths()
        prompt, output = field(given, "prompt"), field(given, "output")
        return JointLengths(_marginal(prompt), _marginal(output), float(field(given, "correlation", 0.0)))
    arrivals = field(workload, "arrivals")
    name = field(arrivals, "preset")
    return None if name is None else preset(str(name)).lengths()


def _marginal(length: Any) -> Marginal:
    if isinstance(length, int | float):
        return Fixed(float(length))
    low, high = float(field(length, "min", 1.0)), float(field(length, "max", MAX_TOKENS))
    lognormal = field(length, "lognormal")
    if lognormal is not None:
        low, high = float(field(lognormal, "min", low)), float(field(lognormal, "max", high))
        median = field(lognormal, "median")
        if median is not None:
            return Lognormal(float(median), float(field(lognormal, "sigma")), low, high)
        return Lognormal.from_mean(float(field(lognormal, "mean")), float(field(lognormal, "cv")), low, high)
    quantiles = field(length, "quantiles")
    if quantiles is not None:
        return Quantiles(tuple(sorted(_points(quantiles))), low, high)
    return Fixed(float(field(length, "fixed")))


def _points(quantiles: Any) -> Iterable[tuple[float, float]]:
    if isinstance(quantiles, Mapping):
        return ((float(str(name).lstrip("p")) / 100.0, float(value)) for name, value in quantiles.items())
    return ((float(chance), float(value)) for chance, value in quantiles)
