"""Steps of a rolling update: the cases of Kubernetes' own tests."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from sim.control.cluster.rollout import fenceposts, fewer_old, new_size
from tests.paths import ROOT

CASES = yaml.safe_load((ROOT / "tests/data/control/rollout_cases.yaml").read_text())


def names(kind: str) -> list[str]:
    return [case["name"] for case in CASES[kind]]


@pytest.mark.parametrize("case", CASES["new"], ids=names("new"))
def test_how_many_of_the_new(case: dict[str, Any]) -> None:
    total = case["old"] + case["new"]
    assert new_size(case["desired"], case["surge"], total, case["new"]) == case["expected"]


@pytest.mark.parametrize("case", CASES["old"] + CASES["down"], ids=names("old") + [f"down {n}" for n in names("down")])
def test_how_many_of_the_old(case: dict[str, Any]) -> None:
    _, unavailable = fenceposts(0, case["max_unavailable"], case["desired"])
    fewer = fewer_old(case["desired"], unavailable, case["old"], case["ready_old"], case["new"], case["ready_new"])
    assert case["old"] - fewer == case["expected"]


@pytest.mark.parametrize("case", CASES["fenceposts"], ids=names("fenceposts"))
def test_fenceposts(case: dict[str, Any]) -> None:
    assert list(fenceposts(case["max_surge"], case["max_unavailable"], case["desired"])) == case["expected"]


@pytest.mark.parametrize("value", [-1, -0.5, 1.5])
def test_fenceposts_that_cannot_be(value: float) -> None:
    with pytest.raises(ValueError, match=r"max_surge .*: a whole number of replicas, or a share from 0.0 to 1.0"):
        fenceposts(value, 0.25, 4)
