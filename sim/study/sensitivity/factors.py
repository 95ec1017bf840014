"""Knobs that turn many values of a scenario at once, each by a factor on what the scenario says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.config import Scenario
    from sim.config.workload import Length, Workload

__all__ = ["FACTORS", "STEP_TIMES", "factor", "missing", "resolve"]

STEP_TIMES = "step_times"

Changes = dict[str, Any]


def _load(scenario: Scenario, by: float) -> Changes:
    """Every workload's arrivals: ``scale``; of closed loops the users, to the nearest whole number."""
    changes: Changes = {}
    for number, workload in enumerate(scenario.workloads):
        arrivals, path = workload.arrivals, f"workloads.{number}.arrivals"
        if arrivals.closed_loop is not None:
            changes[f"{path}.closed_loop"] = max(round(arrivals.closed_loop * by), 1)
        else:
            changes[f"{path}.scale"] = arrivals.scale * by
    return changes


def _lengths(which: str) -> Callable[[Scenario, float], Changes]:
    def scaled(scenario: Scenario, by: float) -> Changes:
        changes: Changes = {}
        for number, workload in enumerate(scenario.workloads):
            own = _of(workload)
            if own is not None:
                changes[f"workloads.{number}.lengths"] = own | {which: _length(own[which], by)}
        return changes

    return scaled


def _of(workload: Workload) -> Changes | None:
    """The lengths of a workload written out; None if they are those of a trace, one after another."""
    from sim.workload.presets import preset

    given = workload.lengths
    if given is not None and given.prompt is not None and given.output is not None:
        return {
            "prompt": _written(given.prompt),
            "output": _written(given.output),
            "correlation": given.correlation,
        }
    name = workload.arrivals.preset if given is None else given.preset
    if name is None:
        return None
    model = preset(name).length_model
    lengths = {
        which: {"quantiles": [list(map(float, pair)) for pair in model[which]]} for which in ("prompt", "output")
    }
    return {**lengths, "correlation": float(model["rank_correlation"])}


def _written(length: Length) -> Changes:
    found = length.model_dump(exclude_none=True)
    if "quantiles" in found:
        found["quantiles"] = [list(pair) for pair in found["quantiles"]]
    return found


def _length(length: Mapping[str, Any], by: float) -> Changes:
    """``length`` with every number of tokens multiplied, its bounds too: the whole distribution."""

    def tokens(value: float) -> int:
        return max(round(value * by), 1)

    answer: Changes = {}
    for key, value in length.items():
        if key == "quantiles":
            answer[key] = [[chance, max(at * by, 1.0)] for chance, at in value]
        elif key == "lognormal":
            scaled = {name: max(value[name] * by, 1.0) for name in ("median", "mean") if name in value}
            answer[key] = dict(value) | scaled
        else:
            answer[key] = tokens(value)
    return answer


def _price(scenario: Scenario, by: float) -> Changes:
    """What a machine of each pool costs an hour."""
    return {
        f"cluster.pools.{number}.price": pool.machine().usd_per_hour * by
        for number, pool in enumerate(scenario.cluster.pools)
    }


def _step_times(scenario: Scenario, by: float) -> Changes:
    """Nothing in the scenario: the step times of its profiles."""
    return {}


FACTORS: dict[str, Callable[[Scenario, float], Changes]] = {
    "load": _load,
    "prompt_tokens": _lengths("prompt"),
    "output_tokens": _lengths("output"),
    STEP_TIMES: _step_times,
    "price": _price,
}
"""By name: the changes of a scenario that multiply something by a factor.

``load``: arrivals of every workload. ``prompt_tokens``, ``output_tokens``: lengths, where they are not those of a trace. ``step_times``:
times in the profiles of all deployments. ``price``: of all machines.
"""


def factor(name: str) -> bool:
    """Whether ``name`` is a factor, not a path."""
    return name in FACTORS


def missing(scenario: Scenario, name: str) -> str:
    """Why the factor changes nothing of ``scenario``; empty if it does."""
    if name in ("prompt_tokens", "output_tokens") and not FACTORS[name](scenario, 1.0):
        return "every workload takes its lengths from a trace"
    if name == "price" and not any(pool.machine().usd_per_hour for pool in scenario.cluster.pools):
        return "no machine has a price"
    return ""


def resolve(scenario: Scenario, point: Mapping[str, Any]) -> tuple[Changes, float]:
    """``point`` as changes by path, and the factor on step times. Factors are of what the scenario says after the rest of the point.

    ConfigError if the rest makes no scenario.
    """
    plain = {name: value for name, value in point.items() if not factor(name)}
    factors = {name: float(value) for name, value in point.items() if factor(name)}
    changes = dict(plain)
    if any(name != STEP_TIMES for name in factors):
        changed = scenario.with_changes(plain) if plain else scenario
        for name, by in factors.items():
            for path, value in FACTORS[name](changed, by).items():
                which = name.removesuffix("_tokens")
                # prompt and output: both of the same mapping
                both = path.endswith(".lengths") and path in changes
                changes[path] = changes[path] | {which: value[which]} if both else value
    return changes, factors.get(STEP_TIMES, 1.0)
