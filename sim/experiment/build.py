"""From a scenario to a system that can run: every default taken, every name resolved, every GPU placed and priced.

What does not change between replications (:class:`System`) is built once a process; what does, the requests and the
routers' random streams, is drawn by :func:`plan`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from sim.errors import ConfigError, ProfileError
from sim.experiment.engine import choose_profile, engine_settings
from sim.serving.settings import EngineSettings

if TYPE_CHECKING:
    from sim.config import Scenario
    from sim.config.fleet import Engine, Machine
    from sim.control.plan import FleetPlan
    from sim.control.router import Router
    from sim.perf.steptable import StepTable
    from sim.profiles import Profile

__all__ = ["Placed", "System", "build", "leaves_nothing_to_chance", "plan"]


@dataclass(frozen=True)
class Placed:
    """One deployment, resolved: what serves, on how many GPUs and machines, at what price."""

    name: str
    replicas: int
    settings: EngineSettings
    engine: Engine
    """The settings as the scenario gives them."""
    profile: Profile
    step: StepTable
    request_overhead: float
    """Seconds from when a client sends a request until the engine sees it."""
    router_kind: str
    router_parameters: dict[str, Any]
    weights_bytes: float
    """Of one replica, over all its GPUs."""
    gpu: str
    gpus: int
    nodes: float
    usd_per_hour: float
    usd_per_replica_hour: float
    """Of a replica's share of its machine."""


@dataclass(frozen=True)
class System:
    """A scenario without options, ready to be drawn and run. ``warnings`` are sentences for the user."""

    scenario: Scenario
    deployments: tuple[Placed, ...]
    deployment_of: tuple[int, ...]
    warnings: tuple[str, ...]

    @property
    def doubtful(self) -> bool:
        """Whether runs with drawn step times are wanted, and can be had."""
        return self.scenario.run.calibration_doubt and any(p.profile.doubt is not None for p in self.deployments)

    def drawn(self, number: int | None, times: float = 1.0) -> System:
        """The same with step times from draw ``number`` of its profiles' doubt (None: as measured), multiplied by ``times``.

        A profile has the same draw wherever it serves, in other options too; draws of different profiles are independent.
        Times that the scenario sets itself stay.
        """
        from sim.kernel.streams import generator, stable_hash
        from sim.perf.doubt import SCALED, draw, scaled

        deployments = []
        for placed in self.deployments:
            profile = placed.profile
            if number is not None:
                stream = f"calibration doubt/{stable_hash(profile.model_dump_json())}"
                profile = draw(profile, generator(self.scenario.run.seed, number, stream))
            if times != 1.0:
                profile = scaled(profile, dict.fromkeys(SCALED, times))
            deployments.append(replace(placed, **_times(profile, placed.engine, placed.settings)))
        return replace(self, deployments=tuple(deployments))


def build(scenario: Scenario) -> System:
    """Resolve ``scenario``. ConfigError, CatalogError or ProfileError when it cannot be built."""
    digest = scenario.digest()
    found = _built.get(digest)
    if found is None:
        if len(_built) >= 16:
            _built.clear()
        found = _built[digest] = _resolve(scenario)
    return replace(found, scenario=scenario)  # the same by content, but its files may lie elsewhere


_built: dict[str, System] = {}  # the last systems built in this process, by digest


def _resolve(scenario: Scenario) -> System:
    from sim.experiment.control import controlled
    from sim.experiment.machines import cautions

    warnings: list[str] = []
    machines = {pool.name: pool.machine() for pool in scenario.cluster.pools}
    nodes = _nodes(scenario, machines)
    placed = [
        _place(scenario, number, machines[deployment.pool], nodes[number], warnings)
        for number, deployment in enumerate(scenario.deployments)
    ]
    warnings += [
        f"workloads.{workload.name}: requests have the lengths that the scenario gives, not those of the trace"
        for workload in scenario.workloads
        if workload.arrivals.kind == "trace" and workload.lengths is not None
    ]
    system = System(scenario, tuple(placed), tuple(_serving(scenario)), tuple(warnings))
    return replace(system, warnings=(*warnings, *cautions(system))) if controlled(scenario) else system


