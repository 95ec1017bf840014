"""What a scenario may write of faults: every kind resolved, and one clear line for what cannot be."""

from __future__ import annotations

import math
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from sim import catalog
from sim.config.outages import KINDS, Fault, plans, references
from sim.control.cluster.distribution import Fixed, LogNormal, Uniform
from sim.control.faults import (
    At,
    GpuFailure,
    MetricsOutage,
    NodeFailure,
    Partition,
    Renewal,
    ReplicaCrash,
    Rollout,
    Slowdown,
    SpotReclaim,
    ZoneLoss,
)

HOUR = 3600.0

# what is written; what it means
RESOLVED: list[tuple[dict[str, Any], object]] = [
    (
        {"kind": "gpu-failure"},
        GpuFailure(name="f", when=Renewal(50_677 * HOUR), repair=LogNormal(3600.0, 1.0)),
    ),
    (
        {"kind": "gpu-failure", "rate": "llama3-405b-gpu", "scale": 100, "shape": 0.7, "takes": "replica", "pool": "p"},
        GpuFailure(
            name="f", when=Renewal(792.3 * HOUR, 0.7), repair=LogNormal(3600.0, 1.0), pools=("p",), takes="replica"
        ),
    ),
    (
        {"kind": "node-failure", "mtbf": "1000h", "after": "10m", "until": "1h", "repair": "20m", "zone": "a"},
        NodeFailure(name="f", when=Renewal(1000 * HOUR, 1.0, 600.0, 3600.0), repair=Fixed(1200.0), zone="a"),
    ),
    (
        {"kind": "node-failure", "at": "5m", "repair": {"low": "1m", "high": "2m"}, "detected_after": 0},
        NodeFailure(name="f", when=At((300.0,)), repair=Uniform(60.0, 120.0), count=1, detected_after=0.0),
    ),
    (
        {"kind": "node-failure", "at": ["5m", 600], "share": "25%"},
        NodeFailure(name="f", when=At((300.0, 600.0)), repair=LogNormal(3600.0, 1.0), share=0.25),
    ),
    ({"kind": "replica-crash", "mtbf": "30m"}, ReplicaCrash(name="f", when=Renewal(1800.0))),
    (
        {"kind": "replica-crash", "at": 60, "deployment": "d", "count": 2, "detected_after": "30s"},
        ReplicaCrash(name="f", when=At((60.0,)), deployments=("d",), count=2, detected_after=30.0),
    ),
    (
        {"kind": "straggler", "at": 60, "deployment": "d", "factor": 3, "lasts": "5m"},
        Slowdown(name="f", when=At((60.0,)), factor=3.0, lasts=Fixed(300.0), deployments=("d",), count=1),
    ),
    (
        {"kind": "straggler", "mtbf": "8h", "pool": "p", "factor": 1.5},
        Slowdown(name="f", when=Renewal(8 * HOUR), factor=1.5, lasts=None, pools=("p",), of="node"),
    ),
    (
        {"kind": "straggler", "mtbf": "8h", "pool": "p", "of": "replica", "factor": 1.5},
        Slowdown(name="f", when=Renewal(8 * HOUR), factor=1.5, lasts=None, pools=("p",)),
    ),
    (
        {"kind": "thermal-throttling", "at": "1h", "share": 0.5, "zone": "a", "lasts": "20m"},
        Slowdown(
            name="f", when=At((HOUR,)), factor=2.0, lasts=Fixed(1200.0), kind="thermal-throttling", of="node",
            zone="a", share=0.5,
        ),
    ),
    (
        {"kind": "partition", "at": "5m", "lasts": "30s", "zone": "b"},
        Partition(name="f", when=At((300.0,)), lasts=Fixed(30.0), zone="b"),
    ),
    (
        {"kind": "partition", "mtbf": "1h", "lasts": "30s", "deployment": "d", "share": "20%"},
        Partition(name="f", when=Renewal(HOUR), lasts=Fixed(30.0), deployments=("d",), share=0.2),
    ),
    (
        {"kind": "spot-reclaim", "pool": "p", "rate": "aws-spot-10", "returns": "10m"},
        SpotReclaim(name="f", when=Renewal(6933 * HOUR), pool="p", notice=120.0, returns=Fixed(600.0)),
    ),
    (
        {"kind": "spot-reclaim", "pool": "p", "mtbf": "6h", "together": "70%", "drain_on_notice": False},
        SpotReclaim(name="f", when=Renewal(6 * HOUR), pool="p", notice=30.0, together=0.7, drain_on_notice=False),
    ),
    (
        {"kind": "spot-reclaim", "pool": "p", "at": ["5m", "10m"], "count": 3, "notice": 0},
        SpotReclaim(name="f", when=At((300.0, 600.0)), pool="p", notice=0.0, count=3),
    ),
    (
        {"kind": "zone-loss", "zone": "a", "at": "10m", "lasts": "5m"},
        ZoneLoss(name="f", when=At((600.0,)), zone="a", lasts=Fixed(300.0)),
    ),
    ({"kind": "zone-loss", "zone": "a", "mtbf": "30d"}, ZoneLoss(name="f", when=Renewal(30 * 24 * HOUR), zone="a")),
    (
        {"kind": "rollout", "deployment": "d", "at": "10m", "pace": 1.5, "rollback_after": "15m"},
        Rollout(name="f", at=600.0, deployment="d", pace=1.5, rollback_after=900.0),
    ),
    (
        {
            "kind": "rollout", "deployment": "d", "at": 0, "ready": False, "max_surge": 1, "max_unavailable": "0%",
            "progress_deadline": "2m", "rollback_on_deadline": True, "new_image": False,
        },
        Rollout(
            name="f", at=0.0, deployment="d", ready=False, max_surge=1, max_unavailable=0.0, progress_deadline=120.0,
            rollback_on_deadline=True, new_image=False,
        ),
    ),
    ({"kind": "metrics-outage", "at": "5m", "lasts": "3m"}, MetricsOutage(name="f", when=At((300.0,)), lasts=Fixed(180.0))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "meant"), RESOLVED, ids=lambda value: value.get("kind") if isinstance(value, dict) else ""
)
def test_what_is_written_is_resolved(written: dict[str, Any], meant: object) -> None:
    assert Fault.model_validate(written).plan("f") == meant


