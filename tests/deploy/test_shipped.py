"""Every shipped scenario, option and flavour: valid manifests, or one line that says why not."""

from __future__ import annotations

import re

import pytest

import sim
import sim.deploy
from sim.config import Scenario
from sim.errors import TwinferError
from tests.deploy.manifests import by_kind, documents, scenario, validate
from tests.paths import SCENARIOS

NAMES = sorted(path.name for path in SCENARIOS.glob("*.yaml"))
REFUSED = ("oracle", "predictive", "slo", "schedule", "ray-serve")  # whatever the flavour


def _written(chosen: Scenario, flavour: str) -> dict[str, str] | str:
    """The files of ``chosen``, or why there are none."""
    try:
        return sim.deploy.files(chosen, flavour=flavour)
    except TwinferError as refusal:
        return str(refusal)


@pytest.mark.parametrize("flavour", sim.deploy.FLAVOURS)
@pytest.mark.parametrize("name", NAMES)
def test_every_option_gives_valid_manifests_or_one_line_of_refusal(name: str, flavour: str) -> None:
    whole, valid = scenario(name), 0
    for option in whole.option_names():
        chosen = whole.with_option(option)
        kinds = {one.autoscaler.kind for one in chosen.deployments if one.autoscaler is not None}
        found = _written(chosen, flavour)
        asleep = any(one.warm_pool is not None for one in chosen.deployments)
        if asleep or kinds & {*REFUSED, *(("kpa",) if flavour == "lws" else ())}:
            assert isinstance(found, str), option
            assert re.match(r".*\.yaml:\d+: (options\.[^.:]+(\.|: ))?deployments\.\w+\.(autoscaler|warm_pool)", found)
            assert "\n" not in found
            continue
        assert not isinstance(found, str), (option, found)
        run = {"deployment": "Deployment", "kserve": "InferenceService", "lws": "LeaderWorkerSet"}[flavour]
        run = "Service" if "kpa" in kinds and flavour == "deployment" else run
        assert len(by_kind(found, run)) == len(chosen.deployments)
        for file, text in found.items():
            assert text == text.rstrip("\n") + "\n", file
            if file.endswith(".yaml") and file != "prometheus-adapter.values.yaml":
                for document in documents(text):
                    validate(document)
                    valid += 1
    assert valid
