"""The control plane of a replication: what stands before the replicas, who changes their number, and the machines they run on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from sim.errors import PolicyError

if TYPE_CHECKING:
    import numpy as np

    from sim.config import Scenario
    from sim.config.workload import Workload
    from sim.control.plan import Choice, GatewayPlan, Terms
    from sim.control.scaling.view import Autoscaler, Knowledge
    from sim.experiment.build import Placed, System
    from sim.workload.table import RequestTable

__all__ = ["autoscalers", "controlled", "gateway_plan"]

_ELASTIC = {"growth", "zones", "storage", "loss"}
"""What a pool says only where its machines come and go."""
_BUSY = 0.5  # share of its seats at which the pace of a replica is told to who chooses among pools


def controlled(scenario: Scenario) -> bool:
    """Whether anything but replicas that are always there stands between clients and their answers."""
    if scenario.faults or any(pool.model_fields_set & _ELASTIC for pool in scenario.cluster.pools):
        return True
    plain: dict[str, Any] = {"autoscaler": None, "admission": (), "outlier": None, "on_loss": "fail"}
    for deployment in scenario.deployments:
        if any(getattr(deployment, name) != value for name, value in plain.items()):
            return True
        if deployment.queue.model_fields_set:
            return True
    return any(workload.client or workload.cascade or workload.deployments for workload in scenario.workloads)


def gateway_plan(system: System, replication: int) -> GatewayPlan:
    """What stands before the replicas in one replication; every policy with a random stream of its own."""
    from sim.control.plan import Cascade, GatewayPlan
    from sim.kernel.streams import generator

    scenario = system.scenario
    stream = partial(generator, scenario.run.seed, replication)
    names = [placed.name for placed in system.deployments]
    return GatewayPlan(
        terms=[_terms(scenario, number, placed, stream) for number, placed in enumerate(system.deployments)],
        tenants=[workload.tenant for workload in scenario.workloads],
        models=[workload.model for workload in scenario.workloads],
        clients=[
            None if workload.client is None else _maker("client", workload.client, f"client/{workload.name}", stream)
            for workload in scenario.workloads
        ],
        choices=[_choice(system, workload, names, stream) for workload in scenario.workloads],
        cascades=[
            None if workload.cascade is None else Cascade(names.index(workload.cascade.to), workload.cascade.share)
            for workload in scenario.workloads
        ],
        generator=lambda: stream("gateway"),
    )


def _maker(family: str, policy: Any, name: str, stream: Callable[[str], np.random.Generator]) -> Callable[[], Any]:
    """Makes the policy anew, each time in its initial state."""
    from sim.control import registry

    kind, parameters = policy.kind, policy.parameters
    return lambda: registry.make(family, kind, parameters, generator=stream(name))


def _terms(scenario: Scenario, number: int, placed: Placed, stream: Callable[[str], np.random.Generator]) -> Terms:
    from sim.control.plan import Terms

    deployment = scenario.deployments[number]
    makers = [
        _maker("admission", policy, f"admission/{placed.name}/{place}", stream)
        for place, policy in enumerate(deployment.admission)
    ]
    queue = deployment.queue
    outlier = deployment.outlier
    return Terms(
        admission=lambda: [make() for make in makers],
        order=queue.order,
        queue_limit=queue.limit,
        queue_timeout=queue.timeout,
        per_replica=queue.per_replica,
        outlier=None if outlier is None else _maker("outlier", outlier, f"outlier/{placed.name}", stream),
        on_loss=deployment.on_loss,
        overhead=placed.request_overhead,
        watched=deployment.autoscaler is not None,
    )


def _choice(
    system: System, workload: Workload, names: Sequence[str], stream: Callable[[str], np.random.Generator]
) -> Choice | None:
    from sim.config.policies import PoolChoice
    from sim.control.plan import Choice

    if not workload.deployments:
        return None
    numbers = [names.index(name) for name in workload.deployments]
    placed = [system.deployments[number] for number in numbers]
    return Choice(
        deployments=numbers,
        router=_maker("pools", workload.choice or PoolChoice(), f"pools/{workload.name}", stream),
        usd_per_hour=[one.usd_per_replica_hour for one in placed],
        seconds_per_token=[_pace(one) for one in placed],
    )


def _pace(placed: Placed) -> float:
    """Seconds a token of a replica that decodes with half of its seats taken, contexts of a thousand tokens."""
    batch = max(1, int(placed.settings.max_num_seqs * _BUSY))
    fits = max(1, (placed.settings.kv_blocks - 1) * placed.settings.block_size // 1000)
    batch = min(batch, fits)
    return placed.step.decode_step(batch, batch * 1000, 0) / batch


def autoscalers(
    system: System, replication: int, table: RequestTable, cold_starts: Sequence[float]
) -> list[Autoscaler | None]:
    """The autoscaler of each deployment, fresh; ``cold_starts`` are the seconds a start is expected to take."""
    from sim.control import registry
    from sim.kernel.streams import generator

    scenario = system.scenario
    made: list[Autoscaler | None] = []
    for number, (deployment, placed) in enumerate(zip(scenario.deployments, system.deployments, strict=True)):
        policy = deployment.autoscaler
        if policy is None:
            made.append(None)
            continue
        scaler = registry.make(
            "autoscaler",
            policy.kind,
            policy.parameters,
            generator=generator(scenario.run.seed, replication, f"autoscaler/{placed.name}"),
            knowledge=_knowledge(system, number, table, cold_starts[number]),
        )
        if not scaler.period > 0.0 or not scaler.sample_period >= 0.0:
            raise PolicyError(f"deployments.{placed.name}.autoscaler: period {scaler.period!r} s is not more than 0")
        made.append(scaler)
    return made


def _knowledge(system: System, number: int, table: RequestTable, cold_start: float) -> Knowledge:
    import numpy as np

    from sim.control.scaling.view import Knowledge

    scenario = system.scenario
    served = [index for index, deployment in enumerate(system.deployment_of) if deployment == number]
    own = np.isin(table.workload, served)
    objectives: dict[str, float] = {}
    for index in served:
        for metric, target in scenario.workloads[index].objectives.items():
            objectives[metric] = min(target, objectives.get(metric, target))
    placed = system.deployments[number]
    return Knowledge(
        step=placed.step,
        settings=placed.settings,
        cold_start=cold_start,
        objectives=objectives,
        arrival=table.arrival[own],
        prompt_tokens=table.prompt_tokens[own],
        output_tokens=table.output_tokens[own],
        horizon=float("inf") if scenario.run.duration is None else scenario.run.duration,
    )