def test_every_kind_is_tried() -> None:
    assert {written["kind"] for written, _ in RESOLVED} == set(KINDS)


@pytest.mark.parametrize(
    ("value", "count"), [(1, 1), ("25%", 0.25), (0.25, 0.25), (1.0, 1.0), (0, 0)]
)  # as Kubernetes: 1 is a replica, 1.0 and 100 % are all
def test_surge_is_replicas_or_a_share_of_them(value: object, count: int | float) -> None:
    found = Fault.model_validate({"kind": "rollout", "deployment": "d", "at": 0, "max_surge": value}).max_surge
    assert (found, type(found)) == (count, type(count))


# what is written; the field that the fault is at; words of its line
REFUSED: list[tuple[dict[str, Any], str | None, str]] = [
    ({"kind": "gpu-fail"}, "kind", "(did you mean 'gpu-failure'?)"),
    ({}, "kind", "Field required"),
    ({"kind": "zone-loss", "at": 1}, None, "zone-loss needs zone: only there"),
    ({"kind": "straggler", "at": 1}, None, "straggler needs factor: steps take so many times as long"),
    ({"kind": "rollout", "deployment": "d"}, None, "rollout needs at"),
    ({"kind": "spot-reclaim", "mtbf": "1h"}, None, "spot-reclaim needs pool"),
    ({"kind": "spot-reclaim", "pool": "p"}, None, "spot-reclaim needs at, rate or mtbf: when it happens, or how often"),
    ({"kind": "replica-crash"}, None, "replica-crash needs at or mtbf"),
    ({"kind": "metrics-outage", "at": 1}, None, "metrics-outage needs lasts"),
    ({"kind": "node-failure", "notice": "1m"}, "notice", "has no meaning with node-failure; it takes at, rate, mtbf"),
    ({"kind": "thermal-throttling", "at": 1, "deployment": "d"}, "deployment", "has no meaning with thermal-throttling"),
    ({"kind": "node-failure", "at": 1, "mtbf": "1h"}, "mtbf", "at and mtbf are given: one of them"),
    ({"kind": "node-failure", "at": []}, "at", "one or more times in rising order"),
    ({"kind": "node-failure", "at": [2, 1]}, "at", "in rising order"),
    ({"kind": "node-failure", "at": 1, "scale": 2}, "scale", "has no meaning with at"),
    ({"kind": "node-failure", "mtbf": "1h", "count": 2}, "count", "needs at: at random each is hit by itself"),
    ({"kind": "node-failure", "at": 1, "count": 2, "share": 0.5}, "share", "has no meaning with count"),
    ({"kind": "node-failure", "rate": "llama3-405b"}, "rate", "'llama3-405b' is the rate of one gpu; node-failure needs that of one node"),
    ({"kind": "node-failure", "rate": "lama3-405b-node"}, "rate", "(did you mean 'llama3-405b-node'?)"),
    ({"kind": "node-failure", "after": "2h", "until": "1h"}, "until", "3600 s is not later than after, 7200 s"),
    ({"kind": "node-failure", "mtbf": 0}, "mtbf", "'0' is out of range; allowed: more than 0 s"),
    ({"kind": "node-failure", "shape": 0.01}, "shape", "at least 0.1"),
    ({"kind": "node-failure", "share": "120%", "at": 1}, "share", "out of range"),
    ({"kind": "gpu-failure", "takes": "rack"}, "takes", "'rack' is not one of node, replica"),
    ({"kind": "straggler", "at": 1, "factor": 0}, "factor", "'0' is out of range"),
    ({"kind": "straggler", "at": 1, "factor": 2, "of": "node", "deployment": "d"}, "of", "of: node takes a pool"),
    ({"kind": "spot-reclaim", "pool": "p", "at": 1, "together": 0.5}, "together", "has no meaning with at"),
    ({"kind": "rollout", "deployment": "d", "at": [1, 2]}, "at", "a rollout has one time"),
    ({"kind": "rollout", "deployment": "d", "at": 1, "max_surge": "150%"}, "max_surge", "neither a number of replicas like 1 nor a share"),
    ({"kind": "rollout", "deployment": "d", "at": 1, "max_surge": True}, "max_surge", "'true' is neither a number of replicas"),
    ({"kind": "rollout", "deployment": "d", "at": 1, "lasts": "1m"}, "lasts", "has no meaning with rollout"),
    ({"kind": "partition", "at": 1, "lasts": "soon"}, "lasts.fixed", "'soon' is not a duration"),
    ({"kind": "zone-loss", "zone": "a", "at": 1, "for": "1m"}, "for", "Extra inputs are not permitted"),
]  # fmt: skip


