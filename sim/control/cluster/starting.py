"""The start of a replica, phase by phase, as SimPy processes.

Durations are drawn when a replica is created, one number a phase from a stream a phase, whether or not the phase will be needed:
the k-th start of a deployment is the same in every option that is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from math import ceil
from typing import TYPE_CHECKING, Any

from simpy import Environment, Event

from sim.control.cluster.plans import REMOTE
from sim.control.cluster.transfer import Link, Traffic
from sim.kernel.clock import on_grid

if TYPE_CHECKING:
    import numpy as np

    from sim.control.cluster.distribution import Distribution
    from sim.control.cluster.node import Node
    from sim.control.cluster.replica import Group, Replica

__all__ = ["Starter"]


class Starter:
    """Each process ends when its replica could serve, or when it was stopped on the way; ``replica.spent`` has the seconds by phase."""

    def __init__(self, env: Environment, traffic: Traffic, streams: Callable[[str], np.random.Generator]) -> None:
        self.env = env
        self.traffic = traffic
        self._streams = streams
        self._generators: dict[str, np.random.Generator] = {}

    def draw(self, group: Group, generation: int) -> dict[str, float]:
        """Seconds of each phase of the next start."""
        start, warm = group.generations[generation].start, group.plan.warm
        parts: dict[str, Distribution] = {}
        if start.pull is not None:
            parts["image_pull"] = start.pull
        if start.extract is not None:
            parts["image_extract"] = start.extract
        parts |= start.before
        parts |= {f"weights/{tier}": distribution for tier, distribution in start.weights.items()}
        parts |= start.after
        if warm is not None:
            parts["wake"] = warm.wake
        return {name: parts[name].draw(self._generator(group, name)) for name in parts}

    def _generator(self, group: Group, phase: str) -> np.random.Generator:
        name = f"start/{group.plan.name}/{phase}"
        if name not in self._generators:
            self._generators[name] = self._streams(name)
        return self._generators[name]

    def start(self, replica: Replica, wait: float = 0.0) -> Generator[Event, Any, None]:
        """All of a cold start, ``wait`` seconds from now (the kubelet's back-off)."""
        env, start, node = self.env, replica.plan, replica.node
        assert node is not None
        if wait > 0.0:
            yield from self._phase(replica, "backoff", wait)
        image = start.image or replica.group.plan.name
        if not replica.stopped and (start.pull is not None or start.image_bytes > 0.0) and image not in node.images:
            begun = env.now
            if image not in node.pulls:
                node.pulls[image] = env.process(self._pull(replica, image, node))
            yield node.pulls[image]
            replica.spent["image"] = env.now - begun
        begun = env.now
        replica.running = True
        for name in start.before:
            yield from self._phase(replica, name, replica.draws[name])
        yield from self._read(replica)
        for name in start.after:
            yield from self._phase(replica, name, replica.draws[name])
        if start.readiness_period > 0.0:  # a probe at the start of the process, then one every period
            period = on_grid(start.readiness_period)
            due = begun + period * ceil((env.now - begun) / period)
            yield from self._phase(replica, "readiness", due - env.now)

    def _phase(self, replica: Replica, name: str, seconds: float) -> Generator[Event, Any, None]:
        if replica.stopped:
            return
        yield self.env.timeout(on_grid(seconds))
        replica.spent[name] = on_grid(seconds)

    def _pull(self, replica: Replica, image: str, node: Node) -> Generator[Event, Any, None]:
        """The node pulls an image, for all that wait for it and whether or not they still do."""
        start, epoch = replica.plan, node.epoch
        links = (node.wire, replica.group.pool.store)
        slowest = min(link.bandwidth for link in links)
        alone = start.image_bytes / slowest if start.pull is None else replica.draws["image_pull"]
        flow = self.traffic.send(start.image_bytes, alone, links)
        node.pull_flows.append(flow)
        yield flow.done
        node.pull_flows.remove(flow)
        if start.extract is not None:
            yield self.env.timeout(on_grid(replica.draws["image_extract"]))
        if node.epoch == epoch:
            node.images.add(image)
            del node.pulls[image]

    def _read(self, replica: Replica) -> Generator[Event, Any, None]:
        """The weights, from the fastest place that has them, and what the node keeps of them."""
        start, node = replica.plan, replica.node
        assert node is not None
        if not start.weights or replica.stopped:
            return
        name = start.weights_name or replica.group.plan.name
        if "page_cache" in start.weights and name in node.memory:
            tier = "page_cache"
            node.memory.use(name)
        elif "local_disk" in start.weights and name in node.ssd:
            tier = "local_disk"
            node.ssd.use(name)
        else:
            tier = start.source
        links: Iterable[Link] = ()
        if tier in REMOTE:
            links = (node.wire, replica.group.pool.store) if tier == "object_store" else (node.wire, node.volume)
        elif tier == "local_disk":
            links = (node.disk,)
        begun = self.env.now
        replica.flow = self.traffic.send(start.weights_bytes, replica.draws[f"weights/{tier}"], links)
        yield replica.flow.done
        replica.flow = None
        replica.spent[f"weights/{tier}"] = self.env.now - begun
        self.keep(replica)

    def keep(self, replica: Replica) -> None:
        """The node keeps the weights that were read, in memory, and on its disk if they came over the network."""
        start, node = replica.plan, replica.node
        assert node is not None
        name = start.weights_name or replica.group.plan.name
        node.memory.add(name, start.weights_bytes)
        if start.source in REMOTE:
            node.ssd.add(name, start.weights_bytes)

    def wake(self, replica: Replica) -> Generator[Event, Any, None]:
        """A sleeping engine wakes; at level 2 its weights are read first. It is not probed: whoever woke it knows."""
        warm = replica.group.plan.warm
        assert warm is not None
        replica.running = True
        if warm.level == 2:
            yield from self._read(replica)
        yield from self._phase(replica, "wake", replica.draws["wake"])
