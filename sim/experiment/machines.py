"""The machines of a scenario and what its replicas go through until they serve, as the cluster takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim.config import Scenario
    from sim.config.fleet import Pool
    from sim.control.cluster.distribution import Distribution
    from sim.control.cluster.phases import Known
    from sim.control.cluster.plans import PoolPlan, ReplicaPlan
    from sim.experiment.build import Placed, System

__all__ = ["at_start", "cautions", "plans", "starts"]


def starts(scenario: Scenario, deployments: tuple[Placed, ...]) -> list[Known]:
    """What is known of the start of a replica of each deployment."""
    found = []
    for deployment, placed in zip(scenario.deployments, deployments, strict=True):
        profile = placed.profile
        found.append(
            deployment.cold_start.known(
                profile.load,
                placed.weights_bytes,
                profile=profile.name,
                weights_name=f"{deployment.model}/{profile.dtype}",
            )
        )
    return found


def cautions(system: System) -> list[str]:
    """What is assumed of the starts of replicas, for the user; nothing where none will start while it runs."""
    scenario = system.scenario
    return [
        f"deployments.{placed.name}: {warning}"
        for deployment, placed, known in zip(
            scenario.deployments, system.deployments, starts(scenario, system.deployments), strict=True
        )
        if deployment.autoscaler is not None or scenario.faults
        for warning in known.warnings
    ]


def plans(system: System) -> tuple[list[PoolPlan], list[ReplicaPlan]]:
    """The pools and the deployments of a system, resolved for :class:`sim.control.cluster.cluster.Cluster`."""
    from sim.config.growth import Growth, pool_plan
    from sim.control.cluster.distribution import Fixed
    from sim.control.cluster.plans import ReplicaPlan

    scenario = system.scenario
    known = starts(scenario, system.deployments)
    pools = []
    for pool in scenario.cluster.pools:
        machine = pool.machine()
        own = [n for n, deployment in enumerate(scenario.deployments) if deployment.pool == pool.name]
        images = frozenset(known[n].start.image for n in own if known[n].start.image)
        nodes, growth, storage = pool.nodes, pool.growth, pool.storage
        provision: Distribution | None = None
        if growth is None:  # at hand at once, with all images, and paid for while in use
            nodes = _in_use(scenario, pool, machine.gpus)
            growth = Growth(least=0, most=max(pool.nodes, nodes), idle=0.0, after_add=0.0)
            storage = storage.model_copy(update={"prepulled": True})
            provision = Fixed(0.0)
        else:
            provision = next((known[n].provision for n in own if known[n].provision is not None), None)
        pools.append(
            pool_plan(
                pool.name,
                machine.gpus,
                nodes,
                growth=growth,
                storage=storage,
                loss=pool.loss,
                gpu_memory=float(machine.device.memory),
                zones=pool.zones,
                placement=pool.placement,
                disk=next((known[n].disk for n in own if known[n].disk is not None), None),
                volume=next((known[n].volume for n in own if known[n].volume is not None), None),
                images=images,
                provision=provision,
            )
        )
    replicas = [
        ReplicaPlan(
            name=placed.name,
            pool=deployment.pool,
            replicas=deployment.replicas,
            gpus=deployment.tensor_parallel,
            start=known[number].start,
            grace=deployment.drain.grace,
            warm=None
            if deployment.warm_pool is None
            else deployment.warm_pool.plan(placed.weights_bytes, deployment.tensor_parallel),
        )
        for number, (deployment, placed) in enumerate(zip(scenario.deployments, system.deployments, strict=True))
    ]
    return pools, replicas


def at_start(system: System) -> list[int]:
    """Machines of each pool that are there, and paid for, at the start."""
    scenario = system.scenario
    return [
        _in_use(scenario, pool, pool.machine().gpus) if pool.growth is None else pool.nodes
        for pool in scenario.cluster.pools
    ]


def _in_use(scenario: Scenario, pool: Pool, gpus: int) -> int:
    """Machines that the replicas there are at the start take."""
    from sim.hardware.node import nodes_needed

    groups = [
        deployment.tensor_parallel
        for number, deployment in enumerate(scenario.deployments)
        if deployment.pool == pool.name
        for _ in range(deployment.replicas + _asleep(scenario, number))
    ]
    return nodes_needed(groups, gpus)


def _asleep(scenario: Scenario, number: int) -> int:
    warm = scenario.deployments[number].warm_pool
    return warm.asleep if warm is not None and warm.keeps_gpus else 0