@pytest.mark.parametrize(("written", "field", "words"), REFUSED)
def test_what_cannot_be_is_one_clear_line(written: dict[str, Any], field: str | None, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Fault.model_validate(written)
    (error,) = caught.value.errors()
    context = error.get("ctx", {})
    path = ".".join(str(step) for step in error["loc"]) or context.get("field")
    assert path == field
    message = str(context.get("text") or context.get("error") or error["msg"])
    assert words in message
    assert "\n" not in message


def test_names_are_kinds_and_numbers_unless_given() -> None:
    entries = [
        Fault.model_validate({"kind": "zone-loss", "zone": "a", "at": at} | rest)
        for at, rest in enumerate([{}, {}, {"name": "zone-loss-2"}, {"name": "z"}, {}])
    ]
    names = [plan.name for plan in plans(entries)]
    assert names == ["zone-loss", "zone-loss-3", "zone-loss-2", "z", "zone-loss-4"]


def test_what_it_names_of_the_scenario() -> None:
    entry = Fault.model_validate(
        {"kind": "partition", "at": 1, "lasts": 1, "pool": "p", "deployment": "d", "zone": "a"}
    )
    assert references(entry) == [("pool", "pool", "p"), ("deployment", "deployment", "d"), ("zone", "zone", "a")]
    assert references(Fault.model_validate({"kind": "gpu-failure"})) == []


def test_null_counts_as_left_out() -> None:
    written = {"kind": "node-failure", "at": 1, "mtbf": None, "notice": None}
    assert Fault.model_validate(written).plan("f") == Fault.model_validate({"kind": "node-failure", "at": 1}).plan("f")


# the catalog


def test_published_rates_follow_from_their_counts() -> None:
    gpu_hours = 16_384 * 54 * 24
    counts = {"llama3-405b": 419, "llama3-405b-gpu": 148 + 72 + 19 + 17 + 6 + 6, "llama3-405b-software": 54}
    for name, count in counts.items():
        assert catalog.failure(name).mtbf / HOUR == pytest.approx(gpu_hours / count, rel=1e-4)
    hosts = 32 + 7 + 3 + 3 + 2 + 2 + 2 + 2
    assert catalog.failure("llama3-405b-host").mtbf / HOUR == pytest.approx(gpu_hours / 8 / hosts, rel=1e-4)
    node = catalog.failure("llama3-405b-node")
    assert 24 * HOUR / node.mtbf * 1000 == pytest.approx(3.789, abs=0.001)  # a thousand machine-days
    assert catalog.failure("meta-rsc-1").mtbf / HOUR == pytest.approx(1.8 * 16_384 / 8, rel=1e-3)


@pytest.mark.parametrize("percent", [5, 10, 15, 20])
def test_a_band_of_the_spot_advisor_is_a_chance_a_month(percent: int) -> None:
    row = catalog.failure(f"aws-spot-{percent}")
    assert 1.0 - math.exp(-730.5 * HOUR / row.mtbf) == pytest.approx(percent / 100, rel=1e-3)
    assert (row.of, row.notice) == ("spot", 120.0)


# where it is kept


@pytest.mark.parametrize(
    ("written", "meant"), RESOLVED, ids=lambda value: value.get("kind") if isinstance(value, dict) else ""
)
def test_what_is_kept_reads_the_same_again(written: dict[str, Any], meant: object) -> None:
    kept = Fault.model_validate(written).model_dump(mode="json", exclude_unset=True)
    assert Fault.model_validate(kept).plan("f") == meant


@pytest.mark.parametrize(
    ("written", "meant"), RESOLVED, ids=lambda value: value.get("kind") if isinstance(value, dict) else ""
)
def test_editors_take_what_is_right(written: dict[str, Any], meant: object) -> None:
    jsonschema.validate(written, Fault.model_json_schema())
