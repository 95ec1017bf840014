"""A scenario as notebooks show it: the question, who serves, who asks, what is compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sim.display import html_table, paragraph, plain

if TYPE_CHECKING:
    from sim.config.scenario import Scenario
    from sim.config.workload import Arrivals

__all__ = ["scenario_html"]


def scenario_html(scenario: Scenario) -> str:
    """Small tables, all text escaped."""
    pools = {pool.name: pool for pool in scenario.cluster.pools}
    served = [["deployment", "model", "pool", "GPUs a replica", "replicas", "router", "autoscaler"]]
    for one in scenario.deployments:
        pool = pools[one.pool]
        where = f"{one.pool}: {pool.nodes} × {pool.instance or pool.gpu}"
        scaler = "" if one.autoscaler is None else plain(one.autoscaler.model_dump())
        tensor = str(one.tensor_parallel)
        served.append(
            [one.name, _model(scenario, one.model), where, tensor, str(one.replicas), one.router.kind, scaler]
        )
    asked = [["workload", "model", "arrivals", "objectives"]]
    for workload in scenario.workloads:
        goals = ", ".join(f"{metric} ≤ {_seconds(target)}" for metric, target in workload.objectives.items())
        asked.append([workload.name, workload.model, _arrivals(workload.arrivals), goals])
    said = paragraph(scenario.question or "", strong=True) + html_table(served) + html_table(asked)
    if scenario.option is not None:
        said += paragraph(f"with option {scenario.option}: {plain(scenario.options[scenario.option])}")
    elif scenario.options:
        options = [[name, ", ".join(f"{path}: {plain(value)}" for path, value in changes.items()) or "as it is"]
                   for name, changes in scenario.options.items()]  # fmt: skip
        said += html_table([["option", "changes"], *options])
    return said + paragraph(_run(scenario))


def _model(scenario: Scenario, name: str) -> str:
    model = scenario.models[name]
    return f"{name}: {model.architecture} {model.dtype}"


def _arrivals(arrivals: Arrivals) -> str:
    given: dict[str, Any] = arrivals.model_dump(exclude_unset=True)
    if arrivals.rate is not None:
        given["rate"] = f"{arrivals.rate:g}/s"
    said = plain({key: value for key, value in given.items() if value is not None})[1:-1]
    return said if len(said) <= 100 else f"{said[:97]}..."


def _seconds(seconds: float) -> str:
    return f"{seconds:g} s" if seconds >= 1.0 else f"{seconds * 1e3:g} ms"


def _run(scenario: Scenario) -> str:
    run = scenario.run
    parts = [f"{run.replications} replications"]
    if run.duration is not None:
        parts.append(f"of {run.duration:g} s")
    if run.requests is not None:
        parts.append(f"of at most {run.requests:,} requests")
    return f"{' '.join(parts)}, seed {run.seed}"
