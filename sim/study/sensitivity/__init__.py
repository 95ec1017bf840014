"""What moves the answer, what breaks first, and how wrong the profile may be.

    found = sim.sensitivity(sim.load("scenario.yaml"), option="4-gpus")
    print(found.tornado)                 # each parameter at its low and its high end, the others as they are
    print(found.breaks)                  # the load at which each objective fails

factors      knobs that turn many values at once: load, prompt_tokens, output_tokens, step_times, price
parameters   what is varied: paths and factors with their ranges; defaults from a scenario, each with its reason
readings     figures of a scenario at points, replication by replication; or any function in its place
tornado      one parameter at a time, paired differences
saltelli     Sobol indices of any function: the design, the estimators, their intervals
breaks       the factor at which each objective or limit fails, replication by replication
doubt        draws from the doubt of profiles: how often the verdict holds
result       all of it, as tables
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.study.sensitivity.result import SensitivityResult
    from sim.study.sensitivity.study import sensitivity

_HOMES = {"SensitivityResult": "result", "sensitivity": "study"}

__all__ = ["SensitivityResult", "sensitivity"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