def _nodes(scenario: Scenario, machines: dict[str, Machine]) -> list[float]:
    """Machines each deployment is billed for: whole ones by pool, shared by GPUs where deployments share a pool."""
    from sim.hardware.node import nodes_needed

    shares = [0.0] * len(scenario.deployments)
    for index, pool in enumerate(scenario.cluster.pools):
        groups: list[int] = []
        members: list[tuple[int, int]] = []
        for number, deployment in enumerate(scenario.deployments):
            if deployment.pool == pool.name:
                groups += [deployment.tensor_parallel] * deployment.replicas
                members.append((number, deployment.tensor_parallel * deployment.replicas))
        needed = nodes_needed(groups, machines[pool.name].gpus)
        if needed > pool.nodes:
            raise ConfigError(
                [
                    scenario.problem(
                        ("cluster", "pools", index, "nodes"),
                        f"{pool.nodes}: its replicas take {needed} machines of {machines[pool.name].gpus} GPUs",
                    )
                ]
            )
        for number, gpus in members:
            shares[number] = needed * gpus / max(sum(groups), 1)
    return shares


def _place(scenario: Scenario, number: int, machine: Machine, nodes: float, warnings: list[str]) -> Placed:
    from sim import catalog

    deployment = scenario.deployments[number]
    model = scenario.models[deployment.model]
    architecture = catalog.model(model.architecture)
    gpu = machine.device
    if deployment.profile is None:
        deployment = deployment.model_copy(update={"profile": machine.profile_of(architecture.name)})
    where = f"deployments.{deployment.name}"
    try:
        profile = choose_profile(deployment, model, architecture, gpu, where, warnings)
    except ProfileError as error:
        raise ConfigError([scenario.problem(("deployments", number), str(error))]) from None
    try:
        settings = engine_settings(deployment, model.max_model_len, architecture, gpu, profile, where, warnings)
    except ConfigError as error:
        steps = ("deployments", number, "engine", "gpu_memory_utilization")
        raise ConfigError([scenario.problem(steps, problem.message) for problem in error.problems]) from None
    placed = Placed(
        name=deployment.name,
        replicas=deployment.replicas,
        settings=settings,
        engine=deployment.engine,
        profile=profile,
        **_times(profile, deployment.engine, settings),
        router_kind=deployment.router.kind,
        router_parameters=deployment.router.parameters,
        weights_bytes=float(architecture.weight_bytes(model.dtype)),
        gpu=gpu.name,
        gpus=deployment.replicas * deployment.tensor_parallel,
        nodes=nodes,
        usd_per_hour=nodes * machine.usd_per_hour,
        usd_per_replica_hour=machine.usd_per_hour * deployment.tensor_parallel / machine.gpus,
    )
    if placed.request_overhead:
        whose = (
            f"as profile {profile.name} has it"
            if deployment.engine.request_overhead is None
            else "as the scenario says"
        )
        spent = f"{placed.request_overhead * 1e3:.3g} ms of a request outside of the engine's steps"
        warnings.append(f"{where}: TTFT and E2E hold {spent}, {whose}")
    if scenario.run.calibration_doubt and profile.doubt is None:
        warnings.append(f"{where}: profile {profile.name} says nothing of its doubt: intervals cannot include it")
    return placed


def _times(profile: Profile, engine: Engine, settings: EngineSettings) -> dict[str, Any]:
    """``step`` and ``request_overhead`` of a deployment with that profile; what the scenario sets goes before the profile's."""
    from sim.kernel.clock import on_grid

    given = engine.request_overhead
    return {
        "step": _table(profile, settings.max_num_seqs, settings.max_num_batched_tokens, engine.host_overhead),
        "request_overhead": on_grid(profile.steps.host.request_us * 1e-6 if given is None else given),
    }


