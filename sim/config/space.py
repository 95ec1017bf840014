"""What may vary between the points of a study: dimensions, each a path of the scenario with the values it may take.

over:
  deployments.chat.replicas: 1..12                       # whole numbers
  workloads.chat.arrivals.scale: {from: 1, to: 16, scale: log, steps: 9}
  deployments.chat.router.kind: [least-outstanding, round-robin]
  option: [fixed, hpa]                                   # options of the scenario, applied before the rest
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from sim.config import units
from sim.config.metrics import FIGURES, listed
from sim.config.units import shown
from sim.config.values import Name, Part, Reader, Text, choice, real, whole
from sim.errors import did_you_mean

__all__ = [
    "FACTORS",
    "OPTION",
    "Dimension",
    "Optimize",
    "Over",
    "Sensitivity",
    "Sweep",
    "dimension",
    "no_option",
    "watched",
]

OPTION = "option"
"""In place of a path: the options of the scenario."""

FACTORS = ("load", "prompt_tokens", "output_tokens", "step_times", "price")
"""In place of paths of a sensitivity study: what is multiplied in the whole scenario."""


_RANGE = re.compile(r"^\s*([^\s:]+?)\s*\.\.\s*([^\s:]+?)(?:\s*:\s*([0-9]+))?(?:\s+(log|linear))?\s*$")
_AMOUNT = re.compile(r"^(-?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*([^0-9.\s]\S*)?$")
_MOST = 10_000
_DIGITS = 6  # of values drawn from a range: enough to tell points apart, and short in tables
_HINT = "a list of values, or a range like 1..8, 0.5..4:8 log, or {from: 0.5, to: 4, steps: 8, scale: log}"


def no_option(name: Any, known: Sequence[str]) -> str:
    """What is said of ``name``, which is none of the options ``known``."""
    has = f"there are {', '.join(known)}" if known else "there are none"
    return f"{shown(name)} is not an option{did_you_mean(str(name), known)}; {has}"


@dataclass(frozen=True, slots=True)
class Dimension:
    """The values of one path: ``values``, or a range from ``low`` to ``high`` of numbers with ``unit``.

    ``steps``: how many values a grid takes of a range; None: all of a whole one. ``log``: even ratios, not differences.
    """

    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    unit: str = ""
    steps: int | None = None
    log: bool = False
    whole: bool = False

    @property
    def ranged(self) -> bool:
        """Whether it is a range of numbers."""
        return not self.values

    @property
    def listed(self) -> bool:
        """Whether :meth:`grid` has its values: they are given, or so many of a range, or few enough whole numbers."""
        return not self.ranged or self.steps is not None or (self.whole and self.high - self.low < _MOST)

    def to_json(self) -> Any:
        """As a user would write it."""
        if self.values:
            return list(self.values)
        written: dict[str, Any] = {"from": self._value(self.low), "to": self._value(self.high)}
        return written | {"steps": self.steps, "scale": "log" if self.log else "linear", "whole": self.whole}

    def grid(self) -> tuple[Any, ...]:
        """The values a grid takes, each once. ValueError for a range of which it is not said how many."""
        if self.values:
            return self.values
        if not self.listed:
            raise ValueError("a grid needs the number of values: {from: .., to: .., steps: 8}, or 0.5..4:8")
        if self.steps is None:
            return tuple(self._value(number) for number in range(int(self.low), int(self.high) + 1))
        shares = [index / max(self.steps - 1, 1) for index in range(self.steps)]
        return tuple(dict.fromkeys(self._value(self._between(share)) for share in shares))

    def at(self, share: float) -> Any:
        """The value at ``share`` in [0, 1) of the dimension: uniform shares give each value, or stretch, its due."""
        if self.values:
            return self.values[min(int(share * len(self.values)), len(self.values) - 1)]
        if not self.whole:
            return self._value(self._between(share))
        if not self.log:
            return self._value(min(self.low + math.floor(share * (self.high - self.low + 1.0)), self.high))
        # each whole number has the stretch from half below to half above it
        low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
        return self._value(min(max(round(math.exp(low + share * (high - low))), self.low), self.high))

    def _between(self, share: float) -> float:
        if self.log:
            return math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        return self.low + share * (self.high - self.low)

    def value(self, number: float) -> Any:
        """``number`` as the scenario writes it: whole where only whole numbers are, with the unit; kept within the range."""
        return self._value(min(max(number, self.low), self.high))

    def _value(self, number: float) -> Any:
        kept: int | float = round(number) if self.whole else float(f"{number:.{_DIGITS}g}")
        if isinstance(kept, float) and kept.is_integer() and abs(kept) < 1e15:
            kept = int(kept)
        return f"{kept}{self.unit}" if self.unit else kept

    def number(self, value: Any) -> float:
        """The number in ``value``, one of a range; ValueError if it is none."""
        found, _, _ = _amount(value)
        return found


def dimension(given: Any) -> Dimension:
    """Read what a user wrote for one path. ValueError, in words, for what is no dimension."""
    if isinstance(given, Dimension):
        return given
    if isinstance(given, list | tuple):
        if not given:
            raise ValueError("is empty: give at least one value")
        if len(given) > _MOST:
            raise ValueError(f"has {len(given)} values; allowed: at most {_MOST}")
        return Dimension(values=tuple(given))
    if isinstance(given, str):
        match = _RANGE.match(given)
        if match is None:
            raise ValueError(f"{shown(given)} is not {_HINT}")
        low, high, steps, scale = match.groups()
        return _range(low, high, None if steps is None else int(steps), scale or "linear", None)
    if not isinstance(given, Mapping):
        raise ValueError(f"{shown(given)} is not {_HINT}")
    known = ("from", "to", "steps", "scale", "whole")
    for key in given:
        if key not in known:
            raise ValueError(f"{shown(key)} is not one of {', '.join(known)}{did_you_mean(str(key), known)}")
    if "from" not in given or "to" not in given:
        raise ValueError(f"a range needs from and to; {_HINT}")
    steps, scale, only_whole = given.get("steps"), given.get("scale", "linear"), given.get("whole")
    if scale not in ("linear", "log"):
        raise ValueError(f"scale: {shown(scale)} is not one of linear, log")
    if only_whole is not None and not isinstance(only_whole, bool):
        raise ValueError(f"whole: {shown(only_whole)} is not true or false")
    return _range(given["from"], given["to"], steps, scale, only_whole)


def _amount(value: Any) -> tuple[float, str, bool]:
    """A number, its unit, and whether it is written as a whole number."""
    found = units.number(value)
    if found is not None:
        return found, "", isinstance(value, int)
    match = _AMOUNT.match(value.strip()) if isinstance(value, str) and len(value) <= 100 else None
    if match is None:
        raise ValueError(f"{shown(value)} is not a number, nor one with a unit like 250ms, 12/s, 80GiB")
    return float(match[1]), match[2] or "", match[1].lstrip("-").isdecimal()


def amount(value: Any) -> float | None:
    """The number in ``value``, which may have a unit; None if it is none."""
    try:
        return _amount(value)[0]
    except ValueError:
        return None


def amounts(values: Iterable[Any]) -> list[float] | None:
    """The numbers in ``values``, all in one unit or in none; None if they are anything else."""
    try:
        found = [_amount(value) for value in values]
    except ValueError:
        return None
    return [number for number, _, _ in found] if len({unit for _, unit, _ in found}) <= 1 else None


def _range(low: Any, high: Any, steps: Any, scale: str, only_whole: bool | None) -> Dimension:
    least, unit, whole_low = _amount(low)
    most, other, whole_high = _amount(high)
    if unit != other:
        raise ValueError(f"{shown(low)} and {shown(high)} are not in the same unit")
    if not least < most:
        raise ValueError(f"{shown(low)} is not less than {shown(high)}")
    if scale == "log" and least <= 0.0:
        raise ValueError(f"{shown(low)}: a log scale needs numbers above 0")
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or not 2 <= steps <= _MOST):
        raise ValueError(f"steps: {shown(steps)} is not a whole number from 2 to {_MOST}")
    entire = (whole_low and whole_high and not unit) if only_whole is None else only_whole
    if entire and not (least.is_integer() and most.is_integer()):
        raise ValueError(f"{shown(low)} to {shown(high)}: the ends of a range of whole numbers are whole")
    return Dimension(low=least, high=most, unit=unit, steps=steps, log=scale == "log", whole=entire)


def _over(value: Any) -> dict[str, Dimension]:
    if not isinstance(value, Mapping):
        raise ValueError(
            f"{shown(value)} is not a mapping of paths to values, like {{deployments.chat.replicas: 1..8}}"
        )
    found = {}
    for path, given in value.items():
        try:
            found[str(path)] = dimension(given)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    return found


Over = Annotated[
    dict[str, Any],
    Reader(
        _over,
        {
            "type": "object",
            "additionalProperties": {
                "anyOf": [
                    {"type": "array", "minItems": 1},
                    {"type": "string", "pattern": r"\.\."},
                    {
                        "type": "object",
                        "required": ["from", "to"],
                        "additionalProperties": False,
                        "properties": {
                            "from": {"type": ["number", "string"]},
                            "to": {"type": ["number", "string"]},
                            "steps": {"type": "integer", "minimum": 2},
                            "scale": {"enum": ["linear", "log"]},
                            "whole": {"type": "boolean"},
                        },
                    },
                ]
            },
        },
    ),
]
"""Paths with the values they may take, as :class:`Dimension`."""

_DESIGNS = ("grid", "random", "latin-hypercube", "sobol")
_Points = Annotated[int, whole(1, 10**6)]


class Sweep(Part):
    """The points of `twinfer sweep`."""

    over: Over = Field(default_factory=dict, description="What varies: paths with their values.")
    method: Annotated[Literal["grid", "random", "latin-hypercube", "sobol"], choice(*_DESIGNS)] = Field(
        default="grid", description="How points are chosen: all combinations, or so many points spread over the space."
    )
    points: _Points | None = Field(default=None, description="How many points, for all methods but grid.")
    seed: Annotated[int, whole(0, 2**53)] = Field(default=0, description="Of the choice of points; not of the runs.")


_METHODS = ("auto", "bisect", "select", "tpe", "nsga2", "gp")


class Optimize(Part):
    """What `twinfer optimize` may choose, and what it looks for. Objectives are those of the workloads, and the budget."""

    over: Over = Field(default_factory=dict, description="What may be chosen: paths with their values.")
    minimize: Text = Field(
        default="usd_per_hour", description="The figure that should be small among points that meet all objectives."
    )
    method: Annotated[Literal["auto", "bisect", "select", "tpe", "nsga2", "gp"], choice(*_METHODS)] = Field(
        default="auto",
        description="bisect: one number, more of which helps; select: ranking and selection over a finite set; tpe, nsga2, gp: Optuna's"
        " samplers, for spaces too large for that. auto: the first that fits.",
    )
    replications: Annotated[int, whole(2, 10**7)] | None = Field(
        default=None,
        description="At most so many replications in all. Default: 3 times the points of a finite set and 300 at least, else 2,000.",
    )
    tolerance: Annotated[float, real(0.0, 1.0, above=True, read=units.fraction)] = Field(
        default=0.01, description="Relative differences of the figure to minimise that do not matter."
    )
    pareto: tuple[Name, ...] = Field(
        default=("usd_per_hour", "ttft_p99", "slo_attainment"), description="Figures of the Pareto front."
    )
    monotone: tuple[Text, ...] | None = Field(
        default=None,
        description="Paths of numbers more of which is taken never to keep a workload from its objectives, so that what misses them rules"
        " out what has less. []: none. Default: the replicas of deployments without an autoscaler, unless workloads have a cascade,"
        " name deployments or vary.",
    )


def watched(value: Any) -> str:
    """A figure of all requests (``ttft_p99``), or of a workload (``chat.ttft_p99``). ValueError, with the nearest, if it is none."""
    if not isinstance(value, str) or value.rpartition(".")[2] not in FIGURES:
        name = value.rpartition(".")[2].lower() if isinstance(value, str) else ""
        near = did_you_mean(name, FIGURES)
        raise ValueError(f"{shown(value)} is not a metric{near}; there are {listed()}; of one workload: chat.ttft_p99")
    return value


class Sensitivity(Part):
    """What `twinfer sensitivity` varies around the scenario, and what it watches."""

    over: Over = Field(
        default_factory=dict,
        description=f"What varies: paths with their ranges, or factors ({', '.join(FACTORS)}) like {{load: 0.8..1.2}}. Default: what the"
        " scenario has of load, lengths, replicas, engine settings, step times.",
    )
    metrics: tuple[Annotated[str, Reader(watched, {"type": "string"})], ...] = Field(
        default=(), description="What is watched: ttft_p99, or chat.ttft_p99 of one workload. Default: the objectives."
    )
    points: Annotated[int, whole(2, 2**20)] | None = Field(
        default=None,
        description="Rows of the Sobol design, a power of two: each is a run for every parameter and two more. Default: 64.",
    )
