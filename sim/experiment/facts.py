"""What must be known to read a replication: who was served by what, what its machines cost, and what they draw."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.errors import ConfigError

if TYPE_CHECKING:
    from sim.catalog import Gpu
    from sim.config.fleet import Pool
    from sim.experiment.build import Placed, System
    from sim.observe.bill import Terms
    from sim.observe.energy import PowerCurve
    from sim.observe.facts import DeploymentFacts, PoolFacts, WorkloadFacts
    from sim.profiles import Profile

__all__ = ["deployment_facts", "pool_facts", "workload_facts"]


def workload_facts(system: System) -> tuple[WorkloadFacts, ...]:
    """The workloads of the scenario."""
    from sim.observe.facts import WorkloadFacts

    return tuple(
        WorkloadFacts(workload.name, workload.model, workload.tenant, dict(workload.objectives))
        for workload in system.scenario.workloads
    )


def deployment_facts(system: System) -> tuple[DeploymentFacts, ...]:
    """The deployments of the system."""
    from sim.observe.facts import DeploymentFacts

    return tuple(
        DeploymentFacts(
            placed.name,
            placed.replicas,
            placed.gpus,
            placed.usd_per_hour,
            kv_blocks=placed.settings.kv_blocks - 1,
            request_overhead=placed.request_overhead,
            pool=deployment.pool,
            replica_gpus=deployment.tensor_parallel,
            power=_power(placed.profile, _gpu(system, placed)),
        )
        for deployment, placed in zip(system.scenario.deployments, system.deployments, strict=True)
    )


def _gpu(system: System, placed: Placed) -> Gpu:
    names = {pool.name: pool for pool in system.scenario.cluster.pools}
    number = [one.name for one in system.deployments].index(placed.name)
    return names[system.scenario.deployments[number].pool].machine().device


def _power(profile: Profile, gpu: Gpu) -> PowerCurve | None:
    """As the profile has it, else by the GPU's power limit; None where neither is known."""
    from sim.observe.energy import assumed, measured

    if profile.power is not None:
        return measured(profile.power)
    return None if not gpu.tdp_watts else assumed(float(gpu.tdp_watts))


def pool_facts(system: System, machines: list[int]) -> tuple[PoolFacts, ...]:
    """The pools of the scenario, ``machines`` of them there at the start. ConfigError when one has no price."""
    from sim.observe.energy import site
    from sim.observe.facts import PoolFacts

    scenario = system.scenario
    found = []
    for number, (pool, count) in enumerate(zip(scenario.cluster.pools, machines, strict=True)):
        machine = pool.machine()
        limit = machine.device.tdp_watts
        where = {} if scenario.energy is None else scenario.energy.site(_region(pool))
        try:
            terms = _terms(pool)
        except ValueError as error:
            steps = ("cluster", "pools", number, "billing")
            raise ConfigError([scenario.problem(steps, str(error))]) from None
        found.append(
            PoolFacts(
                pool.name,
                terms,
                machines=count,
                gpus=machine.gpus,
                gpu=machine.device.name,
                site=site(float(limit), **where) if limit else None,
            )
        )
    return tuple(found)


def _region(pool: Pool) -> str | None:
    """Where the catalog has the machine's price from, like aws/us-east-1."""
    if pool.instance is None:
        return None
    from sim import catalog

    instance = catalog.instance(pool.instance)
    region = getattr(instance, "region", None)
    return f"{pool.instance.partition('/')[0]}/{region}" if region else None


def _terms(pool: Pool) -> Terms:
    from sim.observe.bill import Terms

    price, spot = pool.machine().usd_per_hour, None
    if pool.billing is None:
        return Terms(price)
    if pool.instance is not None:
        from sim import catalog

        spot = catalog.instance(pool.instance).spot_usd_per_hour
    return Terms(**pool.billing.terms(price, spot, (pool.instance or "").partition("/")[0]))