_compiled: dict[tuple[Any, ...], tuple[Profile, StepTable]] = {}


def _table(profile: Profile, sequences: int, tokens: int, host_overhead: float | None) -> StepTable:
    """The step times, compiled once for all points of a study that share a profile and these settings."""
    from sim.perf.compile import step_table

    key = (id(profile), sequences, tokens, host_overhead)
    found = _compiled.get(key)
    if found is None:
        if len(_compiled) >= 16:
            _compiled.clear()
        # with the profile, so that no other gets its id
        found = _compiled[key] = (profile, step_table(profile, sequences, tokens, host_overhead=host_overhead))
    return found[1].counting_anew()


def _serving(scenario: Scenario) -> list[int]:
    """The deployment of each workload: the (first) one it names, else the one that serves its model."""
    names = [deployment.name for deployment in scenario.deployments]
    models = [deployment.model for deployment in scenario.deployments]
    named = [workload.deployment or next(iter(workload.deployments), None) for workload in scenario.workloads]
    return [
        models.index(workload.model) if name is None else names.index(name)
        for name, workload in zip(named, scenario.workloads, strict=True)
    ]


_CHANCELESS_ROUTERS = ("round-robin", "least-outstanding", "least-tokens", "session-affinity")


def leaves_nothing_to_chance(scenario: Scenario) -> bool:
    """Whether every replication of ``scenario`` would be the same: replayed traces or fixed closed loops, and no random router.

    Routers of other packages are taken to be random. The requests are compared as drawn, so that what a trace reader does by
    chance (spreading the ticks of a quantised clock, say) counts.
    """
    from sim.experiment.control import controlled
    from sim.workload.table import draw

    if controlled(scenario) or any(
        placed.router_kind not in _CHANCELESS_ROUTERS for placed in build(scenario).deployments
    ):
        return False
    if any(workload.arrivals.kind not in ("trace", "closed_loop") for workload in scenario.workloads):
        return False
    run = scenario.run
    first, second = (draw(scenario.workloads, run.duration, run.requests, run.seed, number) for number in (0, 1))
    return first.equals(second)


def plan(system: System, replication: int) -> FleetPlan:
    """Draw the requests of one replication and give each router its stream. TraceError when a trace cannot be read."""
    from sim.control.plan import ClosedLoop, DeploymentPlan, FleetPlan
    from sim.experiment.control import controlled, gateway_plan
    from sim.kernel.clock import on_grid
    from sim.workload.table import draw

    run = system.scenario.run
    elastic = controlled(system.scenario)
    table = draw(system.scenario.workloads, run.duration, run.requests, run.seed, replication)
    # engines run by clocks that are late by the request overhead (ReplicationRecord.of); users wait for it once a request
    overheads = [system.deployments[number].request_overhead for number in system.deployment_of]
    return FleetPlan(
        table=table,
        deployments=[
            DeploymentPlan(
                placed.name,
                0 if elastic else placed.replicas,  # the cluster's to place
                placed.settings,
                placed.step,
                partial(_router, placed, run.seed, replication),
            )
            for placed in system.deployments
        ],
        deployment_of=system.deployment_of,
        closed_loops=[
            ClosedLoop(number, workload.arrivals.closed_loop, on_grid(workload.arrivals.think) + overheads[number])
            for number, workload in enumerate(system.scenario.workloads)
            if workload.arrivals.closed_loop is not None
        ],
        horizon=float("inf") if run.duration is None else run.duration,
        drain=run.drain,
        gateway=gateway_plan(system, replication) if elastic else None,
    )


def _router(placed: Placed, seed: int, replication: int) -> Router:
    from sim.control import registry
    from sim.kernel.streams import generator

    stream = generator(seed, replication, f"router/{placed.name}")
    return registry.router(placed.router_kind, placed.router_parameters, stream)
