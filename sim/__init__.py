"""twinfer: a discrete-event simulator and digital twin of AI inference infrastructure.

    import sim

    scenario = sim.load("scenarios/chat_capacity.yaml")
    comparison = sim.compare(scenario)
    print(comparison.verdict.sentence)

Everything is imported when first used, so that ``import sim`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.config import Scenario, load
    from sim.errors import (
        CatalogError,
        ConfigError,
        PolicyError,
        ProfileError,
        ResultError,
        SimulationError,
        TraceError,
        TwinferError,
    )
    from sim.experiment import compare, simulate
    from sim.notebook import what_if
    from sim.observe.result import Comparison, Result
    from sim.profiles import Profile
    from sim.study.optimizing import Optimum, optimize
    from sim.study.sensitivity import SensitivityResult, sensitivity
    from sim.study.sweep import SweepResult, sweep

__version__ = "0.1.0"

_HOMES = {
    "load": "sim.config",
    "Scenario": "sim.config",
    "simulate": "sim.experiment",
    "compare": "sim.experiment",
    "optimize": "sim.study.optimizing",
    "Optimum": "sim.study.optimizing",
    "sensitivity": "sim.study.sensitivity",
    "SensitivityResult": "sim.study.sensitivity",
    "what_if": "sim.notebook",
    "Profile": "sim.profiles",
    "SweepResult": "sim.study.sweep",
    "sweep": "sim.study.sweep",
    "Result": "sim.observe.result",
    "Comparison": "sim.observe.result",
    "CatalogError": "sim.errors",
    "ConfigError": "sim.errors",
    "PolicyError": "sim.errors",
    "ProfileError": "sim.errors",
    "ResultError": "sim.errors",
    "SimulationError": "sim.errors",
    "TraceError": "sim.errors",
    "TwinferError": "sim.errors",
}

__all__ = [
    "CatalogError",
    "Comparison",
    "ConfigError",
    "Optimum",
    "PolicyError",
    "Profile",
    "ProfileError",
    "Result",
    "ResultError",
    "Scenario",
    "SensitivityResult",
    "SimulationError",
    "SweepResult",
    "TraceError",
    "TwinferError",
    "compare",
    "load",
    "optimize",
    "sensitivity",
    "simulate",
    "sweep",
    "what_if",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'sim' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
