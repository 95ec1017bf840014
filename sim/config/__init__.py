"""What a user may write: scenario files, options and ``--set``.

    >>> from sim import config
    >>> scenario = config.load("scenarios/chat_capacity.yaml", {"deployments.chat.replicas": 4})

units, values       numbers with units, and the kinds of values fields take
run, workload, fleet, scenario    the models; every field with its meaning
document, tree      YAML 1.2 with the place of each value
paths               ``deployments.chat.replicas``
checks, faults      what must go together; problems in words
files               paths of files in a scenario
loading             all of it in order
editor, starter     JSON Schema, and scenarios to begin with
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.config.editor import json_schema
    from sim.config.fleet import Cluster, Deployment, Engine, Machine, Model, Pool
    from sim.config.loading import load, load_text
    from sim.config.policies import Router
    from sim.config.run import Precision, Run
    from sim.config.scenario import Scenario
    from sim.config.starter import KINDS, template
    from sim.config.workload import Arrivals, Length, Lengths, Lognormal, Mmpp, Workload

_HOMES = {
    "json_schema": "editor",
    "Cluster": "fleet",
    "Deployment": "fleet",
    "Engine": "fleet",
    "Machine": "fleet",
    "Model": "fleet",
    "Pool": "fleet",
    "Router": "policies",
    "load": "loading",
    "load_text": "loading",
    "Precision": "run",
    "Run": "run",
    "Scenario": "scenario",
    "KINDS": "starter",
    "template": "starter",
    "Arrivals": "workload",
    "Length": "workload",
    "Lengths": "workload",
    "Lognormal": "workload",
    "Mmpp": "workload",
    "Workload": "workload",
}

__all__ = [
    "KINDS",
    "Arrivals",
    "Cluster",
    "Deployment",
    "Engine",
    "Length",
    "Lengths",
    "Lognormal",
    "Machine",
    "Mmpp",
    "Model",
    "Pool",
    "Precision",
    "Router",
    "Run",
    "Scenario",
    "Workload",
    "json_schema",
    "load",
    "load_text",
    "template",
]


def __getattr__(name: str) -> Any:
    # pydantic takes a tenth of a second to load: not for `twinfer --help`
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{home}"), name)
