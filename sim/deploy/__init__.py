"""Scenarios as files one can deploy: engine flags and Kubernetes manifests, with what was simulated in annotations.

    import sim.deploy

    texts = sim.deploy.files(scenario)                                  # name -> text
    sim.deploy.write("deploy/chat", scenario, result=result)            # the same, on disk, whole or not at all

plan         one deployment, resolved as it was simulated
flags        vLLM's command line
pods         the pod: container, probes, GPUs, nodes
scaling      HPA, KEDA, Knative; what no Kubernetes autoscaler does is refused
kinds        the objects of each flavour: deployment, kserve, lws
notes        what was simulated and is not in the files
expectation  the simulated figures
bundle       the files, as text
writing      the files, on disk
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.deploy.bundle import FLAVOURS, IMAGE, files
    from sim.deploy.expectation import Expectation
    from sim.deploy.writing import write

__all__ = ["FLAVOURS", "IMAGE", "Expectation", "files", "write"]

_HOMES = {
    "FLAVOURS": "sim.deploy.bundle",
    "IMAGE": "sim.deploy.bundle",
    "files": "sim.deploy.bundle",
    "Expectation": "sim.deploy.expectation",
    "write": "sim.deploy.writing",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'sim.deploy' has no attribute {name!r}")
    return getattr(import_module(home), name)
