"""Which replicas go first: the cases of Kubernetes' own tests."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
import yaml

from sim.control.cluster.victims import Pod, compare, order
from tests.paths import ROOT

NOW = 1e8
CASES = yaml.safe_load((ROOT / "tests/data/control/pod_deletion_cases.yaml").read_text())


def pod(fields: dict[str, Any], rank: int = 1) -> Pod:
    plain = {key: value for key, value in fields.items() if key not in ("age", "ready_age")}
    times = {"created": fields.get("age"), "ready_since": fields.get("ready_age")}
    return Pod(rank=rank, **plain, **{key: NOW - age for key, age in times.items() if age is not None})


@pytest.mark.parametrize(("a", "b"), CASES["equal"])
def test_neither_goes_first(a: str, b: str) -> None:
    first, second = pod(CASES["pods"][a]), pod(CASES["pods"][b])
    assert compare(first, second, NOW) == compare(second, first, NOW) == 0


@pytest.mark.parametrize(("a", "rank", "b", "other"), CASES["first"])
def test_goes_first(a: str, rank: int, b: str, other: int) -> None:
    first, second = pod(CASES["pods"][a], rank), pod(CASES["pods"][b], other)
    assert compare(first, second, NOW) == -1
    assert compare(second, first, NOW) == 1


@pytest.mark.parametrize(("a", "rank", "b", "other"), CASES["without_deletion_cost"])
def test_goes_first_where_the_deletion_cost_is_not_heeded(a: str, rank: int, b: str, other: int) -> None:
    first, second = pod(CASES["pods"][a], rank), pod(CASES["pods"][b], other)
    assert compare(first, second, NOW, deletion_cost=False) == -1


def test_the_whole_order_of_nine_pods_whatever_order_they_come_in() -> None:
    pods = [pod(fields) for fields in CASES["whole_order"]]
    for chosen in list(permutations(range(9)))[::9973]:
        shuffled = [pods[index] for index in chosen]
        assert [chosen[index] for index in order(shuffled)] == list(range(9))


def test_ages_in_one_power_of_two_go_by_uid() -> None:
    # 5 h = 1.8e13 ns and 8 h = 2.88e13 ns: 2**44 = 1.76e13 <= both < 2**45 = 3.5e13
    older, younger = Pod(uid="a", ready_since=NOW - 28800.0), Pod(uid="b", ready_since=NOW - 18000.0)
    assert order([younger, older], NOW) == [1, 0]
    assert order([younger, older], NOW, logarithmic=False) == [0, 1]
