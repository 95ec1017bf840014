"""Workloads fitted to published traces: numbers only, each file with its source, licence and the trace's own figures.

A preset file says of every part whether it was fitted to the data, published by others, or assumed (``basis``), and holds
what was measured on the data (``measured``), so that the fit can be judged without it.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.errors import ConfigError, Problem, did_you_mean

if TYPE_CHECKING:
    from sim.workload.arrivals import Clock
    from sim.workload.gaps import Gaps
    from sim.workload.lengths import JointLengths

__all__ = ["Preset", "from_content", "names", "preset"]


@dataclass(frozen=True)
class Preset:
    """A preset as its file gives it.

    ``arrivals``: ``rate`` (1/s), ``wander`` {cv, time} of that rate, ``gaps`` {gamma: cv} or {hyperexponential: {weights, means}}.
    ``length_model``: ``prompt`` and ``output`` as [probability, tokens] pairs, and ``rank_correlation``.
    ``measured``: figures of the data, under the names of :mod:`sim.workload.figures`; what is unknown is left out.
    ``basis``: where each part comes from, in words.
    """

    name: str
    description: str
    source: str
    licence: str
    citation: str
    arrivals: dict[str, Any]
    length_model: dict[str, Any]
    measured: dict[str, float]
    basis: dict[str, str]

    def process(self) -> tuple[Clock, Gaps]:
        """The arrival process."""
        from sim.workload.arrivals import Wandering
        from sim.workload.gaps import Gamma, Hyperexponential

        wander, given = self.arrivals["wander"], self.arrivals["gaps"]
        gaps: Gaps
        if "gamma" in given:
            gaps = Gamma(given["gamma"])
        else:
            phases = given["hyperexponential"]
            gaps = Hyperexponential(tuple(phases["weights"]), tuple(phases["means"]))
        return Wandering(self.arrivals["rate"], wander["cv"], wander["time"]), gaps

    def lengths(self) -> JointLengths:
        """Prompt and output lengths."""
        from sim.workload.lengths import JointLengths, Quantiles

        prompt, output = (
            Quantiles(tuple((chance, tokens) for chance, tokens in self.length_model[which]))
            for which in ("prompt", "output")
        )
        return JointLengths(prompt, output, self.length_model["rank_correlation"])


def names() -> list[str]:
    """The presets that are shipped."""
    files = resources.files("sim.workload").joinpath("data")
    return sorted(entry.name.removesuffix(".json") for entry in files.iterdir() if entry.name.endswith(".json"))


@cache
def _shipped(name: str) -> Preset:
    text = resources.files("sim.workload").joinpath("data", f"{name}.json").read_text(encoding="utf-8")
    return from_content(json.loads(text))


def preset(name: str) -> Preset:
    """The preset ``name``, or that in the file ``name`` (``*.json``, as ``twinfer traces fit`` writes them).

    Raises ConfigError, with the nearest name if there is none.
    """
    known = names()
    if name in known:
        return _shipped(name)
    if name.endswith(".json"):
        try:
            return from_content(json.loads(Path(name).read_text(encoding="utf-8")))
        except OSError as error:
            raise ConfigError([Problem(error.strerror or str(error), path="preset", file=name)]) from error
        except (ValueError, RecursionError) as error:
            raise ConfigError([Problem(f"is not JSON: {error}", path="preset", file=name)]) from error
    problem = f"{name!r} is not a preset{did_you_mean(name, known)}; there are: {', '.join(known)}"
    raise ConfigError([Problem(problem, path="preset")])


def from_content(content: Any) -> Preset:
    """A preset from the content of its file; ConfigError if it lacks something or cannot be drawn from."""
    try:
        made = Preset(
            name=content["name"],
            description=content["description"],
            source=content["source"],
            licence=content["licence"],
            citation=content["citation"],
            arrivals=content["arrivals"],
            length_model=content["lengths"],
            measured=content["measured"],
            basis=content["basis"],
        )
        fault = _fault(made)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError([Problem(f"is not a preset's content: {error!r}", path="preset")]) from error
    if fault:
        raise ConfigError([Problem(f"is not a preset that can be drawn from: {fault}", path="preset")])
    return made


def _fault(made: Preset) -> str:
    """What stands in the way of drawing from a preset, or an empty string."""
    wander, gaps = made.arrivals["wander"], made.arrivals["gaps"]
    if not 0.0 < made.arrivals["rate"] <= 1e9:
        return f"arrivals.rate: {made.arrivals['rate']!r} is not a rate above 0"
    if not (0.0 <= wander["cv"] <= 10.0 and 0.01 <= wander["time"] <= 1e9):
        return f"arrivals.wander: {wander!r} is not a cv from 0 to 10 and a time from 0.01 s"
    if "gamma" in gaps:
        if not 1e-3 <= gaps["gamma"] <= 50.0:
            return f"arrivals.gaps.gamma: {gaps['gamma']!r} is not a cv from 0.001 to 50"
    else:
        weights, means = gaps["hyperexponential"]["weights"], gaps["hyperexponential"]["means"]
        mean = sum(weight * mean for weight, mean in zip(weights, means, strict=True))
        if min(*weights, *means) <= 0.0 or abs(sum(weights) - 1.0) > 0.01 or abs(mean - 1.0) > 0.01:
            return "arrivals.gaps.hyperexponential: weights must add up to 1, and means to 1 when weighted"
    for which in ("prompt", "output"):
        points = [(float(chance), float(tokens)) for chance, tokens in made.length_model[which]]
        if not points or not all(0.0 <= chance <= 1.0 and 1.0 <= tokens <= 1e7 for chance, tokens in points):
            return f"lengths.{which}: not [probability, tokens] pairs"
        if any(b[0] <= a[0] or b[1] < a[1] for a, b in itertools.pairwise(points)):
            return f"lengths.{which}: probabilities must rise, and tokens must not fall"
    if not -1.0 <= made.length_model["rank_correlation"] <= 1.0:
        return f"lengths.rank_correlation: {made.length_model['rank_correlation']!r} is not from -1 to 1"
    if not all(isinstance(value, int | float) for value in made.measured.values()):
        return "measured: not all figures are numbers"
    return ""
