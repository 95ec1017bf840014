"""What only shows when the parts of a scenario are seen together: names that refer to each other, and whether it all fits."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sim.config.fleet import Deployment, Model, Pool
from sim.config.outages import Fault
from sim.config.run import Run
from sim.config.tree import Node
from sim.config.units import shown
from sim.config.workload import Arrivals, Workload
from sim.errors import TwinferError, did_you_mean

__all__ = ["MAX_REQUESTS", "Parts", "check"]

MAX_REQUESTS = 10**8
"""More cannot be held in memory; a scenario that would draw more has a slip in its rate or duration."""

_PARALLEL = re.compile(r"/tp([0-9]+)")

Say = Callable[[Sequence[str | int], str], None]


@dataclass(frozen=True)
class Parts:
    """The parts of a scenario; None where a part is wrong in itself and cannot be compared with others."""

    run: Run | None
    models: dict[str, Model | None]
    pools: list[Pool | None]
    workloads: list[Workload | None]
    deployments: list[Deployment | None]
    faults: list[Fault | None]


def check(parts: Parts, tree: Node, say: Say) -> None:
    """Tell ``say`` (path, message) everything that does not go together."""
    for where in (("cluster", "pools"), ("workloads",), ("deployments",)):
        _needed(tree, where, say)
        _unique(tree, where, say)
    _unique(tree, ("faults",), say)
    models = tree.fields.get("models")
    if models is not None and models.value == {}:
        say(("models",), "is empty; a scenario needs at least one")
    _references(parts, tree, say)
    _faults(parts, tree, say)
    _serving(parts, tree, say)
    _fits(parts, say)
    for index, deployment in enumerate(parts.deployments):
        if deployment is not None:
            model = parts.models.get(deployment.model)
            _engine(index, deployment, model, say)
            _replicas(index, deployment, say)
            pools = [pool for pool in parts.pools if pool is not None and pool.name == deployment.pool]
            _profile(index, deployment, model, pools[0] if pools else None, say)
    _ends(parts, tree, say)


def _items(tree: Node, where: Sequence[str]) -> Node | None:
    node: Node | None = tree
    for step in where:
        node = None if node is None else node.child(step)
    return node


def _names(tree: Node, *where: str) -> list[str]:
    node = _items(tree, where)
    return list(dict.fromkeys(item.name for item in node.items if item.name is not None)) if node is not None else []


def _needed(tree: Node, where: tuple[str, ...], say: Say) -> None:
    node = _items(tree, where)
    if node is not None and isinstance(node.value, list) and not node.value:
        say(where, "is empty; a scenario needs at least one")


def _unique(tree: Node, where: tuple[str, ...], say: Say) -> None:
    node = _items(tree, where)
    if node is None:
        return
    first: dict[str, Node] = {}
    for index, item in enumerate(node.items):
        if item.name in first and item.name is not None:
            line = first[item.name].fields["name"].place.line
            at = "" if line is None else f", on line {line}"  # what --set gives stands on none
            say((*where, index, "name"), f"{shown(item.name)} is the name of another one{at}; names must differ")
        elif item.name is not None:
            first[item.name] = item


def _refer(tree: Node, where: Sequence[str | int], what: str, known: Sequence[str], say: Say) -> None:
    node: Node | None = tree
    for step in where:
        node = None if node is None else node.child(step)
    if node is None or not isinstance(node.value, str) or node.value in known:
        return
    there = f"; there are {', '.join(known)}" if known else "; there are none"
    say(where, f"{node.shown()} is not {what}{did_you_mean(node.value, known)}{there}")


def _references(parts: Parts, tree: Node, say: Say) -> None:
    models = list(parts.models)
    pools, deployments = _names(tree, "cluster", "pools"), _names(tree, "deployments")
    for index in range(len(parts.deployments)):
        _refer(tree, ("deployments", index, "model"), "one of the models", models, say)
        _refer(tree, ("deployments", index, "pool"), "one of the pools", pools, say)
    for index in range(len(parts.workloads)):
        _refer(tree, ("workloads", index, "model"), "one of the models", models, say)
        _refer(tree, ("workloads", index, "deployment"), "one of the deployments", deployments, say)
        _refer(tree, ("workloads", index, "cascade", "to"), "one of the deployments", deployments, say)
        workload = parts.workloads[index]
        for place in range(len(workload.deployments) if workload is not None else 0):
            _refer(tree, ("workloads", index, "deployments", place), "one of the deployments", deployments, say)


def _faults(parts: Parts, tree: Node, say: Say) -> None:
    """What faults name is there."""
    from sim.config.outages import references

    zones = list(dict.fromkeys(zone for pool in parts.pools if pool is not None for zone in pool.zones))
    known = {
        "pool": ("one of the pools", _names(tree, "cluster", "pools")),
        "deployment": ("one of the deployments", _names(tree, "deployments")),
        "zone": ("one of the zones", zones),
    }
    for index, entry in enumerate(parts.faults):
        for field, what, _ in references(entry) if entry is not None else ():
            _refer(tree, ("faults", index, field), *known[what], say)


def _serving(parts: Parts, tree: Node, say: Say) -> None:
    """Each workload has one deployment of its model, and knows the lengths of its requests."""
    complete = all(deployment is not None for deployment in parts.deployments)
    for index, workload in enumerate(parts.workloads):
        if workload is None:
            continue
        serving = [d.name for d in parts.deployments if d is not None and d.model == workload.model]
        named = next((d for d in parts.deployments if d is not None and d.name == workload.deployment), None)
        if named is not None and named.model != workload.model:
            message = f"serves model {shown(named.model)}, not {shown(workload.model)}"
            say(("workloads", index, "deployment"), f"{shown(named.name)} {message}")
        several = [d for d in parts.deployments if d is not None and d.name in workload.deployments]
        for deployment in several:
            if deployment.model != workload.model:
                message = f"serves model {shown(deployment.model)}, not {shown(workload.model)}"
                say(("workloads", index, "deployments"), f"{shown(deployment.name)} {message}")
        if workload.deployments and workload.deployment is not None:
            say(("workloads", index, "deployments"), "has no meaning with deployment, which names one")
        elif workload.choice is not None and not workload.deployments:
            say(("workloads", index, "choice"), "has no meaning without deployments to choose among")
        elif len(set(workload.deployments)) < len(workload.deployments):
            say(("workloads", index, "deployments"), "names a deployment twice")
        elif not workload.deployments and workload.deployment is None and complete and workload.model in parts.models:
            if not serving:
                say(("workloads", index, "model"), f"no deployment serves model {shown(workload.model)}")
            elif len(serving) > 1:
                say(("workloads", index), f"needs deployment: its model is served by {', '.join(serving)}")
        if workload.lengths is None and workload.arrivals.kind not in ("preset", "trace"):
            say(("workloads", index), "needs lengths: only presets and traces bring their own")


def _fits(parts: Parts, say: Say) -> None:
    """Every replica finds its GPUs on one node of the pool."""
    for pool in parts.pools:
        if pool is None:
            continue
        machine = pool.machine()
        nodes = pool.nodes if pool.growth is None else max(pool.nodes, pool.growth.bounds(pool.nodes)[1])
        free = [machine.gpus] * nodes
        asked = [(i, d) for i, d in enumerate(parts.deployments) if d is not None and d.pool == pool.name]
        has = f"pool {shown(pool.name)} has {nodes * machine.gpus} ({nodes} x {machine.gpus})"
        for index, deployment in sorted(asked, key=lambda pair: -pair[1].tensor_parallel):
            size = deployment.tensor_parallel
            if size > machine.gpus:
                say(
                    ("deployments", index, "tensor_parallel"),
                    f"{size} GPUs are not in one machine of pool {shown(pool.name)}: it has {machine.gpus}",
                )
                continue
            left = deployment.replicas
            for node, gpus in enumerate(free):
                placed = min(left, gpus // size)
                free[node] -= placed * size
                left -= placed
                if not left:
                    break
            if left:
                others = ", ".join(d.name for i, d in asked if i != index)
                beside = f", which {others} use too" if others else ""
                say(
                    ("deployments", index, "replicas"), f"{deployment.replicas} x {size} GPUs do not fit: {has}{beside}"
                )


def _replicas(index: int, deployment: Deployment, say: Say) -> None:
    """There is a replica at the start, or somebody who will add one."""
    if deployment.replicas == 0 and deployment.autoscaler is None:
        say(("deployments", index, "replicas"), "0 without an autoscaler: nobody would ever serve")


def _engine(index: int, deployment: Deployment, model: Model | None, say: Say) -> None:
    from sim import catalog

    size, engine = deployment.tensor_parallel, deployment.engine
    where = ("deployments", index)
    if model is not None:
        shape = catalog.model(model.architecture)
        if shape.heads % size:
            say(
                (*where, "tensor_parallel"), f"{size} does not divide the {shape.heads} attention heads of {shape.name}"
            )
        elif not shape.is_mla and shape.kv_heads % size and size % shape.kv_heads:
            say(
                (*where, "tensor_parallel"),
                f"{size} neither divides nor is a multiple of the {shape.kv_heads} KV heads of {shape.name}",
            )
        longest = model.max_model_len or shape.max_model_len
        length = engine.max_model_len or longest
        if length > longest:
            say((*where, "engine", "max_model_len"), f"{length} is more than the {longest} tokens the model takes")
        budget = engine.max_num_batched_tokens
        if not engine.enable_chunked_prefill and budget is not None and budget < length:
            say(
                (*where, "engine", "max_num_batched_tokens"),
                f"{budget} is less than max_model_len {length}: without chunked prefill a whole prompt must fit in one step",
            )


def _profile(index: int, deployment: Deployment, model: Model | None, pool: Pool | None, say: Say) -> None:
    """The profile was taken at the deployment's parallelism. Where none is shipped one is predicted, if the hardware is known."""
    from sim import catalog, profiles
    from sim.profiles import described_by_profile

    size, where = deployment.tensor_parallel, ("deployments", index)
    name, given = deployment.profile, "profile"
    if name is None:
        if model is None or pool is None:
            return
        machine, shape = pool.machine(), catalog.model(model.architecture).name
        name, given = machine.profile_of(shape), "tensor_parallel"
        if name is None:
            if described_by_profile(machine.gpu) and not profiles.find(shape, machine.device.name, size, model.dtype):
                of = f"{shape} on {machine.device.name} at tensor_parallel {size}, {model.dtype}"
                own = f"the pool's is of {profiles.load(machine.gpu).model}"
                say(where, f"needs profile: none is shipped for {of}, and none can be predicted; {own}")
            return
    if name == profiles.ROOFLINE:
        return
    if name in profiles.names():
        measured = int(_PARALLEL.findall(name)[-1])  # the name says it; reading the file takes longer than all the rest
    else:
        try:
            measured = profiles.load(name).tensor_parallel
        except TwinferError:
            return  # said where the name was read
    if measured != size:
        of = "" if given == "profile" else f"the pool's profile {name} "
        say((*where, given), f"{of}was measured with tensor_parallel {measured}, the deployment has {size}")


