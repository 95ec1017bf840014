"""What a sensitivity study varies: paths and factors with their ranges; without any named, those that a scenario suggests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sim.config.space import FACTORS, OPTION, Dimension, dimension, no_option
from sim.config.units import shown
from sim.errors import ConfigError, Problem, did_you_mean
from sim.study.sensitivity.factors import factor, missing

if TYPE_CHECKING:
    from sim.config import Scenario
    from sim.experiment.build import Placed

__all__ = ["Parameter", "defaults", "given"]

_AS_THEY_ARE = 1.0


@dataclass(frozen=True)
class Parameter:
    """A path or a factor, and the values it may take: a range, of which a tornado takes the ends, or choices.

    ``base`` is what the scenario has (None: not known). ``why`` says in a few words why it is varied so.
    """

    name: str
    dimension: Dimension
    base: Any = None
    why: str = ""

    @property
    def label(self) -> str:
        """Short, for pictures: without what every path has."""
        parts = self.name.split(".")
        return " ".join(
            part for part in parts if part not in ("deployments", "engine", "workloads", "cluster", "pools")
        )

    @property
    def steps(self) -> list[tuple[str, Any]]:
        """The values that are tried one at a time: ``low`` and ``high``, or each ``choice`` but what is there already."""
        if not self.dimension.ranged:
            return [("choice", value) for value in self.dimension.values if value != self.base]
        ends = (("low", self.dimension.low), ("high", self.dimension.high))
        return [(end, self.dimension.value(number)) for end, number in ends]


def given(scenario: Scenario, over: Mapping[str, Any], where: str = "over") -> list[Parameter]:
    """The parameters that a user names. ConfigError with every fault, of which ``where`` says where it was written."""
    from sim.config import paths

    tree = scenario._source()
    problems, parameters = [], []
    for path, values in over.items():
        try:
            found = dimension(values)
            if factor(path):
                _positive(found)
                absent = missing(scenario, path)
                if absent:
                    raise ValueError(f"cannot be varied: {absent}")
                base: Any = _AS_THEY_ARE
            elif path == OPTION:
                _options(scenario, found)
                base = scenario.option
            else:
                try:
                    base = _value(scenario, paths.steps_of(tree, path))
                except ValueError as error:
                    raise ValueError(f"{error}{did_you_mean(path, FACTORS)}") from None
            parameters.append(Parameter(path, found, base, "asked for"))
        except ValueError as error:
            problems.append(Problem(str(error), path=f"{where} {path}"))
    if problems:
        raise ConfigError(problems)
    return parameters


def _positive(found: Dimension) -> None:
    numbers = found.values or (found.low, found.high)
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0.0 < number <= 1000.0 or found.unit:
            raise ValueError(f"{shown(number)} is not a factor, like 0.8..1.2: above 0, at most 1000, no unit")


def _options(scenario: Scenario, found: Dimension) -> None:
    known = list(scenario.option_names())
    for name in found.values or ("a range",):
        if name not in known:
            raise ValueError(no_option(name, known))


def _value(scenario: Scenario, steps: list[str | int]) -> Any:
    """What the scenario has at ``steps``, its defaults included; None if that is no plain value."""
    found: Any = scenario
    for step in steps:
        try:
            found = getattr(found, str(step)) if hasattr(type(found), "model_fields") else found[step]
        except (KeyError, IndexError, AttributeError, TypeError):
            return None
    return found if isinstance(found, str | int | float | bool) else None


def defaults(scenario: Scenario, costs: bool = False) -> list[Parameter]:
    """What is worth varying in ``scenario``, each with its reason; prices only if a figure in dollars is watched (``costs``).

    ConfigError and the like if the scenario cannot be built.
    """
    from sim.experiment.build import build

    factors = [
        ("load", 0.2, "a forecast of demand is off by a fifth"),
        ("prompt_tokens", 0.2, "prompts are a fifth shorter or longer"),
        ("output_tokens", 0.2, "answers are a fifth shorter or longer"),
        ("step_times", 0.1, "profiles are measured, or predicted, with an error of this order"),
        *([("price", 0.2, "list prices are negotiated, and change")] if costs else []),
    ]
    found = [
        Parameter(name, Dimension(low=1.0 - by, high=1.0 + by), _AS_THEY_ARE, why)
        for name, by, why in factors
        if not missing(scenario, name)
    ]
    for placed, deployment in zip(build(scenario).deployments, scenario.deployments, strict=True):
        path = f"deployments.{placed.name}"
        if deployment.autoscaler is None and deployment.replicas > 0:
            low, high = max(deployment.replicas - 1, 1), deployment.replicas + 1
            dimension = Dimension(low=low, high=high, whole=True)
            found.append(Parameter(f"{path}.replicas", dimension, deployment.replicas, "one replica less or more"))
        found += _engine(placed, path)
    return found


def _engine(placed: Placed, path: str) -> Iterator[Parameter]:
    settings, engine = placed.settings, placed.engine
    seqs, tokens = settings.max_num_seqs, settings.max_num_batched_tokens
    why = "half and twice the engine's setting"
    # the engine refuses to start with more sequences than tokens in a step
    most = tokens if engine.max_num_batched_tokens is not None else 2 * seqs
    yield _whole(f"{path}.engine.max_num_seqs", max(seqs // 2, 1), min(2 * seqs, most), seqs, why)
    yield _whole(f"{path}.engine.max_num_batched_tokens", max(tokens // 2, seqs), 2 * tokens, tokens, why)
    served = placed.profile.served
    if engine.kv_blocks is None and (served is None or served.kv_blocks is None):
        share = engine.gpu_memory_utilization
        span = Dimension(low=round(max(share - 0.05, 0.05), 6), high=round(min(share + 0.05, 0.98), 6))
        if span.low < share <= span.high:
            yield Parameter(f"{path}.engine.gpu_memory_utilization", span, share, "memory for the KV cache")
    elif engine.kv_blocks is not None:
        blocks = engine.kv_blocks
        yield _whole(f"{path}.engine.kv_blocks", max(blocks // 2, 2), 2 * blocks, blocks, "half and twice the KV cache")


def _whole(name: str, low: int, high: int, base: int, why: str) -> Parameter:
    return Parameter(name, Dimension(low=low, high=max(high, low), whole=True), base, why)
