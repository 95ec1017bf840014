"""README.md of the files: what they deploy, what to expect, how to apply them, what is not in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.deploy.notes import of_deployment, of_scenario

if TYPE_CHECKING:
    from sim.config import Scenario
    from sim.deploy.expectation import Expectation
    from sim.deploy.plan import Plan

__all__ = ["readme"]

_NEEDS = {
    "kserve": "KServe",
    "lws": "LeaderWorkerSet",
}


def readme(scenario: Scenario, plans: list[Plan], expected: Expectation | None) -> str:
    """The page, as Markdown."""
    lines = ["# What was simulated, to be deployed", ""]
    if scenario.question:
        lines += [f"> {' '.join(scenario.question.split())}", ""]
    option = f", option `{scenario.option}`" if scenario.option else ""
    source = scenario.path.name if scenario.path is not None else "a scenario made in Python"
    lines += [f"From `{source}`{option}, digest `{scenario.digest()[:16]}`.", "", *_table(plans), ""]
    lines += _expectation(expected)
    lines += _cautions(scenario)
    lines += ["## Apply", "", f"Needs in the cluster: {', '.join(_needed(plans))}.", "", "```sh"]
    if any(plan.scaler == "hpa" for plan in plans):
        lines += [
            "helm upgrade --install prometheus-adapter prometheus-community/prometheus-adapter -f prometheus-adapter.values.yaml"
        ]
    lines += [f"kubectl apply -f {plan.name}.yaml" for plan in plans]
    lines += [
        "```",
        "",
        "A model behind a licence needs a secret: `kubectl create secret generic hf-token --from-literal token=...`.",
    ]
    lines += ["Without Kubernetes: `NAME.sh` starts one replica.", "", "## Simulated, and not in the files", ""]
    lines += [f"- {line}" for line in of_scenario(scenario)]
    said = {plan.deployment.name: of_deployment(plan) for plan in plans}
    common = [line for line in said[plans[0].deployment.name] if all(line in own for own in said.values())]
    if len(plans) > 1 and common:
        lines += ["", "### Each deployment", "", *(f"- {line}" for line in common)]
        said = {name: [line for line in own if line not in common] for name, own in said.items()}
    for name, own in said.items():
        if own:
            lines += ["", f"### {name}", "", *(f"- {line}" for line in own)]
    return "\n".join(lines).rstrip() + "\n"


def _table(plans: list[Plan]) -> list[str]:
    rows = ["| deployment | model | replicas | GPUs a replica | autoscaler |", "|---|---|---|---|---|"]
    for plan in plans:
        bounds = (
            f"{plan.fewest} to {plan.scaling['max'] or 'any number'}" if plan.scaler else str(plan.deployment.replicas)
        )
        gpus = f"{plan.gpus} x {plan.placed.gpu}{f' on {plan.nodes} machines' if plan.nodes > 1 else ''}"
        rows.append(f"| {plan.deployment.name} | {plan.checkpoint} | {bounds} | {gpus} | {plan.scaler or 'none'} |")
    return rows


def _expectation(expected: Expectation | None) -> list[str]:
    from sim.deploy.expectation import shown, unit

    if expected is None:
        return [
            "**No expectation is written**: no run was given. `twinfer compare` and then `twinfer deploy --run RUN` add it.",
            "",
        ]
    rows = ["## Expectation", "", "| objective | target | simulated | |", "|---|---|---|---|"]
    for standing in expected.standings:
        whose = standing.workload or "whole run"
        figure = shown(standing.metric, standing.estimate)
        rows.append(
            f"| {whose}: {standing.metric} | {standing.target:g}{unit(standing.metric)} | {figure} | {standing.status} |"
        )
    cost = expected.overall.get("usd_per_hour")
    if cost is not None:
        rows += ["", f"Cost: {shown('usd_per_hour', cost)}."]
    level = f"{expected.confidence:.0%} intervals over {expected.replications} replications"
    return [*rows, "", f"{level}; more figures are in annotations `expect.twinfer.dev/...`.", ""]


def _cautions(scenario: Scenario) -> list[str]:
    """What the simulator warns of, as it does beside every result."""
    from sim.experiment.build import build

    said = build(scenario).warnings
    return ["The simulation's own cautions:", "", *(f"- {line}" for line in said), ""] if said else []


def _needed(plans: list[Plan]) -> list[str]:
    found = ["a GPU device plugin"]
    flavour = plans[0].flavour if plans else ""
    if flavour in _NEEDS:
        found.append(_NEEDS[flavour])
    if any(plan.knative for plan in plans):
        found.append("Knative Serving")
    if any(plan.scaler == "keda" for plan in plans):
        found.append("KEDA and Prometheus")
    if any(plan.scaler == "hpa" for plan in plans):
        found.append("Prometheus and prometheus-adapter")
    return found
