"""What must be known to read a replication: who was served by what, what its machines cost, and what they draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sim.errors import ConfigError

if TYPE_CHECKING:
    from sim.catalog import Gpu
    from sim.config.fleet import Pool
    from sim.experiment.build import System
    from sim.observe.bill import Terms
    from sim.observe.energy import PowerCurve
    from sim.observe.facts import DeploymentFacts, PoolFacts, WorkloadFacts
    from sim.profiles import Profile
    from sim.workload.table import RequestTable

__all__ = ["deployment_facts", "pool_facts", "workload_facts"]

_CEILINGS = ("max", "max_replicas", "max_scale")  # as the autoscalers name it


def workload_facts(system: System) -> tuple[WorkloadFacts, ...]:
    """The workloads of the scenario."""
    from sim.observe.facts import WorkloadFacts

    return tuple(
        WorkloadFacts(workload.name, workload.model, workload.tenant, dict(workload.objectives))
        for workload in system.scenario.workloads
    )


def deployment_facts(system: System, table: RequestTable) -> tuple[DeploymentFacts, ...]:
    """The deployments of the system, which serve the requests of ``table``."""
    from sim.observe.alone import Alone
    from sim.observe.facts import DeploymentFacts

    gpus = {pool.name: pool.machine().device for pool in system.scenario.cluster.pools}
    asked = _energy_is_asked(system)
    most_tokens = int((table.prompt_tokens + table.output_tokens).max(initial=0))
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
            power=_power(placed.profile, gpus[deployment.pool]) if asked else None,
            alone=Alone.of(placed.step, placed.settings, table.prompt_tokens, most_tokens),
            engine=placed.settings,
            ceiling=_ceiling(deployment.autoscaler),
        )
        for deployment, placed in zip(system.scenario.deployments, system.deployments, strict=True)
    )


def _ceiling(autoscaler: Any) -> int | None:
    """The most replicas that it may ask for; None where there is no autoscaler, or no limit is written."""
    given = {} if autoscaler is None else autoscaler.parameters
    found = next((given[name] for name in _CEILINGS if name in given), None)
    return int(found) if found else None  # 0 is no limit


def _power(profile: Profile, gpu: Gpu) -> PowerCurve | None:
    """As the profile has it, else by the GPU's power limit; None where neither is known."""
    from sim.observe.energy import assumed, measured

    if profile.power is not None:
        return measured(profile.power)
    return None if not gpu.tdp_watts else assumed(float(gpu.tdp_watts))


def _energy_is_asked(system: System) -> bool:
    """What is drawn is only worked out where the scenario asks for it, or where all of it was measured."""
    measured = all(placed.profile.power is not None for placed in system.deployments)
    return system.scenario.energy is not None or measured


def pool_facts(system: System, machines: list[int]) -> tuple[PoolFacts, ...]:
    """The pools of the scenario, ``machines`` of them there at the start. ConfigError when one has no price."""
    from sim.observe.energy import site
    from sim.observe.facts import PoolFacts

    scenario = system.scenario
    asked = _energy_is_asked(system)
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
                site=site(float(limit), **where) if limit and asked else None,
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
    from sim.config.billing import Billing
    from sim.observe.bill import Terms

    price, spot = pool.machine().usd_per_hour, None
    if pool.instance is not None:
        from sim import catalog

        spot = catalog.instance(pool.instance).spot_usd_per_hour
    return Terms(**(pool.billing or Billing()).terms(price, spot, (pool.instance or "").partition("/")[0]))