def _ends(parts: Parts, tree: Node, say: Say) -> None:
    """The run has an end, and not too many requests before it."""
    run = parts.run
    if run is None:
        return
    if isinstance(run.warmup, float | int) and run.duration is not None and run.warmup >= run.duration:
        say(("run", "warmup"), f"{run.warmup:g} s leave nothing of the run's {run.duration:g} s")
    if run.steps and run.mode == "reference":
        say(("run", "steps"), "only the fast simulation keeps its steps: leave out run.mode, or this")
    at: tuple[str, ...] = ("run",) if "run" in tree.fields else ()
    endless = [w for w in parts.workloads if w is not None and (w.arrivals.kind != "trace" or w.arrivals.loop is True)]
    if run.duration is None and run.requests is None and endless:
        why = "repeats its trace for ever" if endless[0].arrivals.kind == "trace" else "has no end of its own"
        say(at, f"needs duration or requests: workload {shown(endless[0].name)} {why}")
    for index, workload in enumerate(parts.workloads):
        if workload is None or run.duration is None or run.requests is not None:
            continue
        count = _peak(workload.arrivals) * workload.arrivals.scale * run.duration
        if count > MAX_REQUESTS:
            say(
                ("workloads", index, "arrivals"),
                f"would send about {count:.0e} requests in the run's {run.duration:g} s; at most {MAX_REQUESTS:.0e} can be simulated",
            )


def _peak(arrivals: Arrivals) -> float:
    """The highest rate that is known without reading anything; requests a second."""
    if arrivals.rate is not None:
        return arrivals.rate
    if arrivals.mmpp is not None:
        return max(arrivals.mmpp.rates)
    return max(rate for _, rate in arrivals.curve) if arrivals.curve is not None else 0.0
