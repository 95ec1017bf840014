"""The files of a scenario, as text: manifests, command lines, rules for metrics, and a page that says what they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sim.deploy.plan import IMAGE
from sim.errors import TwinferError, did_you_mean

if TYPE_CHECKING:
    from sim.config import Scenario
    from sim.deploy.expectation import Expectation
    from sim.deploy.plan import Plan
    from sim.observe.result import Comparison, Result

__all__ = ["FLAVOURS", "IMAGE", "files"]

FLAVOURS = ("deployment", "kserve", "lws")
"""A Deployment (with an autoscaler ``kpa`` a Knative Service); a KServe InferenceService; a LeaderWorkerSet."""


def files(
    scenario: Scenario,
    *,
    flavour: str = "deployment",
    result: Result | Comparison | Expectation | None = None,
    image: str = IMAGE,
) -> dict[str, str]:
    """Name to text of everything to deploy ``scenario`` (with its option or changes applied): README.md, for each deployment
    NAME.yaml and NAME.sh, and prometheus-adapter.values.yaml where an HPA needs it. The same scenario gives the same bytes.

    With ``result`` the simulated figures are in annotations; it has to be of this scenario.

    :raises ConfigError: what was simulated cannot be deployed so; one line says what, and what can be.
    :raises ResultError: ``result`` is of another scenario.
    """
    from sim.deploy.expectation import Expectation
    from sim.deploy.flags import command
    from sim.deploy.kinds import objects
    from sim.deploy.notes import of_deployment
    from sim.deploy.plan import plans
    from sim.deploy.readme import readme
    from sim.deploy.scaling import adapter_rules, refuse

    if flavour not in FLAVOURS:
        raise TwinferError(
            f"flavour {flavour!r} is not known{did_you_mean(flavour, FLAVOURS)}; there are {', '.join(FLAVOURS)}"
        )
    if not image.strip() or any(letter.isspace() for letter in image):
        raise TwinferError(f"image {image!r} is not the name of a container image, like {IMAGE}")
    expected = result if result is None or isinstance(result, Expectation) else Expectation.of(result, scenario)
    if expected is not None:
        expected.check(scenario)
    planned = plans(scenario, flavour, image)
    for plan in planned:
        refuse(plan)
    found: dict[str, str] = {"README.md": readme(scenario, planned, expected)}
    for plan in planned:
        said = of_deployment(plan)
        found[f"{plan.name}.yaml"] = _documents(plan, said, objects(plan, _annotations(scenario, plan, expected)))
        found[f"{plan.name}.sh"] = command(plan)
    rules = adapter_rules(planned)
    if rules is not None:  # names have no dots, so none is called like this file
        title = "# Values of the Helm chart prometheus-community/prometheus-adapter: what the HPAs here scale on.\n"
        found["prometheus-adapter.values.yaml"] = title + dumped(rules)
    return found


def _annotations(scenario: Scenario, plan: Plan, expected: Expectation | None) -> dict[str, str]:
    from sim import __version__
    from sim.deploy.expectation import PREFIX

    found = {f"{PREFIX}/version": __version__}
    if scenario.path is not None:
        found[f"{PREFIX}/scenario"] = scenario.path.name
    if scenario.option is not None:
        found[f"{PREFIX}/option"] = scenario.option
    found |= {f"{PREFIX}/digest": f"sha256:{scenario.digest()}", f"{PREFIX}/profile": plan.placed.profile.name}
    return found if expected is None else found | expected.annotations(plan.workloads)


def _documents(plan: Plan, said: list[str], documents: list[dict[str, Any]]) -> str:
    head = f"# {plan.deployment.name}, as simulated by twinfer. What was simulated and is not in here, or not the same:"
    comment = "\n".join([head, *(f"#   - {line}" for line in said)])
    return comment + "\n" + "".join("---\n" + dumped(document) for document in documents)


def dumped(value: Mapping[str, Any]) -> str:
    """As YAML, keys in the order they were given, long texts on one line."""
    import yaml

    text: str = yaml.dump(dict(value), Dumper=_dumper(), sort_keys=False, width=10_000, allow_unicode=True)
    return text


def _dumper() -> Any:
    import yaml

    class Plain(yaml.SafeDumper):
        """Without anchors: kubectl reads them, people do not like to."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    return Plain
