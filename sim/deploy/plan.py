"""One deployment of a scenario, resolved as it was simulated, with the names and numbers that its files need."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.errors import ConfigError, TwinferError

if TYPE_CHECKING:
    from sim.catalog import Architecture
    from sim.config import Scenario
    from sim.config.fleet import Deployment, Engine, Machine, Model, Pool
    from sim.control.cluster.plans import Start
    from sim.experiment.build import Placed

__all__ = ["IMAGE", "PORT", "Plan", "deployable", "named", "plans"]

IMAGE = "vllm/vllm-openai:v0.33.0"
"""The version whose scheduler is simulated."""
PORT = 8000
"""vLLM's own."""

_LONGEST = 40  # characters of a name: Kubernetes has 63, of which suffixes like -predictor take some


@dataclass(frozen=True)
class Plan:
    """A deployment as it is to be deployed. ``name`` is fit for Kubernetes; ``workloads`` are those it serves."""

    name: str
    flavour: str
    image: str
    scenario: Scenario
    number: int
    """Which of the scenario's deployments it is."""
    deployment: Deployment
    placed: Placed
    engine: Engine
    """Its settings with those of the measured server, where the scenario leaves them out."""
    model: Model
    architecture: Architecture
    pool: Pool
    machine: Machine
    start: Start
    workloads: tuple[str, ...]

    def refusal(self, field: str, message: str) -> ConfigError:
        """That ``field`` of the deployment cannot be deployed, at the place where it was written."""
        return ConfigError([self.scenario.problem(("deployments", self.number, *field.split(".")), message)])

    @property
    def amd(self) -> bool:
        """Whether its GPUs are AMD's, which have drivers, images and exporters of their own."""
        return self.placed.gpu.startswith("mi")

    @property
    def checkpoint(self) -> str:
        """What vLLM is told to serve: a HuggingFace id, or a folder on the volume of models where none is known."""
        given = self.model.architecture
        if given.count("/") == 1 and not given.startswith((".", "/", "~")) and not Path(given).exists():
            return given
        return self.architecture.hf_id or f"/models/{named(self.architecture.name)}"

    @property
    def gpus(self) -> int:
        """GPUs of one replica."""
        return self.deployment.tensor_parallel

    @property
    def nodes(self) -> int:
        """Machines that one replica spans."""
        return ceil(self.gpus / self.machine.gpus)

    @property
    def gpus_per_pod(self) -> int:
        """GPUs of one pod: of a replica, or of its share of a machine."""
        return self.gpus // self.nodes

    @property
    def scaler(self) -> str | None:
        """The kind of its autoscaler."""
        return None if self.deployment.autoscaler is None else self.deployment.autoscaler.kind

    @property
    def scaling(self) -> dict[str, Any]:
        """Its autoscaler's parameters, defaults filled in."""
        if self.deployment.autoscaler is None:
            return {}
        from sim.control import registry

        accepted = registry.parameters("autoscaler", self.deployment.autoscaler.kind)
        defaults = {name: one.default for name, one in accepted.items() if one.default is not one.empty}
        return defaults | self.deployment.autoscaler.parameters

    @property
    def fewest(self) -> int:
        """Replicas that are always there."""
        return int(self.scaling.get("min", 0)) if self.scaler else self.deployment.replicas

    @property
    def knative(self) -> bool:
        """Whether Knative runs the pods."""
        return self.scaler == "kpa"

    @property
    def volume(self) -> str | None:
        """Where weights come from: a network volume (``pvc``), the machine's own disk (``host``), or elsewhere (None)."""
        if self.checkpoint.startswith("/models/"):
            return "pvc"
        return {"network_disk": "pvc", "local_disk": "host"}.get(str(self.deployment.cold_start.weights_from))


def named(name: str) -> str:
    """``name`` as Kubernetes allows names: lower-case letters, digits and hyphens."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_LONGEST].rstrip("-")
    return plain if plain and plain[0].isalpha() else f"m-{plain}".rstrip("-")


def plans(scenario: Scenario, flavour: str, image: str) -> list[Plan]:
    """Every deployment of ``scenario``, resolved. TwinferError where two names come to the same, or GPUs are none one can ask for."""
    from sim import catalog
    from sim.experiment.build import build
    from sim.experiment.engine import as_served
    from sim.experiment.machines import starts

    system = build(scenario)
    pools = {pool.name: pool for pool in scenario.cluster.pools}
    found: list[Plan] = []
    for number, (deployment, placed, known) in enumerate(
        zip(scenario.deployments, system.deployments, starts(scenario, system.deployments), strict=True)
    ):
        pool, model = pools[deployment.pool], scenario.models[deployment.model]
        plan = Plan(
            name=named(deployment.name),
            flavour=flavour,
            image=image,
            scenario=scenario,
            number=number,
            deployment=deployment,
            placed=placed,
            engine=as_served(placed.engine, placed.profile),
            model=model,
            architecture=catalog.model(model.architecture),
            pool=pool,
            machine=pool.machine(),
            start=known.start,
            workloads=tuple(
                workload.name
                for workload, serving in zip(scenario.workloads, system.deployment_of, strict=True)
                if serving == number or deployment.name in workload.deployments
            ),
        )
        for other in found:
            if other.name == plan.name:
                names = f"{other.deployment.name!r} and {deployment.name!r}"
                raise TwinferError(f"deployments {names} would both be called {plan.name!r} in Kubernetes: rename one")
        deployable(plan)
        found.append(plan)
    return found


def deployable(plan: Plan) -> None:
    """ConfigError where its GPUs cannot be asked for in this flavour, or its engines do what nothing in Kubernetes makes them do."""
    has = f"a machine of pool {plan.pool.name} has {plan.machine.gpus}"
    if plan.nodes > 1 and plan.flavour != "lws":
        what = f"a replica takes {plan.gpus} GPUs, {has}: --flavour lws writes replicas that span machines"
        raise plan.refusal("tensor_parallel", what)
    if plan.gpus % plan.nodes:
        what = f"{plan.gpus} GPUs cannot be shared equally by {plan.nodes} machines, {has}; pods of a replica are equal"
        raise plan.refusal("tensor_parallel", what)
    if plan.deployment.warm_pool is not None:
        what = "nothing in Kubernetes puts engines to sleep and wakes them; without it (warm_pool: null) it can be deployed"
        raise plan.refusal("warm_pool", what)
    if plan.placed.gpu == "cpu":
        raise plan.refusal("pool", "runs on CPUs; what is written asks for GPUs")
    if plan.amd and plan.image == IMAGE:
        raise plan.refusal("pool", f"its GPUs are AMD's, {IMAGE} is for NVIDIA's: name an image for ROCm with --image")
