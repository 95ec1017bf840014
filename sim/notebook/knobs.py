"""What can be turned: paths of a scenario with the values each may take, derived from what the scenario has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sim.errors import ConfigError, Problem, TwinferError

if TYPE_CHECKING:
    from sim.config import Scenario
    from sim.config.fleet import Deployment, Pool
    from sim.experiment.build import Placed

__all__ = ["Knob", "custom", "derived", "layered"]

_FACTORS = (0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
_BUDGETS = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
_SEQUENCES = (8, 16, 32, 64, 128, 256, 512, 1024)
_UNTUNED = {"slo": ("min", "max"), "predictive": ("min", "max"), "kpa": ("min", "max")}
"""Autoscalers that need no target of the user's, and what they call their bounds."""
_MOST_REPLICAS = 64  # positions of a slider; more of them cannot be told apart
_STEPS = 24


@dataclass(frozen=True, slots=True)
class Knob:
    """A path and its ``values``, ``shown`` as the user reads them; ``values[start]`` is what the scenario has.

    ``group`` is the workload or deployment it belongs to. With ``ordered`` it is a slider, else a list to choose from.
    """

    path: str
    group: str
    label: str
    values: tuple[Any, ...]
    shown: tuple[str, ...]
    start: int
    ordered: bool = True

    def position(self, changes: Mapping[str, Any]) -> int | None:
        """Where ``changes`` put it; None at a value it does not have."""
        if self.path not in changes:
            return self.start
        wanted = changes[self.path]
        return next((place for place, value in enumerate(self.values) if _same(value, wanted)), None)

    def turned(self, changes: Mapping[str, Any], position: int) -> dict[str, Any]:
        """``changes`` with the knob at ``position``; what they say above and below its path goes."""
        if position == self.start:
            return {path: value for path, value in changes.items() if not _overlap(path, self.path)}
        return layered(changes, {self.path: self.values[position]})


def _same(value: Any, other: Any) -> bool:
    return isinstance(value, bool) == isinstance(other, bool) and bool(value == other)  # True is not 1


def _overlap(path: str, other: str) -> bool:
    return f"{path}.".startswith(f"{other}.") or f"{other}.".startswith(f"{path}.")


