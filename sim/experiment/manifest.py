"""What a result was made from: enough to make it again byte for byte, and nothing that differs between two such runs."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from platform import python_version
from typing import TYPE_CHECKING, Any

from sim import __version__
from sim.experiment.build import build

if TYPE_CHECKING:
    from sim.config import Scenario

__all__ = ["manifest"]


def manifest(scenario: Scenario, replications: int, *, exact: bool, draws: int = 0) -> dict[str, Any]:
    """Scenario digest, seed, versions, and for each deployment its profile, settings, machines and price.

    ``exact`` says that nothing of the run was left to chance, so that one replication is all there is to know; ``draws``, how often
    step times were drawn from the doubt of the profiles.
    """
    system = build(scenario)
    return {
        "twinfer": __version__,
        "python": python_version(),
        "packages": {name: _version(name) for name in ("numpy", "scipy", "simpy", "pydantic", "pyarrow")},
        "scenario": scenario.digest(),
        "option": scenario.option,
        "seed": scenario.run.seed,
        "replications": replications,
        "exact": exact,
        "calibration_doubt": {
            "draws": draws,
            "from": {
                placed.name: placed.profile.doubt.method
                for placed in system.deployments
                if placed.profile.doubt is not None
            },
        }
        if draws
        else None,
        "deployments": {
            placed.name: {
                "replicas": placed.replicas,
                "gpu": placed.gpu,
                "gpus": placed.gpus,
                "machines": placed.nodes,
                "usd_per_hour": placed.usd_per_hour,
                "profile": placed.profile.name,
                "profile_source": placed.profile.provenance.source,
                "request_overhead_s": placed.request_overhead,
                "engine": {name: getattr(placed.settings, name) for name in placed.settings.__dataclass_fields__},
                "router": {"kind": placed.router_kind, **placed.router_parameters},
                "autoscaler": None
                if deployment.autoscaler is None
                else {"kind": deployment.autoscaler.kind, **deployment.autoscaler.parameters},
                "admission": [{"kind": policy.kind, **policy.parameters} for policy in deployment.admission],
            }
            for deployment, placed in zip(scenario.deployments, system.deployments, strict=True)
        },
        "warnings": list(system.warnings),
    }


@lru_cache
def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