def layered(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both, as changes by path; what ``below`` says at, over or under a path of ``above`` goes."""
    kept = {path: value for path, value in below.items() if not any(_overlap(path, other) for other in above)}
    return kept | dict(above)


def derived(scenario: Scenario) -> list[Knob]:
    """The knobs of what ``scenario`` has: the load of each workload, and of each deployment its replicas, engine, router and
    autoscaler. TwinferError if the scenario cannot be built."""
    from sim.experiment.build import build

    system = build(scenario)
    found = [knob for index, _ in enumerate(scenario.workloads) for knob in _load(scenario, index)]
    pools = {pool.name: pool for pool in scenario.cluster.pools}
    for deployment, placed in zip(scenario.deployments, system.deployments, strict=True):
        found.extend(_of(scenario, deployment, placed, pools[deployment.pool]))
    return found


def _load(scenario: Scenario, index: int) -> Iterator[Knob]:
    workload = scenario.workloads[index]
    arrivals = workload.arrivals
    path = f"workloads.{workload.name}.arrivals"
    if arrivals.closed_loop is not None:
        users = _around(arrivals.closed_loop, (max(1, round(arrivals.closed_loop * factor)) for factor in _FACTORS))
        yield _numbers(f"{path}.closed_loop", workload.name, "users", users, arrivals.closed_loop)
        return
    scales = [float(f"{arrivals.scale * factor:.4g}") for factor in _FACTORS]
    scales[_FACTORS.index(1.0)] = arrivals.scale
    if arrivals.rate is not None:
        shown = [f"{arrivals.rate * scale:.4g} req/s" for scale in scales]
    else:
        shown = [f"× {factor:g}" for factor in _FACTORS]
    yield Knob(f"{path}.scale", workload.name, "load", tuple(scales), tuple(shown), _FACTORS.index(1.0))


def _of(scenario: Scenario, deployment: Deployment, placed: Placed, pool: Pool) -> Iterator[Knob]:
    name, path = deployment.name, f"deployments.{deployment.name}"
    most = max(_most(pool, deployment.tensor_parallel), deployment.replicas, 1)
    least = min(1, deployment.replicas)
    counts = range(least, most + 1) if most <= _MOST_REPLICAS else _spread(max(least, 1), most)
    label = "replicas at the start" if deployment.autoscaler is not None else "replicas"
    if most > 1:
        yield _numbers(f"{path}.replicas", name, label, _around(deployment.replicas, counts), deployment.replicas)
    engine, settings = deployment.engine, placed.settings
    for field, label, steps in (
        ("max_num_batched_tokens", "token budget", _BUDGETS),
        ("max_num_seqs", "max sequences", _SEQUENCES),
    ):
        current = getattr(settings, field)
        values = _around(current, steps)
        given = getattr(engine, field) is not None
        # what the scenario leaves out stays out: the engine's own default
        yield _numbers(f"{path}.engine.{field}", name, label, values, current, absent=not given)
    if most > 1:
        yield from _router(deployment)
        yield from _autoscaler(scenario, deployment, most)


def _most(pool: Pool, gpus: int) -> int:
    """How many replicas on so many GPUs each the pool can hold."""
    nodes = pool.nodes if pool.growth is None else pool.growth.bounds(pool.nodes)[1]
    machine = pool.machine().gpus
    return nodes * (machine // gpus) if gpus <= machine else nodes // -(-gpus // machine)


def _around(current: int, values: Iterable[int]) -> list[int]:
    return sorted({current, *values})


def _spread(low: int, high: int) -> list[int]:
    """Whole numbers from ``low`` to ``high``, in even ratios."""
    return sorted({round(low * (high / low) ** (step / _STEPS)) for step in range(_STEPS + 1)})


def _numbers(path: str, group: str, label: str, values: list[int], current: int, *, absent: bool = False) -> Knob:
    start = values.index(current)
    kept: list[Any] = list(values)
    shown = [f"{value:,}" for value in values]
    if absent:
        kept[start] = None
    return Knob(path, group, label, tuple(kept), tuple(shown), start)


def _router(deployment: Deployment) -> Iterator[Knob]:
    from sim.control import registry

    path = f"deployments.{deployment.name}.router"
    own = deployment.router
    plain = not own.parameters
    kinds = [kind for kind in registry.names("router") if kind == own.kind or _takes_nothing("router", kind)]
    values: list[Any] = list(kinds) if plain else [{"kind": kind} for kind in kinds]
    start = kinds.index(own.kind)
    if not plain:
        values[start] = own.model_dump()
    where = f"{path}.kind" if plain else path
    yield Knob(where, deployment.name, "router", tuple(values), tuple(kinds), start, ordered=False)


def _takes_nothing(family: str, kind: str) -> bool:
    from sim.control import registry

    try:
        registry.check(family, kind, {})
    except TwinferError:
        return False
    return True


def _autoscaler(scenario: Scenario, deployment: Deployment, most: int) -> Iterator[Knob]:
    """Off, the scenario's own, those of its options, and those that need nothing but bounds."""
    path = f"deployments.{deployment.name}.autoscaler"
    own = None if deployment.autoscaler is None else deployment.autoscaler.model_dump()
    choices: list[tuple[Any, str]] = [(None, "off")]
    if own is not None:
        choices.append((own, str(own["kind"])))
    for option, changes in scenario.options.items():
        given = changes.get(path)
        if isinstance(given, Mapping) and given.get("kind") != "oracle":  # which rehearses every run many times
            choices.append((dict(given), f"{given.get('kind')} ({option})"))
    for kind, (low, high) in _UNTUNED.items():
        value = {"kind": kind, low: 1, high: most}
        if _possible(scenario, path, value):
            choices.append((value, f"{kind}, 1 to {most}"))
    values = tuple(value for value, _ in choices)
    start = 0 if own is None else 1
    yield Knob(path, deployment.name, "autoscaler", values, tuple(shown for _, shown in choices), start, ordered=False)


def _possible(scenario: Scenario, path: str, value: Any) -> bool:
    from sim.experiment.build import build

    try:
        build(scenario.with_changes({path: value}))
    except TwinferError:
        return False
    return True


def custom(scenario: Scenario, path: str, given: Any) -> Knob:
    """A knob for ``path``: ``given`` is a list of values, or a range as studies write it (``1..8``, ``{from: .., to: ..}``).

    ConfigError for a path or a value that the scenario cannot have.
    """
    from sim.config.space import dimension

    try:
        found = dimension(list(given) if isinstance(given, range | tuple) else given)
        values = list(_grid(found))
    except ValueError as error:
        raise ConfigError([Problem(str(error), path=f"knobs.{path}")]) from None
    own = scenario.digest() if scenario.option is None else scenario.with_changes({}).digest()
    start = None
    for place, value in enumerate(values):
        if scenario.with_changes({path: value}).digest() == own:
            start = place
    shown = [_shown(value) for value in values]
    if start is None:
        values, shown, start = [None, *values], ["as it is", *shown], 0
    ordered = found.ranged or all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    group, label = _called(path)
    return Knob(path, group, label, tuple(values), tuple(shown), start, ordered=ordered)


def _grid(found: Any) -> tuple[Any, ...]:
    if not found.ranged or found.steps is not None or (found.whole and found.high - found.low <= _MOST_REPLICAS):
        return tuple(found.grid())
    return tuple(dict.fromkeys(found.at((step + 0.5) / _STEPS) for step in range(_STEPS)))


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{value[key]}" if key == "kind" else f"{key} {value[key]}" for key in value)
    return "off" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _called(path: str) -> tuple[str, str]:
    """``chat`` and ``engine block size`` for ``deployments.chat.engine.block_size``."""
    parts = path.split(".")
    if parts[0] in ("workloads", "deployments") and len(parts) > 2:
        return parts[1], " ".join(parts[2:]).replace("_", " ")
    return parts[0], " ".join(parts[1:]).replace("_", " ") or parts[0]
